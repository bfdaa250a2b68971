"""A LeNet replicated over a line of digits: scores of every window, and the numbers they spell.

The network reads windows of `HEIGHT` x `HEIGHT` pixels, `STRIDE` columns apart (section VII of the
paper of 1998: a space displacement network). Its classes are the ten digits and `BLANK`, "no digit
here"; a number's probability is the sum over all ways of spelling it, as in connectionist temporal
classification (Graves et al. 2006).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet.data.lines import HEIGHT

STRIDE = 3  # columns from window to window
MARGIN = HEIGHT // 2 - 2  # empty columns before and after a line
BLANK = 10
CLASSES = 11


def windows(line: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cuts a line, uint8 (`HEIGHT`, width), into windows (N, `HEIGHT`, `HEIGHT`)."""
    count = (line.shape[1] + 2 * MARGIN - HEIGHT + STRIDE - 1) // STRIDE + 1
    padded = np.zeros((HEIGHT, (count - 1) * STRIDE + HEIGHT), np.uint8)
    padded[:, MARGIN : MARGIN + line.shape[1]] = line
    views = np.lib.stride_tricks.sliding_window_view(padded, HEIGHT, axis=1)[:, ::STRIDE]
    return np.ascontiguousarray(views.transpose(1, 0, 2))


def log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of the classes (last axis)."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probability(frames: NDArray[np.float32], number: str) -> float:
    """The natural logarithm of the probability that frames (T, 11), log-probabilities of windows
    in their order, spell the number."""
    states = [BLANK]
    for digit in number:
        states += [int(digit), BLANK]
    labels = np.array(states)
    skip = np.full(len(labels), -np.inf)
    skip[1:2] = 0  # from before the first
    skip[2:][(labels[2:] != BLANK) & (labels[2:] != labels[:-2])] = 0
    emitted = frames[:, labels]
    forward = np.full(len(labels) + 2, -np.inf)  # two states ahead of the first
    forward[1] = 0.0
    for row in emitted:
        best = np.logaddexp(forward[2:], forward[1:-1])
        forward[2:] = np.logaddexp(best, forward[:-2] + skip) + row
        forward[1] = -np.inf
    return float(np.logaddexp.reduce(forward[2:][-2:]))


def log_probabilities(frames: NDArray[np.float32], numbers: Sequence[str]) -> NDArray[np.float64]:
    """`log_probability` of several numbers at once."""
    longest = max(map(len, numbers))
    labels = np.full((len(numbers), 2 * longest + 1), BLANK)
    for row, number in zip(labels, numbers, strict=True):
        row[1 : 2 * len(number) : 2] = [int(digit) for digit in number]
    skip = np.zeros(labels.shape)
    skip[:, 1] = 1  # from before the first
    skip[:, 2:] = (labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])
    emitted = np.exp(frames.astype(np.float64))[:, labels]
    forward = np.zeros((len(numbers), labels.shape[1] + 2))  # two states ahead of the first
    forward[:, 1] = 1.0
    scale = np.zeros(len(numbers))
    for row in emitted:
        forward[:, 2:] += forward[:, 1:-1] + skip * forward[:, :-2]
        forward[:, 2:] *= row
        forward[:, :2] = 0.0
        total = forward.sum(1) + 1e-300
        forward /= total[:, None]
        scale += np.log(total)
    ends = 2 * np.array([len(number) for number in numbers]) + 2
    rows = np.arange(len(numbers))
    last = forward[rows, ends] + np.where(ends > 2, forward[rows, ends - 1], 0)
    return scale + np.log(last + 1e-300)


def prefix_beam(
    frames: NDArray[np.float32],
    beam: int = 8,
    allowed: Callable[[str], bool] | None = None,
    likely: float = -7.0,
) -> list[tuple[str, float]]:
    """The likeliest numbers, best first, with the logarithms of their probabilities.

    Args:
        frames: (T, 11), log-probabilities of the windows in their order.
        beam: how many beginnings of numbers are kept from window to window.
        allowed: whether a number may begin so; None for no constraint.
        likely: log-probability below which a digit is not considered in a window.

    The logarithms are of the paths that the search kept: a lower bound.
    """
    # beginning -> probabilities of the paths that end in a blank, and in its last digit
    beams: dict[str, tuple[float, float]] = {"": (1.0, 0.0)}
    scale = 0.0
    probabilities = np.exp(frames.astype(np.float64))
    for row, considered in zip(probabilities.tolist(), (frames > likely).tolist(), strict=True):
        digits = [c for c in range(BLANK) if considered[c]]
        extended: dict[str, list[float]] = {}
        for text, (blank, digit) in beams.items():
            paths = extended.setdefault(text, [0.0, 0.0])
            paths[0] += (blank + digit) * row[BLANK]
            last = int(text[-1]) if text else BLANK
            if text:
                paths[1] += digit * row[last]
            for c in digits:
                longer = text + str(c)
                if allowed is not None and not allowed(longer):
                    continue
                before = blank if c == last else blank + digit
                extended.setdefault(longer, [0.0, 0.0])[1] += before * row[c]
        best = sorted(extended.items(), key=lambda item: -sum(item[1]))[:beam]
        total = sum(best[0][1])
        scale += np.log(total) if total else -np.inf
        beams = {text: (b / total, d / total) for text, (b, d) in best} if total else {}
    return [
        (text, float(scale + np.log(blank + digit)))
        for text, (blank, digit) in beams.items()
        if blank + digit > 0
    ]


def cut(lines: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The windows of several lines one after the other, and how many each line has."""
    parts = [windows(line) for line in lines]
    return np.concatenate(parts), np.array([len(part) for part in parts])
