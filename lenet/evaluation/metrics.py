"""How good the answers are: error, loss, per-class measures, confusions, rejection, calibration.

Everything is computed in float64 from scores (N, classes), larger is better, and labels (N,). The
answer is the class with the best score; in a tie, the first.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet import notebook
from lenet.errors import LenetError
from lenet.networks.checkpoint import TEMPERATURES

TARGETS = (0.005, 0.001)  # errors of the rest for which to reject; 0.5% is figure 10 of the paper
CURVE_POINTS = 400  # of the rejection curve that a report keeps, besides those of its targets
BINS = 15  # of the probabilities, as is usual for the expected calibration error
LARGEST_SCORE = 1e300  # so that no difference or sum of scores overflows


@dataclass(frozen=True)
class ClassReport:
    """One class, with its precision, recall and F1 (0..1; 0 if the denominator is 0)."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # examples of this class


@dataclass(frozen=True)
class Curve:
    """Error of the accepted examples against the share rejected (the paper, figure 10).

    Point i rejects the examples whose confidence is below `threshold[i]`, so examples of equal
    confidence are rejected together. The first point rejects nothing; no point rejects everything.
    """

    threshold: tuple[float, ...]  # ascending, in units of the scores; 0 at the first point
    rejected: tuple[float, ...]  # shares of all examples, 0..1, ascending
    error: tuple[float, ...]  # shares of the accepted examples answered wrong, 0..1

    def at(self, share: float) -> float:
        """The error of the accepted examples when at most that share (0..1) is rejected."""
        return self.error[max(i for i, rejected in enumerate(self.rejected) if rejected <= share)]


@dataclass(frozen=True)
class Rejection:
    """The first point of the rejection curve with error <= target.

    All but the target are None if no point of the curve has so small an error.
    """

    target: float  # error wanted on the accepted examples, 0..1
    rejected: float | None  # share of all examples to reject, 0..1
    error: float | None  # of the accepted examples, 0..1
    threshold: float | None  # reject the examples whose confidence is below it


@dataclass(frozen=True)
class Reliability:
    """Whether probabilities can be believed: of the answers given with 80%, are 80% right?

    The answers are sorted by their probability into `BINS` bins of equal width; bin i holds
    those with i < BINS * probability <= i + 1. Both means of an empty bin are 0.
    """

    count: tuple[int, ...]  # answers in each bin
    probability: tuple[float, ...]  # their mean probability, 0..1
    accuracy: tuple[float, ...]  # the share of them that is right, 0..1
    ece: float
    """Expected calibration error: the mean over all answers of |accuracy - probability| of their
    bin, 0..1 (Guo et al. 2017, "On calibration of modern neural networks", equation 3)."""


@dataclass(frozen=True, repr=False)
class Report:
    """What `report` measures on a split."""

    count: int  # examples
    accuracy: float  # share answered right, 0..1
    error: float  # share answered wrong, 0..1
    temperature: float  # probabilities are the softmax of scores / temperature
    loss: float  # mean cross-entropy of these probabilities, in nats
    reliability: Reliability  # of these probabilities
    per_class: tuple[ClassReport, ...]  # in the order of the scores
    confusion: tuple[tuple[int, ...], ...]  # numbers of examples; row = true class, column = answer
    curve: Curve
    """The rejection curve, thinned to about `CURVE_POINTS` points, denser where few examples are
    rejected; with the points of `rejections` and the first without error."""
    rejections: tuple[Rejection, ...]  # the points of the whole curve that reach each of `TARGETS`

    def __repr__(self) -> str:
        ece = self.reliability.ece
        return (
            f"Report({self.error:.2%} of {self.count:,} wrong, loss {self.loss:.4f}, ECE {ece:.2%})"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.per_class)

    def _repr_html_(self) -> str:
        """The measures, those of each class, and the confusions."""
        overall = [
            ("images", f"{self.count:,}"),
            ("error", f"{self.error:.2%}"),
            ("mean cross-entropy", f"{self.loss:.4f}"),
            ("expected calibration error", f"{self.reliability.ece:.2%}"),
        ]
        columns = [
            "class",
            "precision",
            "recall",
            "F1",
            "images",
            *(c.name for c in self.per_class),
        ]
        rows = [
            (c.name, *(f"{value:.4f}" for value in (c.precision, c.recall, c.f1)), c.support, *row)
            for c, row in zip(self.per_class, self.confusion, strict=True)
        ]
        words = "<p>Right of the number of images: how many of them were answered so.</p>"
        return notebook.table(overall) + notebook.table(rows, columns) + words

    @property
    def trust_threshold(self) -> float | None:
        """The confidence from which answers are trusted, by the strictest target reached.

        None if no target is reached: then no answer is trusted.
        """
        reached = [r.threshold for r in self.rejections if r.threshold is not None]
        return reached[-1] if reached else None

    def as_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists, strings and finite numbers, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))


def report(
    scores: ArrayLike, labels: ArrayLike, classes: Sequence[str], temperature: float = 1.0
) -> Report:
    """Measures the answers.

    Args:
        scores: float (N, C), larger is better, N >= 1, C >= 2.
        labels: integers (N,) in 0..C-1.
        classes: the C names.
        temperature: probabilities are the softmax of scores / temperature.

    Raises:
        LenetError: wrong shapes, labels out of range or scores that are not finite.
    """
    scores, labels = checked(scores, labels)
    if len(classes) != scores.shape[1]:
        raise LenetError(
            f"the scores are for {scores.shape[1]} classes, but {len(classes)} are named"
        )
    answers, names = scores.argmax(1), len(classes)
    count, wrong = len(labels), int((answers != labels).sum())
    pairs = np.bincount(labels * names + answers, minlength=names * names)
    confusion = pairs.reshape(names, names)
    curve = rejection_curve(scores, labels)
    rejections = tuple(rejection(curve, target) for target in TARGETS)
    return Report(
        count=count,
        accuracy=(count - wrong) / count,
        error=wrong / count,
        temperature=temperature,
        loss=cross_entropy(scores / temperature, labels),
        reliability=reliability(softmax(scores / temperature), labels),
        per_class=per_class(confusion, classes),
        confusion=tuple(map(tuple, confusion.tolist())),
        curve=thinned(curve, [*rejections, rejection(curve, 0.0)]),
        rejections=rejections,
    )


def worst(scores: ArrayLike, labels: ArrayLike, k: int) -> NDArray[np.int64]:
    """Indices of at most `k` mistakes with the largest gap between the score of the answer and
    that of the right class, the largest first, then by index.

    Raises:
        LenetError: as `report`, or `k` is negative.
    """
    if k < 0:
        raise LenetError(f"cannot list {k} mistakes: give 0 or more")
    scores, labels = checked(scores, labels)
    gap = scores.max(1) - scores[np.arange(len(labels)), labels]
    mistakes = np.flatnonzero(scores.argmax(1) != labels)
    return mistakes[np.argsort(-gap[mistakes], kind="stable")][:k]


def confidence(scores: ArrayLike) -> NDArray[np.float64]:
    """Best score minus second-best score (the paper, figure 10): (..., C >= 2) -> (...)."""
    scores = finite(scores)
    if scores.shape[-1] < 2:
        raise LenetError("confidence compares the two best scores, but there is only one")
    best = np.partition(scores, -2)
    return best[..., -1] - best[..., -2]


def softmax(scores: ArrayLike) -> NDArray[np.float64]:
    """Probabilities exp(s_i) / sum_j exp(s_j) over the last axis, without overflow."""
    scores = finite(scores)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def cross_entropy(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean of -log softmax(scores) at the labels, in nats."""
    scores = finite(scores)
    top = scores.max(-1)
    log_sums = top + np.log(np.exp(scores - top[:, None]).sum(-1))
    return float((log_sums - scores[np.arange(len(labels)), labels]).mean())


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Reliability:
    """The probability of the answers beside the share that is right, in bins."""
    best, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.ceil(best * BINS).astype(int).clip(1, BINS) - 1
    count = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, values, minlength=BINS) for values in (best, right)]
    return Reliability(
        count=tuple(count.tolist()),
        probability=tuple((sums[0] / np.maximum(count, 1)).tolist()),
        accuracy=tuple((sums[1] / np.maximum(count, 1)).tolist()),
        ece=float(np.abs(sums[1] - sums[0]).sum() / len(labels)),
    )


def fit_temperature(scores: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T at which the mean probability of the answers is the share that is right.

    Probabilities are softmax(scores / T); the scores must be of images that were not trained on
    (Clarte, Loureiro, Krzakala and Zdeborova 2023, "Expectation consistency for calibration of
    neural networks"). Found by bisection, as a higher T makes every answer less probable.

    Raises:
        LenetError: as `report`, or there is no such temperature in `TEMPERATURES`: all answers
            are right, or they are no better than chance.
    """
    values, labels = checked(scores, labels)
    right = float((values.argmax(1) == labels).mean())

    def claimed(temperature: float) -> float:
        return float(softmax(values / temperature).max(1).mean())

    low, high = TEMPERATURES
    if not claimed(high) < right < min(claimed(low), 1.0):
        raise LenetError(f"no temperature makes the mean probability of these answers {right:.1%}")
    while high / low > 1 + 1e-12:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if claimed(middle) > right else (low, middle)
    return (low * high) ** 0.5


def rejection_curve(scores: ArrayLike, labels: ArrayLike) -> Curve:
    """The whole rejection curve: a point for every confidence that occurs. Errors: as `report`."""
    scores, labels = checked(scores, labels)
    wrong = scores.argmax(1) != labels
    levels, level, sizes = np.unique(confidence(scores), return_inverse=True, return_counts=True)
    accepted, mistakes = (
        counts[::-1].cumsum()[::-1]
        for counts in (sizes, np.bincount(level[wrong], minlength=len(levels)))
    )
    levels[0] = 0.0  # the point that rejects nothing must reject nothing of other images either
    return Curve(
        threshold=tuple(levels.tolist()),
        rejected=tuple(((len(labels) - accepted) / len(labels)).tolist()),
        error=tuple((mistakes / accepted).tolist()),
    )


def rejection(curve: Curve, target: float) -> Rejection:
    """The smallest rejection that leaves an error of at most `target`."""
    for i, error in enumerate(curve.error):
        if error <= target:
            return Rejection(target, curve.rejected[i], error, curve.threshold[i])
    return Rejection(target, None, None, None)


def thinned(curve: Curve, rejections: Sequence[Rejection]) -> Curve:
    """The curve at `rejections` and at about `CURVE_POINTS` points, spaced geometrically."""
    count = len(curve.rejected)
    kept = range(count)
    if count > CURVE_POINTS:
        spaced = np.geomspace(1, count, CURVE_POINTS).astype(int) - 1
        marked = [curve.threshold.index(r.threshold) for r in rejections if r.threshold is not None]
        kept = sorted({*spaced.tolist(), *marked})
    columns = (curve.threshold, curve.rejected, curve.error)
    return Curve(*(tuple(column[i] for i in kept) for column in columns))


def per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassReport, ...]:
    """Precision, recall, F1 and support of each class."""
    right, support, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    columns = (
        (right / np.maximum(answered, 1)).tolist(),
        (right / np.maximum(support, 1)).tolist(),
        (2 * right / np.maximum(support + answered, 1)).tolist(),
        support.tolist(),
    )
    return tuple(ClassReport(*row) for row in zip(classes, *columns, strict=True))


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores as finite float64 (N, C) and labels as int64 (N,), or a LenetError."""
    scores, labels = finite(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or scores.shape[1] < 2:
        raise LenetError(
            "scores must be (N, classes) with at least 2 classes and labels (N,), "
            f"not {scores.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise LenetError(f"labels must be integers, not {labels.dtype}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise LenetError(
            f"labels must be in 0..{scores.shape[1] - 1}, not {labels.min()}..{labels.max()}"
        )
    return scores, labels.astype(np.int64, copy=False)


def finite(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores as float64 of at least one dimension and one element, or a LenetError."""
    scores = np.asarray(scores)
    if scores.dtype.kind not in "fiu":
        raise LenetError(f"scores must be numbers, not {scores.dtype}")
    if scores.ndim == 0 or scores.size == 0:
        raise LenetError(f"there are no scores: their shape is {scores.shape}")
    scores = scores.astype(np.float64, copy=False)
    bad = ~(np.abs(scores) < LARGEST_SCORE)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise LenetError(f"scores must be finite; the one at {where} is {scores[where]}")
    return scores
