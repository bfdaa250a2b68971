"""Drawn digits and what is no digit: MNIST's manner, geometry, reproducibility, readability."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from lenet.data import Dataset, Split, digits, fonts, nondigits, strokes
from lenet.data.pen import BOX, FIELD, Hand, Style, centred, draw, rasterise
from lenet.networks import checkpoint

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
STEADY = Style(aspect=0, slant=0, turn=0, tremor=0, blur=0)


def test_the_same_seed_draws_the_same_digits():
    first, again, other = (strokes.make(200, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)


def test_digits_are_as_frequent_as_each_other_and_fill_mnists_box():
    split = strokes.make(5000, 0)
    assert np.bincount(split.labels, minlength=10).min() > 400
    for image in split.images:
        rows, columns = np.flatnonzero(image.max(1)), np.flatnonzero(image.max(0))
        sides = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert BOX - 2 <= max(sides) <= BOX  # the edge of a round end may be too pale to count
        assert image.max() > 200


def test_the_centre_of_mass_is_in_the_middle():
    split = strokes.make(500, 1)
    mass = split.images / split.images.sum((1, 2), keepdims=True)
    for axis in (1, 2):
        centres = (mass.sum(axis) * np.arange(FIELD)).sum(1)
        # Whole pixels; a digit that would leave the field stays in it.
        assert np.quantile(np.abs(centres - FIELD / 2), 0.95) < 0.6


@pytest.mark.parametrize("pen", [1.5, 2.5, 4.0])
def test_a_stroke_has_the_area_of_a_line_with_round_ends(pen: float):
    line = np.array([[[0.0, 0.0], [0.0, 1.0]]])
    picture = rasterise([line], np.array([pen]), np.zeros(1))
    area = pen * (BOX - pen) + np.pi * pen**2 / 4
    # OpenCV draws lines up to a fine pixel, a quarter of MNIST's, wider.
    assert area - 1 < picture.sum() / 255 < area + BOX / 4 + 1


def test_an_absent_stroke_leaves_nothing():
    line = np.array([[[0.0, 0.0], [0.0, 1.0]]])
    alone = rasterise([line], np.array([2.0]), np.zeros(1))
    with_absent = rasterise([line, np.full((1, 5, 2), np.nan)], np.array([2.0]), np.zeros(1))
    assert np.array_equal(alone, with_absent)


def test_a_curve_goes_through_its_points():
    hand = Hand(50, np.random.default_rng(0))
    stroke = hand.curve((0, 0), (1, 2), (2, 0)).mean(0)  # the jitter averages out
    assert np.abs(stroke[[0, 8, 16]] - [[0, 0], [1, 2], [2, 0]]).max() < 0.015


def test_a_network_that_never_saw_strokes_reads_the_plain_ones():
    from lenet.engine.scores import scorer

    scores = scorer(checkpoint.read("mnist"), threads=1)
    plain = (
        "zero",
        "one_bar",
        "two",
        "three",
        "four_open",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    )
    for digit, name in enumerate(plain):
        variant = next(v for v in strokes.variants(digit) if v.__name__ == name)
        hand = Hand(200, np.random.default_rng(digit))
        answers = np.asarray(scores(draw(variant(hand), Style(), hand))).argmax(1)
        assert (answers == digit).mean() > 0.85, name


def test_what_is_no_digit_is_drawn_in_every_kind_and_again():
    singles = strokes.make(50, 0).images
    first, again = (nondigits.make(300, 5, singles) for _ in range(2))
    assert first.shape == (300, FIELD, FIELD)
    assert np.array_equal(first, again)
    assert len(np.unique(first.reshape(300, -1), axis=0)) > 270  # a few are empty


def test_several_digits_are_wider_than_one():
    singles = strokes.make(200, 0).images
    several = nondigits.several(100, np.random.default_rng(0), singles)

    def widths(images):
        return np.array([np.ptp(np.flatnonzero(image.max(0))) + 1 for image in images])

    def heights(images):
        return np.array([np.ptp(np.flatnonzero(image.max(1))) + 1 for image in images])

    assert (widths(several) > heights(several)).mean() > 0.6
    assert (widths(singles) > heights(singles)).mean() < 0.2


def test_centred_keeps_all_ink():
    boxes = np.random.default_rng(0).integers(0, 256, (20, BOX, BOX)).astype(np.uint8)
    assert np.array_equal(centred(boxes).sum((1, 2)), boxes.sum((1, 2)))


def test_fonts_draw_every_text_in_every_copy():
    images, numbers = fonts.make([FONT], ["4", "K", "no"], 3, 0)
    assert images.shape == (9, FIELD, FIELD)
    assert numbers.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert images.max((1, 2)).min() > 100


def test_mnists_last_images_and_their_copies_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes = {"HELD_OUT": 10, "STROKES": 40, "NONES": 30, "FONT_COPIES": 1, "MNIST_COPIES": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(digits, name, value)
    drawn = strokes.make(60, 9)
    mnist = Dataset("mnist", drawn[:40], drawn[40:], tuple("0123456789"), {})
    made = []
    for folder in ("one", "two"):
        digits.make(tmp_path / folder, mnist, [FONT])
        made.append((tmp_path / folder / "train-images-idx3-ubyte").read_bytes())
    assert made[0] == made[1]
    images = np.frombuffer(made[0], np.uint8, offset=16).reshape(-1, FIELD, FIELD)
    labels = np.fromfile(tmp_path / "one" / "train-labels-idx1-ubyte", np.uint8, offset=8)
    for number in (0, 39):
        copies = sum(bytes(image) == bytes(mnist.train.images[number]) for image in images)
        assert copies == 3
    train = Split(images, labels.astype(np.int64))
    held = Dataset("digits", train, mnist.test, digits.CLASSES, {}, 3).hold_out(10)
    assert np.array_equal(held.test.images, mnist.train.images[-10:])
    assert np.array_equal(held.test.labels, mnist.train.labels[-10:])
    assert len(held.train) == len(train) - 30
    assert not set(map(bytes, held.test.images)) & set(map(bytes, held.train.images))
    assert set(labels) == set(range(11))
    assert isinstance(mnist.train, Split)
