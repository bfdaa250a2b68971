"""A network replicated over a line: its windows, and the numbers that they spell."""

import itertools

import numpy as np
import pytest
import torch

from lenet.data.lines import HEIGHT
from lenet.engine.fused import NOT_INSTALLED, Kernels, unsupported
from lenet.engine.plans import Plan
from lenet.reading.replicated import (
    BLANK,
    CLASSES,
    MARGIN,
    STRIDE,
    VIEWS,
    cut,
    log_probabilities,
    normalised,
    read,
    search,
    softmax,
    view,
    views,
    windows,
)


def frames(count: int, seed: int, scale: float = 2.0) -> np.ndarray:
    """Probabilities in windows where the digits 0, 1, 2 and the blank are likely."""
    scores = np.random.default_rng(seed).normal(size=(count, CLASSES)).astype(np.float32) * scale
    scores[:, 3:BLANK] -= 40
    return softmax(scores)


def test_windows_see_every_column_from_all_sides() -> None:
    line = np.random.default_rng(0).integers(1, 256, (HEIGHT, 61), dtype=np.uint8)
    views = windows(line)
    assert views.shape[1:] == (HEIGHT, HEIGHT) and views.flags.c_contiguous
    for number, window in enumerate(views):
        left = number * STRIDE - MARGIN
        for column in range(HEIGHT):
            inside = 0 <= left + column < line.shape[1]
            expected = line[:, left + column] if inside else np.zeros(HEIGHT)
            assert np.array_equal(window[:, column], expected)
    last = (len(views) - 1) * STRIDE - MARGIN
    assert last + HEIGHT // 2 >= line.shape[1] - 2, "the middle of the last window is at the end"


def test_cut_counts_the_windows_of_each_line() -> None:
    lines = [np.full((HEIGHT, width), width, np.uint8) for width in (28, 90, 41)]
    images, counts = cut(lines)
    assert len(images) == counts.sum()
    assert [part.max() for part in np.split(images, np.cumsum(counts)[:-1])] == [28, 90, 41]


@pytest.mark.parametrize("number", ["", "0", "11", "1201", "222"])
def test_log_probabilities_are_those_of_pytorchs_ctc(number: str) -> None:
    given = frames(9, 1)
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(np.log(given))[:, None],
        torch.tensor([[int(digit) for digit in number]], dtype=torch.int64),
        torch.tensor([9]),
        torch.tensor([len(number)]),
        blank=BLANK,
        reduction="sum",
    )
    assert log_probabilities([given], [number])[0] == pytest.approx(-float(loss), abs=1e-4)


def test_log_probabilities_are_means_over_the_views() -> None:
    views = [frames(9, 1), frames(14, 2)]
    numbers = ["", "2", "01", "1201"]
    together = log_probabilities(views, numbers)
    apart = np.mean([log_probabilities([part], numbers) for part in views], axis=0)
    assert together == pytest.approx(apart)


def test_numbers_with_too_few_windows_are_impossible() -> None:
    assert log_probabilities([frames(2, 0)], ["11", "1"])[0] == -np.inf


def test_the_beam_search_is_exhaustive_search() -> None:
    for seed in range(5):
        given = frames(4, seed, 1.0)
        spelt: dict[str, float] = {}
        for path in itertools.product(range(CLASSES), repeat=4):
            text = "".join(str(c) for c, _ in itertools.groupby(path) if c != BLANK)
            probability = float(np.prod([given[t, c] for t, c in enumerate(path)]))
            spelt[text] = spelt.get(text, 0) + probability
        best = sorted(spelt, key=lambda text: -spelt[text])[:5]
        answer = search(given, beam=200)[:5]
        assert [text for text, _ in answer] == best
        assert [p for _, p in answer] == pytest.approx([spelt[text] for text in best], rel=1e-3)


def test_a_narrow_beam_gives_lower_bounds() -> None:
    given = frames(30, 7)
    for text, probability in search(given, beam=5):
        assert np.log(probability) <= log_probabilities([given], [text])[0] + 1e-4


def test_read_puts_the_best_of_all_views_first() -> None:
    parts = [frames(12, 1), frames(13, 5)]
    answers = read(parts, beam=20)
    numbers = [text for text, _ in answers]
    assert {search(part, 20)[0][0] for part in parts} <= set(numbers)
    logarithms = [logarithm for _, logarithm in answers]
    assert logarithms == pytest.approx(log_probabilities(parts, numbers))
    assert logarithms == sorted(logarithms, reverse=True)


def test_a_constraint_holds_from_the_first_digit_on() -> None:
    given = [frames(20, 3)]
    free = read(given)[0][0]
    assert not free.startswith("2") or len(free) > 3, "the constraint would change nothing"
    answers = read(given, allowed=lambda text: text[0] == "2" and len(text) <= 3)
    assert answers and all(not t or (t[0] == "2" and len(t) <= 3) for t, _ in answers)


def test_normalised_keeps_the_middle_and_the_scale() -> None:
    ink = np.zeros((60, 100), np.float32)
    ink[10:50, 40:60] = 1  # a digit of 40 rows
    line = normalised(ink, 40)
    assert line.shape == (HEIGHT, 50)
    rows, columns = np.flatnonzero(line.any(1)), np.flatnonzero(line.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (4, 24, 20, 30)
    assert line.max() == 255


def test_views_turn_about_the_middle_row() -> None:
    line = np.zeros((HEIGHT, 60), np.uint8)
    line[4:24, 30] = 255
    assert np.array_equal(view(line, 1.0, 1.0, 0.0), line)
    slanted = view(line, 1.0, 1.0, 0.5)
    top, middle, bottom = (slanted[row].argmax() for row in (5, 14, 23))
    assert (top, middle, bottom) == pytest.approx((25.5, 30, 34.5), abs=1)
    assert view(line, 1.0, 1.5, 0.0).shape[1] == 90


@pytest.mark.skipif(unsupported(Plan()) == NOT_INSTALLED, reason=NOT_INSTALLED)
def test_frames_are_the_networks_probabilities_in_every_view() -> None:
    plan = Plan(classes=CLASSES)
    generator = np.random.default_rng(0)
    weights = [generator.normal(0, 0.1, shape).astype(np.float32) for shape in plan.shapes]
    kernels = Kernels(plan, threads=1)
    line = generator.integers(0, 256, (HEIGHT, 50), dtype=np.uint8)
    parts = views(line, lambda images: kernels.scores(images, weights))
    assert len(parts) == len(VIEWS)
    assert parts[0] == pytest.approx(softmax(kernels.scores(windows(line), weights)), abs=1e-6)
    for part in parts:
        assert part.shape[1] == CLASSES and part.sum(axis=1) == pytest.approx(1, abs=1e-5)
