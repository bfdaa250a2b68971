"""The optimizers, in NumPy and in the fused kernels, against torch.optim."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lenet.engine import fused
from lenet.engine.optimizers import SGD, AdamW, Optimizer, update_average
from lenet.networks.architecture import LeNet

STEPS, BATCH, AVERAGING = 300, 20, 0.98
needs_kernels = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)

OPTIMIZERS: list[tuple[Optimizer, float, Callable[..., torch.optim.Optimizer]]] = [
    (SGD(), 0.1, torch.optim.SGD),
    (
        SGD(momentum=0.9, weight_decay=1e-2),
        0.02,
        lambda p: torch.optim.SGD(p, momentum=0.9, weight_decay=1e-2),
    ),
    (AdamW(), 3e-3, torch.optim.AdamW),
    (
        AdamW(weight_decay=0.1, betas=(0.8, 0.99), eps=1e-4),
        5e-3,
        lambda p: torch.optim.AdamW(p, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-4),
    ),
]


def rate_of(lr: float, step: int) -> float:
    """Learning rate of a step, numbered from 1: up, then down."""
    return lr * min(step / 50, (STEPS + 1 - step) / 100, 1)


class Reference:
    """torch.optim and its average, in float64, told of each step's gradients."""

    def __init__(
        self, make: Callable[..., torch.optim.Optimizer], start: NDArray[np.float32]
    ) -> None:
        self.weights = torch.from_numpy(start.astype(np.float64)).requires_grad_()
        self.average = self.weights.detach().clone()
        self.optimizer = make([self.weights])
        self.update_average = get_ema_multi_avg_fn(AVERAGING)

    def update(self, gradients: NDArray[np.float32], lr: float) -> None:
        self.weights.grad = torch.from_numpy(gradients.astype(np.float64))
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.update_average([self.average], [self.weights.detach()], 0)

    def assert_near(self, weights: NDArray[np.float32], average: NDArray[np.float32]) -> None:
        for got, want in ((weights, self.weights), (average, self.average)):
            expected = want.detach().numpy()
            np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * abs(expected).max())


@pytest.mark.parametrize(("optimizer", "lr", "make"), OPTIMIZERS)
def test_updates_are_those_of_torch_optim(
    optimizer: Optimizer, lr: float, make: Callable[..., torch.optim.Optimizer]
) -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=500).astype(np.float32)
    reference, average = Reference(make, weights), weights.copy()
    state = np.zeros((optimizer.states, 500), np.float32)
    drift = random.normal(size=500)
    for step in range(1, STEPS + 1):
        gradients = (drift + random.normal(size=500)).astype(np.float32)
        gradients[::7] = 0  # as of a unit that never answers
        optimizer.update(weights, gradients, state, rate_of(lr, step), step)
        update_average(average, weights, AVERAGING)
        reference.update(gradients, rate_of(lr, step))
    reference.assert_near(weights, average)
    assert weights.dtype == average.dtype == state.dtype == np.float32


@needs_kernels
@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("optimizer", "lr", "make"), OPTIMIZERS)
def test_steps_of_the_kernels_are_those_of_torch_optim(
    optimizer: Optimizer,
    lr: float,
    make: Callable[..., torch.optim.Optimizer],
    threads: int,
    isa: str,
) -> None:
    """Real steps; those of NumPy go beside them from the same gradients."""
    small = LeNet(channels=(3, 4), padding=(0,), hidden=(7,)).architecture()
    kernels = fused.Kernels(small, threads=threads, isa=isa)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, 28, 28), np.uint8)
    labels = random.integers(0, 10, 200)
    weights = random.uniform(-0.3, 0.3, kernels.size).astype(np.float32)
    reference, average, gradients = Reference(make, weights), weights.copy(), weights.copy()
    state = np.zeros((optimizer.states, kernels.size), np.float32)
    beside, beside_average, beside_state = weights.copy(), average.copy(), state.copy()
    parameters = kernels.parameters(weights, gradients, optimizer, state, average, AVERAGING)
    losses = []
    for step in range(1, STEPS + 1):
        index, rate = random.integers(0, 200, BATCH), rate_of(lr, step)
        update = optimizer.coefficients(rate, step)
        before = weights.copy()
        loss, _ = kernels.step(images, labels, index, parameters, update=update)
        reference.update(gradients, rate)
        optimizer.update(beside, gradients, beside_state, rate, step)
        update_average(beside_average, beside, AVERAGING)
        losses.append(loss)
        if step == 1:
            assert (weights != before).mean() > 0.9
    reference.assert_near(weights, average)
    reference.assert_near(beside, beside_average)
    scale = np.abs(state).max(initial=0)
    np.testing.assert_allclose(state, beside_state, rtol=1e-4, atol=1e-6 * scale)
    assert np.abs(weights - average).max() > 1e-4
    assert np.mean(losses[-50:]) < np.mean(losses[:50])


@needs_kernels
def test_a_step_without_update_leaves_all_but_the_gradients() -> None:
    kernels = fused.Kernels(LeNet().architecture(), threads=2)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 28, 28), np.uint8)
    labels, index = random.integers(0, 10, 40), np.arange(40)
    optimizer = AdamW()
    kept = [random.normal(size=kernels.size).astype(np.float32) for _ in range(2)]
    state = random.uniform(size=(2, kernels.size)).astype(np.float32)
    weights, average = (array.copy() for array in kept)
    gradients, before = np.full_like(weights, np.nan), state.copy()
    parameters = kernels.parameters(weights, gradients, optimizer, state, average, 0.5)
    result = kernels.step(images, labels, index, parameters)
    np.testing.assert_array_equal([weights, average], kept)
    np.testing.assert_array_equal(state, before)
    alone = gradients.copy()
    update = optimizer.coefficients(0.1, 1)
    assert kernels.step(images, labels, index, parameters, update=update) == result
    np.testing.assert_array_equal(gradients, alone)  # they are what the loss says, no more
    assert (weights != kept[0]).mean() > 0.9


@needs_kernels
@pytest.mark.parametrize("optimizer", [SGD(0.9, 0.01), AdamW()])
def test_updates_are_repeatable_to_the_bit(optimizer: Optimizer) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    labels, results = np.arange(40) % 10, []
    for _ in range(2):
        kernels = fused.Kernels(LeNet().architecture(), threads=2)
        weights = np.random.default_rng(1).uniform(-0.1, 0.1, kernels.size).astype(np.float32)
        state = np.zeros((optimizer.states, kernels.size), np.float32)
        parameters = kernels.parameters(weights, np.empty_like(weights), optimizer, state)
        for step in range(1, 6):
            update = optimizer.coefficients(0.01, step)
            kernels.step(images, labels, np.arange(40), parameters, update=update)
        results.append(weights.tobytes())
    assert results[0] == results[1]


def test_state_is_only_what_the_formula_needs() -> None:
    assert [o.states for o in (SGD(), SGD(weight_decay=0.1), SGD(momentum=0.5), AdamW())] == [
        *(0, 0, 1, 2)
    ]
