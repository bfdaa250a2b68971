"""The fused kernels against PyTorch autograd in float64."""

import multiprocessing
import os
import threading
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from lenet.augment import Distortion
from lenet.engine import fused
from lenet.errors import LenetError

pytestmark = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)

IMAGES = 400
NORMALISED = fused.Plan(mean=0.1307, std=0.3081)


def picture_data(seed: int, plan: fused.Plan) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random pixels: large areas of one colour would make ties for max pooling."""
    random = np.random.default_rng(seed)
    side = plan.image_size
    images = random.integers(0, 256, (IMAGES, side, side), np.uint8)
    return images, random.integers(0, plan.classes, IMAGES)


def random_weights(seed: int, plan: fused.Plan, scale: float = 1.0) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    result = []
    for shape in plan.shapes:
        bound = scale / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)
        result.append(random.uniform(-bound, bound, shape).astype(np.float32))
    return result


class ScaledTanh(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(2 * x / 3)


class SigmoidGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


def reference(
    plan: fused.Plan,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    weights: list[NDArray[np.float32]],
    targets: NDArray[np.float32] | None = None,
) -> tuple[float, int, NDArray[np.float64], list[NDArray[np.float64]]]:
    """Loss, number right, scores and gradients by autograd in float64."""
    activation = {
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "scaled-tanh": ScaledTanh,
        "relu": nn.ReLU,
        "gelu": SigmoidGELU,
    }[plan.activation]
    pooling = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}[plan.pooling]
    (c1, c3), (k1, k3), (c5, f6) = plan.channels, plan.kernel_sizes, plan.hidden
    network = nn.Sequential(
        nn.Conv2d(1, c1, k1, padding=plan.padding),
        activation(),
        pooling(2),
        nn.Conv2d(c1, c3, k3),
        activation(),
        pooling(2),
        nn.Flatten(),
        nn.Linear(plan.shapes[4][1], c5),
        activation(),
        nn.Linear(c5, f6),
        activation(),
        nn.Linear(f6, plan.classes),
    ).double()
    parameters = list(network.parameters())
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.data = torch.from_numpy(weight).double()
    border = (plan.input_size - plan.image_size) // 2
    x = nn.functional.pad(torch.from_numpy(images).double(), [border] * 4)[:, None]
    scores = network((x / 255 - plan.mean) / plan.std)
    y = torch.from_numpy(labels)
    if plan.loss == "mse":
        loss = nn.functional.mse_loss(scores, nn.functional.one_hot(y, plan.classes).double())
    else:
        loss = nn.functional.cross_entropy(scores, y, label_smoothing=plan.label_smoothing)
    if targets is not None:
        logs = (scores / plan.temperature).log_softmax(dim=1)
        taught = -(torch.from_numpy(targets) * logs).sum(dim=1).mean() * plan.temperature**2
        loss = (1 - plan.distillation) * loss + plan.distillation * taught
    gradients = torch.autograd.grad(loss, parameters)
    right = int((scores.argmax(dim=1) == y).sum())
    return loss.item(), right, scores.detach().numpy(), [g.numpy() for g in gradients]


def check_step(
    plan: fused.Plan,
    batch: int,
    seed: int = 0,
    scale: float = 1.0,
    threads: int = 2,
    isa: str | None = None,
    tolerance: float = 1e-5,
) -> None:
    images, labels = picture_data(seed, plan)
    weights = random_weights(seed + 1, plan, scale)
    index = np.random.default_rng(seed + 2).integers(0, len(images), batch)
    gradients = [np.full(shape, np.nan, np.float32) for shape in plan.shapes]
    targets = None
    if plan.distillation:
        random = np.random.default_rng(seed + 3)
        targets = random.dirichlet(np.full(plan.classes, 0.3), batch).astype(np.float32)
    step = fused.Kernels(plan, threads, isa)
    loss, right = step.step(images, labels, index, weights, gradients, targets=targets)
    want_loss, want_right, want_scores, want_gradients = reference(
        plan, images[index], labels[index], weights, targets
    )
    assert loss == pytest.approx(want_loss, rel=1e-5)
    assert right == want_right
    for i, (got, want) in enumerate(zip(gradients, want_gradients, strict=True)):
        error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)
        assert error < tolerance, f"gradient {i}: relative error {error:.2e}"
    scores = step.scores(images[index], weights)
    assert np.linalg.norm(scores - want_scores) < 1e-5 * np.linalg.norm(want_scores)


@pytest.mark.parametrize(
    ("activation", "pooling", "loss"),
    list(product(fused.ACTIVATIONS, fused.POOLINGS, fused.LOSSES)),
)
def test_step_agrees_with_autograd(activation: str, pooling: str, loss: str) -> None:
    plan = replace(NORMALISED, activation=activation, pooling=pooling, loss=loss)
    check_step(plan, batch=40)


@pytest.mark.parametrize("batch", [1, 7, 16, 250, 256])
def test_any_batch_size(batch: int) -> None:
    check_step(fused.Plan(), batch)


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize("threads", [1, 3])
def test_every_instruction_set(isa: str, threads: int) -> None:
    for pooling in fused.POOLINGS:
        check_step(fused.Plan(activation="tanh", pooling=pooling), 70, threads=threads, isa=isa)


@pytest.mark.parametrize(
    "plan",
    [
        replace(NORMALISED, input_size=32, padding=0),
        replace(NORMALISED, input_size=30, padding=1),
        replace(NORMALISED, image_size=32, input_size=32, padding=0),
        replace(NORMALISED, image_size=20),
        replace(NORMALISED, label_smoothing=0.1),
    ],
)
def test_input_geometry_and_label_smoothing(plan: fused.Plan) -> None:
    check_step(plan, 20)


@pytest.mark.parametrize("distillation", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
def test_targets_of_teachers(distillation: float, temperature: float) -> None:
    plan = replace(NORMALISED, distillation=distillation, temperature=temperature)
    check_step(plan, 40)
    check_step(replace(plan, label_smoothing=0.1), 21, scale=4.0)


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize("options", [{}, {"elastic": 1.0}, {"paper": 0.2, "fade": 0.5}])
def test_distortions_are_those_of_warp(isa: str, options: dict[str, float]) -> None:
    for change in ({}, {"image_size": 20}, {"input_size": 32, "padding": 0}):
        plan = replace(NORMALISED, activation="relu", **change)
        step = fused.Kernels(plan, 2, isa)
        images, labels = picture_data(0, plan)
        index = np.random.default_rng(1).integers(0, len(images), 37)
        warps = Distortion(2, 10, 0.1, flip=True, **options).draw(
            37, plan.image_size, np.random.default_rng(2)
        )
        weights = random_weights(0, plan)
        inside, before = ([np.empty(s, np.float32) for s in plan.shapes] for _ in range(2))
        distortions = (warps.maps, warps.knots, warps.shades)
        first = step.step(images, labels, index, weights, inside, *distortions)
        # As `warp` uses the best instruction set, another may round a pixel the other way.
        warped = fused.warp(images, index, *distortions)
        second = step.step(warped, labels[index], np.arange(37), weights, before)
        assert first == pytest.approx(second, rel=1e-5)
        for one, two in zip(inside, before, strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(two).max())
        plain = [np.empty(shape, np.float32) for shape in plan.shapes]
        step.step(images, labels, index, weights, plain)
        assert np.linalg.norm(plain[0] - before[0]) > 0.1 * np.linalg.norm(before[0])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    activation=st.sampled_from(fused.ACTIVATIONS),
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 5.0),
    batch=st.integers(1, 40),
)
def test_any_weights(activation: str, seed: int, scale: float, batch: int) -> None:
    # Average pooling, as rounding may turn the choice of the largest.
    plan = replace(NORMALISED, activation=activation)
    check_step(plan, batch, seed, scale, tolerance=2e-5)


def gradients_of(step: fused.Kernels, seed: int = 0) -> list[NDArray[np.float32]]:
    images, labels = picture_data(seed, step.plan)
    gradients = [np.empty(shape, np.float32) for shape in step.plan.shapes]
    weights = random_weights(seed, step.plan)
    step.step(images, labels, np.arange(100), weights, gradients)
    return gradients


def assert_same(left: list[NDArray[np.float32]], right: list[NDArray[np.float32]]) -> None:
    for a, b in zip(left, right, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_repeatable_to_the_bit(threads: int) -> None:
    step = fused.Kernels(fused.Plan(pooling="max", activation="relu"), threads)
    first = gradients_of(step)
    gradients_of(step, seed=1)
    assert_same(first, gradients_of(step))
    assert_same(first, gradients_of(fused.Kernels(step.plan, threads)))


def test_several_python_threads() -> None:
    shared = fused.Kernels(fused.Plan(), 2)
    own = [shared, shared, fused.Kernels(fused.Plan(), 2), fused.Kernels(fused.Plan(), 1)]
    want = [gradients_of(step, seed) for seed, step in enumerate(own)]
    failures = []

    def work(seed: int) -> None:
        try:
            for _ in range(5):
                assert_same(want[seed], gradients_of(own[seed], seed))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_works_in_a_forked_child() -> None:
    step = fused.Kernels(fused.Plan(), 2)
    want = gradients_of(step)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(gradients_of(step)))
    child.start()
    assert receiver.poll(20)
    assert_same(want, receiver.recv())
    child.join()
    assert_same(want, gradients_of(step))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("pooling", fused.POOLINGS)
def test_wild_weights_do_not_crash(bad: float, pooling: str) -> None:
    for activation in fused.ACTIVATIONS:
        plan = fused.Plan(activation=activation, pooling=pooling)
        images, labels = picture_data(0, plan)
        weights = random_weights(0, plan)
        for weight in weights:
            weight.flat[0] = bad
        gradients = [np.empty(shape, np.float32) for shape in plan.shapes]
        _, right = fused.Kernels(plan, 2).step(images, labels, np.arange(17), weights, gradients)
        assert 0 <= right <= 17


def test_bad_input_is_refused() -> None:
    plan = fused.Plan()
    step = fused.Kernels(plan, 1)
    images, labels = picture_data(0, plan)
    weights = random_weights(0, plan)
    gradients = [np.zeros(shape, np.float32) for shape in plan.shapes]
    index = np.arange(20)
    read_only = [g.copy() for g in gradients]
    read_only[3].flags.writeable = False
    wrong_label = labels.copy()
    wrong_label[5] = 10
    for message, arguments in {
        "images must be uint8": (images.astype(np.float32), labels, index, weights, gradients),
        "images must have the shape": (images[:, 1:], labels, index, weights, gradients),
        "images must be C-contig": (images.transpose(0, 2, 1), labels, index, weights, gradients),
        "labels must be int64": (images, labels.astype(np.int32), index, weights, gradients),
        "labels must have": (images, labels[1:], index, weights, gradients),
        "label 10 of image 5": (images, wrong_label, index, weights, gradients),
        "index -1 is out of range": (images, labels, index - 1, weights, gradients),
        "index 400 is out of range": (images, labels, index + 381, weights, gradients),
        "index must have": (images, labels, index[None], weights, gradients),
        "batch must have": (images, labels, index[:0], weights, gradients),
        "weights must be 10": (images, labels, index, weights[1:], gradients),
        r"weights\[0\] must have": (images, labels, index, weights[::-1], gradients),
        r"weights\[0\] must be a NumPy": (images, labels, index, [1.0] * 10, gradients),
        r"gradients\[0\] must be float32": (
            images, labels, index, weights, [g.astype(np.float64) for g in gradients]
        ),
        "gradients must be writeable": (images, labels, index, weights, read_only),
    }.items():  # fmt: skip
        with pytest.raises(LenetError, match=message):
            step.step(*arguments)  # pyright: ignore[reportArgumentType]
    maps, knots = np.zeros((20, 2, 3), np.float32), np.zeros((20, 2, 7, 7), np.float32)
    for message, options in {
        "maps must have the shape": {"maps": maps[1:]},
        "maps must be float32": {"maps": maps.astype(float)},
        "knots must have the shape": {"maps": maps, "knots": knots[1:]},
        r"knots must .* have the shape \(20, 2, 7, 7\)": {
            "maps": maps,
            "knots": knots[..., :6].copy(),
        },
        "knots must come with maps": {"knots": knots},
        "targets and the plan's distillation": {"targets": np.ones((20, 10), np.float32)},
    }.items():
        with pytest.raises(LenetError, match=message):
            step.step(images, labels, index, weights, gradients, **options)
    taught = fused.Kernels(replace(plan, distillation=0.5), 1)
    with pytest.raises(LenetError, match="targets and the plan's distillation"):
        taught.step(images, labels, index, weights, gradients)
    with pytest.raises(LenetError, match="targets must have the shape"):
        taught.step(images, labels, index, weights, gradients, targets=np.ones((20, 9), np.float32))
    with pytest.raises(LenetError, match="images must be uint8"):
        step.scores(images.astype(np.int64), weights)  # pyright: ignore[reportArgumentType]
    assert step.scores(images[:0], weights).shape == (0, 10)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": "swish"}, "activation 'swish'"),
        ({"pooling": "median"}, "pooling 'median'"),
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"input_size": 29}, "29x29"),
        ({"image_size": 29}, "29x29"),
        ({"std": 0.0}, "std positive"),
        ({"label_smoothing": 2.0}, "label smoothing"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label smoothing"),
        ({"distillation": 1.5}, "distillation must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be finite and positive"),
        ({"classes": 0}, "classes"),
    ],
)
def test_unsupported_plans_say_why(change: dict, reason: str) -> None:
    plan = replace(fused.Plan(), **change)
    assert reason in (fused.unsupported(plan) or "")
    with pytest.raises(LenetError, match=reason):
        fused.Kernels(plan)
    assert fused.unsupported(fused.Plan()) is None


def test_threads_and_instruction_set_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (0, -1, 257):
        with pytest.raises(LenetError, match="threads must be from 1 to 256"):
            fused.Kernels(fused.Plan(), threads)
    monkeypatch.setenv("LENET_ENGINE", "portable")
    assert fused.Kernels(fused.Plan(), 1).isa == "portable"
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="mmx"):
        fused.Kernels(fused.Plan(), 1)
