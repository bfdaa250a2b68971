"""The fused kernels against PyTorch autograd in float64."""

import math
import multiprocessing
import os
import threading
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet import engine
from lenet.engine import fused, plans
from lenet.engine.optimizers import SGD, AdamW
from lenet.errors import LenetError
from lenet.networks.models import Network, build
from lenet.training import losses
from lenet.data.distortion import Distortion

pytestmark = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)

IMAGES = 400
TOO_NEAR = 1e-6  # to a kink, in units of a layer's values
NORMALISED = {"mean": 0.1307, "std": 0.3081}


def network_and_plan(
    name: str = "LeNet",
    options: dict[str, Any] | None = None,
    loss: str = "cross-entropy",
    label_smoothing: float = 0.0,
    j: float = 10.0,
) -> tuple[Network, fused.Plan]:
    network = build(name, options or {}).double()
    plan = engine.plan(name, network.options, loss, label_smoothing, j)
    assert isinstance(plan, fused.Plan), plan
    return network, plan


def picture_data(seed: int, plan: fused.Plan) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random pixels: large areas of one colour would make ties for max pooling."""
    random = np.random.default_rng(seed)
    side = plan.image_size
    images = random.integers(0, 256, (IMAGES, side, side), np.uint8)
    return images, random.integers(0, plan.classes, IMAGES)


def random_weights(seed: int, plan: fused.Plan, scale: float = 1.0) -> NDArray[np.float32]:
    """All of them in one flat array."""
    random = np.random.default_rng(seed)
    result = []
    for shape in plan.shapes:
        bound = scale / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)
        result.append(random.uniform(-bound, bound, shape).astype(np.float32))
    return fused.flatten(result)


def reference(
    network: Network,
    plan: fused.Plan,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32],
    targets: NDArray[np.float32] | None = None,
) -> tuple[float, int, NDArray[np.float64], list[NDArray[np.float64]]]:
    """Loss, number right, scores and gradients by autograd in float64."""
    parameters = list(network.parameters())
    for parameter, weight in zip(parameters, fused.views(weights, plan.shapes), strict=True):
        parameter.data = torch.from_numpy(weight).double()
    scores, y = network(network.prepare(images).double()), torch.from_numpy(labels)
    loss = {
        "cross-entropy": lambda: losses.cross_entropy(scores, y, plan.label_smoothing),
        "mse": lambda: losses.one_hot_mse(scores, y),
        "penalty": lambda: losses.penalty(scores, y),
        "map": lambda: losses.map_criterion(scores, y, plan.j),
    }[plan.loss]()
    if targets is not None:
        logs = (scores / plan.temperature).log_softmax(dim=1)
        taught = -(torch.from_numpy(targets) * logs).sum(dim=1).mean() * plan.temperature**2
        loss = (1 - plan.distillation) * loss + plan.distillation * taught
    gradients = torch.autograd.grad(loss, parameters)
    right = int((scores.argmax(dim=1) == y).sum())
    return loss.item(), right, scores.detach().numpy(), [g.numpy() for g in gradients]


def check_step(
    network: Network,
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
    before, gradients = weights.copy(), np.full_like(weights, np.nan)
    targets = None
    if plan.distillation:
        random = np.random.default_rng(seed + 3)
        targets = random.dirichlet(np.full(plan.classes, 0.3), batch).astype(np.float32)
    step = fused.Kernels(plan, threads, isa)
    parameters = step.parameters(weights, gradients)
    loss, right = step.step(images, labels, index, parameters, targets=targets)
    assert_same(weights, before)  # as nothing updates them
    want_loss, want_right, want_scores, want_gradients = reference(
        network, plan, images[index], labels[index], weights, targets
    )
    assert loss == pytest.approx(want_loss, rel=1e-5, abs=1e-7)  # penalties may cancel
    assert right == want_right
    of_weights = 0.0
    got_gradients = fused.views(gradients, plan.shapes)
    for i, (got, want) in enumerate(zip(got_gradients, want_gradients, strict=True)):
        size = float(np.linalg.norm(want))
        if want.ndim > 1:
            of_weights = size
        # The gradient of one or two biases may be what is left of a long sum, far below that of
        # the weights beside them, where every sum in float32 has lost its digits.
        error = np.linalg.norm(got - want) / max(size, 0.03 * of_weights, 1e-30)
        assert error < tolerance, f"gradient {i}: relative error {error:.2e}"
    scores = step.scores(images[index], weights)
    assert np.linalg.norm(scores - want_scores) < 1e-5 * np.linalg.norm(want_scores)


def distance_to_kinks(network: Network, images: NDArray[np.uint8]) -> float:
    """How near a value comes to the kink of a ReLU, or the two largest of a window to each other.

    In units of the root mean square of the layer's values.
    """
    nearest = [np.inf]

    def relu(module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
        nearest.append(float(given[0].abs().min() / given[0].square().mean().sqrt()))

    def largest(module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
        windows = nn.functional.unfold(given[0].flatten(0, 1)[:, None], 2, stride=2)
        first, second = windows.topk(2, dim=1).values.unbind(1)
        gaps = (first - second)[first > 0 if relus else first == first]  # no delta passes at 0
        nearest.append(float(gaps.min() / given[0].square().mean().sqrt()))

    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    pools = [module for module in network.modules() if isinstance(module, nn.MaxPool2d)]
    hooks = [module.register_forward_hook(relu) for module in relus]
    hooks += [module.register_forward_hook(largest) for module in pools]
    with torch.no_grad():
        network(network.prepare(images).double())
    for hook in hooks:
        hook.remove()
    return min(nearest)


def check_kinked_step(network: Network, plan: fused.Plan, batch: int, **options: Any) -> None:
    """As check_step, where in float64 no value is so near to a kink that rounding may cross it."""
    for seed in range(50):
        images, _ = picture_data(seed, plan)
        index = np.random.default_rng(seed + 2).integers(0, len(images), batch)
        weights = random_weights(seed + 1, plan)
        for parameter, weight in zip(
            network.parameters(), fused.views(weights, plan.shapes), strict=True
        ):
            parameter.data = torch.from_numpy(weight).double()
        if distance_to_kinks(network, images[index]) > TOO_NEAR:
            return check_step(network, plan, batch, seed, **options)
    raise AssertionError("every seed has a value within rounding of a kink")


@pytest.mark.parametrize(
    ("activation", "pooling"), list(product(plans.ACTIVATIONS, ("average", "max")))
)
def test_step_agrees_with_autograd(activation: str, pooling: str) -> None:
    options = {**NORMALISED, "activation": activation, "pooling": pooling}
    for loss in ("cross-entropy", "mse"):
        check_step(*network_and_plan("LeNet", options, loss), batch=20)


# Sizes that fill no block of registers, sides that are odd or that pooling leaves columns of out,
# one map, one unit, and networks much smaller and larger than LeNet.
SIZES: list[dict[str, Any]] = [
    {"channels": (12, 32), "hidden": (240, 168)},
    {"channels": (7, 13), "hidden": (83, 31), "classes": 37},
    {"channels": (1, 1), "hidden": (1, 1), "classes": 2},
    {"channels": (5, 9), "hidden": (50,), "classes": 100},
    {"channels": (3, 4), "hidden": ()},
    {"channels": (8,), "hidden": (30,), "kernel_sizes": 9, "input_size": 36},
    {"channels": (4, 6, 10), "padding": (2, 2, 2), "hidden": (30, 20, 15)},
    {"kernel_sizes": (3, 3), "padding": 1, "activation": "relu", "pooling": "max"},
    {"kernel_sizes": (7, 4), "padding": (3, 1), "channels": (5, 7)},
    {"kernel_sizes": (1, 2), "padding": 0, "channels": (2, 3)},
    {"kernel_sizes": (6, 8), "padding": (0, 2), "channels": (3, 5)},
    {"kernel_sizes": (5, 5), "padding": (0, 3), "input_size": 29},
    {"kernel_sizes": (5, 10), "padding": (0, 0), "input_size": 37},
    {"input_size": 32, "padding": 0},
    {"input_size": 30, "padding": 1},
    {"input_size": 33, "padding": 0, "std": 0.5, "mean": 0.3},
    {"input_size": 16, "padding": 0},
    {"input_size": 23, "padding": 1, "mean": 0.1307, "std": 0.3081},
    {"input_size": 64, "padding": 0, "channels": (2, 3), "hidden": (20,)},
]


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize("options", SIZES, ids=str)
def test_any_size(options: dict[str, Any], isa: str) -> None:
    check_step(*network_and_plan("LeNet", {"activation": "tanh", **options}), batch=9, isa=isa)


LENET5 = [
    {"subsampling": "average"},
    {"subsampling": "sum"},
    {"head": "softmax"},
]


@pytest.mark.parametrize("loss", plans.LOSSES)
def test_every_network_and_loss(loss: str) -> None:
    for options in LENET5:
        check_step(*network_and_plan("LeNet5", options, loss, j=3.0), batch=25, scale=0.7)
    check_step(*network_and_plan("LeNet5s", {}, loss), batch=25)
    check_step(*network_and_plan("LeNet", {}, loss), batch=25)


@pytest.mark.parametrize("side", [20, 28, 32, 45])
def test_images_are_padded_or_resized(side: int) -> None:
    for name, resize in (("LeNet5", side > 32), ("LeNet5s", True)):
        network, plan = network_and_plan(name)
        plan = replace(plan, image_size=side, resize=resize)
        check_kinked_step(network, plan, 20, tolerance=2e-5)  # C3.all has a single bias


def test_label_smoothing() -> None:
    for smoothing in (0.1, 1.0):
        check_step(*network_and_plan("LeNet", NORMALISED, label_smoothing=smoothing), 20)


def test_certain_labels_keep_their_gradients() -> None:
    """Where the right class is all but certain, 1 - p is computed without cancellation."""
    network, plan = network_and_plan("LeNet", {"activation": "relu", "hidden": ()})
    images, labels = picture_data(0, plan)
    weights = random_weights(0, plan)
    weights[-10:] = 0
    weights[-6] = 14.0
    labels[:] = 4
    gradients = np.empty_like(weights)
    step = fused.Kernels(plan)
    parameters = step.parameters(weights, gradients)
    loss, _ = step.step(images, labels, np.arange(30), parameters)
    want_loss, _, _, want = reference(network, plan, images[:30], labels[:30], weights)
    assert 1e-8 < want_loss < 1e-4
    assert loss == pytest.approx(want_loss, rel=1e-4)
    np.testing.assert_allclose(gradients[-10:], want[-1], rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 16, 250, 256])
def test_any_batch_size(batch: int) -> None:
    check_step(*network_and_plan(), batch)
    check_step(*network_and_plan("LeNet5", {}, "map"), batch)
    check_kinked_step(*network_and_plan("LeNet5s", {}, "mse"), batch)


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize("threads", [1, 3])
def test_every_instruction_set(isa: str, threads: int) -> None:
    for pooling in ("average", "max"):
        options = {"activation": "tanh", "pooling": pooling}
        check_kinked_step(*network_and_plan("LeNet", options), 70, threads=threads, isa=isa)
    for name in ("LeNet5", "LeNet5s"):
        check_kinked_step(*network_and_plan(name), 70, threads=threads, isa=isa)


@pytest.mark.parametrize("distillation", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
def test_targets_of_teachers(distillation: float, temperature: float) -> None:
    network, plan = network_and_plan("LeNet", NORMALISED)
    plan = replace(plan, distillation=distillation, temperature=temperature)
    check_step(network, plan, 40)
    check_step(network, replace(plan, label_smoothing=0.1), 21, scale=4.0)


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize(
    "options", [{}, {"elastic": 1.0}, {"paper": 0.2, "fade": 0.5, "noise": 1.0}]
)
def test_distortions_are_those_of_warp(isa: str, options: dict[str, float]) -> None:
    for change in ({}, {"image_size": 20}, {"input_size": 32, "padding": 0}):
        size = change.pop("image_size", 28)
        _, plan = network_and_plan("LeNet", {**NORMALISED, "activation": "relu", **change})
        plan = replace(plan, image_size=size)
        step = fused.Kernels(plan, 2, isa)
        images, labels = picture_data(0, plan)
        index = np.random.default_rng(1).integers(0, len(images), 37)
        warps = Distortion(2, 10, 0.1, flip=True, **options).draw(
            37, plan.image_size, np.random.default_rng(2)
        )
        weights = random_weights(0, plan)
        inside, before, plain = (np.empty_like(weights) for _ in range(3))
        distortions = vars(warps)
        first = step.step(images, labels, index, step.parameters(weights, inside), **distortions)
        # As `warp` uses the best instruction set, another may round a pixel the other way.
        warped = fused.warp(images, index, **distortions)
        second = step.step(warped, labels[index], np.arange(37), step.parameters(weights, before))
        assert first == pytest.approx(second, rel=1e-5)
        for one, two in zip(
            fused.views(inside, plan.shapes), fused.views(before, plan.shapes), strict=True
        ):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(two).max())
        step.step(images, labels, index, step.parameters(weights, plain))
        first = math.prod(plan.shapes[0])
        change = np.linalg.norm((plain - before)[:first])
        assert change > 0.1 * np.linalg.norm(before[:first])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    activation=st.sampled_from(plans.ACTIVATIONS),
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 5.0),
    batch=st.integers(1, 40),
)
def test_any_weights(activation: str, seed: int, scale: float, batch: int) -> None:
    # Average pooling, as rounding may turn the choice of the largest.
    options = {**NORMALISED, "activation": activation}
    check_step(*network_and_plan("LeNet", options), batch, seed, scale, tolerance=2e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["LeNet5", "LeNet5s"]),
    subsampling=st.sampled_from(["average", "sum"]),
    head=st.sampled_from(["rbf", "softmax"]),
    loss=st.sampled_from(plans.LOSSES),
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 3.0),
    batch=st.integers(1, 40),
    j=st.floats(0.1, 100.0),
)
def test_any_weights_of_lenet5(
    name: str,
    subsampling: str,
    head: str,
    loss: str,
    seed: int,
    scale: float,
    batch: int,
    j: float,
) -> None:
    options = {"subsampling": subsampling, "head": head} if name == "LeNet5" else {}
    network, plan = network_and_plan(name, options, loss, j=j)
    check_step(network, plan, batch, seed, scale, tolerance=2e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_network(data: st.DataObject) -> None:
    draw = data.draw
    depth = draw(st.integers(1, 3))
    options: dict[str, Any] = {
        "input_size": draw(st.integers(12, 40)),
        # Not one map or weight, of which nothing but rounding may be left.
        "channels": draw(st.lists(st.integers(2, 20), min_size=depth, max_size=depth)),
        "kernel_sizes": draw(st.lists(st.integers(2, 9), min_size=depth, max_size=depth)),
        "padding": draw(st.lists(st.integers(0, 4), min_size=depth, max_size=depth)),
        "hidden": draw(st.lists(st.integers(1, 130), max_size=3)),
        "classes": draw(st.integers(1, 100)),
        "activation": draw(st.sampled_from(["sigmoid", "tanh", "scaled-tanh"])),
    }
    try:
        network, plan = network_and_plan("LeNet", options)
    except LenetError:
        assume(False)
        raise
    batch, isa = draw(st.integers(1, 40)), draw(st.sampled_from(fused.instruction_sets()))
    check_step(network, plan, batch, draw(st.integers(0, 1000)), isa=isa, tolerance=2e-5)


def gradients_of(step: fused.Kernels, seed: int = 0) -> NDArray[np.float32]:
    images, labels = picture_data(seed, step.plan)
    gradients = np.empty(step.size, np.float32)
    parameters = step.parameters(random_weights(seed, step.plan), gradients)
    step.step(images, labels, np.arange(100), parameters)
    return gradients


def assert_same(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    """To the bit."""
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["LeNet", "LeNet5", "LeNet5s"])
def test_repeatable_to_the_bit(name: str, threads: int) -> None:
    step = fused.Kernels(network_and_plan(name)[1], threads)
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_works_in_a_child_forked_during_a_step() -> None:
    """Locks and threads of the step under way are not there in the child, which has its own."""
    step = fused.Kernels(fused.Plan(), 2)
    want = gradients_of(step)
    stepping, stop = threading.Event(), threading.Event()

    def keep_stepping() -> None:
        images, labels = picture_data(1, step.plan)
        gradients = np.empty(step.size, np.float32)
        parameters = step.parameters(random_weights(1, step.plan), gradients)
        index = np.resize(np.arange(100), 20_000)  # long enough to be met
        while not stop.is_set():
            stepping.set()
            step.step(images, labels, index, parameters)
            stepping.clear()

    context = multiprocessing.get_context("fork")
    other = threading.Thread(target=keep_stepping)
    other.start()
    try:
        for _ in range(5):
            assert stepping.wait(60)
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=lambda to=sender: to.send(gradients_of(step)))
            child.start()
            try:
                assert receiver.poll(60), "the child hangs"
                assert_same(want, receiver.recv())
            finally:
                child.kill()
                child.join()
    finally:
        stop.set()
        other.join()
    assert_same(want, gradients_of(step))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_wild_weights_do_not_crash(bad: float, pooling: str) -> None:
    wild = [
        network_and_plan("LeNet", {"activation": activation, "pooling": pooling})[1]
        for activation in plans.ACTIVATIONS
    ]
    for plan in [*wild, network_and_plan("LeNet5", {}, "map")[1], network_and_plan("LeNet5s")[1]]:
        images, labels = picture_data(0, plan)
        weights = random_weights(0, plan)
        for weight in fused.views(weights, plan.shapes):
            weight.flat[0] = bad
        step, optimizer = fused.Kernels(plan, 2), AdamW()
        state = np.zeros((2, step.size), np.float32)
        parameters = step.parameters(weights, np.empty_like(weights), optimizer, state)
        update = optimizer.coefficients(bad, 1)
        _, right = step.step(images, labels, np.arange(17), parameters, update=update)
        assert 0 <= right <= 17


def test_bad_input_is_refused() -> None:
    plan = fused.Plan()
    step = fused.Kernels(plan, 1)
    images, labels = picture_data(0, plan)
    weights = random_weights(0, plan)
    gradients, read_only = np.zeros_like(weights), np.zeros_like(weights)
    read_only.flags.writeable = False
    index = np.arange(20)
    wrong_label = labels.copy()
    wrong_label[5] = 10
    parameters = step.parameters(weights, gradients)
    for message, arguments in {
        "images must be uint8": (images.astype(np.float32), labels, index, parameters),
        "images must have the shape": (images[:, 1:], labels, index, parameters),
        "images must be C-contig": (images.transpose(0, 2, 1), labels, index, parameters),
        "labels must be int64": (images, labels.astype(np.int32), index, parameters),
        "400 images but 399 labels": (images, labels[1:], index, parameters),
        "label 10 of image 5": (images, wrong_label, index, parameters),
        "index -1 is out of range": (images, labels, index - 1, parameters),
        "index 400 is out of range": (images, labels, index + 381, parameters),
        "index must have": (images, labels, index[None], parameters),
        "batch must have": (images, labels, index[:0], parameters),
    }.items():
        with pytest.raises(LenetError, match=message):
            step.step(*arguments)  # pyright: ignore[reportArgumentType]
    for message, arguments in {
        "weights must have the shape": (weights[1:], gradients),
        "weights must be a NumPy": (list(weights), gradients),
        "weights must be C-contig": (np.repeat(weights, 2)[::2], gradients),
        "gradients must be float32": (weights, gradients.astype(np.float64)),
        "gradients must be writeable": (weights, read_only),
        "state must be a NumPy": (weights, gradients, AdamW()),
        "state must have the shape": (weights, gradients, AdamW(), gradients[None]),
        "average must have": (weights, gradients, SGD(), None, gradients[:5], 0.9),
        "averaging must be": (weights, gradients, SGD(), None, gradients, 1.5),
    }.items():
        with pytest.raises(LenetError, match=message):
            step.parameters(*arguments)  # pyright: ignore[reportArgumentType]
    for message, optimizer in {
        "update must be 3 numbers": SGD(),
        "with an optimizer": None,
    }.items():
        with_optimizer = step.parameters(weights, gradients, optimizer)
        with pytest.raises(LenetError, match=message):
            step.step(images, labels, index, with_optimizer, update=(0.1,))
    other = fused.Kernels(replace(plan, classes=9), 1)
    with pytest.raises(LenetError, match="not those of a network of this plan"):
        other.step(images, np.minimum(labels, 8), index, parameters)
    maps, knots = np.zeros((20, 2, 3), np.float32), np.zeros((20, 2, 7, 7), np.float32)
    for message, options in {
        "maps must have one entry": {"maps": maps[1:]},
        "maps must have the shape": {"maps": maps[:, 1:]},
        "maps must be float32": {"maps": maps.astype(float)},
        r"knots must .* have the shape \(20, 2, 7, 7\)": {"maps": maps, "knots": knots[1:]},
        r"have the shape \(20, 2, 7, 7\)": {"maps": maps, "knots": knots[..., :6].copy()},
        "knots must come with maps": {"knots": knots},
        "maps must be finite": {"maps": np.full_like(maps, np.nan)},
        "knots must be finite": {"maps": maps, "knots": np.full_like(knots, np.inf)},
        "targets and the plan's distillation": {"targets": np.ones((20, 10), np.float32)},
    }.items():
        with pytest.raises(LenetError, match=message):
            step.step(images, labels, index, parameters, **options)
    taught = fused.Kernels(replace(plan, distillation=0.5), 1)
    with pytest.raises(LenetError, match="targets and the plan's distillation"):
        taught.step(images, labels, index, parameters)
    with pytest.raises(LenetError, match="targets must have the shape"):
        taught.step(images, labels, index, parameters, targets=np.ones((20, 9), np.float32))
    for bad in (np.nan, np.inf):
        spoilt = np.full((20, 10), bad, np.float32)
        with pytest.raises(LenetError, match="targets must be finite"):
            taught.step(images, labels, index, parameters, targets=spoilt)
    with pytest.raises(LenetError, match="images must be uint8"):
        step.scores(images.astype(np.int64), weights)  # pyright: ignore[reportArgumentType]
    assert step.scores(images[:0], weights).shape == (0, 10)


def with_stage(**changes: Any) -> dict[str, Any]:
    first, *others = fused.Plan().stages
    return {"stages": (replace(first, **changes), *others)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": "swish"}, "activation 'swish'"),
        (with_stage(activation="swish"), "activation 'swish'"),
        (with_stage(pooling="median"), "pooling 'median'"),
        (with_stage(subsampling="swish"), "subsampling 'swish'"),
        (with_stage(outputs=0), "0 maps"),
        (with_stage(kernel=0), "0x0 kernels"),
        (with_stage(padding=-1), "padding -1"),
        (with_stage(kernel=32), "do not fit an input of 28x28 with padding 2"),
        (with_stage(outputs=10**6), "1000000 maps is too large"),
        (with_stage(groups=(((0,),),)), "do not fit 1 to 6 maps"),
        (with_stage(groups=(((1,),) * 6,)), "do not fit 1 to 6 maps"),
        ({"stages": ()}, "1 to 8 convolutions, not 0"),
        ({"hidden": (5,) * 8}, "up to 7 hidden layers"),
        ({"hidden": (0,)}, "1 unit or more, not 0"),
        ({"hidden": (10**5,)}, "too large"),
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"head": "tail"}, "head 'tail'"),
        ({"head": "rbf", "hidden": (120,)}, "10 classes and 84 units"),
        ({"head": "rbf", "hidden": ()}, "10 classes and 84 units"),
        ({"input_size": 27}, "28x28 pixels do not fit the input of 27x27"),
        ({"image_size": 29}, "29x29 pixels do not fit the input of 28x28"),
        ({"image_size": 15}, "16 to 1024 pixels a side, not 15"),
        ({"std": 0.0}, "std positive"),
        ({"j": np.inf}, "j must be finite"),
        ({"label_smoothing": 2.0}, "label smoothing"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label smoothing"),
        ({"distillation": 1.5}, "distillation must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be finite and positive"),
        ({"classes": 0}, "1 to 1000 classes, not 0"),
    ],
    ids=str,
)
def test_unsupported_plans_say_why(change: dict[str, Any], reason: str) -> None:
    plan = replace(fused.Plan(), **change)
    assert reason in (fused.unsupported(plan) or "")
    with pytest.raises(LenetError, match=reason):
        fused.Kernels(plan)


def test_plans_of_networks() -> None:
    """Parameters have the network's shapes, and what is not served is refused in a sentence."""
    for name in ("LeNet", "LeNet5", "LeNet5s"):
        network, plan = network_and_plan(name)
        assert plan.shapes == tuple(tuple(p.shape) for p in network.parameters())
        assert engine.choose("auto", "cpu", plan) == (
            "fused",
            "it serves this network and is faster",
        )
    colour = engine.plan("LeNet", build("LeNet", {"in_channels": 3}).options)
    assert colour == "the fused kernels read 1 input channel, not 3"
    assert engine.choose("auto", "cpu", colour) == ("autograd", colour)
    flat = engine.plan("LeNet", build("LeNet", {"channels": (), "padding": ()}).options)
    assert flat == "the fused kernels serve 1 to 8 convolutions, not 0"
    assert "no fused kernels for AlexNet" in str(engine.plan("AlexNet", {}))


def test_threads_and_instruction_set_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (0, -1, 257):
        with pytest.raises(LenetError, match="threads must be from 1 to 256"):
            fused.Kernels(fused.Plan(), threads)
    monkeypatch.setenv("LENET_ENGINE", "portable")
    assert fused.Kernels(fused.Plan(), 1).isa == "portable"
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="mmx"):
        fused.Kernels(fused.Plan(), 1)
