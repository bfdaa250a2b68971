"""Trains a LeNet replicated over lines by connectionist temporal classification (CTC).

The gradient of CTC's loss with respect to the scores of a window is softmax(scores) - posterior,
where the posterior says which classes the window has on the paths that spell the number (Graves
et al. 2006, eq. 16). The fused kernels' distillation has the gradient softmax(scores) - targets: so
a training step is scores of all windows, posteriors, and a step of distillation towards them.
"""

from collections.abc import Callable, Iterator, Sequence
from math import exp

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.lines import Image, Line
from lenet.engine.fused import Kernels
from lenet.reading.replicated import (
    BLANK,
    CLASSES,
    HEIGHT,
    MARGIN,
    STRIDE,
    cut,
    paths,
    softmax,
)

NEGLIGIBLE = 0.01  # windows whose probabilities are this near to their posteriors are left out


def posteriors(
    frames: Sequence[NDArray[np.float32]], numbers: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Probability of each class in each window, given the number that its line spells.

    Args:
        frames: (T, 11), probabilities in the windows of each line.
        numbers: digits of each line.

    Returns:
        The posteriors of the windows of all lines one after the other, float32 (windows, 11), and
        the logarithm of the probability of each number: -inf where the windows are too few to
        spell it; its posteriors are the probabilities then.
    """
    spelt = paths(frames, numbers)
    longest, lines, states = spelt.emitted.shape
    places = np.arange(lines)
    backward = np.zeros((lines, states + 2))  # two states after the last
    backward[places, spelt.ends] = 1.0
    backward[places, np.maximum(spelt.ends - 1, 0)] = 1.0
    skip = np.zeros((lines, states))
    skip[:, :-2] = spelt.skip[:, 2:]
    through = np.empty((lines, longest, states))  # of the paths that are in a state in a window
    for window in range(longest - 1, -1, -1):
        through[:, window] = spelt.forward[window] * backward[:, :states]
        backward[:, :states] *= spelt.emitted[window] / spelt.sums[window][:, None]
        backward[:, :states] += backward[:, 1:-1] + skip * backward[:, 2:]
    classes = np.matmul(through, np.eye(CLASSES)[spelt.labels])
    classes /= np.maximum(classes.sum(axis=2, keepdims=True), 1e-300)
    logarithms = spelt.log_probabilities()
    parts = [
        result[: len(own)] if possible else own
        for result, own, possible in zip(classes, frames, np.isfinite(logarithms), strict=True)
    ]
    return np.concatenate(parts).astype(np.float32), logarithms


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


def changed(image: Image, taller: float, wider: float, slant: float) -> Image:
    """A line scaled about its middle row and slanted a little, by standard normal amounts."""
    middle, down, across, shear = HEIGHT / 2, exp(0.05 * taller), exp(0.05 * wider), 0.06 * slant
    matrix = np.array([[across, shear, -shear * middle], [0, down, (1 - down) * middle]])
    size = (max(HEIGHT, round(image.shape[1] * across)), HEIGHT)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)


def train_lines(
    kernels: Kernels,
    weights: NDArray[np.float32],
    gradients: NDArray[np.float32],
    lines: Iterator[Line],
    update: Callable[[int], None],
    steps: int,
    batch: int = 64,
    placed_steps: int = 300,
    largest: float = 4.0,
) -> Iterator[float]:
    """Trains on fresh lines; yields each step's mean loss, -log p(number), a line.

    Args:
        kernels: of a network with 11 classes, an objective with distillation 1 and temperature 1.
        weights, gradients: float32 (kernels.size,); `update` changes the weights.
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
        probabilities = softmax(kernels.scores(images, weights))
        frames = np.split(probabilities, np.cumsum(counts)[:-1])
        targets, logarithms = posteriors(frames, [line.number for line in chosen])
        if step < placed_steps:
            targets = placed(chosen, counts)
        index = np.flatnonzero(np.abs(targets - probabilities).max(axis=1) > NEGLIGIBLE)
        if len(index):
            labels = np.zeros(len(images), np.int64)
            kernels.step(images, labels, index, parameters, targets=targets[index])
            norm = float(np.linalg.norm(gradients)) * len(index) / batch
            gradients *= len(index) / batch * min(1, largest / max(norm, 1e-9))
            update(step)
        yield -float(logarithms[np.isfinite(logarithms)].mean())
