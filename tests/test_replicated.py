"""A network replicated over a line: its windows, and the numbers that they spell."""

import itertools

import numpy as np
import pytest
import torch

from lenet.data.lines import HEIGHT
from lenet.reading.replicated import (
    BLANK,
    CLASSES,
    MARGIN,
    STRIDE,
    cut,
    log_probabilities,
    prefix_beam,
    softmax,
    windows,
    without_gaps,
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
    assert log_probabilities(given, [number])[0] == pytest.approx(-float(loss), abs=1e-4)


def test_numbers_with_too_few_windows_are_impossible() -> None:
    assert log_probabilities(frames(2, 0), ["11", "1"])[0] == -np.inf


def test_the_beam_search_is_exhaustive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lenet.reading.replicated.LIKELY", 1e-3)  # these windows are far from sure
    for seed in range(5):
        given = frames(4, seed, 1.0)
        spelt: dict[str, float] = {}
        for path in itertools.product(range(CLASSES), repeat=4):
            text = "".join(str(c) for c, _ in itertools.groupby(path) if c != BLANK)
            probability = float(np.prod([given[t, c] for t, c in enumerate(path)]))
            spelt[text] = spelt.get(text, 0) + probability
        best = sorted(spelt, key=lambda text: -spelt[text])[:5]
        answer = prefix_beam(given, beam=200)[:5]
        assert [text for text, _ in answer] == best
        assert [p for _, p in answer] == pytest.approx([np.log(spelt[t]) for t in best], abs=1e-3)


def test_a_narrow_beam_gives_lower_bounds() -> None:
    given = frames(30, 7)
    for text, logarithm in prefix_beam(given, beam=5):
        assert logarithm <= log_probabilities(given, [text])[0] + 1e-4


def test_a_constraint_holds_from_the_first_digit_on() -> None:
    given = frames(20, 3)
    free = prefix_beam(given)[0][0]
    assert not free.startswith("2") or len(free) > 3, "the constraint would change nothing"
    answers = prefix_beam(given, allowed=lambda text: text[0] == "2" and len(text) <= 3)
    assert answers and all(not t or (t[0] == "2" and len(t) <= 3) for t, _ in answers)


def test_windows_without_gaps_spell_the_same() -> None:
    given = frames(10, 2)
    gap = np.full((4, CLASSES), 1e-7, np.float32)
    gap[:, BLANK] = 1 - 1e-6
    padded = np.concatenate([gap, given[:5], gap, given[5:], gap])
    shorter = without_gaps(padded)
    assert len(shorter) == len(given) + 3
    numbers = ["", "0", "11", "120"]
    expected = log_probabilities(padded, numbers)
    assert log_probabilities(shorter, numbers) == pytest.approx(expected, abs=1e-3)
