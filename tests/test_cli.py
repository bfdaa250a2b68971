"""The command: answers, exit statuses, one line for every mistake and never a traceback."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST, TRAIN, interruptible, needs_kernels
from numpy.typing import NDArray
from PIL import Image

import lenet
from lenet import cli, commands
from lenet.commands.train import TrainFlags
from lenet.data.corruptions import CORRUPTIONS
from lenet.networks import checkpoint
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES
from lenet.training.run import Run

FIGURES = ("confusion", "rejection", "reliability", "mistakes")

Command = Callable[..., "subprocess.CompletedProcess[bytes]"]
Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def answer(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; gives its exit status and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # how the parser of flags ends
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return run


Answer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(digits: Digits, tmp_path: Path) -> Path:
    """A folder: two digits, an empty picture, a damaged one, and a text that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        picture = Image.fromarray(255 - digits[0][TRAIN + number]).resize((140, 140))
        picture.save(folder / f"{number}.png")
    Image.new("L", (80, 80), 255).save(folder / "empty.png")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


# Without PyTorch


HELPS = [
    ["--help"],
    ["-h"],
    ["help"],
    ["--version"],
    *([command, "--help"] for command in cli.COMMANDS),
]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help(words: list[str], answer: Answer) -> None:
    status, out, err = answer(*words)
    assert (status, err) == (0, "")
    assert out.startswith("lenet ") or out.startswith("usage: lenet")


def test_help_needs_no_pytorch() -> None:
    script = (
        "import sys\nfrom lenet import cli\n"
        f"for words in {HELPS!r}:\n"
        "    try:\n"
        "        assert cli.main(words) == 0\n"
        "    except SystemExit as stop:\n"
        "        assert stop.code == 0\n"
        "for heavy in ('torch', 'matplotlib', 'PIL', 'cv2'):\n"
        "    assert heavy not in sys.modules, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_help_names_all_commands_and_some_recipes(answer: Answer) -> None:
    _, out, _ = answer("--help")
    for name in cli.COMMANDS:
        assert f"  {name} " in out
    _, _, err = answer("train", "nonsense")
    assert all(name in err for name in RECIPES)
    _, out, _ = answer("--version")
    assert out == f"lenet {lenet.__version__}\n"


def test_import_is_light() -> None:
    script = (
        "import sys, lenet\n"
        "assert set(lenet.__all__) <= set(dir(lenet))\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    for name in lenet.__all__:
        assert getattr(lenet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lenet6'"):
        _ = lenet.lenet6  # pyright: ignore[reportAttributeAccessIssue]


@needs_kernels
def test_predict_and_data_need_no_pytorch(trained: Run, photos: Path, digit_folder: Path) -> None:
    script = (
        "import sys\nfrom lenet import cli\n"
        "photo, model, data = sys.argv[1:]\n"
        "assert cli.main(['predict', photo, '--model', model]) == 0\n"
        "assert cli.main(['data', data]) == 0\n"
        "assert cli.main(['evaluate', model]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    line = [sys.executable, "-c", script, str(photos / "0.png"), str(trained.path), digit_folder]
    done = subprocess.run(line, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", ""),
        ("trian", "no command 'trian'"),
        ("train lenet6", "no recipe 'lenet6': choose one of mnist,"),
        ("train nowhere.json", "nowhere.json cannot be read"),
        ("train --speed 3", "Unrecognized options: --speed"),
        ("train --epochs", "--epochs"),
        ("train --epochs many", "invalid literal for int"),
        ("train --epochs 0", "epochs cannot be 0"),
        ("train --lr nan", "lr cannot be nan"),
        ("train --lr inf", "lr cannot be inf"),
        ("train --model AlexNet", "there is no model 'AlexNet': choose LeNet, LeNet5, LeNet5s"),
        ("train lenet5s --channels 6 12", "Unrecognized options: --channels"),
        ("train --data nowhere", "no data set 'nowhere'"),
        ("train --device abacus", "no device 'abacus' here"),
        ("train --resume nowhere", "nowhere holds no run: there is no recipe.json"),
        ("train --resume nowhere --epochs 3", "--resume continues the run as it was begun"),
        ("train --resume nowhere --out x", "--resume continues the run as it was begun"),
        ("train d2l --resume nowhere", "--resume continues the run as it was begun"),
        ("evaluate", "Missing from lenet evaluate"),
        ("evaluate nowhere", "no model 'nowhere': give a run folder"),
        ("evaluate latest", "no trained model under runs/: run `lenet train`"),
        ("evaluate .", "has no weights.safetensors"),
        ("evaluate {model} --data nowhere", "no data set 'nowhere'"),
        ("evaluate {model} --out {model}", "cannot write"),
        ("evaluate {model} --threads 0", "threads must be"),
        ("evaluate {broken}", "is not a complete safetensors file"),
        ("predict", "name at least one picture"),
        ("predict x.png --model nowhere", "no model 'nowhere'"),
        ("predict x.png --model {broken}", "is not a complete safetensors file"),
        ("predict x.png --model latest", "no trained model under runs/"),
        ("predict a.png b.png --show x.png --model {model}", "is one file for 2 pictures"),
        ("summary", "Missing from lenet summary"),
        ("summary nowhere", "no model 'nowhere'"),
        ("summary {broken}", "is not a complete safetensors file"),
        ("data nowhere", "no data set 'nowhere'"),
        ("data .", "holds neither IDX files"),
        ("data {digits} --sheet x.doc", "name a file that ends in .png or .svg"),
        ("data " + "x" * 5000, "File name too long"),
    ],
)
def test_mistakes(
    words: str,
    message: str,
    answer: Answer,
    trained: Run,
    digit_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LENET_DATA", str(digit_folder.parent))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    places = {"model": trained.path / "weights.safetensors", "digits": digit_folder}
    status, out, err = answer(*words.format(broken=broken, **places).split())
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert out == "" or words == ""
    assert os.listdir(tmp_path) == [broken.name]


def test_interrupt(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(flags: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lenet.commands.data.run", interrupted)
    assert answer("data") == (130, "", "")


def test_interrupt_of_training(quick_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text(json.dumps({**quick_recipe.as_dict(), "epochs": 100_000}))
    line = [sys.executable, "-m", "lenet", "train", "long.json", "--out", "run", "--threads", "1"]
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=interruptible,
    )
    assert process.stderr is not None
    for words in process.stderr:
        if words.startswith(b"epoch 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == b""
    assert b"Traceback" not in err
    assert b"are kept; resume with: lenet train --resume run" in err


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "data {digits}", "data {digits} --json"]
)
def test_closed_pipe(words: str, digit_folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `lenet ... | true`
    line = [sys.executable, "-m", "lenet", *words.format(digits=digit_folder).split()]
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_output(digit_folder: Path) -> None:
    line = [sys.executable, "-m", "lenet", "data", str(digit_folder)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [b"lenet: [Errno 28] No space left on device"]


# train, evaluate


def test_train_evaluate_and_resume(
    answer: Answer, quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.json").write_text(json.dumps(quick_recipe.as_dict()))
    common = ("train", "quick.json", "--epochs", "2", "--seed", "5", "--threads", "1")
    status, out, err = answer(*common, "--out", "run")
    assert status == 0
    assert err.splitlines()[-1].startswith("epoch 2/2  loss ")
    lines = out.splitlines()
    assert lines[0].startswith("loss ")
    assert ", train acc 0." in lines[0]
    assert ", test acc 0." in lines[0]
    assert lines[1].endswith(" examples/sec on cpu")
    assert "error" in out
    assert lines[-1] == "The run is in run; for figures: lenet evaluate latest --out figures/"
    recipe = Recipe.from_file(tmp_path / "run" / "recipe.json")
    assert recipe == quick_recipe.changed(epochs=2, seed=5)
    assert not list((tmp_path / "run").glob("*.png"))

    status, out, err = answer("train", "--resume", "run", "--json")
    assert status == 0
    resumed = json.loads(out)
    assert resumed["run"] == "run"

    status, out, err = answer("evaluate", "run", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert out.count("\n") == 1
    assert report["accuracy"] == resumed["accuracy"]
    assert report["error"] == resumed["error"] == pytest.approx(1 - report["accuracy"])
    assert report["count"] == TEST
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {**report, **written} == report

    status, out, err = answer("train", "quick.json", "--out", "run")
    assert status == 2
    assert "run already holds a run; resume it with --resume run" in err


def test_train_draws_when_it_is_told_to(
    answer: Answer, quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.json").write_text(json.dumps(quick_recipe.as_dict()))
    words = ("train", "quick.json", "--epochs", "1", "--figures", "--out", "run", "--json")
    assert answer(*words)[0] == 0
    for name in ("curves", *FIGURES):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words", [["--hidden", "none", "--seed", "3"], ["--model", "LeNet", "--seed", "3", "--hidden"]]
)
def test_no_number(words: list[str]) -> None:
    """As `--vary hidden=none` spells it, and as the parser of flags would have it."""
    recipe, flags = commands.leading_recipe(["d2l", *words], "mnist")
    arguments = commands.parse(TrainFlags, "train", flags, TrainFlags(recipe))
    assert arguments.recipe == RECIPES["d2l"].changed(hidden=(), seed=3)
    _, flags = commands.leading_recipe(["--name", "none"], "mnist")
    assert flags == ["--name", "none"]


def test_evaluate(answer: Answer, trained: Run, tmp_path: Path) -> None:
    status, out, err = answer("evaluate", trained.path, "--out", tmp_path / "figures")
    assert (status, err) == (0, "")
    assert f"{trained.report.error:.2%}" in out
    assert "per class" in out
    assert "confusions" in out
    assert "expected calibration error" in out
    assert "corruptions" not in out
    for name in ("report.json", *(f"{what}.png" for what in FIGURES)):
        assert f"wrote {tmp_path / 'figures' / name}" in out
        assert (tmp_path / "figures" / name).exists()


def test_evaluate_under_corruptions(answer: Answer, trained: Run, tmp_path: Path) -> None:
    words = ("evaluate", trained.path, "--corruptions", "--out", tmp_path)
    status, out, _ = answer(*words, "--json")
    assert status == 0
    errors = json.loads(out)["corruptions"]
    assert list(errors) == list(CORRUPTIONS)
    assert (tmp_path / "corruptions.png").stat().st_size > 10_000
    status, out, _ = answer(*words)
    table = out.partition("error under corruptions")[2]
    assert f"{np.mean([*errors.values()]):.2%}" in table
    for name, error in errors.items():
        assert name.replace("_", " ") in table
        assert f"{error:.2%}" in table
    assert f"wrote {tmp_path / 'corruptions.png'}" in out


def test_evaluate_on_other_data(
    answer: Answer, trained: Run, digit_folder: Path, tmp_path: Path
) -> None:
    for file in digit_folder.iterdir():  # the training images, as a test split
        shutil.copy(file, tmp_path / file.name.replace("t10k", "x"))
        shutil.copy(file, tmp_path / file.name.replace("train", "t10k").replace("t10k-t10k", "x"))
    for kind in ("images-idx3", "labels-idx1"):
        shutil.copy(digit_folder / f"train-{kind}-ubyte", tmp_path / f"t10k-{kind}-ubyte")
    status, out, _ = answer("evaluate", trained.path, "--data", tmp_path, "--json")
    assert status == 0
    assert json.loads(out)["count"] == TRAIN
    assert json.loads(out)["error"] < trained.report.error


def test_evaluate_on_other_classes(answer: Answer, trained: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, label in itertools.product(("train", "test"), range(10)):
        folder = tmp_path / split / f"kind{label}"
        folder.mkdir(parents=True)
        picture = Image.fromarray(random.integers(0, 256, (28, 28), np.uint8))
        picture.save(folder / "0.png")
    status, _, err = answer("evaluate", trained.path, "--data", tmp_path)
    assert status == 0
    assert "answers 0, 1 ..., but" in err
    assert "has kind0, kind1 ...; they are compared by number" in err


# models


def test_models(answer: Answer) -> None:
    status, out, err = answer("models")
    assert (status, err) == (0, "")
    status, lines, _ = answer("models", "--json")
    assert status == 0
    found = [json.loads(line) for line in lines.splitlines()]
    assert [line["name"] for line in found] == checkpoint.pretrained_names()
    for line in found:
        assert checkpoint.read(line["name"]).card.items() <= line.items()
        file = checkpoint.PRETRAINED / f"{line['name']}.safetensors"
        assert line["bytes"] == file.stat().st_size
        assert line["parameters"] in (60_000, 61_706, 88_251)
        (row,) = [row for row in out.splitlines() if f"  {line['name']}  " in row]
        recipe = f"{line['recipe']['name']}, seed {line['recipe']['seed']}"
        for word in (line["about"], f"{line['error']:.2%}", recipe, line["date"]):
            assert word in row


# predict


def test_predict_as_json(answer: Answer, trained: Run, photos: Path) -> None:
    status, out, err = answer("predict", photos, "--model", trained.path, "--json")
    assert (status, err) == (1, "")  # some could not be read
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["path"] for line in lines] == [
        str(photos / name) for name in ("0.png", "1.png", "damaged.jpg", "empty.png")
    ]
    for line in lines[:2]:
        assert line.keys() == {"path", "label", "probabilities", "rejected", "reason", "box"}
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert isinstance(line["rejected"], bool)
    assert lines[2].keys() == {"path", "error"}
    assert "damaged" in lines[2]["error"] or "not a picture" in lines[2]["error"]
    assert (lines[3]["label"], lines[3]["reason"], lines[3]["box"]) == (None, "empty", None)


def test_predict_as_text(answer: Answer, trained: Run, photos: Path) -> None:
    names = [photos / "missing.png", photos / "0.png", photos / "empty.png", photos / "1.png"]
    status, out, err = answer("predict", *names, "--model", trained.path)
    assert status == 1
    answers, failures = out.splitlines(), err.splitlines()
    assert len(answers) == len(failures) == 2
    for line, name in zip(answers, (names[1], names[3]), strict=True):
        assert line.startswith(f"{name}: ")
        assert "(sure)" in line or "(not sure)" in line
        assert "%" in line
    for line, name in zip(failures, (names[0], names[2]), strict=True):
        assert line.startswith(f"{name}: ")
    assert "no such file" in failures[0]
    assert failures[1].endswith(": empty")
    status, out, err = answer("predict", names[1], names[3], "--model", trained.path)
    assert (status, out.splitlines(), err) == (0, answers, "")


def test_predict_the_latest_run(
    answer: Answer, trained: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained.path, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    status, out, _ = answer("predict", "photos/0.png", "--json", "--model", "latest")
    assert status == 0
    assert json.loads(out)["path"] == "photos/0.png"


def test_predict_standard_input(command: Command, trained: Run, photos: Path) -> None:
    given = (photos / "0.png").read_bytes()
    arguments = ("--model", trained.path, "--json")
    done = command("predict", "-", photos / "0.png", *arguments, input=given)
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {**second, "path": "-"}
    for nothing in (b"", b"no picture"):
        done = command("predict", "-", *arguments, input=nothing)
        assert (done.returncode, done.stderr) == (1, b"")
        assert json.loads(done.stdout).keys() == {"path", "error"}
        done = command("predict", "-", "--model", trained.path, input=nothing)
        assert (done.returncode, done.stdout) == (1, b"")
        assert len(done.stderr.splitlines()) == 1


def test_predict_names_that_cannot_be_printed(command: Command, trained: Run, photos: Path) -> None:
    name = os.fsencode(photos) + b"/\xe4\xff.png"
    try:
        os.rename(photos / "0.png", name)
    except OSError:
        pytest.skip("this file system knows no such names")
    done = command("predict", os.fsdecode(name), "--model", trained.path)
    assert (done.returncode, done.stderr) == (0, b"")
    done = command("predict", os.fsdecode(name), "--model", trained.path, "--json")
    assert json.loads(done.stdout)["path"] == os.fsdecode(name)


def test_folder_without_pictures(
    answer: Answer, trained: Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    status, out, err = answer(
        "predict", tmp_path / "bare", photos / "0.png", "--model", trained.path
    )
    assert status == 1
    assert str(tmp_path / "bare") in err
    assert len(out.splitlines()) == 1  # the other picture was read


def test_show(answer: Answer, trained: Run, photos: Path, tmp_path: Path) -> None:
    model = ("--model", trained.path)
    assert answer("predict", photos / "0.png", "--show", tmp_path / "x.PNG", *model)[0] == 0
    assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG")
    assert answer("predict", photos / "0.png", "--show", tmp_path / "a" / "x.svg", *model)[0] == 0
    assert b"<svg" in (tmp_path / "a" / "x.svg").read_bytes()
    (tmp_path / "twice").mkdir()
    shutil.copy(photos / "0.png", tmp_path / "twice")
    status, *_ = answer("predict", photos, tmp_path / "twice", "--show", tmp_path / "b", *model)
    assert status == 1
    assert sorted(os.listdir(tmp_path / "b")) == ["1-0.png", "2-1.png", "4-empty.png", "5-0.png"]
    status, _, err = answer("predict", photos / "0.png", "--show", photos / "1.png" / "x", *model)
    assert status == 2
    assert "cannot write" in err


# summary, data


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("LeNet", 61_706), ("LeNet5", 60_000), ("LeNet5s", 59_719), ("d2l", 61_706)],
)
def test_summary(name: str, parameters: int, answer: Answer) -> None:
    status, out, err = answer("summary", name, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["totals"]["parameters"] == parameters
    status, out, err = answer("summary", name)
    assert (status, err) == (0, "")
    assert f"{parameters:,}" in out


def test_summary_of_a_run(answer: Answer, trained: Run) -> None:
    status, out, _ = answer("summary", trained.path, "--json")
    assert status == 0
    assert json.loads(out)["totals"]["parameters"] == 61_706


def test_data(answer: Answer, digit_folder: Path, digits: Digits, tmp_path: Path) -> None:
    status, out, err = answer("data", digit_folder, "--json", "--sheet", tmp_path / "s.svg")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["shapes"] == {"train": [TRAIN, 28, 28], "test": [TEST, 28, 28]}
    counts = np.bincount(digits[1][:TRAIN]).tolist()
    assert found["classes"]["train"] == dict(zip("0123456789", counts, strict=True))
    assert len(found["sha256"]) == 4
    assert b"<svg" in (tmp_path / "s.svg").read_bytes()
    status, out, err = answer("data", digit_folder)
    assert (status, err) == (0, "")
    assert f"{TRAIN:,}" in out
    assert all(checksum in out for checksum in found["sha256"].values())
