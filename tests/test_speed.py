"""Speed beside others: what is counted, that all compute the same, and that failures are told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import lenet
from benchmarks.speed import __main__ as speed
from benchmarks.speed.contenders import CONTENDERS, Articles, channels_last
from benchmarks.speed.worker import D2L, Task, Worker, check
from lenet import data
from lenet.data import Split
from lenet.errors import LenetError


@pytest.fixture(scope="module")
def task(digit_folder: Path) -> Task:
    return Task(str(digit_folder), 64, 16, 1)


@pytest.fixture(scope="module")
def split(task: Task) -> Split:
    return data.load(task.data).train[: task.images]


def test_multiply_adds_of_a_step() -> None:
    forward = 117_600 + 240_000 + 48_000 + 10_080 + 840
    backward = forward - 117_600  # nobody needs the gradient of the image
    assert speed.training_work(D2L) == 2 * forward + backward == 1_131_960


def test_channels_last(task: Task, split: Split) -> None:
    """The rearranged weights, used with channels-last arithmetic, give the same scores."""
    c1, c1_bias, c3, c3_bias, *dense = channels_last()
    x = torch.from_numpy(split.images[:2, :, :, None] / 255.0)
    for kernel, bias, pad in ((c1, c1_bias, 2), (c3, c3_bias, 0)):
        x = torch.nn.functional.pad(x, (0, 0, pad, pad, pad, pad))
        patches = x.unfold(1, 5, 1).unfold(2, 5, 1)  # (N, H, W, C, 5, 5)
        x = torch.einsum("nhwcij,ijco->nhwo", patches, torch.from_numpy(kernel).double())
        x = torch.sigmoid(x + torch.from_numpy(bias))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean(dim=(2, 4))
    x = x.flatten(1)
    for i in (0, 2, 4):
        x = x @ torch.from_numpy(dense[i].copy()).double() + torch.from_numpy(dense[i + 1])
        x = torch.sigmoid(x) if i < 4 else x
    articles = Articles(task, split)
    expected = articles.scores(articles.prepare(split.images[:2]))
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["the articles' loop", "PyTorch eager", "ONNX Runtime", "lenet"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_contenders(task: Task, split: Split, name: str) -> None:
    """They have the scores of NumPy's network, which training changes."""
    contender = CONTENDERS[name](task, split)
    check(contender, split)
    if name != "ONNX Runtime":
        assert contender.epoch() == 64
    if name in ("the articles' loop", "PyTorch eager"):
        with pytest.raises(LenetError, match="other scores"):
            check(contender, split)


def test_worker_tells_its_errors(task: Task) -> None:
    with pytest.raises(LenetError, match="'nobody'"):
        Worker("nobody", task)
    with Worker("lenet", task) as worker:
        assert worker.rate() > 0 and worker.rate(8) > 0
        worker.process.kill()
        with pytest.raises(LenetError, match="ended with status"):
            worker.rate()


def test_rows_have_medians_of_rounds() -> None:
    """The second contender is 4, 2 and 1 times as fast in the rounds: 2 times in the median."""
    rates = {("theirs", 0): [10.0, 30.0, 50.0], ("ours", 0): [40.0, 60.0, 50.0]}
    theirs, ours = speed.speed_rows(rates, batch_size=5, share=0.01)
    assert theirs == ["theirs", "5", "30", "10", "50", "166,667", "1.00x", "2.00x as fast", "30.0%"]
    assert ours == ["ours", "5", "50", "40", "60", "100,000", "2.00x", "1.00x as fast", "50.0%"]


RATES = {"PyTorch eager": 1000.0, "lenet": 4000.0, "matrix product": 1e6}


class Clock:
    """Stands in for the processes: each contender has a known speed."""

    def __init__(self, name: str, task: Task) -> None:
        if name not in RATES:
            raise LenetError(f"it is {name}")
        self.speed = RATES[name] * task.threads

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rate(self, call: int = 0) -> float:
        return self.speed


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "Worker", Clock)
    monkeypatch.setattr(speed, "TRAINERS", ("PyTorch eager", "a stranger", "lenet"))
    speed.train(rounds=2, batch_size=16, threads=1)
    eager, ours = (
        line for line in capsys.readouterr().out.splitlines() if "1,000" in line or "4,000" in line
    )
    assert "4.00x as fast" in eager and "4.00x" in ours
    speed.train(rounds=1, threads=1)
    assert "left out: a stranger: it is a stranger" in capsys.readouterr().out
    monkeypatch.setattr(speed, "READERS", ("lenet",))
    assert speed.main(["infer", "--rounds", "1", "--batch-sizes", "1", "8", "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("  lenet") == 2


def test_scaling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "Worker", Clock)
    monkeypatch.setattr(speed, "usable_cores", lambda: 3)
    figure = tmp_path / "scaling.svg"
    assert speed.main(["scaling", "--rounds", "1", "--out", str(figure)]) == 0
    threads = capsys.readouterr().out.split("against threads")[1].splitlines()
    rows = [line.split() for line in threads[:8]]
    for count in ("1", "2", "3"):
        assert [count, f"{count},000", f"{4 * int(count)},000"] in rows
    assert figure.read_text().startswith("<?xml")


@pytest.mark.slow
def test_whole_processes(capsys: pytest.CaptureFixture[str]) -> None:
    speed.race("a race", {"nothing": ["-c", "pass"], "numpy": ["-c", "import numpy"]}, 2)
    output = capsys.readouterr().out
    assert "nothing" in output and "1.00 1.00" in output
    with pytest.raises(LenetError, match=r"no data set 'nowhere'"):
        speed.process_seconds(["-m", "lenet", "train", "mnist", "--data", "nowhere"])


def test_unfinished_runs_do_not_count() -> None:
    code = "import pathlib; pathlib.Path('runs/x').mkdir(parents=True)"
    with pytest.raises(LenetError, match="left x without weights"):
        speed.process_seconds(["-c", code])


def test_plain_program_reads_small_digits(digit_folder: Path, quick_recipe: lenet.Recipe) -> None:
    """The recipe in plain PyTorch learns, and imports nothing of this package."""
    program = Path(speed.__file__).with_name("plain.py")
    assert "lenet" not in {
        line.split()[1].split(".")[0]
        for line in program.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    recipe = json.dumps(quick_recipe.changed(schedule="linear", epochs=8).as_dict())
    line = [sys.executable, str(program), str(digit_folder), recipe]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, check=True, env=environment)
    assert float(done.stdout) > 0.8


@pytest.mark.parametrize(
    "call",
    [
        lambda: speed.train(rounds=0),
        lambda: speed.train(batch_size=0),
        lambda: speed.infer(1, (0,)),
    ],
)
def test_impossible_numbers(call: Callable[[], None]) -> None:
    with pytest.raises(LenetError, match="at least 1"):
        call()
