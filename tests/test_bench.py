"""The benchmark: what it counts, that all compute the same, and that failures are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lenet
from lenet import bench, cli, data
from lenet.bench.contenders import CONTENDERS, Articles, Task, article_network, channels_last
from lenet.bench.worker import Worker, save_task
from lenet.data import Split
from lenet.errors import LenetError


@pytest.fixture(scope="module")
def task() -> Task:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 28, 28), dtype=np.uint8)
    weights = tuple(p.detach().numpy() for p in lenet.LeNet().parameters())
    return Task(Split(images, random.integers(0, 10, 64)), weights, 16, 1, "cpu")


@pytest.fixture
def small(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data.Dataset("fashion-mnist", task.train, task.train, tuple("abcdefghij"), {})
    monkeypatch.setattr(data, "load", lambda *_: dataset)
    monkeypatch.setattr(bench, "EXAMPLES", 64)
    monkeypatch.setattr(bench, "PASS", 8)
    monkeypatch.setattr(bench, "MATRIX", 64)
    monkeypatch.setattr(bench, "CALL_SECONDS", 0.01)


def test_multiply_adds_of_a_step() -> None:
    forward = 117_600 + 240_000 + 48_000 + 10_080 + 840
    backward = forward - 117_600  # nobody needs the gradient of the image
    assert bench.training_work(lenet.LeNet()) == 2 * forward + backward == 1_131_960


def test_the_articles_network_is_ours(task: Task) -> None:
    ours = lenet.LeNet()
    with torch.no_grad():
        for parameter, array in zip(ours.parameters(), task.weights, strict=True):
            parameter.copy_(torch.from_numpy(array))
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(ours(x), article_network(task)(x))


def test_channels_last(task: Task) -> None:
    """The rearranged weights, used with channels-last arithmetic, give the same scores."""
    c1, c1_bias, c3, c3_bias, *dense = channels_last(task.weights)
    x = torch.from_numpy(task.train.images[:2, :, :, None] / 255.0)
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
    expected = Articles(task).scores(torch.from_numpy(task.train.images[:2, None] / 255.0).float())
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["articles", "eager", "lenet", "onnxruntime"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_contenders_compute_the_same_scores(task: Task, name: str) -> None:
    model = lenet.LeNet()
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), task.weights, strict=True):
            parameter.copy_(torch.from_numpy(array))
        expected = model(model.prepare(task.train.images)).numpy()
    contender = CONTENDERS[name](task)
    found = contender.scores(contender.prepare(task.train.images))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if name != "onnxruntime":
        assert contender.epoch() == 64


def test_worker_tells_its_errors(task: Task, tmp_path: Path) -> None:
    save_task(tmp_path / "task.npz", task.train, task.weights)
    with pytest.raises(LenetError, match="'nobody'"):
        Worker("nobody", tmp_path / "task.npz", 16, 1)
    with Worker("eager", tmp_path / "task.npz", 16, 1) as worker:
        assert worker.epoch() > 0
        worker.process.kill()
        with pytest.raises(LenetError, match="ended with status"):
            worker.epoch()


@pytest.mark.slow
def test_table(
    small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = {"eager": "theirs", "nobody": "a stranger", "lenet": "ours"}
    monkeypatch.setattr(bench, "TRAINERS", contenders)
    found = bench.train(rounds=2, batch_size=16, threads=1)
    assert [row.name for row in found.rows] == ["theirs", "ours"]
    assert found.left_out == {"a stranger": "'nobody'"}
    theirs, ours = found.rows
    assert theirs.ratio == ours.behind == 1.0
    for row in found.rows:
        assert 0 < row.spread[0] <= row.rate <= row.spread[1]
        work = 2 * 1_131_960 * row.rate
        assert row.share == pytest.approx(work / (found.gflops * 1e9))
    monkeypatch.setattr(bench, "READERS", {"lenet": "ours"})
    assert cli.main(["bench", "infer", "--rounds", "1", "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("ours") == 3 + 1  # three batch sizes, and a column


@pytest.mark.slow
def test_scaling(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SCALED", {"lenet": "ours"})
    monkeypatch.setattr(bench, "BATCH_SIZES", (8, 16))
    monkeypatch.setattr(bench, "IMAGE_COUNTS", (32, 100))
    monkeypatch.setattr(bench, "usable_cores", lambda: 1)
    figure = tmp_path / "scaling.svg"
    line = ["bench", "scaling", "--rounds", "1", "--json", "--out", str(figure)]
    assert cli.main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [value for value, _ in found["batch_size"]["ours"]] == [8, 16]
    assert [value for value, _ in found["images"]["ours"]] == [32]  # there are no 100
    assert figure.read_text().startswith("<?xml")


@pytest.mark.slow
def test_whole_runs(quick_recipe: lenet.Recipe, tmp_path: Path) -> None:
    file = tmp_path / "quick.json"
    file.write_text(json.dumps({**quick_recipe.as_dict(), "epochs": 1}))
    (found,) = bench.whole_runs([str(file)])
    assert (found.recipe, found.epochs) == ("quick", 1)
    assert found.seconds > 0 and found.ratio > 0
    file.write_text(json.dumps({**quick_recipe.as_dict(), "data": "nowhere"}))
    with pytest.raises(LenetError, match=r"lenet train .*nowhere"):
        bench.whole_runs([str(file)])


def test_impossible_numbers() -> None:
    for flags in (["train", "--rounds", "0"], ["train", "--batch-size", "0"]):
        assert cli.main(["bench", *flags]) == 2
    with pytest.raises(LenetError, match="at least 1"):
        bench.infer(batch_sizes=(0,))
