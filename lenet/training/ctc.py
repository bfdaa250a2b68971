"""Trains a LeNet replicated over lines by connectionist temporal classification (CTC).

The gradient of CTC's loss with respect to the scores of a window is softmax(scores) - posterior,
where the posterior says which classes the window has on the paths that spell the number (Graves
et al. 2006, eq. 16). The fused kernels' distillation has the gradient softmax(scores) - targets: so
a training step is scores of all windows, posteriors, and a step of distillation towards them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet.data.lines import Line
from lenet.engine.fused import Kernels
from lenet.reading.replicated import BLANK, CLASSES, HEIGHT, MARGIN, STRIDE, cut, log_softmax

NEGLIGIBLE = 0.01  # windows whose probabilities are this near to their posteriors are left out
LEAST = 1e-12  # of a probability


def posteriors(
    probabilities: NDArray[np.floating], counts: NDArray[np.int64], numbers: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Probability of each class in each window, given the number that its line spells.

    Args:
        probabilities: (windows, 11), of the windows of several lines one after the other.
        counts: windows of each line.
        numbers: digits of each line.

    Returns:
        The posteriors, float32 (windows, 11), and the logarithm of the probability of each number,
        -inf where the windows are too few to spell it; its posteriors are the probabilities then.
    """
    lines, longest = len(counts), int(counts.max())
    inside = np.arange(longest) < counts[:, None]
    # A line is filled up with windows that are blank for certain, which changes nothing.
    emissions = np.zeros((lines, longest, CLASSES))
    emissions[..., BLANK] = 1.0
    emissions[inside] = np.maximum(probabilities, LEAST)

    states = 2 * max(map(len, numbers)) + 1
    labels = np.full((lines, states), BLANK)
    for line, number in enumerate(numbers):
        labels[line, 1 : 2 * len(number) : 2] = [int(digit) for digit in number]
    skip = np.zeros((lines, states))  # whether a path may come here from two states before
    skip[:, 1] = 1.0  # from before the first
    skip[:, 2:] = (labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])
    places = np.broadcast_to(labels[:, None], (lines, longest, states))
    emitted = np.take_along_axis(emissions, places, axis=2).transpose(1, 0, 2).copy()

    # Forward: the paths that end in a state, divided by their sum in each window.
    forward = np.empty((longest, lines, states))
    sums = np.empty((longest, lines))
    alpha = np.zeros((lines, states + 2))  # two states ahead of the first
    alpha[:, 1] = 1.0
    for t in range(longest):
        alpha[:, 2:] += alpha[:, 1:-1] + skip * alpha[:, :-2]
        alpha[:, 2:] *= emitted[t]
        alpha[:, :2] = 0.0
        sums[t] = np.maximum(alpha.sum(axis=1), 1e-300)
        alpha /= sums[t][:, None]
        forward[t] = alpha[:, 2:]
    # Backward: the paths from a state to the end, divided by the same sums.
    backward = np.zeros((lines, states + 2))  # two states after the last
    ends = 2 * np.array([len(number) for number in numbers])
    rows = np.arange(lines)
    backward[rows, ends] = 1.0
    backward[rows, np.maximum(ends - 1, 0)] = 1.0
    total = (forward[-1] * backward[:, :states]).sum(axis=1)
    skip_on = np.zeros((lines, states))
    skip_on[:, :-2] = skip[:, 2:]
    for t in range(longest - 1, -1, -1):
        here = forward[t] * backward[:, :states]
        backward[:, :states] *= emitted[t] / sums[t][:, None]
        forward[t] = here
        backward[:, :states] += backward[:, 1:-1] + skip_on * backward[:, 2:]

    kinds = np.eye(CLASSES)[labels]  # (lines, states, classes)
    result = np.matmul(forward.transpose(1, 0, 2), kinds)
    result /= np.maximum(result.sum(axis=2, keepdims=True), 1e-300)
    possible = total > 0
    result[~possible] = emissions[~possible]
    with np.errstate(divide="ignore"):
        return result[inside].astype(np.float32), np.log(total) + np.log(sums).sum(axis=0)


def placed(lines: Sequence[Line], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Targets (windows, 11) from the digits' boxes, to begin with: a digit in the windows in whose
    middle it is, blank elsewhere."""
    targets = np.zeros((int(counts.sum()), CLASSES), np.float32)
    targets[:, BLANK] = 1.0
    first = 0
    for line, count in zip(lines, counts.tolist(), strict=True):
        centres = (line.boxes[:, 0] + line.boxes[:, 2]) / 2
        nearest = np.rint((centres + MARGIN - HEIGHT / 2) / STRIDE).astype(int)
        for place, digit in zip(nearest.clip(0, count - 1).tolist(), line.number, strict=True):
            targets[first + place] = 0.0
            targets[first + place, int(digit)] = 1.0
        first += count
    return targets


def train_lines(
    kernels: Kernels,
    weights: Sequence[NDArray[np.float32]],
    gradients: Sequence[NDArray[np.float32]],
    lines: Iterator[Line],
    update: Callable[[int], None],
    steps: int,
    batch: int = 64,
    placed_steps: int = 300,
    largest: float = 4.0,
) -> Iterator[float]:
    """Trains on fresh lines; yields each step's mean loss, -log p(number), a line.

    Args:
        kernels: of a plan with 11 classes, distillation 1 and temperature 1.
        weights, gradients: float32 arrays of `kernels.shapes`; the weights are `update`'s to change.
        lines: an endless stream.
        update: changes the weights by the gradients; is told the number of the step, from 0.
        steps: how many.
        batch: lines in a step.
        placed_steps: first steps, that follow the digits' boxes: from random weights CTC takes long
            to find that there is anything but blanks.
        largest: norm to which larger gradients are scaled down.
    """
    parameters = kernels.parameters(weights, gradients)
    for step in range(steps):
        chosen = [next(lines) for _ in range(batch)]
        images, counts = cut([line.image for line in chosen])
        probabilities = np.exp(log_softmax(kernels.scores(images, weights)))
        numbers = [line.number for line in chosen]
        targets, logs = posteriors(probabilities, counts, numbers)
        if step < placed_steps:
            targets = placed(chosen, counts)
        index = np.flatnonzero(np.abs(targets - probabilities).max(axis=1) > NEGLIGIBLE)
        if len(index):
            labels = np.zeros(len(images), np.int64)
            kernels.step(images, labels, index, parameters, targets=targets[index])
            norm = np.sqrt(sum(float(np.vdot(g, g)) for g in gradients)) * len(index) / batch
            scale = len(index) / batch * min(1, largest / max(norm, 1e-9))
            for gradient in gradients:
                gradient *= scale
            update(step)
        possible = np.isfinite(logs)
        yield -float(logs[possible].mean())
