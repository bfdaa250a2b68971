"""The benchmark: what it counts, and that every contender trains and failures are told."""

import numpy as np
import pytest
import torch

import lenet
from lenet import bench, cli, data
from lenet.bench import article_network, bench_train, training_multiply_adds
from lenet.errors import LenetError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    random = np.random.default_rng(0)
    split = data.Split(
        random.integers(0, 256, (64, 28, 28), dtype=np.uint8), random.integers(0, 10, 64)
    )
    dataset = data.Dataset("fashion-mnist", split, split, tuple("abcdefghij"), {})
    monkeypatch.setattr(data, "load", lambda *_: dataset)
    monkeypatch.setattr(bench, "EXAMPLES", 64)
    monkeypatch.setattr(bench, "MATRIX", 64)
    return dataset


def no_compiler(*_: object) -> bench.Epoch:
    raise RuntimeError("there is no compiler\nat all")


def test_multiply_adds_of_a_step() -> None:
    forward = 117_600 + 240_000 + 48_000 + 10_080 + 840
    backward = forward - 117_600  # nobody needs the gradient of the image
    assert training_multiply_adds(lenet.LeNet()) == 2 * forward + backward == 1_131_960


def test_the_articles_network_is_ours() -> None:
    theirs, ours = article_network(), lenet.LeNet()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(ours(x), theirs(x))


def test_rates_and_what_was_left_out(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "compiled_loop", no_compiler)
    found = bench_train(rounds=2, batch_size=16, threads=1)
    names = [row.name for row in found.rows]
    assert len(names) == 3
    assert names[-1] == "lenet train"
    assert list(found.left_out.values()) == ["there is no compiler"]
    assert found.rows[0].ratio == 1.0
    for row in found.rows:
        assert 0 < row.spread[0] <= row.rate <= row.spread[1]
        work = 2 * 1_131_960 * row.rate
        assert row.share == pytest.approx(work / (found.gflops * 1e9))
    assert cli.main(["bench", "train", "--rounds", "1", "--batch-size", "32"]) == 0
    assert "left out: plain tensor loop (torch.compile)" in capsys.readouterr().out


def test_impossible_numbers() -> None:
    with pytest.raises(LenetError, match="at least 1"):
        bench_train(rounds=0)
    with pytest.raises(LenetError, match="at least 1"):
        bench_train(batch_size=0)
