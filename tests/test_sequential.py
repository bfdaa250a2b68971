"""Training one pattern at a time: the native module against PyTorch in float64."""

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lenet.engine import patterns as maps
from lenet.engine import sequential
from lenet.engine.fused import flatten, views
from lenet.engine.sequential import Criterion, Flat, Patterns
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture, LeNet5, build
from lenet.networks.torch import Network, from_architecture
from lenet.training import autograd_passes
from lenet.training.autograd import map_criterion, penalty
from lenet.training.autograd_passes import gauss_newton_diagonal

native = sequential.native
INSTRUCTION_SETS = native.instruction_sets() if native else []
needs_native = pytest.mark.skipif(native is None, reason="the native module is not built")
Pair = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def patterns() -> Pair:
    """Smooth blobs, 64 of them; the label tells the quarter-turns of a stroke."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 64)
    y, x = np.mgrid[:28, :28] - 13.5
    images = np.zeros((64, 28, 28))
    for i, label in enumerate(labels):
        angle = label * np.pi / 10
        across = x * np.sin(angle) - y * np.cos(angle) + random.normal()
        images[i] = 255 * np.exp(-((across / 3) ** 2) - (x**2 + y**2) / 150)
    return images.astype(np.uint8), labels.astype(np.int64)


def architecture(**options: str) -> Architecture:
    return LeNet5(**{"initial": "sqrt", **options}).architecture()  # pyright: ignore[reportArgumentType]


def start(of: Architecture, seed: int = 0) -> Flat:
    return flatten(of.initial_weights(seed).values())


def exact_model(of: Architecture, weights: Flat) -> Network:
    names = [parameter.name for parameter in of.parameters]
    arrays = views(weights, [parameter.shape for parameter in of.parameters])
    return from_architecture(of, dict(zip(names, arrays, strict=True))).double()


def relative(got: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@needs_native
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("subsampling", ["average", "sum"])
@pytest.mark.parametrize(
    "criterion", [Criterion(False), Criterion(True, 40.0), Criterion(True, 90.0, True)]
)
def test_gradients_and_h_are_those_of_float64(
    patterns: Pair, isa: str, subsampling: str, criterion: Criterion
) -> None:
    images, labels = patterns
    network = architecture(subsampling=subsampling, subsampling_start="random")
    weights = start(network)
    trainer = Patterns(network, weights, criterion, isa)
    ones = np.ones_like(weights)  # a step is then the gradient itself
    shapes = [parameter.shape for parameter in network.parameters]
    for number in (5, 11):
        order, before = np.array([number]), weights.copy()
        reference = exact_model(network, weights)
        x = reference.prepare(images[order]).double()
        label, scores = torch.from_numpy(labels[order]), reference(x)
        loss = penalty(scores, label)
        if criterion.competitive:
            loss = map_criterion(scores, label, criterion.j)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))

        h = views(trainer.curvature(images, labels, order), shapes)
        expected = gauss_newton_diagonal(reference, x, criterion)
        for got, (name, value) in zip(h, expected.items(), strict=True):
            assert relative(got, value.numpy()) < 1e-5, name

        total, errors = trainer.train(images, labels, order, ones)
        assert total == pytest.approx(loss.item(), rel=1e-5)
        assert errors == int(scores.argmax(1) != label)
        for moved, gradient in zip(views(before - weights, shapes), gradients, strict=True):
            assert relative(moved, gradient.numpy()) < 2e-5
        weights[...] = before


@needs_native
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_native_and_torch_learn_the_same(patterns: Pair, isa: str) -> None:
    images, labels = patterns
    order, network = np.random.default_rng(1).permutation(64), architecture()
    first = start(network)
    second, steps = first.copy(), np.full_like(first, 3e-4)
    criterion = Criterion(True, 20.0)
    fast = Patterns(network, first, criterion, isa).train(images, labels, order, steps)
    slow = autograd_passes.Patterns(network, second, criterion).train(images, labels, order, steps)
    assert fast[0] == pytest.approx(slow[0], rel=1e-4)
    assert fast[1] == slow[1]
    assert relative(first - start(network), second - start(network)) < 2e-3


@pytest.mark.skipif(maps._patterns is None, reason="the native module is not built")
@pytest.mark.parametrize("name", ["LeNet1989", "LeNet1", "LeNet4"])
def test_networks_before_lenet5_learn_as_by_torch(patterns: Pair, name: str) -> None:
    images, labels = patterns
    network, order = build(name, {"initial": "sqrt"}), np.arange(30)
    assert maps.is_served(network)
    first = start(network)
    second = first.copy()
    fast = maps.Patterns(network, first)
    slow = autograd_passes.Patterns(network, second, Criterion())
    h = fast.curvature(images, labels, order)
    np.testing.assert_allclose(h, slow.curvature(images, labels, order), rtol=1e-4)
    steps = sequential.step_sizes(h, 1e-3, 0.1)
    of_fast, of_slow = (p.train(images, labels, order, steps) for p in (fast, slow))
    assert of_fast[0] == pytest.approx(of_slow[0], rel=1e-4)
    assert of_fast[1] == of_slow[1]
    assert relative(first - start(network), second - start(network)) < 2e-3


def test_torch_serves_the_softmax_head(patterns: Pair) -> None:
    network = architecture(head="softmax")
    assert not sequential.is_served(network)
    weights = start(network)
    trainer = autograd_passes.Patterns(network, weights, Criterion())
    h = trainer.curvature(*patterns, np.arange(32))
    steps = sequential.step_sizes(h, 1e-3, 0.5)
    losses = [trainer.train(*patterns, np.arange(64), steps)[0] for _ in range(2)]
    assert losses[1] < losses[0]


@needs_native
def test_training_fits_the_patterns(patterns: Pair) -> None:
    images, labels = patterns
    network = architecture()
    weights, errors = start(network), 64
    trainer = Patterns(network, weights, Criterion())
    order = np.random.default_rng(2).permutation(64)
    for _ in range(40):
        h = trainer.curvature(images, labels, order)
        steps = sequential.step_sizes(h, 2e-3, 0.2)
        _, errors = trainer.train(images, labels, order, steps)
    assert errors < 6.4
    model = exact_model(network, weights)
    answers = model(model.prepare(images).double()).argmax(dim=1).numpy()
    assert (answers != labels).mean() < 0.1


@needs_native
def test_parts_of_a_pass_give_the_whole(patterns: Pair) -> None:
    network, order = architecture(), np.random.default_rng(3).permutation(64)
    whole, parts = start(network), start(network)
    steps = np.full_like(whole, 1e-4)
    Patterns(network, whole, Criterion()).train(*patterns, order, steps)
    trainer = Patterns(network, parts, Criterion())
    for part in np.split(order, [16, 40]):
        trainer.train(*patterns, part, steps)
    np.testing.assert_array_equal(parts, whole)


# What can go wrong


@pytest.mark.parametrize("kind", [Patterns, autograd_passes.Patterns])
def test_arrays_that_do_not_fit_are_named(patterns: Pair, kind: type[Patterns]) -> None:
    if kind is Patterns and native is None:
        pytest.skip("the native module is not built")
    images, labels = patterns
    network, order = architecture(), np.arange(4)
    weights = start(network)
    trainer, steps = kind(network, weights, Criterion()), np.ones_like(weights)
    wrong = {
        "images": (images[:, :27], labels, order),
        "labels must be int64": (images, labels[:5], order),
        "labels must be 0..9": (images, labels + 1, order),
        "order": (images, labels, order + 61),
    }
    for message, given in wrong.items():
        with pytest.raises(LenetError, match=message):
            trainer.train(*given, steps)
    weights[:] = np.nan
    with pytest.raises(LenetError, match="diverged"):
        trainer.train(images, labels, order, steps)


@needs_native
def test_native_refuses_what_would_read_outside(patterns: Pair) -> None:
    images, labels = patterns
    network = architecture()
    trainer = Patterns(network, start(network), Criterion())
    weights, net = trainer.weights, trainer.network
    steps = [np.ones_like(w) for w in weights]
    with pytest.raises(ValueError, match="does not exist"):
        net.train(weights, steps, images, labels, np.array([64]))
    with pytest.raises(ValueError, match="labels"):
        net.train(weights, steps, images, labels + 10, np.array([0]))
    with pytest.raises(ValueError, match="wrong size"):
        net.train(weights[::-1], steps, images, labels, np.array([0]))
    with pytest.raises(ValueError, match="12 arrays"):
        net.train(weights[:3], steps, images, labels, np.array([0]))


@needs_native
def test_the_environment_forces_an_instruction_set(
    patterns: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, order = architecture(), np.arange(5)
    want = Patterns(network, start(network), Criterion(), "portable").curvature(*patterns, order)
    monkeypatch.setenv("LENET_ENGINE", "portable")
    got = Patterns(network, start(network), Criterion()).curvature(*patterns, order)
    np.testing.assert_array_equal(got, want)
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="instruction set 'mmx'"):
        Patterns(network, start(network), Criterion())


@needs_native
def test_two_runs_at_once_do_not_disturb_each_other(patterns: Pair) -> None:
    network, order = architecture(), np.tile(np.arange(64), 20)
    alone, *beside = (start(network) for _ in range(3))
    steps = np.full_like(alone, 1e-4)

    def train(weights: Flat) -> None:
        Patterns(network, weights, Criterion()).train(*patterns, order, steps)

    train(alone)
    threads = [threading.Thread(target=train, args=(weights,)) for weights in beside]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for weights in beside:
        np.testing.assert_array_equal(weights, alone)


@needs_native
def test_denormals_are_ordinary_again_afterwards(patterns: Pair) -> None:
    network = architecture()
    weights = start(network)
    trainer = Patterns(network, weights, Criterion())
    trainer.train(*patterns, np.arange(4), np.zeros_like(weights))
    assert np.float32(1e-40) * np.float32(1) != 0
