"""How sure a reading is: the probability that the whole number is right, and whether what was read
is a number at all."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lenet.reading.lattice import JUNK, PART, Lattice
from lenet.reading.lines import HEIGHT, Line
from lenet.reading.segments import Segments

FEATURES = 16
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Evidence:
    """All that both readers say of a line.

    Attributes:
        logs: log probabilities (N, 12) of the segments' classes.
        texts: candidates that are expected, best first.
        scores: their scores, and `parts` (texts, 2) those of the lattice and of the replicated
            network.
        path: arcs of the best path that reads the first text, with the digit of each, "" if the
            segment is left out.
    """

    line: Line
    segments: Segments
    logs: NDArray[np.float64]
    lattice: Lattice
    texts: list[str]
    scores: NDArray[np.float64]
    parts: NDArray[np.float64]
    path: list[tuple[int, str]]


def features(evidence: Evidence) -> NDArray[np.float32]:
    """What tells right readings from wrong ones, and numbers from other ink: (FEATURES,)."""
    logs, lattice, path = evidence.logs, evidence.lattice, evidence.path
    scores, parts, segments = evidence.scores, evidence.parts, evidence.segments
    count = len(evidence.texts[0])
    digits = [(arc, int(digit)) for arc, digit in path if digit]
    skipped = [arc for arc, digit in path if not digit]
    read = np.array([logs[arc, digit] for arc, digit in digits] or [-12.0])
    heights = [segments.boxes[arc, 3] - segments.boxes[arc, 1] for arc, _ in digits]
    ink = segments.strokes
    of_digits, left_out = sum(ink[arc] for arc, _ in digits), sum(ink[arc] for arc in skipped)
    parts_share = [np.exp(logs[arc, PART]) for arc, _ in digits]
    junk_share = [np.exp(logs[arc, JUNK]) for arc, _ in digits]
    log_shares = scores - np.logaddexp.reduce(scores)
    second = scores[0] - scores[1] if len(scores) > 1 else 20.0
    values = (
        np.log1p(-min(np.exp(log_shares[0]), 1 - 1e-6)),
        min(second, 20.0),
        np.logaddexp.reduce(parts[:, 0]) - parts[0, 0],
        np.logaddexp.reduce(parts[:, 1]) - parts[0, 1],
        max((lattice.total() - parts[0, 0]) / (count + 1), -5.0),
        max(parts[0, 1], -60.0) / (count + 1),
        max(parts[0, 1], -60.0),
        np.log1p(-min(np.exp(read.min()), 1 - 1e-4)),
        max(read.mean(), -12.0),
        max(parts_share, default=1.0),
        max(junk_share, default=1.0),
        min(segments.thickness / HEIGHT, 1.0),
        left_out / max(of_digits + left_out, 1e-6),
        math.log(max(heights) / min(heights)) if digits else 3.0,
        float(np.mean([logs[arc, JUNK] for arc in skipped])) if skipped else 0.0,
        count,
    )
    return np.array(values, np.float32)


class Confidence:
    """Two logistic regressions on `features` and their squares: right, and a number at all.

    Args:
        arrays: "mean" and "std" (FEATURES,), "right" and "number" (2 FEATURES + 1,), and "least"
            (1,), the probability below which ink is no number.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    @classmethod
    def load(cls, path: str | Path) -> "Confidence":
        return cls(load_file(str(path)))

    def save(self, path: str | Path) -> None:
        save_file(self.arrays, str(path))

    def __call__(self, values: NDArray[np.float32]) -> tuple[float, bool]:
        """Probability that the text is right, and whether the ink is a number."""
        terms = expand(values[None], self.arrays)
        right = sigmoid(terms @ self.arrays["right"])[0]
        number = sigmoid(terms @ self.arrays["number"])[0]
        return float(right), bool(number >= self.arrays["least"][0])


def expand(values: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """1, the standardised features and their squares: (N, 2 FEATURES + 1)."""
    scaled = np.clip((values - arrays["mean"]) / arrays["std"], -4, 4)
    return np.concatenate([scaled, scaled**2, np.ones((len(values), 1), np.float32)], 1)


def sigmoid(values: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-values))


def fit_confidence(
    values: NDArray[np.float32], right: NDArray[np.bool_], number: NDArray[np.bool_]
) -> Confidence:
    """Fits both regressions by Newton's method with a small ridge.

    Args:
        values: float32 (N, FEATURES) of readings.
        right: which of them are right.
        number: which of the pictures show a number; only these tell what is right.
    """
    arrays: Arrays = {"mean": values.mean(0), "std": values.std(0) + np.float32(1e-3)}
    terms = expand(values, arrays).astype(np.float64)
    arrays["right"] = newton(terms[number], right[number]).astype(np.float32)
    arrays["number"] = newton(terms, number).astype(np.float32)
    arrays["least"] = np.array([0.5], np.float32)
    return Confidence(arrays)


def newton(terms: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights = np.zeros(terms.shape[1])
    for _ in range(20):
        chances = sigmoid(terms @ weights)
        slope = terms.T @ (chances - labels) + weights
        curvature = (terms.T * (chances * (1 - chances))) @ terms + np.eye(len(weights))
        weights -= np.linalg.solve(curvature, slope)
    return weights
