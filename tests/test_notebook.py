"""What a notebook shows: HTML forms, the live plot, the bar, inline figures."""

import base64
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lenet
from lenet import data, figures, notebook
from lenet.progress import Progress
from lenet.training.run import Run, curves

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def parsed(html: str) -> ElementTree.Element:
    """Well-formed HTML is XML but for the images' tags."""
    closed = re.sub(r"(<img[^>]*)>", r"\1/>", html)
    return ElementTree.fromstring(f"<div>{closed}</div>")


def pictures(html: str) -> list[NDArray[np.uint8]]:
    """The images in HTML, decoded."""
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))) for code in found]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """As in a notebook: for each display, what it showed, one after the other."""
    displays: list[list[dict[str, str]]] = []

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        displays.append(own := [content])
        return SimpleNamespace(update=lambda content, raw: own.append(content))

    module = SimpleNamespace(display=display)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return displays


def test_html_forms_show_what_there_is(digits: Arrays, trained: Run) -> None:
    dataset = data.Dataset("<mine>", *trained_splits(digits), tuple("0123456789"), {})
    html = dataset._repr_html_()
    assert "&lt;mine&gt;" in html and "<mine>" not in html
    first = dataset.train.images[dataset.train.labels == 0][:10]
    assert np.array_equal(255 - pictures(html)[0], np.concatenate([*first], axis=1))
    rows = parsed(html).findall(".//tr")
    assert [int(row[1].text or "") for row in rows[1:]] == [
        *dataset.train.counts("0123456789").values()
    ]

    prediction = lenet.Predictor("mnist").predict(dataset.test.images[0])
    html = prediction._repr_html_()
    assert prediction.image is not None
    assert np.array_equal(255 - pictures(html)[0], prediction.image)
    shares = {row[0].text: row[2].text for row in parsed(html).findall(".//tr")}
    assert shares == {name: f"{p:.1%}" for name, p in prediction.probabilities.items()}
    assert "empty" in lenet.Predictor("mnist").predict(np.zeros((9, 9)))._repr_html_()

    report = lenet.evaluate("mnist", dataset.test)
    rows = parsed(report._repr_html_()).findall(".//tbody/tr")
    confusion = [[int(cell.text or "") for cell in row[5:]] for row in rows[-10:]]
    assert confusion == [list(row) for row in report.confusion]

    html = trained.recipe._repr_html_()
    bold = re.findall(r"bold'><td>(\w+)</td>", html)
    assert "batch_size" in bold and "schedule" in bold and "momentum" not in bold
    assert parsed(html).findall(".//tr").__len__() == len(trained.recipe.as_dict())
    assert "train loss" in trained._repr_html_() and parsed(trained._repr_html_()) is not None
    assert len(pictures(dataset.train._repr_html_())) == 1


def trained_splits(digits: Arrays) -> tuple[data.Split, data.Split]:
    images, labels = digits[0], digits[1].astype(np.int64)
    return data.Split(images[:200], labels[:200]), data.Split(images[200:260], labels[200:260])


def test_sheets_tile_in_colour_and_grey() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    (sheet,) = pictures(notebook.sheet(images, 3))
    assert sheet.shape == (8, 18, 3)
    assert np.array_equal(sheet[4:, 6:12], images[4].transpose(1, 2, 0))
    (sheet,) = pictures(notebook.sheet(images[:, 0], 3))
    assert np.array_equal(sheet[:4, 12:], 255 - images[2, 0]) and (sheet[4:, 12:] == 255).all()


def test_curves_are_the_articles(trained: Run) -> None:
    """Five points an epoch of loss and accuracy in training, one of test accuracy."""
    points = curves(trained.metrics)
    assert list(points) == ["train loss", "train accuracy", "test accuracy"]
    epochs = trained.recipe.optimisation.epochs
    assert [len(p) for p in points.values()] == [5 * epochs, 5 * epochs, epochs]
    assert points["test accuracy"][-1] == (epochs, pytest.approx(trained.report.accuracy))
    first = [m for m in trained.metrics if "step" in m][: 640 // 32 // 5]
    assert points["train loss"][0] == (0.2, pytest.approx(np.mean([m["loss"] for m in first])))


def test_a_chart_has_a_line_through_its_points() -> None:
    html = notebook.chart({"a<b": [(0, 0), (1, 2), (2, 4)], "none": []}, "epoch")
    lines = parsed(html).findall(".//polyline")
    points = np.array([p.split(",") for p in lines[0].attrib["points"].split()], float)
    assert np.ptp(np.diff(points, axis=0), axis=0).max() < 0.2, "a straight line"
    assert points[0, 0] < points[2, 0] and points[0, 1] > points[2, 1]
    assert "a&lt;b 4.000" in html and parsed(notebook.chart({}, "x")) is not None


def test_training_in_a_notebook_draws_a_live_plot(
    shown: list[list[dict[str, str]]], digits: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options: dict[str, Any] = dict(
        activation="relu", batch_size=100, lr=0.1, print_every=3, threads=1
    )
    run = lenet.train("d2l", data=digits, epochs=3, out=tmp_path / "run", **options)
    (plot,) = [display for display in shown if "<svg" in display[0]["text/html"]]
    assert len(plot) == 3 and "epoch 3/3" in plot[-1]["text/plain"]
    last = parsed(plot[-1]["text/html"]).findall(".//polyline")
    assert [len(line.attrib["points"].split()) for line in last] == [15, 15, 3]
    assert f"{run.report.accuracy:.3f}" in plot[-1]["text/html"]
    captured = capsys.readouterr()
    assert "[1,     3] loss" in captured.out and "epoch 1" not in captured.err


def test_a_bar_in_a_notebook_ends_empty(
    shown: list[list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lenet.progress.NOTEBOOK_INTERVAL", 0.0)
    with Progress("<work>", 4) as bar:
        bar.advance(1, "note")
        bar.advance(2)
    (steps,) = shown
    assert [step["text/plain"] for step in steps] == ["<work> 25%  note", "<work> 75%  note", ""]
    assert parsed(steps[1]["text/html"]).find("progress").attrib == {"value": "3", "max": "4"}  # pyright: ignore[reportOptionalMemberAccess]


CALLS: dict[str, Callable[[Run, data.Split], Any]] = {
    "training_curves": lambda run, split: figures.training_curves(run.metrics, "x"),
    "confusion_matrix": lambda run, split: figures.confusion_matrix(run.report),
    "rejection_curve": lambda run, split: figures.rejection_curve(run.report),
    "corruptions": lambda run, split: figures.corruptions("x", {"fog": 0.1}, split),
    "contact_sheet": lambda run, split: figures.contact_sheet(split, run.report.classes),
    "network": lambda run, split: figures.network(run.network, "maps"),
}


@pytest.mark.parametrize("name", CALLS)
def test_figures_show_inline(name: str, trained: Run, digits: Arrays) -> None:
    figure = CALLS[name](trained, trained_splits(digits)[1])
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.size[0] > 300 and len(np.unique(np.asarray(picture.convert("L")))) > 5


def test_every_documented_figure_exists() -> None:
    documented = set(re.findall(r"figures\.(\w+)\(", figures.__doc__ or ""))
    assert documented == set(figures.HOMES) == set(dir(figures))
    assert all(callable(getattr(figures, name)) for name in documented)
    with pytest.raises(lenet.LenetError, match="architecture, kernels"):
        figures.network("mnist", "x")
