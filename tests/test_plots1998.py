"""Figures of LeNet-5 (1998) hold the right data."""

import numpy as np
import plots1998
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection

from lenet.errors import LenetError
from lenet.networks.codebook import c3_table, digit_codes


def run(*errors):
    """Metrics of a run with these (training, test) errors in %, and a step in between."""
    records = [
        {"epoch": i, "train_accuracy": 1 - train / 100, "test_accuracy": 1 - test / 100}
        for i, (train, test) in enumerate(errors, 1)
    ]
    return [{"step": 1, "accuracy": 0.5}, *records]


def points(line):
    return np.array(line.get_xydata())


def picture(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_error_curves_are_means_within_bands_beside_the_paper():
    runs = {"a": [run((6, 3), (2, 1)), run((8, 5), (4, 1.5))], "b": [run((6, 2))]}
    paper = {"a": {"test": [(1, 2.7), (2, 0.95)], "train": [(1, 4.9)]}}
    left, right = plots1998.error_curves(runs, paper).axes
    test, test_then, train, train_then = left.lines
    np.testing.assert_allclose(points(test), [(1, 4), (2, 1.25)])
    np.testing.assert_allclose(points(train), [(1, 7), (2, 3)])
    assert points(test_then).tolist() == [[1, 2.7], [2, 0.95]]
    assert points(train_then).tolist() == [[1, 4.9]]
    band = left.collections[0]
    assert isinstance(band, PolyCollection)
    heights = np.unique(np.asarray(band.get_paths()[0].vertices)[:, 1])
    np.testing.assert_allclose(heights, [1, 1.5, 3, 5])
    assert len(right.lines) == 2  # the paper has no point there
    assert (left.get_title(), right.get_title()) == ("a", "b")


@pytest.mark.parametrize("runs", [[], [[]], [run((1, 1)), run((1, 1), (1, 1))]])
def test_error_curves_need_runs_of_one_length(runs):
    with pytest.raises(LenetError, match="some runs: runs of one and the same number"):
        plots1998.error_curves({"some runs": runs}, {})


def test_kernels_lie_where_table_1_has_an_x():
    draw = np.random.default_rng(0)
    first = draw.normal(size=(6, 1, 5, 5)).astype(np.float32)
    second = draw.normal(size=(60, 5, 5)).astype(np.float32)
    (axes,) = plots1998.kernels(first, second, c3_table()).axes
    shown = picture(axes)
    assert shown.shape == (36, 18 * 6)
    cells = shown.reshape(6, 6, 18, 6).swapaxes(1, 2)[:, :, :5, :5]  # [map of S2, column]
    np.testing.assert_allclose(cells[:, 0], first[:, 0] / abs(first).max(), rtol=1e-6)
    # The kernels of C3's map 1 come after the three of map 0, and read S2's maps 1, 2, 3.
    np.testing.assert_allclose(cells[1:4, 2 + 1], second[3:6] / abs(second).max(), rtol=1e-6)
    np.testing.assert_allclose(cells[:, 2 + 15], second[-6:] / abs(second).max(), rtol=1e-6)
    # Matplotlib masks what is not a number.
    absent = np.ma.getmaskarray(np.ma.masked_invalid(cells))[:, 2:].all(-1).all(-1)
    np.testing.assert_array_equal(~absent.T, c3_table())
    assert len(axes.lines) == 96 - 60


def test_codes_stand_below_what_f6_answers():
    codes = digit_codes()
    features = np.stack([codes[3] * 0.5, codes[8]])
    images = np.zeros((2, 28, 28), np.uint8)
    axes = np.array(plots1998.f6_codes(images, [3, 1], features, codes).axes).reshape(4, 2)
    np.testing.assert_array_equal(picture(axes[1, 0]).ravel(), features[0])
    np.testing.assert_array_equal(picture(axes[2, 0]).ravel(), codes[3])
    assert axes[2, 0].get_xlabel() == "3: 21.0"  # 84 differences of a half
    assert axes[2, 1].get_xlabel() == "8: 0.0"
    assert axes[3, 1].get_xlabel() == "6: 48.0"  # 6 and 8 differ in 12 pixels
    colors = [axes[2, i].xaxis.label.get_color() for i in range(2)]
    assert colors == [plots1998.INK, plots1998.ORANGE]


def test_all_mistakes_are_there_in_order():
    images = np.arange(30, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    labels = np.arange(30) % 10
    answers = labels.copy()
    wrong = [1, *range(5, 18), 29]
    answers[wrong] = (labels[wrong] + 2) % 10
    figure = plots1998.all_mistakes(images, labels, answers)
    axes = figure.axes[: len(wrong)]
    assert [picture(a)[0, 0] for a in axes] == wrong
    assert [words(a) for a in axes[:2]] == [["1 → ", "3"], ["5 → ", "7"]]
    assert not any(a.images for a in figure.axes[len(wrong) :])
    assert figure.get_suptitle() == "15 mistakes on 30 images: true class → answer"


def test_no_mistakes_can_be_drawn():
    figure = plots1998.all_mistakes(np.zeros((2, 28, 28), np.uint8), [0, 1], [0, 1])
    assert not any(axes.images for axes in figure.axes)


@pytest.mark.parametrize("answers", [[0], [0, 1, 2]])
def test_numbers_must_agree(answers):
    images = np.zeros((2, 28, 28), np.uint8)
    with pytest.raises(LenetError, match="2 labels"):
        plots1998.all_mistakes(images, [0, 1], answers)
    with pytest.raises(LenetError, match="2 labels"):
        plots1998.f6_codes(images, [0, 1], np.zeros((len(answers), 84)), digit_codes())


def test_nothing_is_cut_off():
    draw = np.random.default_rng(0)
    codes, images = digit_codes(), draw.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40) % 10
    for figure in (
        plots1998.error_curves({"a": [run((6, 3), (2, 1))]}, {}),
        plots1998.kernels(draw.normal(size=(6, 1, 5, 5)), draw.normal(size=(60, 5, 5)), c3_table()),
        plots1998.f6_codes(images[:13], labels[:13], codes[labels[:13]], codes),
        plots1998.all_mistakes(images, labels, 9 - labels),
    ):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        margins = np.array([box.x0, box.y0, width - box.x1, height - box.y1])
        assert (margins > -0.01).all(), f"{figure.get_suptitle()}: {margins}"
