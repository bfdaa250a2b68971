"""Synthetic lines of digits."""

import itertools

import numpy as np
import pytest

from lenet.data import Split
from lenet.data.lines import DIGIT, HEIGHT, Glyphs, Lines, slants


def bars(labels: np.ndarray) -> Split:
    """Digits that can be told apart by eye of a test: `label` + 1 rows of ink across."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 8:12] = 255
        image[4 : 4 + 2 * (label + 1), 12:20] = 255
    return Split(images, labels)


@pytest.fixture(scope="module")
def digits() -> Split:
    return bars(np.arange(50) % 10)


def take(lines: Lines, count: int) -> list:
    return list(itertools.islice(lines, count))


def test_the_same_seed_draws_the_same_lines(digits: Split) -> None:
    first, second = (take(Lines([(digits, 1.0)], 3), 20) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.number == b.number
        assert np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes)
    other = take(Lines([(digits, 1.0)], 4), 20)
    assert [line.number for line in other] != [line.number for line in first]


def test_lines_have_the_readers_height_and_a_box_a_digit(digits: Split) -> None:
    lines = take(Lines([(digits, 1.0)], 0), 200)
    for line in lines:
        assert line.image.dtype == np.uint8 and line.image.shape[0] == HEIGHT
        assert line.image.flags.c_contiguous and line.image.shape[1] >= HEIGHT
        assert line.number.isdecimal() and line.boxes.shape == (len(line.number), 4)
        assert (np.diff(line.boxes[:, 0]) > 0).all(), "digits from left to right"
    assert {len(line.number) for line in lines} >= set(range(1, 8))
    assert set("".join(line.number for line in lines)) == set("0123456789")
    heights = [np.median(line.boxes[:, 3] - line.boxes[:, 1]) for line in lines]
    assert abs(np.median(heights) - DIGIT) < 1.5


def test_the_boxes_hold_the_digits(digits: Split) -> None:
    lines = take(Lines([(digits, 1.0)], 1), 200)
    inside = total = 0.0
    for line in lines:
        covered = np.zeros(line.image.shape, bool)
        for left, top, right, bottom in np.rint(line.boxes).astype(int):
            assert line.image[max(top, 0) : bottom, max(left, 0) : right].max() > 0
            covered[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = True
        inside += line.image[covered].sum(dtype=np.float64)
        total += line.image.sum(dtype=np.float64)
    assert inside > 0.75 * total, "the rest is separators, rules and neighbours"


def test_a_given_number_is_drawn(digits: Split) -> None:
    line = Lines([(digits, 1.0)], 0).line("0123456789")
    assert line.number == "0123456789" and len(line.boxes) == 10


def test_lines_come_from_all_sources() -> None:
    """A source of blank pictures would fail; thick and thin digits give more and less ink."""
    thin = np.zeros((10, 28, 28), np.uint8)
    thin[:, 4:24, 13:15] = 255
    thick = np.zeros((10, 28, 28), np.uint8)
    thick[:, 4:24, 4:24] = 255
    both = [(Split(images, np.arange(10)), share) for images, share in ((thin, 3.0), (thick, 1.0))]
    widths = [np.median(np.diff(line.boxes[:, ::2])) for line in take(Lines(both, 0), 300)]
    assert 0.1 < np.mean(np.array(widths) > 10) < 0.45


def test_glyphs_go_from_thin_to_thick() -> None:
    images = np.zeros((30, 28, 28), np.uint8)
    for image, width in zip(images, np.repeat((9, 2, 5), 10), strict=True):
        image[4:24, 10 : 10 + width] = 255
    glyphs = Glyphs(Split(images, np.tile(np.arange(10), 3)))
    assert glyphs.members[4].tolist() == [14, 24, 4]
    assert glyphs.crop(14).shape == (22, 4)


def test_slants_are_columns_a_row() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    for row in range(20):
        images[0, 4 + row, 20 - row // 2] = 255  # leans right by half a column a row
        images[1, 4 + row, 14] = 255
    assert slants(images) == pytest.approx([0.5, 0], abs=0.02)
