"""A network is one entry: LeNet-1 and LeNet-4, added here alone, work everywhere.

Their sizes are the paper's (section III.C); it prints no tables of their connections, and those
here are made up.
"""

import json
import subprocess
from dataclasses import dataclass
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
from lenet.networks import arithmetic, checkpoint
from lenet.networks.architecture import (
    NETWORKS,
    Architecture,
    Convolution,
    Flatten,
    FullConnection,
    Options,
    Pooling,
    Preparation,
)
from lenet.networks.torch import from_architecture
from lenet.training.autograd import AutogradEngine, loss_of
from lenet.training.engines import Batch, FusedEngine, Job
from lenet.training.recipe import Recipe

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 60)


def both(fan_in: int) -> tuple[float, float]:
    return fan_in**-0.5, fan_in**-0.5


@dataclass(frozen=True, kw_only=True)
class LeNet1(Options):
    """4 and 12 maps, the latter partly connected; the output sees them all."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        table = tuple(((n % 4,),) if n < 4 else ((n % 4, (n + n // 4) % 4),) for n in range(12))
        c1 = Convolution("H1", (1, 28, 28), 4, 5, both(25), squash="scaled-tanh")
        s2 = Pooling("H2", c1.output_shape, "average", "scaled-tanh")
        c3 = Convolution("H3", s2.output_shape, 12, 5, both(50), squash="scaled-tanh", groups=table)
        s4 = Pooling("H4", c3.output_shape, "average", "scaled-tanh")
        output = FullConnection("output", s4.output_shape, 10, both(192))
        return Architecture(self, Preparation(1, 28, -1, 1), (c1, s2, c3, s4, output))


@dataclass(frozen=True, kw_only=True)
class LeNet4(Options):
    """Its 8 subsampling maps come in pairs, one pair for each of the first 4 maps."""

    units: int = 120
    """Units before the output."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        pairs = tuple(n // 2 for n in range(8))
        table = tuple((tuple(sorted({n % 8, (n + 3) % 8, (n // 2) % 8})),) for n in range(16))
        c1 = Convolution("C1", (1, 32, 32), 4, 5, both(25), squash="tanh")
        s2 = Pooling("S2", c1.output_shape, "average", "tanh", bound=0.5, sources=pairs)
        c3 = Convolution("C3", s2.output_shape, 16, 5, both(75), squash="tanh", groups=table)
        s4 = Pooling("S4", c3.output_shape, "average", "tanh", bound=0.5)
        flat = Flatten("flatten", s4.output_shape)
        f5 = FullConnection("F5", flat.output_shape, self.units, both(400), "tanh")
        output = FullConnection("output", f5.output_shape, classes, both(self.units))
        preparation = Preparation(1, 32, -0.1, 1.175)
        return Architecture(self, preparation, (c1, s2, c3, s4, flat, f5, output))


NEW = {"LeNet1": LeNet1, "LeNet4": LeNet4}


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in NEW.items():
        monkeypatch.setitem(NETWORKS, name, entry)


@pytest.fixture(params=NEW)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return NEW[request.param]().architecture()


@pytest.fixture
def file(architecture: Architecture, tmp_path: Path) -> Path:
    """The network with random weights, on disk."""
    path = tmp_path / "network.safetensors"
    checkpoint.write(path, architecture, architecture.initial_weights(3), {})
    return path


def test_sizes_are_the_papers(architecture: Architecture) -> None:
    summary = lenet.summary(architecture)
    about = {"LeNet1": (2_600, 100_000), "LeNet4": (17_000, 260_000)}
    parameters, connections = about[architecture.network]
    if architecture.network == "LeNet1":
        assert abs(summary.parameters / parameters - 1) < 0.05
        assert 0.6 < summary.multiply_adds / connections < 1.1
    fields = [row.receptive_field for row in summary]
    assert fields == sorted(fields) and fields[:2] == [5, 6]
    assert summary.rows[-1].receptive_field == architecture.preparation.size


@pytest.mark.parametrize("isa", fused.instruction_sets())
def test_the_kernels_gradients_are_autograds(architecture: Architecture, isa: str) -> None:
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


def test_kernels_and_autograd_train_alike(architecture: Architecture) -> None:
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
    kernels = single.SingleImage(architecture, weights)
    trace = kernels.trace(IMAGES[0])
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
    assert "subsampling" in capsys.readouterr().out
    assert cli.main(["show", str(file), "--out", str(file.parent / "figures")]) == 0
    assert len(list((file.parent / "figures").glob("*.png"))) >= 3


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
        ["grep", "-rliE", "lenet-?[14]\\b", "lenet", "--include=*.py", "--include=*.js"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    ).stdout
    assert words == ""
