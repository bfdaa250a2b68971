"""Figures hold the right data, and are written whole or not at all."""

import json
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from lenet import data
from lenet.data import Split
from lenet.data.corruptions import corrupt
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.figures import curves, evaluation, files, style, sweeps
from lenet.figures import images as sheets
from lenet.networks import checkpoint
from lenet.networks.architecture import build

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLOTHES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def some_answers(count=300, classes=10, strength=3.0):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, count)
    scores = draw.normal(size=(count, classes))
    scores[np.arange(count), labels] += strength
    images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, labels, scores


def some_report(**options):
    _, labels, scores = some_answers(**options)
    return metrics.report(scores, labels, CLOTHES)


def some_records(epochs, steps, steps_at_last=None):
    """Metrics of a run whose last batch of each epoch is smaller; its last epoch may be under way
    with `steps_at_last` done."""
    draw = np.random.default_rng(0)
    records = []
    for epoch in range(epochs):
        done = steps if epoch < epochs - 1 or steps_at_last is None else steps_at_last
        for i in range(1, done + 1):
            records.append(
                {
                    "step": epoch * steps + i,
                    "position": round(epoch + i / steps, 6),
                    "loss": float(draw.uniform(1, 2)),
                    "accuracy": float(draw.uniform()),
                    "examples": 7 if i == steps else 32,
                }
            )
        if done == steps:
            summary = {"train_loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.6 + epoch / 50}
            records.append({"epoch": epoch + 1, **summary})
    return records


def running_mean(records, name, first, last):
    """Mean over the examples of the steps first..last."""
    part = [r for r in records if first <= r.get("step", 0) <= last]
    return np.average([r[name] for r in part], weights=[r["examples"] for r in part])


def words(axes):
    return [text.get_text() for text in axes.texts]


def picture(axes):
    """The array of the only picture drawn."""
    (image,) = axes.images
    return np.asarray(image.get_array())


def points(line):
    """The (x, y) of a line, (N, 2)."""
    return np.array(line.get_xydata())


def lengths(axes):
    """How long the bars are."""
    assert all(isinstance(bar, Rectangle) for bar in axes.patches)
    return [bar.get_width() for bar in axes.patches]


def title(figure):
    return figure.get_suptitle()


def test_drawing_imports_no_pyplot_and_leaves_the_style_of_others(tmp_path):
    code = (
        "import sys, numpy; from pathlib import Path; from matplotlib import rcParams;"
        "from lenet.figures import images, style;"
        "before = [rcParams[name] for name in style.STYLE];"
        "style.save(images.preprocessing_steps({'a': numpy.eye(9)}, 'x', {}), Path(sys.argv[1]));"
        "after = [rcParams[name] for name in style.STYLE];"
        "sys.exit('matplotlib.pyplot' in sys.modules or before != after)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "balance.svg")], check=True)


# training curves


@pytest.mark.parametrize("steps", [5, 10, 1875])
def test_training_curves_are_means_since_the_beginning_of_the_epoch(steps):
    records = some_records(2, steps)
    upper, lower = curves.training_curves(records, "a run").axes
    train, test = upper.lines
    positions = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    for line, name, unit in ((train, "accuracy", 100), (lower.lines[0], "loss", 1)):
        expected = [
            unit * running_mean(records, name, epoch * steps + 1, epoch * steps + part * steps // 5)
            for epoch in (0, 1)
            for part in range(1, 6)
        ]
        np.testing.assert_allclose(points(line)[:, 0], positions, atol=1e-6)
        np.testing.assert_allclose(points(line)[:, 1], expected)
    assert points(test).tolist() == [[1, 60], [2, 62]]
    assert test.get_label() == "test, 62.00% at the end"
    assert upper.get_ylabel() == "accuracy (%)"
    assert lower.get_xlabel() == "epoch"


def test_points_are_the_first_steps_at_or_past_each_fifth():
    """234 steps, as of 60,000 examples in batches of 256, do not divide by five."""
    positions, _, _ = curves.training_points(some_records(1, 234))
    np.testing.assert_allclose(positions * 234, [47, 94, 141, 188, 234], atol=1e-3)


def test_fewer_steps_than_points():
    positions, losses, _ = curves.training_points(some_records(3, 2))
    np.testing.assert_allclose(positions, [0.5, 1, 1.5, 2, 2.5, 3])
    assert len(losses) == 6


def test_an_epoch_under_way_ends_at_its_last_step():
    records = some_records(2, 100, steps_at_last=33)
    positions, losses, _ = curves.training_points(records)
    np.testing.assert_allclose(positions[5:], [1.2, 1.33])
    assert losses[-1] == pytest.approx(running_mean(records, "loss", 101, 133))


def test_the_first_step_alone_can_be_drawn():
    upper, _ = curves.training_curves(some_records(1, 100, steps_at_last=1), "").axes
    assert len(upper.lines) == 1  # no test accuracy yet


def test_epochs_without_steps_are_drawn_from_their_own_record():
    records = [r for r in some_records(3, 10) if not 10 < r.get("step", 0) <= 20]
    positions, losses, accuracies = curves.training_points(records)
    at = positions.tolist().index(2.0)
    assert (losses[at], accuracies[at]) == (1.5, 0.5)
    assert len(positions) == 5 + 1 + 5


def test_validation_accuracy_is_called_that():
    record = {"epoch": 1, "train_loss": 1, "train_accuracy": 0.5, "validation_accuracy": 0.75}
    upper, _ = curves.training_curves([record], "").axes
    assert upper.lines[1].get_label() == "validation, 75.00% at the end"


def test_losses_over_a_wide_range_have_a_logarithmic_axis():
    def scale(*losses):
        records = [
            {"epoch": i, "train_loss": loss, "train_accuracy": 0.5, "test_accuracy": 0.5}
            for i, loss in enumerate(losses, 1)
        ]
        return curves.training_curves(records, "").axes[1].get_yscale()

    assert scale(2.3, 0.5) == "linear"
    assert scale(2.3, 0.01) == "log"
    assert scale(2.3, 0.0) == "linear"
    assert scale(2.3, None) == "linear"
    assert scale(None, None) == "linear"


def test_no_metrics_are_refused():
    with pytest.raises(LenetError, match="no metrics"):
        curves.training_curves([], "")


# reports


def test_confusion_matrix_shows_the_counts():
    report = some_report()
    (axes,) = evaluation.confusion_matrix(report).axes
    counts = np.zeros((10, 10), int)
    names = []
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_text().isdigit():
            counts[round(y), round(x)] = int(text.get_text())
        else:
            names.append(text.get_text())
    assert counts.tolist() == [list(row) for row in report.confusion]
    assert {f"{row.recall:.1%}" for row in report.per_class} <= set(names)
    assert {f"{row.precision:.1%}" for row in report.per_class} <= set(names)
    assert tuple(label.get_text() for label in axes.get_xticklabels()) == CLOTHES
    assert tuple(label.get_text() for label in axes.get_yticklabels()) == CLOTHES
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "true class")


def test_confusion_matrix_colours_mistakes_by_their_share():
    labels = np.repeat([0, 1], [100, 10])
    answers = np.where(np.arange(110) % 10 == 0, 1 - labels, labels)  # 10% of each class
    report = metrics.report(np.eye(2)[answers], labels, "ab")
    (axes,) = evaluation.confusion_matrix(report).axes
    shares = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)
    assert shares[0, 1] == shares[1, 0]
    assert np.isnan(np.diag(shares)).all()


def test_confusion_matrix_without_mistakes_and_with_many_classes():
    evaluation.confusion_matrix(
        metrics.report(np.eye(3), np.arange(3), "abc")
    ).draw_without_rendering()
    many = metrics.report(np.eye(40), np.arange(40), [f"{i}" for i in range(40)])
    (axes,) = evaluation.confusion_matrix(many).axes
    assert not axes.texts


def test_rejection_curve_shows_the_curve_and_the_targets():
    report = some_report(count=3_000)
    (axes,) = evaluation.rejection_curve(report).axes
    curve = points(axes.lines[0])
    left = np.array(report.curve.error) > 0
    np.testing.assert_allclose(curve[:, 0], 100 * np.array(report.curve.rejected)[left])
    np.testing.assert_allclose(curve[:, 1], 100 * np.array(report.curve.error)[left])
    assert axes.get_yscale() == "log"
    marked = [points(line)[0].tolist() for line in axes.lines if line.get_marker() == "o"]
    for point, found in zip(report.rejections, marked, strict=True):
        assert point.rejected is not None
        assert point.error is not None
        assert found == [100 * point.rejected, 100 * point.error]
        assert f"{100 * point.target:g}% error: reject {point.rejected:.2%}" in words(axes)


def test_rejection_curve_says_where_the_mistakes_end():
    scores = np.array([[4.0, 0], [3, 0], [2, 0], [1, 0]])
    (axes,) = evaluation.rejection_curve(metrics.report(scores, np.array([0, 0, 0, 1]), "ab")).axes
    assert any("no mistakes from 25.0% on" in text for text in words(axes))


def test_rejection_curve_of_perfect_and_of_hopeless_answers():
    perfect = metrics.report(np.eye(3) * [[1], [2], [3]], np.arange(3), "abc")
    (axes,) = evaluation.rejection_curve(perfect).axes
    assert axes.get_yscale() == "linear"
    assert points(axes.lines[0])[:, 1].tolist() == [0, 0, 0]
    hopeless = metrics.report(np.eye(3), np.array([1, 2, 0]), "abc")
    figure = evaluation.rejection_curve(hopeless)
    assert not any("reject" in text for text in words(figure.axes[0]))
    figure.draw_without_rendering()


# pictures


def cells(sheet, rows, columns):
    """The pictures of a sheet, (rows, columns, H, W) of a cell and the gap after it."""
    height, width = sheet.shape[0] // rows + 1, sheet.shape[1] // columns + 1
    padded = np.full((rows * height, columns * width), np.nan)
    padded[: sheet.shape[0], : sheet.shape[1]] = sheet
    return padded.reshape(rows, height, columns, width).swapaxes(1, 2)


def test_worst_mistakes_are_the_right_pictures_with_their_words():
    images, labels, scores = some_answers()
    figure = evaluation.worst_mistakes(images, labels, scores, CLOTHES, 7)
    worst = metrics.worst(scores, labels, 7)
    (axes,) = figure.axes
    drawn = cells(np.ma.filled(picture(axes), np.nan), 2, 6).reshape(12, 38, 35)
    assert len(axes.texts) == 2 * len(worst) == 14
    for number, (shown, i) in enumerate(zip(drawn, worst, strict=False)):
        assert np.array_equal(shown[9:37, 3:31], images[i])
        p = np.exp(scores[i]) / np.exp(scores[i]).sum()
        answer = scores[i].argmax()
        assert words(axes)[2 * number : 2 * number + 2] == [
            f"{CLOTHES[labels[i]]} ({style.percent(p[labels[i]])})",
            f"→ {CLOTHES[answer]} ({style.percent(p[answer])})",
        ]
    assert np.isnan(drawn[7:]).all()
    assert title(figure).startswith("The 7 worst mistakes")


def test_no_mistakes_and_one_mistake():
    images = np.zeros((2, 28, 28), np.uint8)
    for labels, expected in (([0, 1], "No mistakes"), ([0, 0], "The worst mistake")):
        figure = evaluation.worst_mistakes(images, labels, np.eye(2), "ab", 5)
        assert title(figure).startswith(expected)
        figure.draw_without_rendering()


def test_contact_sheet_has_a_row_a_class():
    images, _, _ = some_answers(7)
    labels = np.array([1, 0, 1, 1, 0, 1, 0])  # and no image of class 2
    (axes,) = sheets.contact_sheet(Split(images, labels), ("a", "b", "nothing"), 3).axes
    drawn = np.ma.filled(picture(axes), np.nan)
    assert drawn.shape == (3 * 32 - 4, 3 * 32 - 4)
    for row, members in enumerate(([1, 4, 6], [0, 2, 3])):
        for column, i in enumerate(members):
            top, left = 32 * row, 32 * column
            assert np.array_equal(drawn[top : top + 28, left : left + 28], images[i])
    assert np.isnan(drawn[64:]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "nothing"]
    np.testing.assert_allclose(axes.get_yticks(), [13.5, 45.5, 77.5])


def test_as_many_images_as_labels():
    images = np.zeros((3, 28, 28), np.uint8)
    with pytest.raises(LenetError, match="3 images, but 2 labels"):
        evaluation.worst_mistakes(images, [0, 1], np.eye(2), "ab")


def test_preprocessing_steps_and_the_probabilities():
    steps = {
        "grayscale": np.full((40, 30), 200, np.uint8),
        "ink": np.linspace(0, 1, 1200).reshape(40, 30),
        "28x28": np.eye(28, dtype=np.uint8) * 255,
    }
    answer = dict.fromkeys(CLOTHES, 0.05) | {"Sneaker": 0.55}
    figure = sheets.preprocessing_steps(steps, "shoe.png: Sneaker", answer)
    drawn = {axes.get_title(): axes for axes in figure.axes if axes.images}
    assert list(drawn) == list(steps)
    for name, axes in drawn.items():
        assert np.array_equal(picture(axes), steps[name])
        low, high = axes.images[0].get_clim()
        assert (low, high) == (0, 1 if name == "ink" else 255)
    (bars,) = (axes for axes in figure.axes if axes.patches)
    assert lengths(bars) == list(answer.values())
    assert [label.get_text() for label in bars.get_yticklabels()] == list(CLOTHES)
    orange = [to_hex(bar.get_facecolor()) == style.ORANGE for bar in bars.patches]
    assert orange == [name == "Sneaker" for name in CLOTHES]
    assert words(bars) == ["5%"] * 7 + ["55%"] + ["5%"] * 2
    assert bars.yaxis_inverted()  # the first class on top
    assert title(figure) == "shoe.png: Sneaker"


def test_preprocessing_steps_without_an_answer():
    figure = sheets.preprocessing_steps({"gray": np.zeros((9, 9))}, "no digit", {})
    assert [axes.get_title() for axes in figure.axes] == ["gray"]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, "0%"),
        (1e-9, "<1%"),
        (0.01, "1%"),
        (0.5, "50%"),
        (0.99, "99%"),
        (0.9999, ">99%"),
        (1, "100%"),
    ],
)
def test_percentages_for_people(share, expected):
    assert style.percent(share) == expected


# everything


def all_figures():
    images, labels, scores = some_answers(strength=1.0)
    report = metrics.report(scores, labels, CLOTHES)
    steps = {"28x28": images[0]}
    yield curves.training_curves(some_records(3, 20), "Fashion-MNIST")
    yield evaluation.confusion_matrix(report)
    yield evaluation.rejection_curve(report)
    yield evaluation.worst_mistakes(images, labels, scores, CLOTHES, 8)
    yield evaluation.reliability_diagram(
        {"a": report.reliability, "b": report.reliability}, "title"
    )
    yield sheets.image_rows({"none": images[:3], "fog": images[3:6]}, "title", {"fog": "50%"})
    yield sheets.contact_sheet(Split(images, labels), CLOTHES, 5)
    axes = [sweeps.Coordinate("lr", [0.1, 0.2], log=True), sweeps.Coordinate("epochs", [10, 20])]
    yield sweeps.parallel_coordinates(axes, [0.1, None], "mnist-12345678: 1 complete, 1 pruned")
    yield sheets.preprocessing_steps(steps, "boot.png", dict.fromkeys(CLOTHES, 0.1))


def test_nothing_is_cut_off():
    for figure in all_figures():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        margins = np.array([box.x0, box.y0, width - box.x1, height - box.y1])
        assert (margins > -0.01).all(), f"{title(figure)}: {margins}"


def test_dollars_and_underscores_in_names_are_no_formula():
    classes = ("$a$", "_b", "$\\frac", "a_b^c$")
    images, labels, scores = some_answers(60, 4, strength=0.0)
    report = metrics.report(scores, labels, classes)
    for figure in (
        evaluation.confusion_matrix(report),
        evaluation.worst_mistakes(images, labels, scores, classes, 6),
        sheets.contact_sheet(Split(images, labels), classes, 2),
        sheets.preprocessing_steps({"$x^$": images[0]}, "$HOME$", dict.fromkeys(classes, 0.25)),
        curves.training_curves(some_records(1, 5), "$\\frac$"),
    ):
        figure.draw_without_rendering()


# files


def some_figure():
    return sheets.preprocessing_steps({"grey": np.eye(9)}, "a stroke", {"a": 0.25, "b": 0.75})


def test_png_is_the_size_of_the_figure(tmp_path):
    figure = some_figure()
    style.save(figure, tmp_path / "balance.png")
    with Image.open(tmp_path / "balance.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == tuple(int(100 * inches) for inches in figure.get_size_inches())
        assert np.asarray(picture.convert("L")).std() > 0


def test_svg_is_well_formed(tmp_path):
    images, labels, scores = some_answers(20, 10, strength=0.0)
    style.save(
        evaluation.worst_mistakes(images, labels, scores, CLOTHES, 3), tmp_path / "mistakes.SVG"
    )
    root = ElementTree.parse(tmp_path / "mistakes.SVG").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}image")) == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, suffix):
    for name in "ab":
        style.save(evaluation.rejection_curve(some_report()), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("font")])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, failure):
    file = tmp_path / "curves.png"
    file.write_bytes(b"the old figure")

    def breaks(self, name, **options):
        with open(name, "wb") as stream:
            stream.write(b"half a fig")
        raise failure

    monkeypatch.setattr(Figure, "savefig", breaks)
    expected = LenetError if isinstance(failure, OSError) else RuntimeError
    with pytest.raises(expected, match=r"curves\.png|font"):
        style.save(some_figure(), file)
    assert file.read_bytes() == b"the old figure"
    assert list(tmp_path.iterdir()) == [file]


def test_an_old_file_is_replaced(tmp_path):
    file = tmp_path / "balance.png"
    file.write_bytes(b"the old figure")
    style.save(some_figure(), file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["figure.pdf", "figure", "figure.png.txt"])
def test_other_kinds_of_files_are_refused(tmp_path, name):
    with pytest.raises(LenetError, match=r"\.png or \.svg"):
        style.save(some_figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_reliability_diagram_has_every_bin_that_is_not_empty():
    report = some_report(count=400, strength=2.0)
    found = report.reliability
    figure = evaluation.reliability_diagram({"one": found}, "title")
    upper, lower = figure.axes
    assert "one" in upper.get_title()
    assert f"{found.ece:.2%}" in upper.get_title()
    bars: Any = upper.containers[0]
    points = bars.lines[0].get_xydata()
    used = [i for i, count in enumerate(found.count) if count]
    np.testing.assert_allclose(points, [(found.probability[i], found.accuracy[i]) for i in used])
    heights: list[Any] = list(lower.patches)
    assert [bar.get_height() for bar in heights] == list(found.count)
    for name, (low, high) in {"low": (0.0, 0.2775), "high": (0.7225, 1.0)}.items():
        share = float(name == "high")  # none or all of ten: what tables of Wilson's interval say
        ends = evaluation.wilson(np.array([share]), np.array([10.0]))
        np.testing.assert_allclose(np.ravel(ends), (low, high), atol=1e-4)


def test_reliability_diagram_has_room_for_the_most_answers():
    found = {f"{n:,}": some_report(count=n, strength=2.0).reliability for n in (40, 4000)}
    figure = evaluation.reliability_diagram(found, "title")
    low, high = figure.axes[2].get_ylim()
    assert 0 < low < 1
    assert all(high > max(reliability.count) for reliability in found.values())


def test_image_rows_have_words_at_their_ends():
    images, _, _ = some_answers(count=6)
    rows = {"none": images[:3], "shot noise": images[3:5]}
    (axes,) = sheets.image_rows(rows, "title", {"shot noise": "12.34%"}).axes
    drawn = np.ma.filled(picture(axes), np.nan)
    assert drawn.shape == (2 * 32 - 4, 3 * 32 - 4)
    np.testing.assert_array_equal(drawn[32:60, :28], images[3])
    np.testing.assert_array_equal(drawn[:28, 64:], images[2])
    assert np.isnan(drawn[32:, 64:]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "shot noise"]
    assert words(axes) == ["", "12.34%"]
    with pytest.raises(LenetError, match="no images"):
        sheets.image_rows({}, "title")


# Folders


def test_a_run_is_drawn_from_its_folder(tmp_path, digit_folder):
    architecture = build("LeNet", {"activation": "relu"})
    card = {"data": {"name": str(digit_folder)}, "recipe": {"validation": 100}}
    weights = architecture.initial_weights(0)
    checkpoint.write(tmp_path / checkpoint.WEIGHTS, architecture, weights, card)
    with pytest.raises(LenetError, match=r"metrics\.jsonl cannot be read"):
        files.draw_run(tmp_path)
    lines = "".join(json.dumps(record) + "\n" for record in some_records(2, 3))
    (tmp_path / "metrics.jsonl").write_text(lines)
    written = files.draw_run(tmp_path)
    names = ["curves", "confusion", "rejection", "reliability", "mistakes"]
    assert written == [tmp_path / f"{name}.png" for name in names]
    for file in written:
        with Image.open(file) as image:
            assert np.asarray(image.convert("L")).std() > 0


def test_a_run_is_measured_on_what_it_held_out(tmp_path, digit_folder, monkeypatch):
    """The last images of the training set, not the test set, where the recipe says so."""
    card = {"data": {"name": str(digit_folder)}, "recipe": {"validation": 100}}
    architecture = build("LeNet", {})
    weights = architecture.initial_weights(0)
    checkpoint.write(tmp_path / checkpoint.WEIGHTS, architecture, weights, card)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(some_records(1, 1)[0]))
    splits = []
    monkeypatch.setattr(files, "draw_evaluation", lambda *about: splits.append(about[3]) or [])
    files.draw_run(tmp_path)
    train = data.load(str(digit_folder)).train
    np.testing.assert_array_equal(splits[0].images, train.images[-100:])


def test_corruptions_are_drawn_with_their_errors(tmp_path, monkeypatch):
    images, labels, _ = some_answers(20)
    drawn = []
    monkeypatch.setattr(files, "save", lambda figure, path: drawn.append((figure, path)))
    errors = {"shot_noise": 0.25, "fog": 0.5}
    path = files.draw_corruptions(tmp_path, "mnist", errors, Split(images, labels))
    ((figure, written),) = drawn
    assert path == written == tmp_path / "corruptions.png"
    assert title(figure) == "mnist under corruptions: mean error 37.50%"
    assert words(figure.axes[0]) == ["", "25.00%", "50.00%"]
    shown = np.ma.filled(picture(figure.axes[0]), np.nan)
    np.testing.assert_array_equal(shown[64:92, 32:60], corrupt(images[:10], "fog")[1])


# Sweeps


def test_parallel_coordinates() -> None:
    """Heights on each axis, on linear, logarithmic and word axes; the best on top, in orange."""
    axes = [
        sweeps.Coordinate("epochs", [10, 20, 15, 10]),
        sweeps.Coordinate("lr", [1e-4, 1e-3, 1e-2, 1e-4], log=True),
        sweeps.Coordinate("pooling", [0, 1, 0, 1], labels=("average", "max")),
    ]
    figure = sweeps.parallel_coordinates(axes, [0.04, 0.01, None, 0.02], "x")
    (drawn,) = figure.axes
    trials: list[Any] = [line for line in drawn.lines if np.size(line.get_ydata()) == 4]
    lines = [np.asarray(line.get_ydata()) for line in trials]
    stopped, worst, middle, best = lines
    np.testing.assert_allclose(stopped[:2], [0.5, 1])
    np.testing.assert_allclose(worst[[0, 1, 3]], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(middle[[0, 1, 3]], [0, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(best[[0, 1, 3]], [1, 0.5, 0], atol=1e-12)
    assert np.isnan(stopped[3])
    assert stopped[2] < 0.5 and worst[2] < 0.5 < middle[2] and best[2] > 0.5
    colors = [line.get_color() for line in trials]
    assert colors[0] == style.LINE and colors[3] == style.ORANGE
    assert sum(colors[1]) > sum(colors[2])  # paler
    words = [text.get_text() for text in drawn.texts]
    assert {"10", "20", "0.0001", "0.01", "average", "max", "1", "4"} <= set(words)


def test_parallel_coordinates_of_one_trial() -> None:
    """Equal values stand in the middle; an error of 0 has no logarithm."""
    figure = sweeps.parallel_coordinates([sweeps.Coordinate("lr", [0.1], log=True)], [0.0], "x")
    line = next(line for line in figure.axes[0].lines if np.size(line.get_ydata()) == 2)
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [0.5, 0.5])
