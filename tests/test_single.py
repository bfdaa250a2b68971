"""One image without PyTorch: scores and every layer against PyTorch in float64."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import needs_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lenet
from lenet.engine import fused, single
from lenet.engine.single import SingleImage
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture, build
from lenet.networks.arithmetic import ACTIVATIONS
from lenet.networks.checkpoint import write
from lenet.networks.torch import from_architecture

pytestmark = needs_kernels
SETS = fused.instruction_sets()


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)


def kernels_of(architecture: Architecture) -> SingleImage:
    return SingleImage(architecture, architecture.initial_weights(0))


def check(
    network: str, options: Mapping[str, Any], isa: str, seed: int = 0, scale: float = 1.0
) -> None:
    architecture = build(network, options)
    weights = {
        name: (scale * array).astype(np.float32)
        for name, array in architecture.initial_weights(seed).items()
    }
    kernels = SingleImage(architecture, weights, isa)
    model = from_architecture(architecture, weights)
    image = picture(seed)
    x = model.prepare(image[None]).double()
    with torch.no_grad():
        expected = {"input": x, **lenet.trace(model.double(), x)}
    trace = kernels.trace(image)
    assert list(trace) == list(expected)
    before, size = expected["input"].numpy()[0], 0.0
    for name, value in expected.items():
        want, got = value[0].numpy(), trace[name]
        assert got.shape == want.shape, name
        # A value may be what is left of a long sum, far below its terms; squashed, it still is.
        terms = scale * float(np.sqrt(want.size * np.mean(before**2)))
        size = max(float(np.linalg.norm(want)), size if want.shape == before.shape else terms)
        error = np.linalg.norm(got - want) / max(size, 1e-30)
        assert error < 1e-5, f"{name}: relative error {error:.2e}"
        before = want
    assert kernels.scores(image).tobytes() == trace["output"].tobytes()


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_lenet(activation: str, pooling: str, isa: str) -> None:
    knobs = {"activation": activation, "pooling": pooling}
    check("LeNet", knobs, isa)
    check("LeNet", {**knobs, "input_size": 32, "padding": 0, "mean": 0.1307, "std": 0.3081}, isa)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("subsampling", ["average", "sum"])
@pytest.mark.parametrize("head", ["rbf", "softmax"])
def test_lenet5(head: str, subsampling: str, isa: str) -> None:
    options = {"head": head, "subsampling": subsampling, "subsampling_start": "random"}
    check("LeNet5", {**options, "initial": "sqrt"}, isa)


@pytest.mark.parametrize("isa", SETS)
def test_lenet5s(isa: str) -> None:
    check("LeNet5s", {}, isa)


@st.composite
def lenets(draw: st.DrawFn) -> dict[str, Any]:
    """Networks of many sizes: 0 to 3 convolution stages, with padding, odd sides and 1x1 maps."""
    side = draw(st.integers(28, 37))
    options: dict[str, Any] = {
        "input_size": side,
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "pooling": draw(st.sampled_from(["average", "max"])),
        "classes": draw(st.integers(1, 40)),
        "hidden": draw(st.lists(st.integers(1, 150), max_size=3)),
        "mean": draw(st.floats(-1, 1)),
        "std": draw(st.floats(0.1, 2)),
    }
    channels, kernels, paddings = [], [], []
    for _ in range(draw(st.integers(0, 3))):
        padding = draw(st.integers(0, 3))
        widest = min(side + 2 * padding - 1, 7)
        if widest < 1:
            break
        kernel = draw(st.integers(1, widest))
        channels.append(draw(st.integers(1, 20)))
        kernels.append(kernel)
        paddings.append(padding)
        side = (side + 2 * padding - kernel + 1) // 2
    return {**options, "channels": channels, "kernel_sizes": kernels, "padding": paddings}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lenets(), st.sampled_from(SETS), st.integers(0, 1000), st.floats(0.1, 3))
def test_any_lenet(options: dict[str, Any], isa: str, seed: int, scale: float) -> None:
    check("LeNet", options, isa, seed, scale)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.sampled_from(["average", "sum"]),
    st.sampled_from(["rbf", "softmax"]),
    st.sampled_from(SETS),
    st.integers(0, 1000),
    st.floats(0.1, 3),
)
def test_any_lenet5(subsampling: str, head: str, isa: str, seed: int, scale: float) -> None:
    options = {"subsampling": subsampling, "head": head, "subsampling_start": "random"}
    check("LeNet5", options, isa, seed, scale)


def test_images_one_after_the_other_and_layouts() -> None:
    kernels = kernels_of(build("LeNet", {"padding": [2, 1], "input_size": 30}))
    images = np.stack([picture(seed) for seed in range(20)])
    together = kernels.batch_scores(images)
    alone = np.stack([kernels.scores(image) for image in images])
    assert together.tobytes() == alone.tobytes()  # nothing of an image is left for the next
    fresh = kernels_of(build("LeNet", {"padding": [2, 1], "input_size": 30})).scores(images[7])
    assert fresh.tobytes() == alone[7].tobytes()
    turned = kernels.batch_scores(images.transpose(0, 2, 1))
    assert turned.tobytes() == kernels.batch_scores(images.transpose(0, 2, 1).copy()).tobytes()
    assert kernels.batch_scores(images[:0]).shape == (0, 10)


def test_several_threads_at_once() -> None:
    kernels = kernels_of(build("LeNet5", {}))
    images = [picture(seed) for seed in range(4)]
    want = [kernels.trace(image) for image in images]
    failures = []

    def work(number: int) -> None:
        for _ in range(300):
            found = kernels.trace(images[number])
            if any((found[name] != value).any() for name, value in want[number].items()):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_trace_is_the_callers_own() -> None:
    kernels = kernels_of(build("LeNet", {}))
    first = kernels.trace(picture(0))
    before = {name: value.copy() for name, value in first.items()}
    kernels.trace(picture(1))
    for name, value in first.items():
        np.testing.assert_array_equal(value, before[name])
        value[...] = 0  # and writeable


@pytest.mark.parametrize(
    "image",
    [np.zeros((28, 28)), np.zeros((28, 27), np.uint8), np.zeros((1, 28, 28), np.uint8)],
)
def test_images_that_do_not_fit(image: Any) -> None:
    kernels = kernels_of(build("LeNet", {}))
    for answer in (kernels.scores, kernels.trace):
        with pytest.raises(LenetError, match="images must be uint8 of 28x28 pixels"):
            answer(image)


@pytest.mark.parametrize("options", [{"in_channels": 3}, {"input_size": 20, "padding": 2}])
def test_networks_that_are_left_to_numpy(options: dict[str, Any]) -> None:
    architecture = build("LeNet", options)
    assert single.unsupported(architecture)
    with pytest.raises(LenetError, match="is not supported"):
        kernels_of(architecture)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = build("LeNet", {})
    assert kernels_of(architecture).isa == SETS[0]
    monkeypatch.setenv("LENET_ENGINE", "portable")
    assert kernels_of(architecture).isa == "portable"
    monkeypatch.setenv("LENET_ENGINE", "mmx")
    with pytest.raises(LenetError, match="'mmx' is not available"):
        kernels_of(architecture)


@pytest.mark.parametrize("network", ["LeNet", "LeNet5", "LeNet5s"])
def test_evaluation_prediction_and_trace_without_pytorch(
    network: str, digit_folder: Path, tmp_path: Path
) -> None:
    architecture = build(network, {})
    weights = architecture.initial_weights(0)
    write(tmp_path / "x.safetensors", architecture, weights, {})
    script = (
        "import sys, numpy as np, lenet\n"
        "from lenet import data\n"
        "from lenet.engine.scores import tracer\n"
        "from lenet.networks import checkpoint\n"
        "model = checkpoint.read(sys.argv[1])\n"
        "test = data.load(sys.argv[2]).test\n"
        "print(lenet.evaluate(model, test).error)\n"
        "tracer(model)(test.images[0])\n"
        "lenet.Predictor(sys.argv[1]).predict(test.images[0])\n"
        "assert 'torch' not in sys.modules\n"
    )
    line = [sys.executable, "-c", script, str(tmp_path / "x.safetensors"), str(digit_folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    model, digits = from_architecture(architecture, weights), lenet.data.load(str(digit_folder))
    expected = lenet.evaluate(model, digits.test).error
    assert float(done.stdout) == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("maps", [5, 40])  # columns in lanes, or maps
def test_poolings_may_choose_their_maps(isa: str, maps: int) -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(maps, 1, 5, 5)).astype(np.float32)
    sources = [0, 0, 1, 1, 2, 2, 3, 3, maps - 1, 0]
    coefficient, bias = random.normal(size=(2, len(sources))).astype(np.float32)
    for largest in (False, True):
        assert single._single is not None
        kernels = single._single.Network(isa)
        kernels.input(28, 28, 0, 1 / 255, 0.0, 0.0, [], [])
        kernels.convolve(weights, np.zeros(maps, np.float32))
        before = kernels.place()
        with pytest.raises(ValueError, match="a map that does not exist"):
            kernels.pool_largest(1, [maps])
        if largest:
            kernels.pool_largest(1, sources)
        else:
            kernels.pool_sum(coefficient, bias, 1, sources)
        after = kernels.place()
        assert after[1] == (len(sources), 12, 12)
        values = np.empty(kernels.size, np.float32)
        kernels.trace(picture(0)[None], values)
        inputs, outputs = (
            np.lib.stride_tricks.as_strided(values[start:], shape, [4 * s for s in strides])
            for start, shape, strides in (before, after)
        )
        windows = inputs[sources].reshape(len(sources), 12, 2, 12, 2)
        scale, shift = coefficient[:, None, None], bias[:, None, None]
        want = windows.max((2, 4)) if largest else scale * windows.sum((2, 4)) + shift
        np.testing.assert_allclose(outputs, want, rtol=1e-5, atol=1e-5)
