"""A LeNet replicated over a line of digits: scores of every window, and the numbers they spell.

The network reads windows of `HEIGHT` x `HEIGHT` pixels, `STRIDE` columns apart (section VII of the
paper of 1998: a space displacement network). Its classes are the ten digits and `BLANK`, "no digit
here"; a number's probability is the sum over all ways of spelling it, as in connectionist temporal
classification (CTC; Graves et al. 2006).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from lenet.data.lines import HEIGHT, Image

STRIDE = 3  # columns from window to window
MARGIN = HEIGHT // 2 - 2  # empty columns before and after a line
BLANK = 10
CLASSES = 11
LEAST = 1e-12  # of a probability
LIKELY = 1e-2  # probability from which the beam search considers a digit in a window

Windows = NDArray[np.uint8]
Frames = NDArray[np.float32]


def windows(line: Image) -> Windows:
    """Cuts a line, uint8 (`HEIGHT`, width), into windows (N, `HEIGHT`, `HEIGHT`)."""
    count = (line.shape[1] + 2 * MARGIN - HEIGHT + STRIDE - 1) // STRIDE + 1
    padded = np.zeros((HEIGHT, (count - 1) * STRIDE + HEIGHT), np.uint8)
    padded[:, MARGIN : MARGIN + line.shape[1]] = line
    views = np.lib.stride_tricks.sliding_window_view(padded, HEIGHT, axis=1)[:, ::STRIDE]
    return np.ascontiguousarray(views.transpose(1, 0, 2))


def cut(lines: Sequence[Image]) -> tuple[Windows, NDArray[np.int64]]:
    """The windows of several lines one after the other, and how many each line has."""
    parts = [windows(line) for line in lines]
    return np.concatenate(parts), np.array([len(part) for part in parts])


def softmax(scores: NDArray[np.float32]) -> Frames:
    """Probabilities of the classes (last axis)."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def without_gaps(frames: Frames) -> Frames:
    """The windows (T, 11) without those that are surely blank and follow another such."""
    blank = frames[:, :BLANK].max(1) < LIKELY
    return frames[~np.append(False, blank[1:] & blank[:-1])]


@dataclass(frozen=True)
class Paths:
    """All ways of spelling one number in each of several lines: states are the number's digits
    with a blank before, between and after them.

    Attributes:
        labels: (lines, states), the states' classes.
        skip: (lines, states), 1 where a path may come to a state from two states before.
        ends: (lines,), the last state of each line.
        emitted: (windows, lines, states), probability of each state's class in each window.
        forward: (windows, lines, states), of the paths that are in a state by a window, as a part
            of those in any.
        sums: (windows, lines), what the paths of a window were divided by.
    """

    labels: NDArray[np.int64]
    skip: NDArray[np.float64]
    ends: NDArray[np.int64]
    emitted: NDArray[np.float64]
    forward: NDArray[np.float64]
    sums: NDArray[np.float64]

    def log_probabilities(self) -> NDArray[np.float64]:
        """(lines,), natural logarithms; -inf where the windows are too few for the number."""
        lines = np.arange(len(self.ends))
        last = self.forward[-1]
        total = last[lines, self.ends] + (self.ends > 0) * last[lines, self.ends - 1]
        with np.errstate(divide="ignore"):
            return np.log(total) + np.log(self.sums).sum(axis=0)


def paths(frames: Sequence[Frames], numbers: Sequence[str]) -> Paths:
    """Follows the ways of spelling `numbers[i]` in the windows `frames[i]`, (T, 11)."""
    lines, longest = len(frames), max(map(len, frames))
    states = 2 * max(map(len, numbers)) + 1
    labels = np.full((lines, states), BLANK)
    # A line is filled up with windows that are blank for certain, which changes nothing.
    emissions = np.zeros((longest, lines, CLASSES))
    emissions[..., BLANK] = 1.0
    for line, (part, number) in enumerate(zip(frames, numbers, strict=True)):
        emissions[: len(part), line] = part
        labels[line, 1 : 2 * len(number) : 2] = [int(digit) for digit in number]
    np.maximum(emissions, LEAST, out=emissions, where=emissions > 0)
    emitted = np.take_along_axis(emissions, labels[None], axis=2)
    skip = np.zeros((lines, states))
    skip[:, 1:2] = 1.0  # from before the first
    skip[:, 2:] = (labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])
    forward = np.empty_like(emitted)
    sums = np.empty((longest, lines))
    here = np.zeros((lines, states + 2))  # two states ahead of the first
    here[:, 1] = 1.0
    for window in range(longest):
        here[:, 2:] += here[:, 1:-1] + skip * here[:, :-2]
        here[:, 2:] *= emitted[window]
        here[:, :2] = 0.0
        sums[window] = np.maximum(here.sum(axis=1), 1e-300)
        here /= sums[window][:, None]
        forward[window] = here[:, 2:]
    ends = np.array([2 * len(number) for number in numbers])
    return Paths(labels, skip, ends, emitted, forward, sums)


def log_probabilities(frames: Frames, numbers: Sequence[str]) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities (numbers,) that a line's windows spell each of some
    numbers; `frames` are (T, 11), probabilities in its windows."""
    return paths([frames] * len(numbers), numbers).log_probabilities()


def prefix_beam(
    frames: Frames, beam: int = 8, allowed: Callable[[str], bool] | None = None
) -> list[tuple[str, float]]:
    """The likeliest numbers, best first, with their logarithms of probabilities by the paths that
    the search kept, so at most those of `log_probabilities`.

    Args:
        frames: (T, 11), probabilities in a line's windows.
        beam: how many beginnings of numbers are kept from window to window.
        allowed: whether a number may begin so; None for no constraint.
    """
    # beginning -> probabilities of the paths that end in a blank, and in its last digit
    beams: dict[str, tuple[float, float]] = {"": (1.0, 0.0)}
    for row in np.maximum(frames, LEAST).astype(np.float64).tolist():
        digits = [c for c in range(BLANK) if row[c] > LIKELY]
        following: dict[str, list[float]] = {}
        for text, (blank, digit) in beams.items():
            last = int(text[-1]) if text else BLANK
            own = following.setdefault(text, [0.0, 0.0])
            own[0] += (blank + digit) * row[BLANK]
            own[1] += digit * row[last]
            for c in digits:
                longer = text + str(c)
                if allowed is None or allowed(longer):
                    before = blank if c == last else blank + digit
                    following.setdefault(longer, [0.0, 0.0])[1] += before * row[c]
        best = nlargest(beam, following.items(), key=lambda entry: entry[1][0] + entry[1][1])
        beams = {text: (blank, digit) for text, (blank, digit) in best}
    return [
        (text, math.log(blank + digit))
        for text, (blank, digit) in beams.items()
        if blank + digit > 0
    ]
