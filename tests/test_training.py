"""Training: the run folder, the same weights again, and going on after every kind of stop."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEST, TRAIN, file_size_limit, interruptible, needs_kernels, write_idx
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

import lenet
from lenet import data
from lenet.engine.objective import Objective
from lenet.errors import LenetError
from lenet.evaluation.evaluate import REPORT
from lenet.networks import checkpoint
from lenet.training import autograd, train
from lenet.training.engines import Batch, Engine
from lenet.training.epochs import Minibatches, Watch
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES
from lenet.training.run import (
    ENVIRONMENT,
    METRICS,
    RECIPE,
    STATE,
    Run,
    Settings,
    read_environment,
    read_metrics,
)
from lenet.training.schedule import learning_rate
from lenet.training.teachers import Teachers

EPOCHS = 4
PATIENCE = 900  # seconds after which a process is taken to hang


@pytest.fixture(scope="module")
def recipes(digit_folder: Path, trained: Run) -> dict[str, tuple[Recipe, str]]:
    """Recipe and engine by name: each optimizer and engine, with and without distortions, taught
    and averaged."""
    plain = Recipe(name="x", data=str(digit_folder), epochs=EPOCHS, batch_size=100, seed=3)
    adamw = plain.changed(
        optimizer="adamw",
        lr=3e-3,
        schedule="cosine",
        warmup=0.3,
        activation="gelu",
        pooling="max",
        shift=1.0,
        rotation=10.0,
    )
    momentum = plain.changed(momentum=0.9, lr=0.01, activation="silu")
    of_1998 = RECIPES["lenet5-1998"].changed(
        data=str(digit_folder), epochs=EPOCHS, shift=1.0, squeeze=0.1
    )
    taught = adamw.changed(
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
            folders[name] = lenet.train(recipe, out=place, engine=engine, threads=1).path
        return folders[name]

    return folder


def assert_same_run(folder: Path, expected: Path) -> None:
    """Weights and optimizer state bit for bit, metrics line for line but for the time."""
    for file in (checkpoint.WEIGHTS, STATE):
        found, wanted = load_file(folder / file), load_file(expected / file)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].tobytes() == array.tobytes(), (file, name)
    records, wanted = read_metrics(folder), read_metrics(expected)
    for record in (*records, *wanted):
        record.pop("seconds", None)
    assert records == wanted
    assert (folder / REPORT).read_bytes() == (expected / REPORT).read_bytes()


def interrupt_after(
    steps: int, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training fails when that many steps are done."""
    done = 0

    class Interrupting(Watch):
        def __call__(self, examples: int, loss: Any, right: Any) -> None:
            nonlocal done
            done += 1
            if done > steps:
                raise failure

    monkeypatch.setattr(train, "Watch", Interrupting)


# What a run leaves


def test_run_folder(trained: Run, quick_recipe: Recipe) -> None:
    assert set(os.listdir(trained.path)) == {
        "recipe.json",
        "environment.json",
        "metrics.jsonl",
        "state.safetensors",
        "weights.safetensors",
        "report.json",
    }
    assert Recipe.from_file(trained.path / RECIPE) == trained.recipe == quick_recipe
    environment = json.loads((trained.path / ENVIRONMENT).read_text())
    assert environment["data"]["sha256"] == data.load(quick_recipe.data).checksums
    assert environment["settings"]["threads"] == 1
    report = json.loads((trained.path / REPORT).read_text())
    assert report == trained.report.as_dict()
    assert report["count"] == TEST
    assert report["error"] < 0.2


def test_weights_say_what_they_are(trained: Run, quick_recipe: Recipe) -> None:
    network = checkpoint.read(trained.path)
    assert network.architecture == quick_recipe.architecture()
    card = network.card
    assert Recipe.from_dict(card["recipe"]) == quick_recipe
    assert card["classes"] == list("0123456789")
    assert card["preprocessing"] == "digit"
    assert card["measured_on"] == "test"
    assert card["error"] == trained.report.error
    assert card["data"]["sha256"] == data.load(quick_recipe.data).checksums
    assert card == trained.network.card == trained.model.card
    for name, parameter in trained.model.named_parameters():
        np.testing.assert_array_equal(network.weights[name], parameter.detach().numpy())
        np.testing.assert_array_equal(network.weights[name], trained.network.weights[name])


def test_metrics(trained: Run, quick_recipe: Recipe) -> None:
    how = quick_recipe.optimisation
    steps = [record for record in trained.metrics if "step" in record]
    summaries = [record for record in trained.metrics if "epoch" in record]
    assert len(steps) + len(summaries) == len(trained.metrics)
    assert [record["epoch"] for record in summaries] == list(range(1, how.epochs + 1))
    per_epoch = TRAIN // how.batch_size
    assert [s["step"] for s in steps] == list(range(1, per_epoch * how.epochs + 1))
    assert all(s["examples"] == how.batch_size for s in steps)
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


def test_report_is_that_of_the_weights(trained: Run, quick_recipe: Recipe) -> None:
    test = data.load(quick_recipe.data).test
    model = lenet.load(trained.path)
    with torch.no_grad():
        answers = model(model.prepare(test.images)).argmax(dim=1).numpy()
    assert trained.report.accuracy == (answers == test.labels).mean()


def test_validation_never_touches_the_test_split(
    quick_recipe: Recipe, digit_folder: Path, tmp_path: Path
) -> None:
    recipe = quick_recipe.changed(validation=100, epochs=2)
    folder = shutil.copytree(digit_folder, tmp_path / "data")
    write_idx(folder / data.FILES[3], np.zeros(TEST, np.uint8))  # other test labels
    first, second = (
        lenet.train(recipe, data=str(d), out=tmp_path / name, threads=1)
        for name, d in (("a", digit_folder), ("b", folder))
    )
    assert first.report == second.report
    assert first.report.count == 100
    for name, array in first.network.weights.items():
        np.testing.assert_array_equal(second.network.weights[name], array)
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
    first, second = (lenet.train(quick_recipe, epochs=1, threads=1) for _ in range(2))
    assert first.path != second.path
    assert first.path.parent == second.path.parent == Path("runs")
    assert first.path.name.startswith("quick-")
    assert checkpoint.locate("latest").parent == second.path
    assert first.recipe == quick_recipe.changed(epochs=1)


def test_a_network_at_chance_is_said_to_be_so(
    quick_recipe: Recipe, trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    advice = {
        "sigmoid": "sigmoid units learn slowly at first: try a higher lr than 1e-09, more epochs",
        "tanh": "try a lower lr than 1e-09",
    }
    for activation, words in advice.items():
        changes: dict[str, Any] = dict(activation=activation, lr=1e-9, epochs=1, threads=1)
        lenet.train(quick_recipe, out=tmp_path / activation, **changes)
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith("lenet: the network answers no better than chance (")
        assert words in said
    lenet.resume(shutil.copytree(trained.path, tmp_path / "good"))
    assert "better than chance" not in capfd.readouterr().err


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
    run = lenet.train(recipe, out=tmp_path / "again", engine=engine, threads=1)
    assert_same_run(run.path, uninterrupted(name))
    recipe = recipe.changed(seed=recipe.seed + 1, epochs=1)
    other = lenet.train(recipe, out=tmp_path / "other", engine=engine, threads=1)
    assert other.metrics[0]["loss"] != run.metrics[0]["loss"]


def test_both_engines_start_from_the_seeds_weights(quick_recipe: Recipe) -> None:
    dataset = data.load(quick_recipe.data)
    for seed in (0, 7):
        recipe = quick_recipe.changed(seed=seed)
        expected = recipe.architecture().initial_weights(seed)
        flat = np.concatenate([array.ravel() for array in expected.values()])
        for engine in ("fused", "autograd"):
            torch.manual_seed(99)
            training, _ = train.assemble(recipe, dataset, settings_for(engine))
            assert training.engine == engine
            np.testing.assert_array_equal(training.state()["weights"], flat)


def settings_for(engine: str) -> Settings:
    return Settings("cpu", engine, 1, None, False, ".")


@needs_kernels
def test_engines_agree(quick_recipe: Recipe, trained: Run, tmp_path: Path) -> None:
    recipe = quick_recipe.changed(
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
        lenet.train(recipe, out=tmp_path / engine, engine=engine, threads=1)
        for engine in ("fused", "autograd")
    )
    for name, array in fused.network.weights.items():
        np.testing.assert_allclose(autograd.network.weights[name], array, rtol=1e-4, atol=1e-5)
    for one, two in zip(fused.metrics, autograd.metrics, strict=True):
        for key in one.keys() - {"seconds", "accuracy", "train_accuracy", "test_accuracy"}:
            assert one[key] == pytest.approx(two[key], rel=1e-4)
    for finished, engine in ((fused, "fused"), (autograd, "autograd")):
        settings, _ = read_environment(finished.path)
        assert settings.engine == engine


class Recorder(Engine):
    """An engine that trains nothing; keeps what it is asked to train on."""

    name = "recorder"

    def __init__(self, recipe: Recipe) -> None:
        self.architecture = recipe.architecture()
        self.index: list[NDArray[np.int64]] = []
        self.maps: list[Any] = []

    def step(self, batch: Batch) -> tuple[float, int]:
        assert batch.warps
        self.index.append(batch.index)
        self.maps += batch.warps.maps.tolist()
        return 1.0, 0


def recorded(recipe: Recipe, epoch: int, count: int = 250) -> Recorder:
    """What an epoch would train on."""
    recorder, split = Recorder(recipe), data.load(recipe.data).train[:count]
    Minibatches(recipe, recorder, split, None).run(epoch)
    return recorder


def test_order_of_images(recipes: dict[str, tuple[Recipe, str]]) -> None:
    orders = []
    for epoch in (1, 2, 1):
        seen = recorded(recipes["fused-adamw"][0], epoch).index
        assert [len(batch) for batch in seen] == [100, 100, 50]
        orders.append(np.concatenate(seen))
        assert sorted(orders[-1]) == list(range(250))
    assert (orders[0] != orders[1]).any()
    assert (orders[0] == orders[2]).all()  # of the epoch and the seed alone


# Learning rates


def rates(steps: range, of: int, **values: Any) -> list[float]:
    """Learning rates at these of so many steps."""
    return [learning_rate(Recipe(**values).optimisation, step, of) for step in steps]


def test_constant_learning_rate() -> None:
    assert rates(range(10), 10, lr=0.9) == [0.9] * 10


def test_falling_learning_rates() -> None:
    half = 2**0.5 / 2
    cosine = rates(range(5), 4, lr=2.0, schedule="cosine")
    assert cosine == pytest.approx([2.0, 1 + half, 1.0, 1 - half, 0.0])
    linear = rates(range(5), 4, lr=2.0, schedule="linear")
    assert linear == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])


def test_warmup() -> None:
    expected = [0.2, 0.4, 0.6, 0.8, *[1.0] * 6]
    assert rates(range(10), 10, lr=1.0, warmup=0.4) == pytest.approx(expected)
    half = 2**0.5 / 4
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]
    found = rates(range(9), 8, lr=1.0, warmup=0.5, schedule="cosine")
    assert found == pytest.approx(expected)


def test_learning_rates_of_1998() -> None:
    # Appendix C: 0.0005 for two passes, 0.0002 for three, 0.0001 for three, 0.00005 for four,
    # and 0.00001 from then on.
    expected = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    found = rates(range(60), 60, lr=5e-4, schedule="1998", epochs=20)
    assert found == pytest.approx(np.repeat(expected, 3))


def test_learning_rate_is_used_and_recorded(
    uninterrupted: Callable[[str], Path], recipes: dict[str, tuple[Recipe, str]]
) -> None:
    how = recipes["autograd-adamw"][0].optimisation
    steps = [r for r in read_metrics(uninterrupted("autograd-adamw")) if "step" in r]
    for number, record in enumerate(steps):
        assert record["lr"] == learning_rate(how, number, len(steps))


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
            lenet.train(recipe, out=folder, engine=engine, threads=1)
    advice = f"Epochs up to 1 of 4 are kept; resume with: lenet train --resume {folder}"
    assert (advice in capfd.readouterr().err) == (failure is KeyboardInterrupt)
    with monkeypatch.context() as patch:  # and right after the third
        interrupt_after(2 * per_epoch, failure, patch)
        with pytest.raises(failure):
            lenet.resume(folder)
    assert not (folder / checkpoint.WEIGHTS).exists()
    lenet.resume(folder)
    assert_same_run(folder, expected)
    lenet.resume(folder)  # of a finished run: nothing changes
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
            lenet.train(recipe, out=folder, engine=engine, threads=1)
    (folder / STATE).unlink()  # as if killed while the folder was made
    (folder / ".partial-state-x.safetensors").write_bytes(b"half")
    lenet.resume(folder)
    assert not list(folder.glob(".*"))
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
    save_epoch, fits = train.save_epoch, 2

    def filling(session: train.Session, epoch: int, *rest: Any) -> None:
        length = (folder / METRICS).stat().st_size
        # There is room for a line or two of metrics, or for them but not for the state.
        limit = length + 300 if size < 100_000 else size
        if epoch <= fits:
            return save_epoch(session, epoch, *rest)
        with file_size_limit(limit):
            return save_epoch(session, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_epoch", filling)
        with pytest.raises(LenetError, match="cannot write"):
            lenet.train(recipe, out=folder, engine=engine, threads=1)
    state, _ = checkpoint.read_tensors(folder / STATE)
    assert json.loads(state["progress"])["epoch"] == fits
    lenet.resume(folder)
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
@pytest.mark.parametrize("name", [CASES[0], CASES[5]])
def test_resume_in_another_process_after_signals(
    name: str, recipes: dict[str, tuple[Recipe, str]], tmp_path: Path
) -> None:
    recipe, engine = recipes[name]
    recipe = recipe.changed(epochs=20)
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
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == -stop, errors
    done = subprocess.run(line, capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    expected = lenet.train(recipe, out=tmp_path / "expected", engine=engine, threads=1)
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
            lenet.train(recipe, out=folder, engine=engine, threads=1)
    (folder / METRICS).write_bytes((folder / METRICS).read_bytes() + b'{"step": 15, "posit')
    lenet.resume(folder)
    assert_same_run(folder, uninterrupted("autograd-adamw"))


@pytest.mark.parametrize("damage", ["cut", "last byte", "folder", "pipe", "link", "gone"])
def test_damaged_metrics_do_not_cost_the_weights(
    damage: str, trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    (folder / checkpoint.WEIGHTS).unlink()
    content = (folder / METRICS).read_bytes()
    (folder / METRICS).unlink()
    match damage:
        case "cut":
            (folder / METRICS).write_bytes(content[:-10])
        case "last byte":
            (folder / METRICS).write_bytes(content[:-1] + b"x")
        case "folder":
            (folder / METRICS).mkdir()
        case "pipe":
            os.mkfifo(folder / METRICS)
        case "link":
            (folder / METRICS).symlink_to(tmp_path / "nowhere")
    run = lenet.resume(folder)
    for name, array in trained.network.weights.items():
        np.testing.assert_array_equal(run.network.weights[name], array)
    assert "metrics.jsonl is not what the run wrote" in capfd.readouterr().err
    assert os.path.lexists(folder / "metrics-damaged.jsonl") == (damage != "gone")
    assert read_metrics(folder) == []


def test_damaged_lines_of_metrics_are_named(trained: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    lines = (folder / METRICS).read_bytes().splitlines(keepends=True)
    for wrong in (b"\xff\n", b"{\n", b"[1]\n", b'{"epoch": "\\u001b[2J"}\n', b"[" * 9999 + b"\n"):
        (folder / METRICS).write_bytes(b"".join([lines[0], wrong, *lines[2:]]))
        with pytest.raises(LenetError, match=r"metrics\.jsonl, line 2") as caught:
            read_metrics(folder)
        assert "\x1b" not in str(caught.value)


def test_a_run_begun_meanwhile_is_not_taken_for_ones_own(
    trained: Run, quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = data.load

    def slow(*arguments: Any) -> data.Dataset:  # meanwhile, another process trains into the folder
        shutil.copytree(trained.path, tmp_path / "run")
        return load(*arguments)

    monkeypatch.setattr(data, "load", slow)
    with pytest.raises(LenetError, match="already holds a run"):
        lenet.train(quick_recipe, seed=5, out=tmp_path / "run", threads=1)


@pytest.mark.parametrize("file", [ENVIRONMENT, RECIPE, STATE])
def test_pipes_in_run_folders_are_not_waited_for(file: str, trained: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(LenetError, match=r"is not a regular file|holds no run"):
        lenet.resume(folder)


def environment_with(name: str, value: Any) -> str:
    settings = {"device": "cpu", "engine": "fused", "threads": 1, "data_dir": None}
    settings |= {"tensorboard": False, "working_dir": "/", name: value}
    return json.dumps({"settings": settings, "data": {"sha256": {}}})


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("state.safetensors", "", "not a complete safetensors file"),
        ("state.safetensors", "x" * 1000, "not a complete safetensors file"),
        ("recipe.json", "{", "recipe.json cannot be read"),
        ("recipe.json", '{"epochs": "many"}', "epochs cannot be 'many'"),
        ("recipe.json", "\xff", "recipe.json cannot be read"),
        ("environment.json", "", "environment.json cannot be read"),
        ("environment.json", "[]", "environment.json has no settings"),
        ("environment.json", '{"settings": {"speed": 1}}', "environment.json has no settings"),
        ("environment.json", environment_with("threads", 0), "threads cannot be 0"),
        ("environment.json", environment_with("threads", True), "threads cannot be True"),
        ("environment.json", environment_with("threads", 10**6), "threads cannot be 1000000"),
        ("environment.json", environment_with("processes", -1), "processes cannot be -1"),
        ("environment.json", environment_with("device", 7), "device cannot be 7"),
        ("recipe.json", None, "holds no run"),
        ("environment.json", None, "environment.json cannot be read"),
        ("state.safetensors", None, "state.safetensors is missing"),
    ],
)
def test_damaged_run_folders_are_refused(
    file: str, content: str | None, words: str, trained: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(LenetError, match=words) as caught:
        lenet.resume(folder)
    assert str(folder) in str(caught.value)


def test_state_cut_short_is_refused(trained: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    content = (folder / STATE).read_bytes()
    (folder / STATE).write_bytes(content[:-100])
    with pytest.raises(LenetError, match=r"state\.safetensors is not a complete"):
        lenet.resume(folder)


LAST = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.5}
PROGRESS = {"epoch": 1, "seconds": 1.0, "examples": 640, "metrics_bytes": 99, "last": LAST}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda meta, _: meta.pop("recipe"), "was not written by this version"),
        (lambda meta, _: meta.update(recipe="["), "is not a training state"),
        (lambda meta, _: meta.update(recipe="[]"), "is not a training state"),
        (lambda meta, _: meta.pop("progress"), "is not a training state"),
        (lambda meta, _: meta.update(progress="[]"), "is not a training state"),
        (lambda meta, _: meta.update(progress='{"epoch": 1}'), "has no examples, last, metrics"),
        *(
            (
                lambda meta, _, wrong=wrong: meta.update(progress=json.dumps(PROGRESS | wrong)),
                f"is not a training state: {name} cannot be",
            )
            for name, wrong in (
                ("epoch", {"epoch": -1}),
                ("epoch", {"epoch": 13}),
                ("epoch", {"epoch": "1"}),
                ("last", {"epoch": 0}),  # then no epoch was the last
                ("last", {"last": None}),
                ("seconds", {"seconds": -1.0}),
                ("examples", {"examples": -1}),
                ("metrics_bytes", {"metrics_bytes": -1}),
                ("metrics_bytes", {"metrics_bytes": 0}),
                ("last.train_loss", {"last": {"epoch": 1, "train_loss": "low"}}),
                ("last", {"last": {"epoch": 1}}),
            )
        ),
        (lambda _, arrays: arrays.pop("weights"), "weights has shape None"),
        (lambda _, arrays: arrays.update(average=arrays["weights"]), "average has shape"),
        (lambda _, arrays: arrays.update(moments=arrays["moments"][:1]), "moments has shape"),
        (lambda _, arrays: arrays.update(weights=arrays["weights"][:-1]), "weights has shape"),
        (lambda _, arrays: arrays.update(weights=arrays["weights"] * np.nan), "not finite"),
        (lambda _, arrays: arrays.update(weights=arrays["weights"].astype(float)), "float64"),
    ],
)
def test_states_of_something_else_are_refused(
    change: Callable[..., Any], words: str, trained: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    metadata, arrays = checkpoint.read_tensors(folder / STATE)
    change(metadata, arrays)
    save_file(arrays, folder / STATE, metadata)
    with pytest.raises(LenetError, match=words) as caught:
        lenet.resume(folder)
    assert str(folder / STATE) in str(caught.value)


@pytest.mark.parametrize("changes", [{"hidden": (120, 80)}, {"epochs": 20, "seed": 1}])
def test_a_recipe_that_changed_is_refused(
    changes: dict[str, Any], trained: Run, quick_recipe: Recipe, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained.path, tmp_path / "run")
    (folder / RECIPE).write_text(json.dumps(quick_recipe.changed(**changes).as_dict()))
    words = f"{', '.join(sorted(changes))} in .*recipe.json changed since the run was begun"
    with pytest.raises(LenetError, match=words):
        lenet.resume(folder)


def test_changed_data_are_noticed(quick_recipe: Recipe, digit_folder: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(digit_folder, tmp_path / "data")
    lenet.train(quick_recipe, data=str(mine), epochs=1, out=tmp_path / "run", threads=1)
    content = bytearray((mine / data.FILES[0]).read_bytes())
    content[-1] ^= 255
    (mine / data.FILES[0]).write_bytes(content)
    with pytest.raises(LenetError, match=r"the data have changed since .*run was begun"):
        lenet.resume(tmp_path / "run")


# What is refused


def test_only_one_process_trains_into_a_folder(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    holder = "import sys, pathlib; from lenet.training.run import held\n"
    holder += "with held(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", holder, str(tmp_path / "run")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(LenetError, match=r"another process is training into .*run"):
            lenet.resume(tmp_path / "run")
        other.stdin.close()
    assert lenet.resume(tmp_path / "run").report.error == trained.report.error


def test_a_folder_with_a_run_is_refused(trained: Run, quick_recipe: Recipe) -> None:
    before = (trained.path / STATE).read_bytes()
    with pytest.raises(LenetError, match="already holds a run; resume it with --resume"):
        lenet.train(quick_recipe, out=trained.path)
    assert (trained.path / STATE).read_bytes() == before


def test_failures_leave_no_folder(
    quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)  # as if it were not installed
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (quick_recipe, {"data": "nowhere"}, "no data set 'nowhere'"),
        (quick_recipe, {"epoch": 3}, "a recipe has no epoch; did you mean epochs?"),
        ("lenet6", {}, "no recipe 'lenet6'"),
        (quick_recipe, {"device": "abacus"}, "no device 'abacus'"),
        (quick_recipe, {"device": "meta"}, "no device 'meta'"),
        (quick_recipe, {"engine": "steam"}, "engine must be one of"),
        (quick_recipe, {"threads": 0}, "threads cannot be 0"),
        (quick_recipe, {"validation": TRAIN}, "cannot hold out"),
        (quick_recipe, {"kernel_sizes": (40,)}, "does not fit"),
        (quick_recipe, {"hidden": (10**12,)}, "hidden must be from 1 to"),
        (quick_recipe, {"hidden": (10**6,) * 2}, "parameters"),
        (quick_recipe, {"channels": (), "engine": "fused"}, "cannot serve"),
        (quick_recipe, {"tensorboard": True}, r"pip install 'lenet\[tensorboard\]'"),
    ]
    for recipe, options, words in cases:
        with pytest.raises(LenetError, match=words):
            lenet.train(recipe, **options)
    assert os.listdir(tmp_path) == []


@needs_kernels
def test_the_optimizer_of_1998_has_one_engine(
    recipes: dict[str, tuple[Recipe, str]], tmp_path: Path
) -> None:
    with pytest.raises(LenetError, match="runs by the engine fused here, not by autograd"):
        lenet.train(recipes["1998"][0], out=tmp_path / "run", engine="autograd")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("engine", ["autograd", pytest.param("fused", marks=needs_kernels)])
def test_divergence(engine: str, quick_recipe: Recipe, tmp_path: Path) -> None:
    wild = dict(lr=1e6, optimizer="sgd", batch_size=TRAIN, schedule="constant")
    folder = tmp_path / "run"
    with pytest.raises(LenetError, match=r"(loss is|scores are not finite).*lower lr"):
        lenet.train(quick_recipe.changed(**wild), out=folder, engine=engine, threads=1)
    assert not (folder / checkpoint.WEIGHTS).exists()


@pytest.mark.parametrize("engine", ["autograd", pytest.param("fused", marks=needs_kernels)])
def test_printed_losses(
    engine: str, quick_recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = quick_recipe.changed(epochs=2, print_every=8)
    run = lenet.train(recipe, out=tmp_path / "run", engine=engine, threads=1)
    losses = np.array([record["loss"] for record in run.metrics if "step" in record])
    expected = [  # each epoch has 20 steps, and its last 4 fill no line
        f"[{epoch + 1}, {8 * part + 8:5d}] loss: {losses[start : start + 8].mean():.3f}"
        for epoch in range(2)
        for part in range(2)
        for start in [20 * epoch + 8 * part]
    ]
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("[")] == expected


def test_threads(quick_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = set()
    loss_of = autograd.loss_of

    def loss_and_threads(*arguments: Any) -> torch.Tensor:
        used.add(torch.get_num_threads())
        return loss_of(*arguments)

    monkeypatch.setattr(autograd, "loss_of", loss_and_threads)
    before = torch.get_num_threads()
    options: dict[str, Any] = dict(epochs=1, engine="autograd", threads=before + 1)
    lenet.train(quick_recipe, out=tmp_path / "run", **options)
    assert used == {before + 1}
    assert torch.get_num_threads() == before
    lenet.train(quick_recipe, epochs=1, out=tmp_path / "other")
    environment = json.loads((tmp_path / "other" / ENVIRONMENT).read_text())
    assert environment["settings"]["threads"] == environment["cores"]  # else not the same again


# Teachers, copies and averages


def test_a_network_learns_from_its_teacher_alone(
    quick_recipe: Recipe, trained: Run, digit_folder: Path, tmp_path: Path
) -> None:
    """With no weight on the labels, wrong ones do no harm."""
    folder = shutil.copytree(digit_folder, tmp_path / "data")
    labels = data.load(quick_recipe.data).train.labels
    write_idx(folder / data.FILES[1], ((labels + 1) % 10).astype(np.uint8))
    taught = dict(data=str(folder), teachers=(str(trained.path),), distillation=1.0)
    run = lenet.train(quick_recipe.changed(**taught), out=tmp_path / "run", threads=1)
    assert run.report.error < trained.report.error + 0.05
    assert run.metrics[-1]["train_accuracy"] < 0.1


def test_targets_are_the_mean_scores_of_the_teachers(
    quick_recipe: Recipe, trained: Run, tmp_path: Path
) -> None:
    other = lenet.train(quick_recipe, epochs=1, out=tmp_path / "other", threads=1)
    names = [str(trained.path), "other"]
    objective = Objective(teachers=tuple(names), distillation=0.5, temperature=3.0)
    teachers = Teachers(objective, trained.network.classes, None, tmp_path)
    images = data.load(quick_recipe.data).train.images[:50]
    with torch.no_grad():
        first, second = (m(m.prepare(images)).numpy() for m in (trained.model, other.model))
    expected = softmax((first + second) / 2 / 3.0, axis=1)
    np.testing.assert_allclose(teachers.targets(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("copies", "different"), [(0, 4), (1, 1), (3, 3)])
def test_copies_of_the_training_set_come_in_turn(
    copies: int, different: int, recipes: dict[str, tuple[Recipe, str]]
) -> None:
    recipe = recipes["fused-adamw"][0].changed(copies=copies, epochs=4)
    seen = []  # by epoch, each image with its map
    for epoch in range(1, 5):
        step = recorded(recipe, epoch)
        order = np.concatenate(step.index).tolist()
        seen.append(sorted(zip(order, step.maps, strict=True)))
    assert sum(epoch not in seen[:i] for i, epoch in enumerate(seen)) == different
    assert (seen[0] == seen[3]) == (copies in (1, 3))


def test_averages_are_kept_and_measured(quick_recipe: Recipe, tmp_path: Path) -> None:
    recipe = quick_recipe.changed(epochs=3)
    averaged = lenet.train(recipe, averaging=0.95, out=tmp_path / "run", threads=1)
    # The same training, as the average does not touch it; recomputed step by step here.
    dataset = data.load(recipe.data)
    plain, _ = train.assemble(recipe, dataset, settings_for("auto"))
    mean = plain.state()["weights"].astype(float)

    def record(*_: Any) -> None:
        nonlocal mean
        mean = 0.95 * mean + 0.05 * plain.state()["weights"]

    for epoch in range(1, 4):
        plain.run(epoch, record)  # pyright: ignore[reportArgumentType]
    state = load_file(averaged.path / STATE)
    np.testing.assert_array_equal(state["weights"], plain.state()["weights"])
    np.testing.assert_allclose(state["average"], mean, rtol=1e-4, atol=1e-6)
    kept = np.concatenate([array.ravel() for array in averaged.network.weights.values()])
    np.testing.assert_array_equal(kept, state["average"])
    answers = averaged.model(averaged.model.prepare(dataset.test.images)).argmax(dim=1).numpy()
    assert averaged.report.accuracy == (answers == dataset.test.labels).mean()
    assert averaged.metrics[-1]["test_accuracy"] == averaged.report.accuracy


def test_teachers_may_be_relative(
    tmp_path: Path, quick_recipe: Recipe, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.path.parent)
    taught = dict(epochs=1, teachers=(trained.path.name,), distillation=0.5)
    lenet.train(quick_recipe.changed(**taught), out=tmp_path / "run", threads=1)
    monkeypatch.chdir(tmp_path)
    lenet.resume(tmp_path / "run")


def test_teachers_that_cannot_teach(
    quick_recipe: Recipe, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taught = quick_recipe.changed(teachers=("nobody",), distillation=0.5)
    with pytest.raises(LenetError, match="no model 'nobody'"):
        lenet.train(taught)
    taught = taught.changed(data="fashion-mnist", teachers=(str(trained.path),))
    with pytest.raises(
        LenetError, match=r"the teacher .* has the classes 0, 1.*the data have T-shirt"
    ):
        lenet.train(taught)
    assert os.listdir(tmp_path) == []


def test_folders_may_be_relative(
    tmp_path: Path, quick_recipe: Recipe, digit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And resuming works from everywhere."""
    monkeypatch.chdir(digit_folder.parent)
    changes: dict[str, Any] = dict(data=digit_folder.name, data_dir="here", epochs=1, threads=1)
    run = lenet.train(quick_recipe, out=tmp_path / "run", **changes)
    assert run.recipe.data == str(digit_folder)
    settings, _ = read_environment(tmp_path / "run")
    assert settings.data_dir == str(digit_folder.parent / "here")


def test_tensorboard(quick_recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    lenet.train(quick_recipe, epochs=1, out=tmp_path / "run", threads=1, tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
