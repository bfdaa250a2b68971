"""Training one pattern at a time: the native module against PyTorch in float64."""

import threading

import numpy as np
import pytest
import torch

from lenet.engine import sequential
from lenet.engine.sequential import Options
from lenet.errors import LenetError
from lenet.networks.torch import LeNet5
from lenet.training.losses import map_criterion, penalty
from lenet.training.optim import gauss_newton_diagonal

native = sequential.native
INSTRUCTION_SETS = native.instruction_sets() if native else []
needs_native = pytest.mark.skipif(native is None, reason="the native module is not built")


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def patterns() -> tuple[np.ndarray, np.ndarray]:
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


def network(**options) -> LeNet5:
    return LeNet5(**{"initial": "sqrt", **options})


def loss_of(model, x, labels, options):
    scores = model(x)
    if options.criterion == "map":
        return map_criterion(scores, labels, options.j)
    return penalty(scores, labels)


def relative(got, expected) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@needs_native
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("subsampling", ["average", "sum"])
@pytest.mark.parametrize(
    ("criterion", "j", "exact"),
    [("penalty", 1.0, False), ("map", 40.0, False), ("map", 90.0, True)],
)
def test_native_gradients_and_h_are_those_of_float64(
    patterns, instruction_set, subsampling, criterion, j, exact
):
    images, labels = patterns
    model = network(subsampling=subsampling, subsampling_start="random")
    options = Options(criterion, j, exact, instruction_set)
    for number in (5, 11):
        order = np.array([number])
        before = [p.detach().clone() for p in model.parameters()]
        reference = network(subsampling=subsampling).double()
        reference.load_state_dict(model.state_dict())
        x = sequential.presented(reference, images[order])
        label = torch.from_numpy(labels[order])
        loss = loss_of(reference, x, label, options)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))

        h = sequential.curvature(model, images, labels, order, options)
        expected = gauss_newton_diagonal(reference, x, label, criterion=criterion, j=j, exact=exact)
        for name, value in expected.items():
            assert relative(h[name], value) < 1e-5, name

        steps = [torch.ones_like(p) for p in before]  # a step is then the gradient itself
        result = sequential.train_pass(model, images, labels, order, steps, options)
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        for old, new, gradient in zip(before, model.parameters(), gradients, strict=True):
            assert relative(old - new.detach(), gradient) < 1e-5
        model.load_state_dict({k: v.float() for k, v in reference.state_dict().items()})


@needs_native
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_native_and_torch_learn_the_same(patterns, instruction_set, monkeypatch):
    images, labels = patterns
    order = np.random.default_rng(1).permutation(64)
    options = Options("map", 20.0, False, instruction_set)
    first, second = network(), network()
    second.load_state_dict(first.state_dict())
    steps = [torch.full_like(p, 3e-4) for p in first.parameters()]
    start = {name: value.clone() for name, value in first.state_dict().items()}
    fast = sequential.train_pass(first, images, labels, order, steps, options)
    monkeypatch.setattr(sequential, "native", None)
    slow = sequential.train_pass(second, images, labels, order, steps, options)
    assert fast.loss == pytest.approx(slow.loss, rel=1e-4)
    assert fast.error == slow.error
    for name, value in first.state_dict().items():
        moved = (second.state_dict()[name] - start[name]).double()
        assert relative(value - start[name], moved) < 2e-3, name


def test_torch_alone_serves_the_softmax_head_and_double_precision(patterns):
    images, labels = patterns
    for model in (network(head="softmax"), network().double()):
        h = sequential.curvature(model, images, labels, np.arange(32), Options())
        steps = [1e-3 / (0.5 + value) for value in h.values()]
        order = np.arange(64)
        losses = [
            sequential.train_pass(model, images, labels, order, steps, Options()).loss
            for _ in range(2)
        ]
        assert losses[1] < losses[0]


@needs_native
def test_training_fits_the_patterns(patterns):
    images, labels = patterns
    model = network()
    order = np.random.default_rng(2).permutation(64)
    result = None
    for _ in range(40):
        h = sequential.curvature(model, images, labels, order, Options())
        steps = [2e-3 / (0.2 + value) for value in h.values()]
        result = sequential.train_pass(model, images, labels, order, steps, Options())
    assert result is not None
    assert result.error < 0.1
    answers = model(model.prepare(images)).argmax(dim=1).numpy()
    assert (answers != labels).mean() < 0.1


def test_slices_of_a_pass_give_the_whole(patterns):
    images, labels = patterns
    whole, sliced = network(), network()
    sliced.load_state_dict(whole.state_dict())
    order = np.random.default_rng(3).permutation(64)
    steps = [torch.full_like(p, 1e-4) for p in whole.parameters()]
    sequential.train_pass(whole, images, labels, order, steps, Options())
    for part in np.split(order, [16, 40]):
        sequential.train_pass(sliced, images, labels, part, steps, Options())
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(sliced.state_dict()[name], value, rtol=0, atol=0)


# What a user can get wrong


def test_arrays_that_do_not_fit_are_named(patterns):
    images, labels = patterns
    model, order = network(), np.arange(4)
    steps = [torch.ones_like(p) for p in model.parameters()]
    wrong = {
        "images": (images[:, :27], labels, order),
        "labels must be int64": (images, labels[:5], order),
        "labels must be 0..9": (images, labels + 1, order),
        "order": (images, labels, order + 61),
    }
    for message, given in wrong.items():
        with pytest.raises(LenetError, match=message):
            sequential.train_pass(model, *given, steps, Options())
    with pytest.raises(LenetError, match="criterion"):
        Options(criterion="mse")


def test_divergence_is_reported(patterns):
    images, labels = patterns
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    steps = [torch.ones_like(p) for p in model.parameters()]
    with pytest.raises(LenetError, match="diverged"):
        sequential.train_pass(model, images, labels, np.arange(4), steps, Options())


@needs_native
def test_native_refuses_what_would_read_outside(patterns):
    images, labels = patterns
    assert native is not None
    model = network()
    net = sequential.native_network(model, Options())
    weights = sequential.arrays(model.parameters())
    steps = [np.ones_like(w) for w in weights]
    with pytest.raises(ValueError, match="does not exist"):
        net.train(weights, steps, images, labels, np.array([64]))
    with pytest.raises(ValueError, match="labels"):
        net.train(weights, steps, images, labels + 10, np.array([0]))
    with pytest.raises(ValueError, match="wrong size"):
        net.train(weights[::-1], steps, images, labels, np.array([0]))
    with pytest.raises(ValueError, match="12 arrays"):
        net.train(weights[:3], steps, images, labels, np.array([0]))
    with pytest.raises(LenetError, match="instruction set 'mmx'"):
        sequential.native_network(model, Options(instruction_set="mmx"))


@needs_native
def test_the_environment_forces_an_instruction_set(patterns, monkeypatch):
    images, labels = patterns
    model = LeNet5()
    asked = Options(instruction_set="portable")
    want = sequential.curvature(model, images, labels, np.arange(5), asked)
    monkeypatch.setenv("LENET_ENGINE", "portable")
    found = sequential.curvature(model, images, labels, np.arange(5), Options())
    assert all(torch.equal(found[name], want[name]) for name in want)
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="instruction set 'mmx'"):
        sequential.curvature(model, images, labels, np.arange(5), Options())


@needs_native
def test_two_runs_at_once_do_not_disturb_each_other(patterns):
    images, labels = patterns
    order = np.tile(np.arange(64), 20)
    options = Options()

    def train(model):
        steps = [torch.full_like(p, 1e-4) for p in model.parameters()]
        sequential.train_pass(model, images, labels, order, steps, options)

    alone, models = network(), [network(), network()]
    for model in models:
        model.load_state_dict(alone.state_dict())
    train(alone)
    threads = [threading.Thread(target=train, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


@needs_native
def test_denormals_are_ordinary_again_afterwards(patterns):
    images, labels = patterns
    model = network()
    steps = [torch.zeros_like(p) for p in model.parameters()]
    sequential.train_pass(model, images, labels, np.arange(4), steps, Options())
    assert np.float32(1e-40) * np.float32(1) != 0
