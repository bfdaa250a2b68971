"""Figures of LeNet-5 (1998) hold the right data."""

import numpy as np
import plots1998
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection

from lenet.errors import LenetError
from lenet.networks.codebook import digit_codes


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


def test_codes_stand_below_what_f6_answers():
    codes, images = digit_codes(), np.full((2, 28, 28), 255, np.uint8)
    features = np.stack([codes[3] * 0.5, codes[8]])
    (axes,) = plots1998.f6_codes(images, np.array([3, 1]), features, codes).axes
    assert words(axes) == ["a 3", "3: 21.0", "8: 63.0", "a 1", "8: 0.0", "6: 48.0"]
    # 84 differences of a half; 3 and 8 differ in 21 pixels, 6 and 8 in 12
    assert [text.get_color() for text in axes.texts[1::3]] == [plots1998.INK, plots1998.ORANGE]
    sheet = np.ma.filled(picture(axes).astype(float), np.nan)
    assert (sheet[:84, :84] == 1).all()
    glyph = sheet[111 + 1 : 111 + 85 : 7, 17 : 17 + 49 : 7]
    np.testing.assert_allclose(glyph.ravel(), (features[0] / 1.7159 + 1) / 2)
    below = sheet[2 * 111 + 1 : 2 * 111 + 85 : 7, 93 + 17 : 93 + 17 + 49 : 7]
    np.testing.assert_allclose(below.ravel(), (codes[8] / 1.7159 + 1) / 2)


def test_nothing_is_cut_off():
    draw = np.random.default_rng(0)
    codes, images = digit_codes(), draw.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40) % 10
    for figure in (
        plots1998.error_curves({"a": [run((6, 3), (2, 1))]}, {}),
        plots1998.f6_codes(images[:13], labels[:13], codes[labels[:13]], codes),
    ):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        margins = np.array([box.x0, box.y0, width - box.x1, height - box.y1])
        assert (margins > -0.01).all(), f"{figure.get_suptitle()}: {margins}"
