"""Training by connectionist temporal classification."""

import itertools

import numpy as np
import pytest
import torch

from lenet.data import Split
from lenet.data.lines import Line, Lines
from lenet.engine.fused import NOT_INSTALLED, Kernels, flatten, unsupported
from lenet.engine.objective import Objective
from lenet.engine.optimizers import AdamW
from lenet.networks.architecture import LeNet
from lenet.reading.ctc import changed, placed, posteriors, train_lines
from lenet.reading.replicated import BLANK, CLASSES, MARGIN, STRIDE, softmax


def test_posteriors_give_the_gradient_of_pytorchs_ctc() -> None:
    generator = np.random.default_rng(0)
    counts, numbers = np.array([9, 14, 6, 20, 5]), ["1123", "0", "555", "1234567890", "000"]
    scores = generator.normal(size=(counts.sum(), CLASSES)).astype(np.float32) * 2
    probabilities = softmax(scores)
    frames = np.split(probabilities, np.cumsum(counts)[:-1])
    targets, logarithms = posteriors(frames, numbers)
    first = 0
    for number, count, logarithm in zip(numbers, counts, logarithms, strict=True):
        part = slice(first, first + count)
        tensor = torch.tensor(scores[part], dtype=torch.float64, requires_grad=True)
        loss = torch.nn.functional.ctc_loss(
            tensor.log_softmax(1)[:, None],
            torch.tensor([[int(digit) for digit in number]]),
            torch.tensor([count]),
            torch.tensor([len(number)]),
            blank=BLANK,
            reduction="sum",
        )
        loss.backward()
        assert tensor.grad is not None
        assert logarithm == pytest.approx(-loss.item(), rel=1e-5)
        gradient = probabilities[part] - targets[part]
        assert gradient == pytest.approx(tensor.grad.numpy(), abs=1e-5)
        first += count


def test_lines_that_cannot_be_spelt_teach_nothing() -> None:
    probabilities = np.full((4, CLASSES), 1 / CLASSES, np.float32)
    targets, logarithms = posteriors([probabilities], ["777"])
    assert logarithms[0] == -np.inf
    assert targets == pytest.approx(probabilities)


def test_placed_targets_are_where_the_boxes_are() -> None:
    boxes = np.array([[10, 4, 20, 24], [40, 4, 60, 24]], np.float32)
    line = Line(np.zeros((28, 70), np.uint8), "37", boxes)
    targets = placed([line, line], np.array([25, 25]))
    assert targets.sum(axis=1) == pytest.approx(np.ones(50))
    for first in (0, 25):
        for digit, centre in ((3, 15), (7, 50)):
            (where,) = np.flatnonzero(targets[first : first + 25, digit])
            assert abs(where * STRIDE - MARGIN + 14 - centre) <= STRIDE / 2


@pytest.mark.skipif(unsupported(LeNet().architecture()) == NOT_INSTALLED, reason=NOT_INSTALLED)
def test_training_lowers_the_loss() -> None:
    images = np.zeros((10, 28, 28), np.uint8)
    for label, image in enumerate(images):
        image[4:24, 12:16] = 255
        image[4 + 2 * label : 6 + 2 * label, 8:22] = 255
    lines = Lines([(Split(images, np.arange(10)), 1.0)], 0)
    network = LeNet(channels=(4, 8), hidden=(32,), activation="relu").architecture(classes=CLASSES)
    kernels = Kernels(network, Objective(distillation=1.0), threads=1)
    weights = flatten(network.initial_weights(0).values())
    gradients, moments = np.zeros_like(weights), np.zeros((2, len(weights)), np.float32)
    optimizer = AdamW(0.0, (0.9, 0.99))

    def adam(step: int) -> None:
        optimizer.update(weights, gradients, moments, 3e-3, step + 1)

    stream = iter(itertools.islice(lines, 10_000))
    steps = train_lines(kernels, weights, gradients, stream, adam, 120, 16, placed_steps=60)
    losses = list(steps)
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])


def test_lines_are_changed_a_little() -> None:
    image = np.zeros((28, 60), np.uint8)
    image[4:24, 28:32] = 255
    generator = np.random.default_rng(0)
    for _ in range(100):
        drawn = changed(image, *generator.normal(0, 1, 3))
        rows = np.flatnonzero(drawn.max(axis=1) > 127)
        assert drawn.shape[0] == 28 and abs((rows[0] + rows[-1]) / 2 - 13.5) < 1.6
        assert 15 < len(rows) < 25
