"""A network is one entry: those before LeNet-5, and one added here alone, work everywhere."""

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lenet
from lenet import cli
from lenet.data import Split
from lenet.engine import fused, single
from lenet.engine.fused import flatten, views
from lenet.engine.objective import Objective
from lenet.engine.plan import beyond_kernels
from lenet.engine.scores import tracer
from lenet.networks import arithmetic, checkpoint
from lenet.networks.architecture import (
    NETWORKS,
    Architecture,
    Convolution,
    FullConnection,
    LeNet1,
    LeNet4,
    LeNet1989,
    Options,
    Pooling,
    Preparation,
)
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.torch import from_architecture
from lenet.training.autograd import AutogradEngine, loss_of
from lenet.training.engines import Batch, FusedEngine, Job
from lenet.training.recipe import Recipe

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 60)


@dataclass(frozen=True, kw_only=True)
class Tiny(Options):
    """A network that no file but this one knows, with what the others do not combine."""

    units: int = 20
    """Units before the output."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        groups = tuple((tuple(sorted({n % 4, (n + 1) % 4})),) for n in range(6))
        c1 = Convolution("C1", (1, 30, 30), 2, 3, (0.3, 0.3), squash="tanh")
        s2 = Pooling("S2", c1.output_shape, "sum", "tanh", bound=0.5, sources=(0, 0, 1, 1))
        c3 = Convolution("C3", s2.output_shape, 6, 5, (0.2, 0.2), 1, "relu", groups=groups)
        s4 = Pooling("S4", c3.output_shape, "max")
        f5 = FullConnection("F5", s4.output_shape, self.units, (0.1, 0.1), "silu")
        output = FullConnection("output", f5.output_shape, classes, (0.2, 0.2))
        return Architecture(self, Preparation(1, 30, -0.5, 1), (c1, s2, c3, s4, f5, output))


ENTRIES = {"LeNet1989": LeNet1989, "LeNet1": LeNet1, "LeNet4": LeNet4, "Tiny": Tiny}
SERVED = [name for name in ENTRIES if name != "LeNet1989"]


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "Tiny", Tiny)


@pytest.fixture(params=ENTRIES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ENTRIES[request.param]().architecture()


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest) -> Architecture:
    """A network that the kernels support."""
    return ENTRIES[request.param]().architecture()


@pytest.fixture
def file(architecture: Architecture, tmp_path: Path) -> Path:
    """The network with random weights, on disk."""
    path = tmp_path / "network.safetensors"
    checkpoint.write(path, architecture, architecture.initial_weights(3), {})
    return path


def test_sizes_of_1989_are_the_papers() -> None:
    summary = lenet.summary("LeNet1989")
    rows = {row.name: (row.output_shape, row.parameters, row.connections) for row in summary}
    assert rows == {
        "H1": ((12, 8, 8), 1_068, 19_968),
        "H2": ((12, 4, 4), 2_592, 38_592),
        "H3": ((30,), 5_790, 5_790),
        "output": ((10,), 310, 310),
    }
    assert (summary.parameters, summary.connections) == (9_760, 64_660)
    h2 = LeNet1989().architecture().layers[1]
    assert isinstance(h2, Convolution)
    assert {len(wires) for wires in h2.wiring} == {8}  # maps of H1 that each map sees


def test_sizes_of_lenet1_and_lenet4_are_the_papers() -> None:
    one, four, full = (lenet.summary(n) for n in ("LeNet1", "LeNet4", lenet.LeNet4(c5="full")))
    assert (one.parameters, one.connections) == (2_578, 98_442)  # as printed in 1990
    assert one.multiply_adds == pytest.approx(100_000, rel=0.06)
    assert four.parameters == pytest.approx(17_000, rel=0.001)
    assert four.connections == pytest.approx(260_000, rel=0.01)
    assert [row.output_shape for row in four] == [
        *((4, 28, 28), (8, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (10,))
    ]
    assert full.parameters == 16_998 - 14_120 + 400 * 120 + 120  # what the words ask for


def test_receptive_fields_grow_to_the_whole_input(architecture: Architecture) -> None:
    fields = [row.receptive_field for row in lenet.summary(architecture)]
    assert fields == sorted(fields) and fields[-1] == architecture.preparation.size


def test_borders_strides_and_biases_of_units_are_as_defined() -> None:
    """One unit after the other, by the words of 1989."""
    layer = LeNet1989().architecture().layers[1]
    assert isinstance(layer, Convolution)
    random = np.random.default_rng(0)
    weights = {p.name: random.normal(size=p.shape) for p in layer.parameters}
    x = random.normal(size=(1, *layer.input_shape))
    outside = np.full((12, 12, 12), -1.0)
    outside[:, 2:10, 2:10] = x[0]
    kernels = iter(weights["H2.weight"])
    wanted = weights["H2.bias"].copy()
    for unit, group in zip(wanted, layer.all_groups, strict=True):
        for source in group[0]:
            kernel = next(kernels)
            for i, j in np.ndindex(4, 4):
                unit[i, j] += (kernel * outside[source, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5]).sum()
    got = arithmetic.weighted_sums(layer, x, weights)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_gradients_of_numpy_are_autograds(architecture: Architecture) -> None:
    weights = {n: 3.0 * v for n, v in architecture.initial_weights(3).items()}
    model = from_architecture(architecture, weights).double()
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    x = architecture.preparation(IMAGES[:3]).astype(np.float64)
    given = torch.from_numpy(x).requires_grad_()
    (wanted,) = torch.autograd.grad(model(given)[:, 3].sum(), given)
    got = arithmetic.input_gradient(architecture, exact, x, 3)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-6 * float(wanted.abs().max()))


def test_kernels_say_what_they_do_not_compute() -> None:
    architecture = LeNet1989().architecture()
    assert "strided" in str(fused.unsupported(architecture))
    assert single.unsupported(architecture)
    layer = Convolution("C", (1, 28, 28), 2, 5, (1, 1), padding=2)
    assert beyond_kernels(layer) is None
    for change in ({"stride": 2}, {"border": -1.0}, {"unit_biases": True}):
        assert beyond_kernels(replace(layer, **change))


@pytest.mark.parametrize("isa", fused.instruction_sets())
def test_the_kernels_gradients_are_autograds(served: Architecture, isa: str) -> None:
    architecture = served
    weights = architecture.initial_weights(3)
    model = from_architecture(architecture, weights).double()
    objective = Objective(loss="cross-entropy", label_smoothing=0.1)
    scores = model(model.prepare(IMAGES).double())
    loss = loss_of(objective, scores, torch.from_numpy(LABELS), None)
    wanted = torch.autograd.grad(loss, list(model.parameters()))

    kernels = fused.Kernels(architecture, objective, threads=2, isa=isa)
    flat = flatten(weights.values())
    gradients = np.full_like(flat, np.nan)
    parameters = kernels.parameters(flat, gradients)
    value, _ = kernels.step(IMAGES, LABELS, np.arange(60), parameters)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    for got, want in zip(views(gradients, kernels.shapes), wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5 * float(want.abs().max()))


def test_kernels_and_autograd_train_alike(served: Architecture) -> None:
    architecture = served
    recipe = Recipe(
        model=architecture.network, optimizer="adamw", lr=2e-3, averaging=0.9, batch_size=20
    )
    split, start = Split(IMAGES, LABELS), flatten(architecture.initial_weights(0).values())
    job = Job(recipe, architecture, split, start, threads=1)
    engines = [FusedEngine(job), AutogradEngine(job)]
    for engine in engines:
        for number in range(1, 31):
            batch = np.arange(60).reshape(3, 20)[number % 3]
            engine.step(Batch(batch, None, None, 2e-3, number))
    one, two = (engine.state() for engine in engines)
    assert one.keys() == two.keys() == {"weights", "average", "moments"}
    assert np.abs(one["weights"] - start).max() > 0.02
    for name in ("weights", "average"):
        np.testing.assert_allclose(one[name], two[name], atol=2e-4)


def test_one_image_and_its_trace(architecture: Architecture) -> None:
    weights = architecture.initial_weights(3)
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    trace = tracer(Checkpoint(Path(), architecture, {}, weights))(IMAGES[0])
    wanted = arithmetic.activations(architecture, exact, architecture.preparation(IMAGES[:1]))
    assert list(trace) == ["input", *(layer.name for layer in architecture.layers)]
    model = from_architecture(architecture, weights)
    by_torch = lenet.trace(model, model.prepare(IMAGES[:1]))
    for name, values in trace.items():
        assert values.shape == wanted[name].shape[1:]
        np.testing.assert_allclose(values, wanted[name][0], atol=1e-5)
        if name != "input":
            np.testing.assert_allclose(values, by_torch[name][0].detach().numpy(), atol=1e-5)


def test_it_is_saved_and_loaded_and_trained_by_name(
    architecture: Architecture, digit_folder: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        model=architecture.network,
        data=str(digit_folder),
        optimizer="adamw",
        lr=5e-3,
        epochs=15,
        batch_size=32,
    )
    run = lenet.train(recipe, out=tmp_path / "run", threads=1)
    assert run.report.accuracy > 0.8
    assert Recipe.from_file(tmp_path / "run" / "recipe.json") == recipe
    loaded = lenet.load(tmp_path / "run")
    assert type(loaded).__name__ == architecture.network
    digits = lenet.data.load(str(digit_folder))
    assert lenet.evaluate(loaded, digits.test).error == run.report.error


def test_the_command_knows_it(
    architecture: Architecture, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["summary", architecture.network, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == architecture.network
    assert cli.main(["summary", str(file)]) == 0
    assert "convolution" in capsys.readouterr().out
    figures = "architecture", "kernels", "connections", "maps"
    line = ["show", str(file), "--out", str(file.parent / "figures"), "--only", *figures]
    assert cli.main(line) == 0
    assert {path.stem for path in (file.parent / "figures").glob("*.png")} == {*figures}


def test_it_is_exported_to_c(architecture: Architecture, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    assert cli.main(["export", str(file), "--format", "c", "--out", str(folder)]) == 0
    assert any(folder.glob("*.c"))


def test_it_is_exported_to_onnx(architecture: Architecture, file: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    target = tmp_path / "network.onnx"
    line = ["export", str(file), "--format", "onnx", "--input", "uint8"]
    assert cli.main([*line, "--out", str(target)]) == 0
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {session.get_inputs()[0].name: IMAGES})[:1]
    wanted = arithmetic.scores(architecture, architecture.initial_weights(3), IMAGES)
    np.testing.assert_allclose(value, wanted, atol=1e-4)


def test_no_other_file_knows_its_name() -> None:
    words = subprocess.run(
        ["grep", "-rl", "Tiny", "lenet", "--include=*.py", "--include=*.js"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    ).stdout
    assert words == ""
