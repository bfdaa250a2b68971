"""Exported networks answer as the networks do, and are written whole or not at all."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from lenet import cli, data
from lenet.errors import LenetError
from lenet.evaluation.evaluate import evaluate
from lenet.export import agreement, c, c99, compiler, onnx, quantised, tensors
from lenet.export.lowering import lower
from lenet.networks import architecture as architectures
from lenet.networks import arithmetic, checkpoint
from lenet.networks import torch as modules
from lenet.networks.architecture import (
    Architecture,
    Convolution,
    Distances,
    Flatten,
    FullConnection,
    Options,
    Pooling,
    Preparation,
    Squashing,
    build,
)
from lenet.networks.checkpoint import Checkpoint

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g0"]
needs_compiler = pytest.mark.skipif(compiler.find() is None, reason="there is no C compiler here")


@dataclass(frozen=True, kw_only=True)
class Pairs(Options):
    """What the networks of the package leave out: a pooling whose maps come in pairs, as S2 of
    LeNet-4 has them, one that is squashed by a layer of its own, one without a convolution, odd
    sides, and squashed scores."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        bounds = (0.3, 0.3)
        c1 = Convolution("C1", (1, 31, 31), 4, 5, bounds, squash="scaled-tanh")
        pairs = (0, 0, 1, 1, 2, 2, 3, 3)
        s2 = Pooling("S2", c1.output_shape, "average", "scaled-tanh", 0.8, pairs)
        groups = (((0, 1), (2, 3), (4, 5)), ((0, 2, 4, 6),), ((1, 7),))
        c3 = Convolution("C3", s2.output_shape, 5, 4, bounds, groups=groups)
        s4 = Pooling("S4", c3.output_shape, "sum")
        bent = Squashing("S4_tanh", s4.output_shape, "tanh")
        s5 = Pooling("S5", s4.output_shape, "max", "tanh", 0.7)
        flat = Flatten("flatten", s5.output_shape)
        f6 = FullConnection("F6", flat.output_shape, 9, bounds, "tanh")
        output = FullConnection("output", (9,), classes, bounds, "sigmoid")
        layers = (c1, s2, c3, s4, bent, s5, flat, f6, output)
        return Architecture(self, Preparation(1, 31, -1, 1), layers)


def network(name: str, seed: int = 0, card=None, **options) -> Checkpoint:
    """A network as it starts."""
    architecture = build(name, options)
    names = [f"class {i}" for i in range(architecture.classes)]
    weights = architecture.initial_weights(seed)
    return Checkpoint(Path("none"), architecture, {"classes": names, **(card or {})}, weights)


NETWORKS = {
    "d2l": lambda: network("LeNet", hidden=(20, 12)),
    "relu, max, normalised": lambda: network(
        "LeNet", activation="relu", pooling="max", init="torch", hidden=(20,), mean=0.1307,
        std=0.3081,
    ),
    "gelu, 32x32, 3x3": lambda: network(
        "LeNet", activation="gelu", input_size=32, padding=(0,), kernel_sizes=(3, 5),
        channels=(3, 5), hidden=(),
    ),
    "silu, three convolutions, shrunk": lambda: network(
        "LeNet", activation="silu", input_size=22, padding=(2, 1, 1), kernel_sizes=(5, 3, 3),
        channels=(2, 3, 4), classes=3,
    ),
    "tanh, two channels": lambda: network(
        "LeNet", activation="tanh", in_channels=2, hidden=(7,)
    ),
    "no convolutions": lambda: network(
        "LeNet", activation="scaled-tanh", channels=(), padding=(), hidden=(9,)
    ),
    "only an output": lambda: network("LeNet", channels=(), padding=(), hidden=()),
    "lenet5-1998": lambda: checkpoint.read("lenet5-1998"),
    "LeNet5, sum, softmax": lambda: network(
        "LeNet5", subsampling="sum", initial="sqrt", head="softmax"
    ),
    "LeNet5s": lambda: network("LeNet5s"),
    "Pairs": lambda: network("Pairs"),
}  # fmt: skip
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def pairs(monkeypatch):
    monkeypatch.setitem(architectures.NETWORKS, "Pairs", Pairs)


def some_images(count, channels=1):
    shape = (count, 28, 28) if channels == 1 else (count, channels, 28, 28)
    images = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    images[0] = 0
    images[1] = 255
    return images


def images_for(model, count):
    return some_images(count, model.architecture.preparation.channels)


def exact_scores(model, images):
    """In float64, from float32 weights."""
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
    x = model.architecture.preparation(images).astype(np.float64)
    return list(arithmetic.activations(model.architecture, weights, x).values())[-1]


def float32(model, about=()):
    return c99.program(c99.Float32(model.architecture, model.weights), model, about)


def compiled(program, folder, flags):
    for name, text in program.files.items():
        (folder / name).write_text(text)
    line = ["cc", *flags, "main.c", "lenet.c", "-lm", "-o", "lenet"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


def answers(folder, *files):
    """Answers and scores that the program prints."""
    done = subprocess.run(["./lenet", *files], cwd=folder, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    head, *lines = done.stdout.decode().strip("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    named = [head.split("\t")[1:].index(row[0]) for row in rows]
    return named, np.array([[float(word) for word in row[1:]] for row in rows])


# C99


@needs_compiler
@every_network
def test_c_computes_what_the_network_computes(name, tmp_path):
    model = NETWORKS[name]()
    images = images_for(model, 12)
    expected = exact_scores(model, images)
    program = float32(model)
    compiled(program, tmp_path, [*STRICT, *SANITIZED])
    (tmp_path / "images").write_bytes(images.tobytes())
    named, scores = answers(tmp_path, "images")
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
    module = modules.restore(model)
    np.testing.assert_allclose(scores, modules.scores(module, images), rtol=1e-4, atol=1e-4)
    assert named == scores.argmax(1).tolist()
    assert program.weight_bytes >= 4 * sum(p.size for p in model.architecture.parameters)


@needs_compiler
@every_network
def test_int8_c_computes_what_was_measured_in_python(name, tmp_path):
    model = NETWORKS[name]()
    images = images_for(model, 60)
    whole = quantised.quantise(model.architecture, model.weights, images[:50])
    program = c99.program(c99.Int8(whole), model, [])
    compiled(program, tmp_path, [*STRICT, *SANITIZED])
    (tmp_path / "images").write_bytes(images.tobytes())
    _, scores = answers(tmp_path, "images")
    np.testing.assert_array_equal(np.rint(scores / whole.unit), whole.scores(images))
    exact = exact_scores(model, images)
    error = np.sqrt(np.square(scores - exact).mean())
    assert error < 0.05 * np.sqrt(np.square(exact).mean()) + 0.02
    assert "float" not in program.files["lenet.c"]
    assert program.weight_bytes < 80_000


@every_network
def test_lowering_changes_no_answer(name):
    model = NETWORKS[name]()
    lowered = lower(model.architecture)
    assert not any(isinstance(layer, Flatten) for layer in lowered.layers)
    images = images_for(model, 3)
    expected = arithmetic.scores(model.architecture, model.weights, images)
    np.testing.assert_array_equal(arithmetic.scores(lowered, model.weights, images), expected)


@needs_compiler
@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_c_reads_mnist(numbers, mnist, tmp_path):
    model = checkpoint.read("lenet5-1998")
    program = float32(model)
    if numbers == "int8":
        images = mnist.train.images[:200]
        whole = quantised.quantise(model.architecture, model.weights, images)
        program = c99.program(c99.Int8(whole), model, [])
    compiled(program, tmp_path, [*STRICT, "-O2"])
    images, labels = mnist.test.images[:1000], mnist.test.labels[:1000]
    (tmp_path / "images").write_bytes(images.tobytes())
    named, scores = answers(tmp_path, "images")
    expected = exact_scores(model, images)
    if numbers == "float32":
        np.testing.assert_allclose(scores, expected, atol=1e-3)
        assert named == expected.argmax(1).tolist()
    assert (named == expected.argmax(1)).mean() > 0.995
    assert (named != labels).mean() < 0.015


@needs_compiler
@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_header_has_temperature_and_threshold(numbers, mnist, tmp_path):
    """Probabilities and rejections by the header alone, beside those of the card."""
    model = checkpoint.read("lenet5-1998")
    program = float32(model)
    if numbers == "int8":
        images = mnist.train.images[:200]
        program = c99.program(
            c99.Int8(quantised.quantise(model.architecture, model.weights, images)), model, []
        )
    compiled(c99.Program({**program.files, "main.c": TRUST_PROGRAM}, 0, 0), tmp_path, STRICT)
    images = mnist.test.images[:200]
    done = subprocess.run(
        ["./lenet"], cwd=tmp_path, input=images.tobytes(), capture_output=True, check=True
    )
    rows = np.array([line.split() for line in done.stdout.decode().splitlines()], float)
    scores = exact_scores(model, images)
    powers = np.exp((scores - scores.max(1, keepdims=True)) / model.temperature)
    tolerance = 1e-4 if numbers == "float32" else 0.1
    np.testing.assert_allclose(rows[:, 0], 1 / powers.sum(1), atol=tolerance)
    best = np.sort(scores)
    rejected = best[:, -1] - best[:, -2] < model.card["rejection_threshold"]
    assert 0.1 < rejected.mean() < 0.5
    assert (rows[:, 1] == rejected).mean() > (0.999 if numbers == "float32" else 0.95)


TRUST_PROGRAM = """\
#include "lenet.h"
#include <math.h>
#include <stdio.h>
int main(void)
{
    static lenet_memory memory;
    uint8_t image[LENET_PIXELS];
    lenet_score scores[LENET_CLASSES];
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {
        int best = lenet_answer(image, scores, &memory);
        int is_rejected = 0;
        double sum = 0;
        for (int k = 0; k < LENET_CLASSES; k++) {
            sum += exp((double)(scores[k] - scores[best]) / LENET_TEMPERATURE);
            is_rejected |= k != best && scores[best] - scores[k] < LENET_THRESHOLD;
        }
        printf("%.9g %d\\n", 1 / sum, is_rejected);
    }
    return 0;
}
"""


def test_header_has_no_threshold_where_none_is_known():
    text = float32(network("LeNet", channels=(1,), hidden=())).files["lenet.h"]
    assert "LENET_THRESHOLD" not in text and "#define LENET_TEMPERATURE 1.0\n" in text


@needs_compiler
def test_sizes_are_those_of_the_compiled_program(tmp_path):
    program = float32(checkpoint.read("lenet5-1998"))
    files = {**program.files, "main.c": SIZE_PROGRAM}
    compiled(c99.Program(files, 0, 0), tmp_path, STRICT)
    done = subprocess.run(["./lenet"], cwd=tmp_path, capture_output=True, check=True)
    assert int(done.stdout) == program.memory_bytes
    if shutil.which("nm"):
        subprocess.run(["cc", *STRICT, "-c", "lenet.c"], cwd=tmp_path, check=True)
        listed = subprocess.run(["nm", "-u", "lenet.o"], cwd=tmp_path, capture_output=True)
        outside = set(listed.stdout.decode().split()) - {"U", "_GLOBAL_OFFSET_TABLE_"}
        assert outside == {"tanhf"}


SIZE_PROGRAM = """\
#include "lenet.h"
#include <stdio.h>
int main(void)
{
    printf("%lu", (unsigned long)sizeof(lenet_memory));
    return 0;
}
"""


@needs_compiler
def test_main_reads_pgm_files_and_refuses_others(tmp_path):
    names = ['say "7"', "back\\slash", "what??/", "Stiefel für Öl", *"456789"]
    model = network("LeNet", channels=(1,), hidden=(), card={"classes": names})
    program = float32(model, ["a */ comment /* of\nothers @memory@"])
    compiled(program, tmp_path, [*STRICT, *SANITIZED, "-Wtrigraphs"])
    images = some_images(3)
    heads = (b"P5 28 28 255\n", b"P5\n# a comment\n28 # wide\n28\n255\n", b"P5\t28\r\n28 255 ")
    pgm = b"".join(head + image.tobytes() for head, image in zip(heads, images, strict=True))
    (tmp_path / "digits.pgm").write_bytes(pgm)
    (tmp_path / "digits.raw").write_bytes(images.tobytes())
    _, scores = answers(tmp_path, "digits.pgm", "digits.raw")
    np.testing.assert_array_equal(scores[:3], scores[3:])
    done = subprocess.run(["./lenet", "digits.raw"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[0].split("\t")[1:] == names
    broken = {
        "small.pgm": b"P5 27 28 255\n" + bytes(784),
        "deep.pgm": b"P5 28 28 65535\n" + bytes(2 * 784),
        "cut.pgm": b"P5 28 28 255\n" + bytes(700),
        "cut.raw": bytes(783),
        "words.pgm": b"P5 wide high 255\n" + bytes(784),
        "end.pgm": b"P5 28",
        "huge.pgm": b"P5 " + b"9" * 400 + b" 28 255\n",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        done = subprocess.run(["./lenet", name], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 2 and name.encode() in done.stderr
    for arguments in ([], ["missing"]):
        done = subprocess.run(["./lenet", *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == 2 and b"AddressSanitizer" not in done.stderr


# int8


@given(
    factor=st.floats(1e-12, 1e8),
    total=st.integers(-(2**31) + 1, 2**31 - 1),
)
@settings(deadline=None)
def test_rescaling_multiplies_and_rounds(factor, total):
    found = quantised.rescaling(np.array([factor]))
    (r,) = found.rounded(np.array([[float(total)]]))[0].tolist()
    assert 1 <= found.shift[0] <= 62 and 0 <= found.multiplier[0] < 2**31
    exact = Fraction(factor) * total
    assert abs(r - exact) <= Fraction(1, 2) + abs(exact) / 2**30 + Fraction(abs(total), 2**62)
    used = Fraction(int(found.multiplier[0]), 2 ** int(found.shift[0])) * total
    assert r == floor(used + Fraction(1, 2))


def test_int8_weights_have_a_scale_for_each_output():
    model = network("LeNet", activation="relu", init="torch")
    weight = model.weights["C1.weight"]
    weight[2] *= 1000
    weight[3] = 0
    whole = quantised.quantise(model.architecture, model.weights, some_images(20))
    kernels = whole.weights["C1.weight"]
    assert abs(kernels[[0, 1, 2, 4, 5]]).max((1, 2, 3)).tolist() == [127] * 5
    assert not kernels[3].any()
    third = weight[2].astype(float)
    np.testing.assert_array_equal(kernels[2], (third / abs(third).max() * 127).round())


def test_maps_that_share_kernels_share_their_whole_numbers():
    model = network("LeNet5s")
    whole = quantised.quantise(model.architecture, model.weights, some_images(20))
    (c3,) = (layer for layer in whole.architecture.layers if layer.name == "C3")
    assert isinstance(c3, Convolution)
    assert whole.weights["C3.weight"].shape == (17, 5, 5)  # 3 + 4 + 4 + 6 kernels
    assert len(whole.weights["C3.bias"]) == 4
    filters = c3.filters(whole.weights)
    np.testing.assert_array_equal(filters[0, [0, 1, 2]], filters[5, [5, 0, 1]])
    assert abs(filters).max((1, 2, 3)).tolist() == [127] * 16


def test_int8_refuses_what_leaves_its_bits():
    model = network(
        "LeNet", channels=(800,), kernel_sizes=(1,), padding=(0,), hidden=(1,), activation="tanh"
    )
    model.weights["C3.weight"][:] = 1
    with pytest.raises(LenetError, match=r"C3 has so many inputs .*export it in float32"):
        quantised.quantise(model.architecture, model.weights, some_images(4))
    f6 = FullConnection("F6", (1, 28, 28), 4, (0.1, 0.1), "sigmoid")
    output = Distances("output", (4,), np.ones((2, 4), np.float32))
    rbf = replace(model.architecture, layers=(f6, output), preparation=Preparation(1, 28, 0.0, 1.0))
    with pytest.raises(LenetError, match=r"output: .*export it in float32"):
        quantised.quantise(rbf, rbf.initial_weights(0), some_images(4))


def test_what_a_format_cannot_express_is_refused_in_one_line():
    model = network("LeNet", channels=(1,))
    layers = list(model.architecture.layers)
    softened = replace(layers[1], squash="softplus")
    f6 = next(layer for layer in layers if isinstance(layer, FullConnection))
    first = Distances("D1", f6.input_shape, np.ones((10, 196), np.float32))
    output = FullConnection("output", (10,), 10, (0.1, 0.1))

    def with_layers(*layers):
        architecture = replace(model.architecture, layers=layers)
        weights = architecture.initial_weights(0)
        return replace(model, architecture=architecture, weights=weights)

    unknown = with_layers(layers[0], softened, *layers[2:])
    with pytest.raises(LenetError, match=r"^C1: C99 export knows no activation softplus$"):
        float32(unknown)
    with pytest.raises(LenetError, match=r"^C1_sigmoid: .* no activation softplus$"):
        onnx.graph(unknown, False)
    unscored = with_layers(*layers[:3])
    with pytest.raises(LenetError, match=r"^S2: scores that come from average pooling"):
        float32(unscored)
    between = with_layers(*layers[:4], first, output)
    with pytest.raises(LenetError, match=r"^D1: distances cannot be written in int8$"):
        quantised.quantise(between.architecture, between.weights, some_images(4))


def test_every_activation_is_known_everywhere():
    assert set(c99.SQUASHES) == set(onnx.SQUASHES) == set(arithmetic.ACTIVATIONS)


# ONNX


def onnx_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("pixels", [True, False])
@every_network
def test_onnx_answers_as_the_network_in_any_batch(name, pixels, tmp_path):
    import onnx as onnx_package

    model = NETWORKS[name]()
    images = images_for(model, 33)
    expected = exact_scores(model, images)
    trial = agreement.Trial(images, "33 images", expected)
    path = tmp_path / "out" / "model.onnx"
    result = onnx.export(model, path, pixels, trial)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    file = onnx_package.load(path)
    onnx_package.checker.check_model(file, full_check=True)
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["classes"]) == model.classes
    assert json.loads(metadata["card"]) == model.card
    assert build(metadata["network"], json.loads(metadata["options"])).classes == len(model.classes)
    session = onnx_session(path)
    (takes,) = session.get_inputs()
    assert (takes.name, takes.type) == (
        ("images", "tensor(uint8)") if pixels else ("x", "tensor(float)")
    )
    prepared = images if pixels else model.architecture.preparation(images)
    for count in (1, 2, 33):
        scores = np.asarray(session.run(None, {takes.name: prepared[:count]})[0])
        np.testing.assert_allclose(
            scores, expected[:count], rtol=1e-4, atol=1e-5 * abs(expected).max()
        )
    check = result.facts["check"]
    assert check["count"] == 33 and check["same_answers"] == 1
    assert result.files == {path: path.stat().st_size}


def test_onnx_names_its_operators_after_the_layers():
    file = onnx.graph(checkpoint.read("lenet5-1998"), pixels=True)
    given = {name for node in file.graph.node for name in node.output}
    assert {"input", "C1", "S2", "C3", "S4", "C5", "F6", "scores"} <= given


def test_what_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    model = network("LeNet", channels=(1,), hidden=())
    trial = agreement.trial(model, "nothing", None)
    assert trial.words == "1,000 generated images (nothing is not on this disk)"
    wrong = agreement.Trial(trial.images, trial.words, trial.scores + 1)
    with pytest.raises(LenetError, match="other scores than the network, by up to 1 on 1,000 gen"):
        onnx.export(model, tmp_path / "a.onnx", False, wrong)
    built = compiler.Built(trial.scores.astype(np.float64) + 1, None)
    monkeypatch.setattr(compiler, "tried", lambda *_: (built, "with cc"))
    with pytest.raises(LenetError, match=r"C program .* gives other scores"):
        c.export(model, tmp_path / "c", None, trial)
    assert not list(tmp_path.iterdir())


# safetensors


def test_safetensors_hold_all_that_the_network_is_made_of(tmp_path):
    """LeNet-5 rebuilt from the file alone, by its documentation."""
    path = tmp_path / "plain.safetensors"
    result = tensors.export(checkpoint.read("lenet5-1998"), path)
    with safe_open(path, "pt") as file:
        keys = json.loads(file.metadata()["keys"])
        constants = json.loads(file.metadata()["constants"])
        t = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert result.facts["keys"] == keys and set(keys) == set(t)
    for key, words in keys.items():
        assert words.startswith(f"{tuple(t[key].shape)}: ") and t[key].dtype == torch.float32

    def squash(a):
        return 1.7159 * torch.tanh(2 / 3 * a)

    def subsample(x, name):
        mean = F.avg_pool2d(x, 2)
        return squash(
            t[f"{name}.coefficient"][:, None, None] * mean + t[f"{name}.bias"][:, None, None]
        )

    images = some_images(9)
    x = F.pad(torch.from_numpy(images)[:, None].float(), (2, 2, 2, 2)) * 1.275 / 255 - 0.1
    x = subsample(squash(F.conv2d(x, t["C1.weight"], t["C1.bias"])), "S2")
    filters = torch.zeros(16, 6, 5, 5)
    wires = [(o, i) for o, row in enumerate(constants["C3.table"]) for i in range(6) if row[i]]
    for (output, source), kernel in zip(wires, t["C3.weight"], strict=True):
        filters[output, source] = kernel
    x = subsample(squash(F.conv2d(x, filters, t["C3.bias"])), "S4")
    x = squash(F.conv2d(x, t["C5.weight"], t["C5.bias"])).flatten(1)
    x = squash(x @ t["F6.weight"].T + t["F6.bias"])
    scores = -(x[:, None] - torch.tensor(constants["output.codes"])).square().sum(2)
    again = checkpoint.read(path)  # it is one of ours as well
    np.testing.assert_allclose(scores, exact_scores(again, images), rtol=1e-4)
    written = checkpoint.read("lenet5-1998")
    assert again.card == written.card and again.architecture.options == written.architecture.options


def test_every_tensor_of_every_network_is_explained():
    for name, model in NETWORKS.items():
        architecture = model().architecture
        described = tensors.describe(architecture)
        assert list(described) == [parameter.name for parameter in architecture.parameters], name
    described = tensors.describe(build("LeNet5s", {}))
    assert "[[0, 1, 3, 4], [1, 2, 4, 5], [2, 3, 5, 0]]" in described["C3.gap.weight"]
    sources = tensors.constants(build("Pairs", {}))["S2.sources"]
    assert sources == [0, 0, 1, 1, 2, 2, 3, 3]


# the command


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """No data set is on this disk, and none can be got."""
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "none"))


def test_export_c_without_compiler_and_data(no_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compiler, "find", lambda: None)
    line = ["export", "lenet5-1998", "--format", "c", "--out", str(tmp_path / "c")]
    assert cli.main([*line, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == {"code": None, "weights": 243437, "memory": 14352}
    assert answer["check"] is None
    assert {file.name for file in (tmp_path / "c").iterdir()} == {"lenet.h", "lenet.c", "main.c"}
    assert cli.main(line) == 0
    said = capsys.readouterr().out
    assert "this machine has no C compiler" in said and "unknown" in said


@needs_compiler
def test_export_int8_measures_its_loss(digit_folder, tmp_path, capsys):
    model = checkpoint.read("mnist")
    folder = {**model.card, "data": {"name": str(digit_folder)}}
    path = tmp_path / "weights.safetensors"
    checkpoint.write(path, model.architecture, model.weights, folder)
    line = ["export", str(path), "--format", "c", "--numbers", "int8"]
    assert cli.main([*line, "--out", str(tmp_path / "c"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    loss = answer["loss"]
    assert loss["count"] == 200 and loss["calibrated_on"] == 640
    report = evaluate(model, data.load(str(digit_folder)).test)
    assert loss["error"] == pytest.approx(report.error) and 0 < report.error < 0.5
    assert abs(loss["error_int8"] - loss["error"]) < 0.02
    assert answer["check"]["images"] == f"200 test images of {digit_folder}"
    assert answer["bytes"]["weights"] < 70_000
    text = (tmp_path / "c" / "lenet.h").read_text()
    assert str(digit_folder) not in text  # a folder of this machine


def test_export_says_what_cannot_be(no_data, monkeypatch, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("here before")
    for arguments, message in (
        (["--format", "c", "--input", "uint8"], "--input is for --format onnx"),
        (["--format", "onnx", "--numbers", "int8"], "--numbers is for --format c"),
        (["--format", "safetensors", "--out", str(file / "x")], f"cannot write {file / 'x'}"),
        (["--format", "c", "--out", str(file)], f"cannot write {file}"),
    ):
        assert cli.main(["export", "lenet5-1998", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert file.read_text() == "here before"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["export", "lenet5-1998", "--format", "onnx", "--out", str(file)]) == 2
    assert "pip install 'lenet[onnx]'" in capsys.readouterr().err


def test_files_are_written_together_or_not_at_all(tmp_path):
    folder = tmp_path / "c"
    c.write(folder, {"a": "old", "b": "old"})
    (folder / "b").unlink()
    (folder / "b").mkdir()  # cannot be replaced by a file
    (folder / "b" / "x").write_text("")
    with pytest.raises(LenetError, match="cannot write"):
        c.write(folder, {"a": "new", "b": "new"})
    assert (folder / "a").read_text() == "old"
    assert {file.name for file in folder.iterdir()} == {"a", "b"}
