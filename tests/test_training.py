"""Training: the run folder, the same weights again, and going on after every kind of stop."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEST, TRAIN, file_size_limit, interruptible, needs_kernels
from safetensors.numpy import load_file

import lenet
from lenet import data
from lenet.errors import LenetError
from lenet.evaluation import evaluation
from lenet.figures import plots
from lenet.networks import checkpoint
from lenet.training import distillation, epochs, runs, training
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES

EPOCHS = 4


@pytest.fixture(scope="module", autouse=True)
def no_figures(trained: runs.Run) -> Iterator[None]:
    """Figures take longer than these runs; `trained` has them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("training_curves", "confusion_matrix", "rejection_curve", "worst_mistakes"):
            patch.setattr(plots, name, lambda *arguments: None)
        patch.setattr(plots, "save", lambda figure, path: None)
        yield


@pytest.fixture(scope="module")
def recipes(digit_folder: Path, trained: runs.Run) -> dict[str, tuple[Recipe, str]]:
    """Recipe and engine by name: each optimizer and engine, with and without distortions, taught
    and averaged."""
    plain = Recipe(name="x", data=str(digit_folder), epochs=EPOCHS, batch_size=100, seed=3)
    adamw = dataclasses.replace(
        plain,
        optimizer="adamw",
        lr=3e-3,
        schedule="cosine",
        warmup=0.3,
        activation="gelu",
        pooling="max",
        shift=1.0,
        rotation=10.0,
    )
    momentum = dataclasses.replace(plain, momentum=0.9, lr=0.01, activation="silu")
    of_1998 = dataclasses.replace(
        RECIPES["lenet5-1998"], data=str(digit_folder), epochs=EPOCHS, shift=1.0, squeeze=0.1
    )
    taught = dataclasses.replace(
        adamw,
        flip=True,
        elastic=0.5,
        paper=0.1,
        copies=3,
        teachers=(str(trained.path), str(trained.path / checkpoint.WEIGHTS)),
        distillation=0.7,
        temperature=2.0,
        averaging=0.8,
    )
    return {
        "fused-taught": (taught, "fused"),
        "autograd-taught": (taught, "autograd"),
        "fused-adamw": (adamw, "fused"),
        "autograd-adamw": (adamw, "autograd"),
        "autograd-momentum": (momentum, "autograd"),
        "1998": (of_1998, "auto"),
    }


CASES = [
    pytest.param("fused-taught", marks=needs_kernels),
    "autograd-taught",
    pytest.param("fused-adamw", marks=needs_kernels),
    "autograd-adamw",
    "autograd-momentum",
    pytest.param("1998", marks=needs_kernels),
]


@pytest.fixture(scope="module")
def uninterrupted(
    recipes: dict[str, tuple[Recipe, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a run of this recipe from start to end."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            recipe, engine = recipes[name]
            place = tmp_path_factory.mktemp(name) / "run"
            folders[name] = training.train(recipe, out=place, engine=engine, threads=1).path
        return folders[name]

    return folder


def assert_same_run(folder: Path, expected: Path) -> None:
    """Weights and optimizer state bit for bit, metrics line for line but for the time."""
    for file in (checkpoint.WEIGHTS, checkpoint.STATE):
        found, wanted = load_file(folder / file), load_file(expected / file)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].tobytes() == array.tobytes(), (file, name)
    records, wanted = runs.read_metrics(folder), runs.read_metrics(expected)
    for record in (*records, *wanted):
        record.pop("seconds", None)
    assert records == wanted
    assert (folder / evaluation.REPORT).read_bytes() == (expected / evaluation.REPORT).read_bytes()


def interrupt_after(
    steps: int, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training fails when that many steps are done."""
    done = 0

    class Interrupting(epochs.Watch):
        def __call__(self, examples: int, loss: Any = None, right: Any = None) -> None:
            nonlocal done
            done += 1
            if done > steps:
                raise failure

    monkeypatch.setattr(training, "Watch", Interrupting)


# What a run leaves


def test_run_folder(trained: runs.Run, quick_recipe: Recipe) -> None:
    assert set(os.listdir(trained.path)) == {
        "recipe.json",
        "environment.json",
        "metrics.jsonl",
        "state.safetensors",
        "weights.safetensors",
        "report.json",
        "curves.png",
        "confusion.png",
        "rejection.png",
        "reliability.png",
        "mistakes.png",
    }
    for picture in trained.path.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert Recipe.from_file(trained.path / "recipe.json") == quick_recipe
    environment = json.loads((trained.path / "environment.json").read_text())
    assert environment["data"]["sha256"] == data.load(quick_recipe.data).checksums
    assert environment["torch"] == torch.__version__
    assert environment["settings"]["threads"] == 1
    report = json.loads((trained.path / "report.json").read_text())
    assert report == trained.report.as_dict()
    assert report["count"] == TEST
    assert report["error"] < 0.2


def test_weights_say_what_they_are(trained: runs.Run, quick_recipe: Recipe) -> None:
    found = checkpoint.read(trained.path)
    assert found.network == "LeNet"
    assert found.options == trained.model.options
    assert Recipe.from_dict(found.card["recipe"]) == quick_recipe
    assert found.card["classes"] == list("0123456789")
    assert found.card["preprocessing"] == "digit"
    assert found.card["measured_on"] == "test"
    assert found.card["error"] == trained.report.error
    assert found.card["data"]["sha256"] == data.load(quick_recipe.data).checksums
    for name, parameter in trained.model.named_parameters():
        np.testing.assert_array_equal(found.weights[name], parameter.detach().numpy())


def test_metrics(trained: runs.Run, quick_recipe: Recipe) -> None:
    steps = [record for record in trained.metrics if "step" in record]
    summaries = [record for record in trained.metrics if "epoch" in record]
    assert len(steps) + len(summaries) == len(trained.metrics)
    assert [record["epoch"] for record in summaries] == list(range(1, quick_recipe.epochs + 1))
    per_epoch = TRAIN // quick_recipe.batch_size
    assert [s["step"] for s in steps] == list(range(1, per_epoch * quick_recipe.epochs + 1))
    assert all(s["examples"] == quick_recipe.batch_size for s in steps)
    np.testing.assert_allclose(
        [s["position"] for s in steps], np.arange(1, len(steps) + 1) / per_epoch, atol=1e-6
    )
    for number, summary in enumerate(summaries):
        mine = steps[number * per_epoch : (number + 1) * per_epoch]
        assert summary["train_loss"] == pytest.approx(np.mean([s["loss"] for s in mine]))
        assert summary["train_accuracy"] == pytest.approx(np.mean([s["accuracy"] for s in mine]))
    last = summaries[-1]
    assert last["test_accuracy"] == trained.report.accuracy
    assert trained.words == (
        f"loss {last['train_loss']:.3f}, train acc {last['train_accuracy']:.3f}, "
        f"test acc {last['test_accuracy']:.3f}"
    )


def test_report_is_that_of_the_weights(trained: runs.Run, quick_recipe: Recipe) -> None:
    test = data.load(quick_recipe.data).test
    model = lenet.load(trained.path)
    with torch.no_grad():
        answers = model(model.prepare(test.images)).argmax(dim=1).numpy()
    assert trained.report.accuracy == (answers == test.labels).mean()


def test_validation_never_touches_the_test_split(
    quick_recipe: Recipe, digit_folder: Path, tmp_path: Path
) -> None:
    recipe = quick_recipe.changed(validation=100, epochs=2)
    folder = tmp_path / "data"
    folder.mkdir()
    for file in data.FILES:
        content = bytearray((digit_folder / file).read_bytes())
        if file == data.FILES[3]:  # other test labels: all of class 0
            content[8:] = bytes(len(content) - 8)
        (folder / file).write_bytes(content)
    runs_of = [
        training.train(recipe.changed(data=str(d)), out=tmp_path / name, threads=1)
        for name, d in (("a", digit_folder), ("b", folder))
    ]
    first, second = runs_of
    assert first.report == second.report
    assert first.report.count == 100
    for one, two in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two)
    summary = first.metrics[-1]
    assert "validation_accuracy" in summary
    assert "test_accuracy" not in summary
    assert "validation acc" in first.words
    assert sum(r["examples"] for r in first.metrics if r.get("position", 9) <= 1) == TRAIN - 100
    assert checkpoint.read(first.path).card["measured_on"] == "validation"


def test_default_folder(
    quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = quick_recipe.changed(epochs=1)
    first = training.train(recipe, threads=1)
    second = training.train(recipe, threads=1)
    assert first.path != second.path
    assert first.path.parent == second.path.parent == Path("runs")
    assert first.path.name.startswith("quick-")
    assert checkpoint.locate("latest").parent == second.path


# The same again


@pytest.mark.parametrize("name", CASES)
def test_same_seed_same_weights(
    name: str,
    recipes: dict[str, tuple[Recipe, str]],
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    recipe, engine = recipes[name]
    torch.manual_seed(99)  # the seed of the recipe alone counts
    run = training.train(recipe, out=tmp_path / "again", engine=engine, threads=1)
    assert_same_run(run.path, uninterrupted(name))
    recipe = recipe.changed(seed=recipe.seed + 1, epochs=1)
    other = training.train(recipe, out=tmp_path / "other", engine=engine, threads=1)
    assert other.metrics[0]["loss"] != run.metrics[0]["loss"]


@needs_kernels
def test_engines_agree(quick_recipe: Recipe, trained: runs.Run, tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        quick_recipe,
        epochs=1,
        batch_size=128,
        optimizer="sgd",
        lr=0.05,
        shift=1.0,
        rotation=5.0,
        elastic=0.5,
        paper=0.2,
        fade=0.5,
        noise=0.2,
        teachers=(str(trained.path),),
        distillation=0.7,
        temperature=2.0,
    )
    fused, autograd = (
        training.train(recipe, out=tmp_path / engine, engine=engine, threads=1)
        for engine in ("fused", "autograd")
    )
    for one, two in zip(fused.model.parameters(), autograd.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    for one, two in zip(fused.metrics, autograd.metrics, strict=True):
        for key in one.keys() - {"seconds", "accuracy", "train_accuracy", "test_accuracy"}:
            assert one[key] == pytest.approx(two[key], rel=1e-4)
    for run, engine in ((fused, "fused"), (autograd, "autograd")):
        environment = json.loads((run.path / "environment.json").read_text())
        assert environment["settings"]["engine"] == engine


class RecordingStep:
    """Trains nothing; keeps what it is asked to train on."""

    def __init__(self) -> None:
        self.index: list[np.ndarray] = []
        self.maps: list[Any] = []

    def __call__(
        self, index: np.ndarray, warps: Any = None, targets: Any = None
    ) -> tuple[float, int]:
        self.index.append(index)
        self.maps += warps.maps.tolist()
        return 1.0, 0

    def scores(self, model: Any, images: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is to be evaluated")


def recorded(recipe: Recipe, epoch: int, count: int = 250) -> RecordingStep:
    """What an epoch would train on."""
    step, split = RecordingStep(), data.load(recipe.data).train
    split = data.Split(split.images[:count], split.labels[:count])
    model = training.initial_network(recipe, 10)
    optimizer = training.make_optimizer(recipe, model)
    epochs.Minibatches(recipe, model, optimizer, step, "x", split).run(epoch)
    return step


def test_order_of_images(recipes: dict[str, tuple[Recipe, str]]) -> None:
    recipe = dataclasses.replace(recipes["fused-adamw"][0], batch_size=100)
    orders = []
    for epoch in (1, 2, 1):
        seen = recorded(recipe, epoch).index
        assert [len(batch) for batch in seen] == [100, 100, 50]
        orders.append(np.concatenate(seen))
        assert sorted(orders[-1]) == list(range(250))
    assert (orders[0] != orders[1]).any()
    assert (orders[0] == orders[2]).all()  # of the epoch and the seed alone


# Learning rates


def test_constant_learning_rate() -> None:
    assert [epochs.learning_rate(Recipe(lr=0.9), step, 10) for step in range(10)] == [0.9] * 10


def test_cosine_learning_rate() -> None:
    recipe = Recipe(lr=2.0, schedule="cosine")
    found = [epochs.learning_rate(recipe, step, 4) for step in range(5)]
    half = 2**0.5 / 2
    assert found == pytest.approx([2.0, 1 + half, 1.0, 1 - half, 0.0])


def test_warmup() -> None:
    recipe = Recipe(lr=1.0, warmup=0.4)
    found = [epochs.learning_rate(recipe, step, 10) for step in range(10)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 6])
    recipe = Recipe(lr=1.0, warmup=0.5, schedule="cosine")
    found = [epochs.learning_rate(recipe, step, 8) for step in range(9)]
    half = 2**0.5 / 4
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]
    assert found == pytest.approx(expected)


def test_learning_rates_of_1998() -> None:
    # Appendix C: 0.0005 for two passes, 0.0002 for three, 0.0001 for three, 0.00005 for four,
    # and 0.00001 from then on.
    expected = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    recipe = Recipe(lr=5e-4, schedule="1998", epochs=20)
    found = [5e-4 * epochs.stage(recipe, epoch) for epoch in range(1, 21)]
    assert found == pytest.approx(expected)
    found = [epochs.learning_rate(recipe, step, 60) for step in range(60)]
    assert found == pytest.approx(np.repeat(expected, 3))


def test_learning_rates_that_are_constant_within_an_epoch() -> None:
    half = 2**0.5 / 4
    cosine = Recipe(schedule="cosine", epochs=4)
    found = [epochs.stage(cosine, epoch) for epoch in range(1, 5)]
    assert found == pytest.approx([1.0, 0.5 + half, 0.5, 0.5 - half])
    assert [epochs.stage(Recipe(epochs=3), epoch) for epoch in (1, 2, 3)] == [1.0] * 3


def test_learning_rate_is_used_and_recorded(
    uninterrupted: Callable[[str], Path], recipes: dict[str, tuple[Recipe, str]]
) -> None:
    recipe, _ = recipes["autograd-adamw"]
    steps = [r for r in runs.read_metrics(uninterrupted("autograd-adamw")) if "step" in r]
    for number, record in enumerate(steps):
        assert record["lr"] == epochs.learning_rate(recipe, number, len(steps))


# Going on


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_resume_after_an_interruption(
    name: str,
    failure: type[BaseException],
    recipes: dict[str, tuple[Recipe, str]],
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe, engine = recipes[name]
    expected = uninterrupted(name)
    per_epoch = 100 if name == "1998" else 7
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:  # in the middle of the second epoch
        interrupt_after(per_epoch + 3, failure, patch)
        with pytest.raises(failure):
            training.train(recipe, out=folder, engine=engine, threads=1)
    advice = f"Epochs up to 1 of 4 are kept; go on with: lenet train --resume {folder}"
    assert (advice in capfd.readouterr().err) == (failure is KeyboardInterrupt)
    with monkeypatch.context() as patch:  # and right after the third
        interrupt_after(2 * per_epoch, failure, patch)
        with pytest.raises(failure):
            training.resume(folder)
    assert not (folder / checkpoint.WEIGHTS).exists()
    training.resume(folder)
    assert_same_run(folder, expected)
    training.resume(folder)  # of a finished run: nothing changes
    assert_same_run(folder, expected)


def test_resume_before_the_first_epoch(
    recipes: dict[str, tuple[Recipe, str]],
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, engine = recipes["autograd-adamw"]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_after(0, KeyboardInterrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(recipe, out=folder, engine=engine, threads=1)
    (folder / checkpoint.STATE).unlink()  # as if stopped while the folder was made
    training.resume(folder)
    assert_same_run(folder, uninterrupted("autograd-adamw"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [3000, 200_000])
def test_resume_after_a_full_disk(
    name: str,
    size: int,
    recipes: dict[str, tuple[Recipe, str]],
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, engine = recipes[name]
    folder = tmp_path / "run"
    save_epoch, fits = training.save_epoch, 2

    def filling(session: training.Session, epoch: int, *rest: Any) -> None:
        length = (folder / runs.METRICS).stat().st_size
        # There is room for a line or two of metrics, or for them but not for the state.
        limit = length + 300 if size < 100_000 else size
        if epoch <= fits:
            return save_epoch(session, epoch, *rest)
        with file_size_limit(limit):
            return save_epoch(session, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_epoch", filling)
        with pytest.raises(LenetError, match="cannot write"):
            training.train(recipe, out=folder, engine=engine, threads=1)
    state, _ = checkpoint.read_tensors(folder / checkpoint.STATE)
    assert json.loads(state["progress"])["epoch"] == fits
    training.resume(folder)
    assert_same_run(folder, uninterrupted(name))


CHILD = """
import json, sys
import lenet
from pathlib import Path
folder, recipe, engine = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
if (folder / "recipe.json").exists():
    lenet.resume(folder)
else:
    lenet.train(lenet.Recipe.from_dict(recipe), out=folder, engine=engine, threads=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [CASES[0], CASES[3], CASES[5]])
def test_resume_in_another_process_after_signals(
    name: str, recipes: dict[str, tuple[Recipe, str]], tmp_path: Path
) -> None:
    recipe, engine = recipes[name]
    recipe = recipe.changed(epochs=20 if name == "1998" else 50)
    folder = tmp_path / "run"
    line = [sys.executable, "-c", CHILD, str(folder), json.dumps(recipe.as_dict()), engine]
    for stop in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
        )
        assert process.stderr is not None
        for words in process.stderr:
            if words.startswith("epoch "):
                time.sleep(random.uniform(0, 0.1))  # anywhere in an epoch
                process.send_signal(stop)
                break
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -stop, errors
    done = subprocess.run(line, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = training.train(recipe, out=tmp_path / "expected", engine=engine, threads=1)
    assert_same_run(folder, expected.path)


def test_metrics_lost_or_longer(
    recipes: dict[str, tuple[Recipe, str]],
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, engine = recipes["autograd-adamw"]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_after(20, KeyboardInterrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(recipe, out=folder, engine=engine, threads=1)
    content = (folder / runs.METRICS).read_bytes()
    (folder / runs.METRICS).write_bytes(content[:-10])
    with pytest.raises(LenetError, match="shorter than when the run was stopped"):
        training.resume(folder)
    (folder / runs.METRICS).write_bytes(content + b'{"step": 15, "posit')
    training.resume(folder)
    assert_same_run(folder, uninterrupted("autograd-adamw"))


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("state.safetensors", b"", "not a whole safetensors file"),
        ("state.safetensors", b"\x80\x04nonsense" * 100, "not a whole safetensors file"),
        ("recipe.json", b"{", "cannot be read as a recipe"),
        ("recipe.json", b'{"epochs": "many"}', "epochs cannot be 'many'"),
        ("recipe.json", b"\xff", "cannot be read as a recipe"),
        ("environment.json", b"", "environment.json cannot be used"),
        ("environment.json", b"[]", "environment.json cannot be used"),
        ("environment.json", b'{"settings": {"speed": 1}}', "environment.json cannot be used"),
        ("recipe.json", None, "holds no run"),
        ("environment.json", None, "environment.json cannot be used"),
    ],
)
def test_damaged_run_folders_are_refused(
    file: str, content: bytes | None, words: str, trained: runs.Run, tmp_path: Path
) -> None:
    folder = copied(trained.path, tmp_path / "run")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(LenetError, match=words) as caught:
        training.resume(folder)
    assert str(folder) in str(caught.value) or "'many'" in words


def test_state_cut_short_is_refused(trained: runs.Run, tmp_path: Path) -> None:
    folder = copied(trained.path, tmp_path / "run")
    content = (folder / checkpoint.STATE).read_bytes()
    (folder / checkpoint.STATE).write_bytes(content[:-100])
    with pytest.raises(LenetError, match=r"state\.safetensors is not a whole"):
        training.resume(folder)


def test_state_of_another_network_is_refused(
    trained: runs.Run, quick_recipe: Recipe, tmp_path: Path
) -> None:
    folder = copied(trained.path, tmp_path / "run")
    other = quick_recipe.changed(hidden=(120, 80)).as_dict()
    (folder / "recipe.json").write_text(json.dumps(other))
    environment = json.loads((folder / "environment.json").read_text())
    environment["settings"]["engine"] = "auto"
    (folder / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(LenetError, match="not a training state of this recipe"):
        training.resume(folder)


def test_changed_data_are_noticed(quick_recipe: Recipe, digit_folder: Path, tmp_path: Path) -> None:
    mine = copied(digit_folder, tmp_path / "data")
    recipe = quick_recipe.changed(data=str(mine), epochs=1)
    training.train(recipe, out=tmp_path / "run", threads=1)
    content = bytearray((mine / data.FILES[0]).read_bytes())
    content[-1] ^= 255
    (mine / data.FILES[0]).write_bytes(content)
    with pytest.raises(LenetError, match=r"the data have changed since .*run was begun"):
        training.resume(tmp_path / "run")


# What is refused


def test_only_one_process_trains_into_a_folder(trained: runs.Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    holder = "import sys, pathlib; from lenet.training import runs\n"
    holder += "with runs.held(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", holder, str(tmp_path / "run")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(LenetError, match=r"another process is training into .*run"):
            training.resume(tmp_path / "run")
        other.stdin.close()
    assert training.resume(tmp_path / "run").report.error == trained.report.error


def test_a_folder_with_a_run_is_refused(trained: runs.Run, quick_recipe: Recipe) -> None:
    before = (trained.path / checkpoint.STATE).read_bytes()
    with pytest.raises(LenetError, match="already holds a run; go on with it by --resume"):
        training.train(quick_recipe, out=trained.path)
    assert (trained.path / checkpoint.STATE).read_bytes() == before


def test_failures_leave_no_folder(
    quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (quick_recipe.changed(data="nowhere"), {}, "no data set 'nowhere'"),
        ("lenet6", {}, "no recipe 'lenet6'"),
        (quick_recipe, {"device": "abacus"}, "no device 'abacus'"),
        (quick_recipe, {"device": "meta"}, "no device 'meta'"),
        (quick_recipe, {"engine": "steam"}, "engine must be one of"),
        (quick_recipe, {"threads": 0}, "threads must be at least 1"),
        (quick_recipe.changed(validation=TRAIN), {}, "cannot hold out"),
        (quick_recipe.changed(kernel_sizes=(40,)), {}, "does not fit"),
        (quick_recipe.changed(hidden=(10**12,)), {}, "cannot be built"),
        (quick_recipe.changed(channels=()), {"engine": "fused"}, "cannot serve"),
    ]
    for recipe, options, words in cases:
        with pytest.raises(LenetError, match=words):
            training.train(recipe, **options)
    assert os.listdir(tmp_path) == []


@needs_kernels
def test_the_optimizer_of_1998_has_one_engine(
    recipes: dict[str, tuple[Recipe, str]], tmp_path: Path
) -> None:
    with pytest.raises(LenetError, match="runs by the engine fused here, not by autograd"):
        training.train(recipes["1998"][0], out=tmp_path / "run", engine="autograd")


@pytest.mark.parametrize("engine", ["autograd", pytest.param("fused", marks=needs_kernels)])
def test_divergence(engine: str, quick_recipe: Recipe, tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        quick_recipe, lr=1e6, optimizer="sgd", batch_size=TRAIN, schedule="constant"
    )
    folder = tmp_path / "run"
    with pytest.raises(LenetError, match=r"(loss is|scores are not finite).*lower lr"):
        training.train(recipe, out=folder, engine=engine, threads=1)
    assert not (folder / checkpoint.WEIGHTS).exists()


@pytest.mark.parametrize("engine", ["autograd", pytest.param("fused", marks=needs_kernels)])
def test_printed_losses(
    engine: str, quick_recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = quick_recipe.changed(epochs=2, print_every=8)
    run = training.train(recipe, out=tmp_path / "run", engine=engine, threads=1)
    losses = np.array([record["loss"] for record in run.metrics if "step" in record])
    expected = [  # each epoch has 20 steps, and its last 4 fill no line
        f"[{epoch + 1}, {8 * part + 8:5d}] loss: {losses[start : start + 8].mean():.3f}"
        for epoch in range(2)
        for part in range(2)
        for start in [20 * epoch + 8 * part]
    ]
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("[")] == expected


def test_threads(quick_recipe: Recipe, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    recipe = quick_recipe.changed(epochs=1)
    training.train(recipe, out=tmp_path / "run", engine="autograd", threads=1)
    assert torch.get_num_threads() == before
    training.train(recipe, out=tmp_path / "other")
    environment = json.loads((tmp_path / "other" / "environment.json").read_text())
    assert environment["settings"]["threads"] == environment["cores"]  # else not the same again


# Teachers, copies and averages


def test_a_network_learns_from_its_teacher_alone(
    quick_recipe: Recipe, trained: runs.Run, digit_folder: Path, tmp_path: Path
) -> None:
    """With no weight on the labels, wrong ones do no harm."""
    folder = copied(digit_folder, tmp_path / "data")
    labels = bytearray((folder / data.FILES[1]).read_bytes())
    labels[8:] = bytes((label + 1) % 10 for label in labels[8:])
    (folder / data.FILES[1]).write_bytes(labels)
    recipe = dataclasses.replace(
        quick_recipe, data=str(folder), teachers=(str(trained.path),), distillation=1.0
    )
    run = training.train(recipe, out=tmp_path / "run", threads=1)
    assert run.report.error < trained.report.error + 0.05
    assert run.metrics[-1]["train_accuracy"] < 0.1


@pytest.mark.parametrize("distorted", [False, True])
def test_targets_are_the_mean_scores_of_the_teachers(
    distorted: bool, quick_recipe: Recipe, trained: runs.Run, tmp_path: Path
) -> None:
    other = training.train(quick_recipe.changed(epochs=1), out=tmp_path / "other", threads=1)
    teachers = distillation.Teachers(
        [str(trained.path), str(other.path)], trained.model.card["classes"], 3.0
    )
    images = data.load(quick_recipe.data).train.images[:50]
    if distorted:
        images = images[:, :, ::-1]
    with torch.no_grad():
        first, second = (m(m.prepare(images.copy())) for m in (trained.model, other.model))
    expected = ((first + second) / 2 / 3.0).softmax(dim=1).numpy()
    np.testing.assert_allclose(teachers.targets(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("copies", "different"), [(0, 4), (1, 1), (3, 3)])
def test_copies_of_the_training_set_come_in_turn(
    copies: int, different: int, recipes: dict[str, tuple[Recipe, str]]
) -> None:
    recipe = dataclasses.replace(recipes["fused-adamw"][0], copies=copies, epochs=4)
    seen = []  # by epoch, each image with its map
    for epoch in range(1, 5):
        step = recorded(recipe, epoch)
        order = np.concatenate(step.index).tolist()
        seen.append(sorted(zip(order, step.maps, strict=True)))
    assert sum(epoch not in seen[:i] for i, epoch in enumerate(seen)) == different
    assert (seen[0] == seen[3]) == (copies in (1, 3))


def test_averages_are_kept_and_measured(quick_recipe: Recipe, tmp_path: Path) -> None:
    recipe = quick_recipe.changed(epochs=3, averaging=0.95)
    plain, averaged = (
        training.train(recipe.changed(averaging=a), out=tmp_path / str(a), threads=1)
        for a in (0.0, 0.95)
    )
    # The same training, as the average does not touch it; recomputed step by step here.
    state = load_file(averaged.path / checkpoint.STATE)
    for name, parameter in plain.model.named_parameters():
        np.testing.assert_array_equal(state[f"model/{name}"], parameter.detach().numpy())
    model = training.initial_network(recipe, 10)
    optimizer = training.make_optimizer(recipe, model)
    split = data.load(recipe.data).train
    minibatches, _ = epochs.make_epochs(
        recipe.changed(averaging=0.0),
        *(torch.device("cpu"), "auto", 1, model, optimizer, split),
    )
    mean = {name: p.detach().double().clone() for name, p in model.named_parameters()}

    def record(*_: Any) -> None:
        for name, parameter in model.named_parameters():
            mean[name] = 0.95 * mean[name] + 0.05 * parameter.detach().double()

    for epoch in range(1, 4):
        minibatches.run(epoch, record)  # pyright: ignore[reportArgumentType]
    for name, parameter in averaged.model.named_parameters():
        torch.testing.assert_close(parameter.double(), mean[name], rtol=1e-4, atol=1e-6)
    answers = averaged.model(averaged.model.prepare(data.load(recipe.data).test.images))
    labels = data.load(recipe.data).test.labels
    assert averaged.report.accuracy == (answers.argmax(dim=1).numpy() == labels).mean()
    assert averaged.metrics[-1]["test_accuracy"] == averaged.report.accuracy


def test_teachers_may_be_relative(
    tmp_path: Path, quick_recipe: Recipe, trained: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path.parent)
    recipe = dataclasses.replace(
        quick_recipe, epochs=1, teachers=(trained.path.name,), distillation=0.5
    )
    training.train(recipe, out=tmp_path / "run", threads=1)
    monkeypatch.chdir(tmp_path)
    training.resume(tmp_path / "run")


def test_teachers_that_cannot_teach(
    quick_recipe: Recipe, trained: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taught = quick_recipe.changed(teachers=("nobody",), distillation=0.5)
    with pytest.raises(LenetError, match="no model 'nobody'"):
        training.train(taught)
    taught = dataclasses.replace(taught, data="fashion-mnist", teachers=(str(trained.path),))
    with pytest.raises(LenetError, match=r"the teacher .* tells apart 0, 1.*the data have T-shirt"):
        training.train(taught)
    assert os.listdir(tmp_path) == []


def test_own_data_folder_may_be_relative(
    tmp_path: Path, quick_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = quick_recipe.changed(epochs=1)
    training.train(recipe, out=tmp_path / "run", data_dir="here", threads=1)
    settings, _ = runs.read_environment(tmp_path / "run")
    assert settings.data_dir == str(tmp_path / "here")  # so that resuming works from everywhere


def test_tensorboard(quick_recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    recipe = quick_recipe.changed(epochs=1)
    training.train(recipe, out=tmp_path / "run", threads=1, tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
