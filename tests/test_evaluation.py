"""Evaluation: the right numbers whatever computes them, and files that say the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import needs_kernels
from PIL import Image
from sklearn import metrics as oracle

import lenet
from lenet import data
from lenet.engine import fused, scores, single
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.evaluation.evaluate import write_report
from lenet.networks import checkpoint
from lenet.training.run import Run


@pytest.fixture(scope="module")
def split(digit_folder: Path) -> data.Split:
    return data.load(str(digit_folder)).test


def answers(model: Any, split: data.Split) -> np.ndarray:
    with torch.no_grad():
        return model(model.prepare(split.images)).numpy()


def test_numbers_of_an_independent_library(trained: Run, split: data.Split) -> None:
    expected = answers(trained.model, split)
    best, labels = expected.argmax(axis=1), split.labels
    report = lenet.evaluate(trained.model, split)
    assert report.count == len(split)
    assert report.accuracy == pytest.approx(oracle.accuracy_score(labels, best))
    assert report.error == pytest.approx(1 - report.accuracy)
    shares = torch.from_numpy(expected).double().softmax(dim=1).numpy()
    assert report.loss == pytest.approx(oracle.log_loss(labels, shares), rel=1e-4)
    np.testing.assert_array_equal(report.confusion, oracle.confusion_matrix(labels, best))
    per_class = [(row.precision, row.recall, row.f1, row.support) for row in report.per_class]
    numbers = oracle.precision_recall_fscore_support(labels, best)
    np.testing.assert_allclose(np.transpose(per_class), np.array(numbers))


def test_a_network_may_be_named_or_read_or_a_module(trained: Run, split: data.Split) -> None:
    report = lenet.evaluate(trained.model, split)
    for model in (trained.path, str(trained.path), trained.network):
        other = lenet.evaluate(model, split, threads=1)
        assert other.confusion == report.confusion
        assert other.loss == pytest.approx(report.loss, rel=1e-4)


@pytest.mark.parametrize(
    "model", [lenet.LeNet5(), lenet.LeNet5s(), lenet.LeNet(channels=(4, 5, 6), kernel_sizes=3)]
)
@pytest.mark.parametrize("engine", [pytest.param("fused", marks=needs_kernels), "numpy"])
def test_engines_agree_with_pytorch(
    model: Any, engine: Any, split: data.Split, tmp_path: Path
) -> None:
    lenet.save(model, tmp_path / "x.safetensors")
    score = scorer(checkpoint.read(tmp_path / "x.safetensors"), 1, engine)
    answered = score(split.images)
    assert answered.dtype == np.float32
    np.testing.assert_allclose(answered, answers(model, split), rtol=1e-4, atol=1e-4)


def test_networks_that_the_kernels_do_not_serve(split: data.Split, tmp_path: Path) -> None:
    model = lenet.LeNet(channels=())
    lenet.save(model, tmp_path / "x.safetensors")
    network = checkpoint.read(tmp_path / "x.safetensors")
    np.testing.assert_allclose(
        scorer(network)(split.images), answers(model, split), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(LenetError, match="the fused kernels cannot be used"):
        scorer(network, engine="fused")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_missing_kernels_are_said_in_one_line(
    command: str, split: data.Split, digit_folder: Path, tmp_path: Path
) -> None:
    """As installed where there was no C++ compiler: NumPy answers, and the command says so."""
    Image.fromarray(255 - split.images[0]).save(tmp_path / "x.png")
    arguments = {
        "predict": ["predict", tmp_path / "x.png", tmp_path / "x.png"],
        "evaluate": ["evaluate", "mnist", "--data", digit_folder],
    }[command]
    program = (
        "import sys\n"
        "names = '_fused', '_single', '_sequential', '_patterns'\n"
        "sys.modules |= {f'lenet.engine.{name}': None for name in names}\n"
        "from lenet.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == 1
    assert said[0].startswith("lenet: the compiled kernels are not installed")
    assert "the compiled kernels are not installed" in said[0]
    assert (f"x.png: {split.labels[0]}  " if command == "predict" else "error") in done.stdout


def test_missing_kernels_are_said_once(
    trained: Run,
    split: data.Split,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fused, "_fused", None)
    monkeypatch.setattr(single, "_single", None)
    scores.report_missing_kernels.cache_clear()
    scorer(trained.network)
    answered = scorer(trained.network)(split.images)
    assert capfd.readouterr().err.count("\n") == 1
    np.testing.assert_array_equal(answered, scorer(trained.network, engine="numpy")(split.images))


@pytest.mark.parametrize("network", ["LeNet", "LeNet5", "LeNet5s"])
def test_tracer_gives_every_layer(network: str, split: data.Split, tmp_path: Path) -> None:
    model = getattr(lenet, network)()
    lenet.save(model, tmp_path / "x.safetensors")
    trace = scores.tracer(checkpoint.read(tmp_path / "x.safetensors"))
    x = model.prepare(split.images[5:6])
    with torch.no_grad():
        expected = {"input": x, **lenet.trace(model, x)}
    traced = trace(split.images[5])
    assert list(traced) == list(expected)
    for name, value in expected.items():
        assert traced[name].dtype == np.float32
        np.testing.assert_allclose(traced[name], value[0].numpy(), rtol=1e-5, atol=1e-5)


def test_network_is_left_as_it_was(trained: Run, split: data.Split) -> None:
    model = lenet.load(trained.path).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lenet.evaluate(model, split)
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_order_and_number_of_images_do_not_matter(trained: Run, split: data.Split) -> None:
    score = scorer(trained.network)
    together = score(split.images)
    np.testing.assert_allclose(score(split.images[::-1])[::-1], together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(split.images[7:8]), together[7:8], rtol=1e-4, atol=1e-5)


def test_classes(trained: Run, split: data.Split) -> None:
    assert lenet.evaluate(trained.model, split).classes == tuple("0123456789")
    named = [*"abcdefghij"]
    assert lenet.evaluate(trained.model, split, named).classes == tuple(named)
    assert lenet.evaluate(lenet.LeNet(), split).classes == tuple("0123456789")
    with pytest.raises(LenetError, match="10 classes, but 2 are named"):
        lenet.evaluate(trained.model, split, ["a", "b"])
    model = lenet.LeNet()
    model.card = {"classes": ["a", "b"]}
    with pytest.raises(LenetError, match="10 classes, but 2 are named"):
        lenet.evaluate(model, split)


def test_labels_that_the_network_does_not_know(split: data.Split) -> None:
    with pytest.raises(LenetError, match=r"labels must be in 0\.\.2, not 0\.\.9"):
        lenet.evaluate(lenet.LeNet(classes=3), split)


def test_report_on_disk(trained: Run, split: data.Split, tmp_path: Path) -> None:
    report = lenet.evaluate(trained.network, split)
    file = write_report(tmp_path / "a" / "b", report)
    assert os.listdir(tmp_path / "a" / "b") == [file.name] == ["report.json"]
    assert json.loads(file.read_text()) == report.as_dict()
    (tmp_path / "file").write_text("")
    with pytest.raises(LenetError, match="cannot write"):
        write_report(tmp_path / "file" / "x", report)


def test_the_network_itself_is_evaluated(split: data.Split) -> None:
    """Not what its options describe: a layer may have been changed since."""
    model = lenet.LeNet(activation="relu")
    before = lenet.evaluate(model, split)
    model.C1_relu = torch.nn.Tanh()
    after = lenet.evaluate(model, split)
    expected = metrics.report(answers(model, split), split.labels, after.classes)
    assert after.loss == pytest.approx(expected.loss, rel=1e-6)
    assert after.loss != pytest.approx(before.loss, rel=1e-6)
