"""The fused kernels against PyTorch autograd in float64."""

import math
import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet.data.distortion import Distortion, Warps
from lenet.engine import fused
from lenet.engine.objective import Objective
from lenet.engine.optimizers import SGD, AdamW
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture, Distances, LeNet, build
from lenet.networks.arithmetic import ACTIVATIONS
from lenet.networks.codebook import digit_codes
from lenet.networks.torch import Network, from_architecture
from lenet.training.autograd import loss_of

pytestmark = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)

BOOK = LeNet().architecture()
LOSSES = get_args(get_type_hints(Objective)["loss"])
IMAGES = 400
TOO_NEAR = 1e-6  # to a kink, in units of a layer's values
NORMALISED = {"mean": 0.1307, "std": 0.3081}


@dataclass(frozen=True)
class Plan:
    """What a set of kernels is made for."""

    architecture: Architecture = BOOK
    objective: Objective = Objective()
    image_size: int = 28

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [parameter.shape for parameter in self.architecture.parameters]

    @property
    def classes(self) -> int:
        return self.architecture.classes

    def taught(self, **objective: Any) -> "Plan":
        return replace(self, objective=replace(self.objective, **objective))

    def kernels(self, threads: int | None = None, isa: str | None = None) -> fused.Kernels:
        return fused.Kernels(self.architecture, self.objective, self.image_size, threads, isa)


def network_and_plan(
    name: str = "LeNet",
    options: dict[str, Any] | None = None,
    loss: Any = "cross-entropy",
    **objective: Any,
) -> tuple[Network, Plan]:
    architecture = build(name, options or {})
    network = from_architecture(architecture, architecture.initial_weights(0)).double()
    return network, Plan(architecture, Objective(loss=loss, **objective))


def picture_data(seed: int, plan: Plan) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random pixels: large areas of one colour would make ties for max pooling."""
    random = np.random.default_rng(seed)
    side = plan.image_size
    images = random.integers(0, 256, (IMAGES, side, side), np.uint8)
    return images, random.integers(0, plan.classes, IMAGES)


def random_weights(seed: int, plan: Plan, scale: float = 1.0) -> NDArray[np.float32]:
    """All of them in one flat array."""
    random = np.random.default_rng(seed)
    result = []
    for shape in plan.shapes:
        bound = scale / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)
        result.append(random.uniform(-bound, bound, shape).astype(np.float32))
    return fused.flatten(result)


def reference(
    network: Network,
    plan: Plan,
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
    taught = None if targets is None else torch.from_numpy(targets).double()
    loss = loss_of(plan.objective, scores, y, taught)
    gradients = torch.autograd.grad(loss, parameters)
    right = int((scores.argmax(dim=1) == y).sum())
    return loss.item(), right, scores.detach().numpy(), [g.numpy() for g in gradients]


def check_step(
    network: Network,
    plan: Plan,
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
    if plan.objective.distillation:
        random = np.random.default_rng(seed + 3)
        targets = random.dirichlet(np.full(plan.classes, 0.3), batch).astype(np.float32)
    step = plan.kernels(threads, isa)
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


def check_kinked_step(network: Network, plan: Plan, batch: int, **options: Any) -> None:
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


@pytest.mark.parametrize(("activation", "pooling"), list(product(ACTIVATIONS, ("average", "max"))))
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


def of_map(loss: str, j: float) -> dict[str, float]:
    """The constant of criterion (9), which no other loss has."""
    return {"j": j} if loss == "map" else {}


LENET5 = [
    {"subsampling": "average"},
    {"subsampling": "sum"},
    {"head": "softmax"},
]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_network_and_loss(loss: str) -> None:
    for options in LENET5:
        check_step(*network_and_plan("LeNet5", options, loss, **of_map(loss, 3.0)), 25, scale=0.7)
    check_step(*network_and_plan("LeNet5s", {}, loss), batch=25)
    check_step(*network_and_plan("LeNet", {}, loss), batch=25)


@pytest.mark.parametrize("side", [20, 28, 32, 45])
def test_images_are_padded_or_resized(side: int) -> None:
    for name in ("LeNet5", "LeNet5s"):
        network, plan = network_and_plan(name)
        plan = replace(plan, image_size=side)
        check_kinked_step(network, plan, 20, tolerance=2e-5)  # C3.all has a single bias


def test_label_smoothing() -> None:
    for smoothing in (0.1, 0.9):
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
    step = plan.kernels()
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
    plan = plan.taught(distillation=distillation, temperature=temperature)
    check_step(network, plan, 40)
    check_step(network, plan.taught(label_smoothing=0.1), 21, scale=4.0)


@pytest.mark.parametrize("isa", fused.instruction_sets())
@pytest.mark.parametrize(
    "options", [{}, {"elastic": 1.0}, {"paper": 0.2, "fade": 0.5, "noise": 1.0}]
)
def test_distortions_are_those_of_warp(isa: str, options: dict[str, float]) -> None:
    for change in ({}, {"image_size": 20}, {"input_size": 32, "padding": 0}):
        size = change.pop("image_size", 28)
        _, plan = network_and_plan("LeNet", {**NORMALISED, "activation": "relu", **change})
        plan = replace(plan, image_size=size)
        step = plan.kernels(2, isa)
        images, labels = picture_data(0, plan)
        index = np.random.default_rng(1).integers(0, len(images), 37)
        warps = Distortion(shift=2, rotation=10, scale=0.1, flip=True, **options).draw(
            37, plan.image_size, np.random.default_rng(2)
        )
        weights = random_weights(0, plan)
        inside, before, plain = (np.empty_like(weights) for _ in range(3))
        first = step.step(images, labels, index, step.parameters(weights, inside), warps)
        # As `warp` uses the best instruction set, another may round a pixel the other way.
        warped = fused.warp(images, index, warps)
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
    activation=st.sampled_from(list(ACTIVATIONS)),
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
    loss=st.sampled_from(LOSSES),
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
    network, plan = network_and_plan(name, options, loss, **of_map(loss, j))
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


def plan_of(step: fused.Kernels) -> Plan:
    return Plan(step.architecture, step.objective, step.image_size)


def gradients_of(step: fused.Kernels, seed: int = 0) -> NDArray[np.float32]:
    images, labels = picture_data(seed, plan_of(step))
    gradients = np.empty(step.size, np.float32)
    parameters = step.parameters(random_weights(seed, plan_of(step)), gradients)
    step.step(images, labels, np.arange(100), parameters)
    return gradients


def assert_same(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    """To the bit."""
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["LeNet", "LeNet5", "LeNet5s"])
def test_repeatable_to_the_bit(name: str, threads: int) -> None:
    step = network_and_plan(name)[1].kernels(threads)
    first = gradients_of(step)
    gradients_of(step, seed=1)
    assert_same(first, gradients_of(step))
    assert_same(first, gradients_of(plan_of(step).kernels(threads)))


def test_several_python_threads() -> None:
    shared = Plan().kernels(2)
    own = [shared, shared, Plan().kernels(2), Plan().kernels(1)]
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
    step = Plan().kernels(2)
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
    step = Plan().kernels(2)
    want = gradients_of(step)
    stepping, stop = threading.Event(), threading.Event()

    def keep_stepping() -> None:
        images, labels = picture_data(1, plan_of(step))
        gradients = np.empty(step.size, np.float32)
        parameters = step.parameters(random_weights(1, plan_of(step)), gradients)
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


COMPUTE_UNTIL_EXIT = """
import threading
import numpy as np
from lenet.data.distortion import Distortion
from lenet.engine import fused, sequential, single
from lenet.networks.architecture import LeNet5

images, labels = np.zeros((4000, 28, 28), np.uint8), np.zeros(4000, np.int64)
index = np.arange(4000)
architecture = LeNet5().architecture()
weights = architecture.initial_weights(0)
flat = fused.flatten(weights.values())
kernels = fused.Kernels(architecture, threads=2)
parameters = kernels.parameters(flat, np.empty_like(flat))
one = single.SingleImage(architecture, weights)
patterns = sequential.Patterns(architecture, flat, sequential.Criterion())
warps = Distortion(shift=2).draw(4000, 28, np.random.default_rng(0))
calls = {
    "step": lambda: kernels.step(images, labels, index, parameters),
    "scores": lambda: kernels.scores(images, flat),
    "single": lambda: one.batch_scores(images),
    "sequential": lambda: patterns.curvature(images, labels, index),
    "warp": lambda: fused.warp(images, index, warps, 2),
}

def compute():
    while True:
        calls[CALL]()
        started.set()

started = threading.Event()
threading.Thread(target=compute, daemon=True).start()
started.wait()
"""


@pytest.mark.parametrize("call", ["step", "scores", "single", "sequential", "warp"])
def test_the_process_ends_while_a_daemon_thread_computes(call: str) -> None:
    script = COMPUTE_UNTIL_EXIT.replace("CALL", repr(call))
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_wild_weights_do_not_crash(bad: float, pooling: str) -> None:
    wild = [
        network_and_plan("LeNet", {"activation": activation, "pooling": pooling})[1]
        for activation in ACTIVATIONS
    ]
    for plan in [*wild, network_and_plan("LeNet5", {}, "map")[1], network_and_plan("LeNet5s")[1]]:
        images, labels = picture_data(0, plan)
        weights = random_weights(0, plan)
        for weight in fused.views(weights, plan.shapes):
            weight.flat[0] = bad
        step, optimizer = plan.kernels(2), AdamW()
        state = np.zeros((2, step.size), np.float32)
        parameters = step.parameters(weights, np.empty_like(weights), optimizer, state)
        update = optimizer.coefficients(bad, 1)
        _, right = step.step(images, labels, np.arange(17), parameters, update=update)
        assert 0 <= right <= 17


def test_bad_input_is_refused() -> None:
    plan = Plan()
    step = plan.kernels(1)
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
    other = Plan(build("LeNet", {"classes": 9})).kernels(1)
    with pytest.raises(LenetError, match="not those of a network of this plan"):
        other.step(images, np.minimum(labels, 8), index, parameters)
    maps, knots = np.zeros((20, 2, 3), np.float32), np.zeros((20, 2, 7, 7), np.float32)
    for message, warps in {
        "maps must have one entry": Warps(maps[1:]),
        "maps must have the shape": Warps(maps[:, 1:]),
        "maps must be float32": Warps(maps.astype(float)),  # pyright: ignore[reportArgumentType]
        r"knots must .* have the shape \(20, 2, 7, 7\)": Warps(maps, knots[1:]),
        r"have the shape \(20, 2, 7, 7\)": Warps(maps, knots[..., :6].copy()),
        "maps must be finite": Warps(np.full_like(maps, np.nan)),
        "knots must be finite": Warps(maps, np.full_like(knots, np.inf)),
    }.items():
        with pytest.raises(LenetError, match=message):
            step.step(images, labels, index, parameters, warps)
    with pytest.raises(LenetError, match="targets and the plan's distillation"):
        step.step(images, labels, index, parameters, targets=np.ones((20, 10), np.float32))
    taught = plan.taught(distillation=0.5).kernels(1)
    with pytest.raises(LenetError, match="targets and the plan's distillation"):
        taught.step(images, labels, index, parameters)
    with pytest.raises(LenetError, match="targets must have the shape"):
        taught.step(images, labels, index, parameters, targets=np.ones((20, 9), np.float32))
    for bad in (np.nan, np.inf):
        corrupted = np.full((20, 10), bad, np.float32)
        with pytest.raises(LenetError, match="targets must be finite"):
            taught.step(images, labels, index, parameters, targets=corrupted)
    with pytest.raises(LenetError, match="images must be uint8"):
        step.scores(images.astype(np.int64), weights)  # pyright: ignore[reportArgumentType]
    assert step.scores(images[:0], weights).shape == (0, 10)


@pytest.mark.parametrize(
    ("options", "side", "reason"),
    [
        ({"channels": (1500,), "hidden": ()}, 28, "C1 is too large"),
        ({"channels": (), "padding": ()}, 28, "1 to 8 convolutions, not 0"),
        ({"hidden": (5,) * 8}, 28, "1 to 8 fully connected layers"),
        ({"hidden": (10**5,)}, 28, "C5 is too large"),
        ({}, 15, "16 to 1024 pixels on each side of an image, not 15"),
        ({"classes": 1001}, 28, "1 to 1000 classes, not 1001"),
        ({"in_channels": 3}, 28, "read 1 input channel, not 3"),
    ],
    ids=str,
)
def test_what_is_not_served_is_said(options: dict[str, Any], side: int, reason: str) -> None:
    architecture = build("LeNet", options)
    assert reason in (fused.unsupported(architecture, side) or "")
    with pytest.raises(LenetError, match=reason):
        fused.Kernels(architecture, image_size=side)


def test_orders_of_layers_that_have_no_place() -> None:
    *layers, output = BOOK.layers
    for mixed, reason in {
        (layers[0], *layers[2:], output): None,  # without an activation
        (layers[0], layers[1], *layers[3:], output): "2x2 pooling must follow the convolution C1",
        (*layers, output, layers[2]): "no place for S2",
        (*layers, Distances("codes", (84,), digit_codes()), output): "nothing can follow",
    }.items():
        answer = fused.unsupported(replace(BOOK, layers=mixed))
        assert answer is None if reason is None else reason in (answer or "")


def test_the_kernels_know_every_name() -> None:
    """In the order of Python's lists, which the module spells a second time."""
    kernels = fused._fused
    assert kernels
    assert list(ACTIVATIONS) == kernels.ACTIVATIONS
    assert kernels.POOLINGS == ["average", "sum", "max"]
    assert list(LOSSES) == kernels.LOSSES
    assert [SGD.name, AdamW.name] == kernels.OPTIMIZERS


def test_threads_and_instruction_set_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (0, -1, 257):
        with pytest.raises(LenetError, match="threads must be from 1 to 256"):
            Plan().kernels(threads)
    monkeypatch.setenv("LENET_ENGINE", "portable")
    assert Plan().kernels(1).isa == "portable"
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="mmx"):
        Plan().kernels(1)
