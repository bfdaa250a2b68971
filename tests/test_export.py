"""Exported networks answer as the networks do, and are written whole or not at all."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import lenet
from lenet import cli
from lenet.engine.steps import scores_by_autograd
from lenet.errors import LenetError
from lenet.export import agreement, c, c99, compiler, onnx, quantised, tensors
from lenet.networks import checkpoint
from lenet.networks.stages import Convolution, prepared, walk

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g0"]
needs_compiler = pytest.mark.skipif(compiler.find() is None, reason="there is no C compiler here")

NETWORKS = {
    "d2l": lambda: lenet.LeNet(hidden=(20, 12)),
    "relu, max, normalised": lambda: lenet.LeNet(
        activation="relu", pooling="max", init="torch", hidden=(20,), mean=0.1307, std=0.3081
    ),
    "gelu, 32x32, 3x3": lambda: lenet.LeNet(
        activation="gelu", input_size=32, padding=0, kernel_sizes=(3, 5), channels=(3, 5), hidden=()
    ),
    "silu, three convolutions, shrunk": lambda: lenet.LeNet(
        activation="silu", input_size=22, padding=(2, 1, 1), kernel_sizes=(5, 3, 3),
        channels=(2, 3, 4), classes=3,
    ),
    "tanh, two channels": lambda: lenet.LeNet(activation="tanh", in_channels=2, hidden=(7,)),
    "no convolutions": lambda: lenet.LeNet(
        activation="scaled-tanh", channels=(), padding=(), hidden=(9,)
    ),
    "lenet5-1998": lambda: lenet.load("lenet5-1998"),
    "LeNet5, sum, softmax": lambda: lenet.LeNet5(subsampling="sum", initial="sqrt", head="softmax"),
    "LeNet5s": lenet.LeNet5s,
}  # fmt: skip
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def some_images(count, channels=1):
    shape = (count, 28, 28) if channels == 1 else (count, channels, 28, 28)
    images = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    images[0] = 0
    images[1] = 255
    return images


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
def test_c_computes_what_the_network_computes(network, tmp_path):
    model = network().eval()
    images = some_images(12, model.input_shape[0])
    expected = scores_by_autograd(model, images)
    how, stages = walk(model)
    names = [f"class {i}" for i in range(model.classes)]
    program = c99.program(c99.Float32(how, stages), names, [])
    compiled(program, tmp_path, [*STRICT, *SANITIZED])
    (tmp_path / "images").write_bytes(images.tobytes())
    named, scores = answers(tmp_path, "images")
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
    assert named == scores.argmax(1).tolist()
    weights = sum(p.numel() for p in model.parameters())
    assert program.weight_bytes >= 4 * weights


@needs_compiler
@every_network
def test_int8_c_computes_what_was_measured_in_python(network, tmp_path):
    model = network().eval()
    images = some_images(60, model.input_shape[0])
    how, stages = walk(model)
    whole = quantised.quantise(how, stages, images[:50])
    names = [f"{i}" for i in range(model.classes)]
    program = c99.program(c99.Int8(whole), names, [])
    compiled(program, tmp_path, [*STRICT, *SANITIZED])
    (tmp_path / "images").write_bytes(images.tobytes())
    _, scores = answers(tmp_path, "images")
    np.testing.assert_array_equal(np.rint(scores / whole.unit), whole.answer(images))
    exact = scores_by_autograd(model, images)
    error = np.sqrt(np.square(scores - exact).mean())
    assert error < 0.05 * np.sqrt(np.square(exact).mean()) + 0.02
    assert "float" not in program.files["lenet.c"]
    assert program.weight_bytes < 80_000


@needs_compiler
@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_c_reads_mnist(numbers, mnist, tmp_path):
    model = lenet.load("lenet5-1998")
    how, stages = walk(model)
    arithmetic = c99.Float32(how, stages)
    if numbers == "int8":
        arithmetic = c99.Int8(quantised.quantise(how, stages, mnist.train.images[:200]))
    compiled(c99.program(arithmetic, list("0123456789"), []), tmp_path, [*STRICT, "-O2"])
    images, labels = mnist.test.images[:1000], mnist.test.labels[:1000]
    (tmp_path / "images").write_bytes(images.tobytes())
    named, scores = answers(tmp_path, "images")
    expected = scores_by_autograd(model, images)
    if numbers == "float32":
        np.testing.assert_allclose(scores, expected, atol=1e-3)
        assert named == expected.argmax(1).tolist()
    assert (named == expected.argmax(1)).mean() > 0.995
    assert (named != labels).mean() < 0.015


@needs_compiler
def test_sizes_are_those_of_the_compiled_program(tmp_path):
    how, stages = walk(lenet.load("lenet5-1998"))
    program = c99.program(c99.Float32(how, stages), list("0123456789"), [])
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
    model = lenet.LeNet(channels=(1,), hidden=())
    how, stages = walk(model)
    names = ['say "7"', "back\\slash", "what??/", "Stiefel für Öl", *"456789"]
    program = c99.program(c99.Float32(how, stages), names, ["a */ comment /* of\nothers"])
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
    (r,) = found.rounded(torch.tensor([[float(total)]], dtype=torch.float64))[0].tolist()
    assert 1 <= found.shift[0] <= 62 and 0 <= found.multiplier[0] < 2**31
    exact = Fraction(factor) * total
    assert abs(r - exact) <= Fraction(1, 2) + abs(exact) / 2**30 + Fraction(abs(total), 2**62)
    used = Fraction(int(found.multiplier[0]), 2 ** int(found.shift[0])) * total
    assert r == floor(used + Fraction(1, 2))


def test_int8_weights_have_a_scale_for_each_output():
    model = lenet.LeNet(activation="relu", init="torch")
    with torch.no_grad():
        weight = model.get_parameter("C1.weight")
        weight[2] *= 1000
        weight[3] = 0
    how, stages = walk(model)
    whole = quantised.quantise(how, stages, some_images(20))
    in_bytes, exact = whole.stages[0], stages[0]
    assert isinstance(in_bytes, Convolution) and isinstance(exact, Convolution)
    kernels = in_bytes.filters()
    assert abs(kernels[[0, 1, 2, 4, 5]]).max((1, 2, 3)).tolist() == [127] * 5
    assert not kernels[3].any()
    third = exact.filters()[2]
    ratio = third / abs(third).max() * 127
    np.testing.assert_array_equal(kernels[2], ratio.round())


def test_int8_refuses_sums_beyond_32_bits():
    model = lenet.LeNet(channels=(800,), kernel_sizes=1, padding=0, hidden=(1,), activation="tanh")
    with torch.no_grad():
        model.get_parameter("C3.weight")[:] = 1
    how, stages = walk(model)
    with pytest.raises(LenetError, match=r"C3 has 156,800 inputs.*export it in float32"):
        quantised.quantise(how, stages, some_images(4))


def test_stages_are_refused_for_layers_they_do_not_know():
    model = lenet.LeNet()
    model.C1_sigmoid = torch.nn.Softplus()
    with pytest.raises(LenetError, match="C1_sigmoid is a Softplus"):
        walk(model)


@every_network
def test_preparation_is_the_network_s(network):
    model = network()
    images = some_images(5, model.input_shape[0])
    found = prepared(walk(model)[0], images)
    torch.testing.assert_close(found.float(), model.prepare(images), rtol=1e-5, atol=1e-5)


# ONNX


def onnx_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("lenet5-1998", True),
        pytest.param("LeNet5s", True, marks=pytest.mark.slow),
        pytest.param("LeNet5s", False, marks=pytest.mark.slow),
        pytest.param("silu, three convolutions, shrunk", True, marks=pytest.mark.slow),
        pytest.param("tanh, two channels", True, marks=pytest.mark.slow),
        ("d2l", False),
    ],
)
def test_onnx_answers_as_the_network_in_any_batch(name, pixels, tmp_path):
    import onnx as onnx_package

    model = NETWORKS[name]().eval()
    names = [f"class {i}" for i in range(model.classes)]
    model.card = {**model.card, "classes": names}
    lenet.save(model, tmp_path / "model.safetensors")
    found = checkpoint.read(tmp_path / "model.safetensors")
    trial = agreement.trial(found, "nothing", None)
    path = tmp_path / "out" / "model.onnx"
    result = onnx.export(found, path, pixels, trial)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    file = onnx_package.load(path)
    onnx_package.checker.check_model(file, full_check=True)
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["classes"]) == names
    assert json.loads(metadata["card"]) == model.card
    session = onnx_session(path)
    (takes,) = session.get_inputs()
    assert (takes.name, takes.type) == (
        ("images", "tensor(uint8)") if pixels else ("x", "tensor(float)")
    )
    images = some_images(33, model.input_shape[0])
    expected = scores_by_autograd(model, images)
    for count in (1, 2, 33):
        given = images[:count] if pixels else model.prepare(images[:count]).numpy()
        scores = np.asarray(session.run(None, {takes.name: given})[0])
        np.testing.assert_allclose(
            scores, expected[:count], rtol=1e-4, atol=1e-5 * abs(expected).max()
        )
    assert result.agreement.count == 1000 and result.agreement.same_answers == 1
    assert result.size == path.stat().st_size


def test_what_answers_otherwise_is_not_written(tmp_path_factory, tmp_path, monkeypatch):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    lenet.save(lenet.LeNet(channels=(1,), hidden=()), path)
    found = checkpoint.read(path)
    trial = agreement.trial(found, "nothing", None)
    wrong = agreement.Trial(trial.images, trial.words, trial.scores + 1)
    with pytest.raises(LenetError, match="other scores than the network, by up to 1 on 1,000 gen"):
        onnx.export(found, tmp_path / "a.onnx", False, wrong)
    built = compiler.Built(trial.scores.astype(np.float64) + 1, None, "cc")
    monkeypatch.setattr(compiler, "build", lambda *_: built)
    monkeypatch.setattr(compiler, "find", lambda: ["cc"])
    with pytest.raises(LenetError, match=r"C program .* gives other scores"):
        c.export(found, tmp_path / "c", None, trial)
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
    assert result.keys == keys and set(keys) == set(t)
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
    model = lenet.load(path)  # it is one of ours as well
    expected = scores_by_autograd(model, images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_array_equal(expected, scores_by_autograd(lenet.load("lenet5-1998"), images))


def test_every_tensor_of_every_network_is_explained(tmp_path):
    for name, network in NETWORKS.items():
        model = network()
        assert list(tensors.describe(model)) == [key for key, _ in model.named_parameters()], name
    described = tensors.describe(lenet.LeNet5s())
    assert "[[0, 1, 3, 4], [1, 2, 4, 5], [2, 3, 5, 0]]" in described["C3.gap.weight"]


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
def test_export_int8_measures_its_loss(trained, tmp_path, capsys):
    line = ["export", str(trained.path), "--format", "c", "--numbers", "int8"]
    assert cli.main([*line, "--out", str(tmp_path / "c"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    loss = answer["loss"]
    assert loss["count"] == 200 and loss["calibrated_on"] == 640
    assert loss["error"] == pytest.approx(trained.report.error)
    assert abs(loss["error_int8"] - loss["error"]) < 0.02
    assert answer["check"]["images"] == f"200 test images of {trained.recipe.data}"
    assert answer["bytes"]["weights"] < 70_000
    text = (tmp_path / "c" / "lenet.h").read_text()
    assert str(trained.recipe.data) not in text  # a folder of this machine


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
