"""Figures: training curves, confusions, rejection, mistakes, data and preprocessing.

Every function takes arrays or reports and returns a `matplotlib.figure.Figure`; `save` writes it.
Images of a data set are drawn as ink on paper: 0 is white, 255 is black.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.evaluation.metrics import Reliability, Report, softmax, worst
from lenet.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, LINE = "#1f2933", "#6b7785", "#c3cad2"
BLUE, ORANGE = "#0072b2", "#d55e00"  # from Okabe and Ito's palette, safe for the colour-blind
DPI = {".png": 100, ".svg": 300}  # an inch is 100 pixels; pictures inside an SVG are finer
PALE, DARK = (0.72, 0.84, 0.93), (0.0, 0.2, 0.4)  # red, green, blue of a bad and a good trial
GAP = 1  # pixels between the pictures of a mosaic
TICKS = 5  # on an axis of parallel coordinates
POINTS_PER_EPOCH = 5  # of the training curves
SMALL: dict[str, Any] = {"color": INK, "size": 9}
COUNTED_CLASSES = 26  # a larger confusion matrix has no room for numbers


def training_curves(records: Sequence[Mapping[str, Any]], title: str) -> "Figure":
    """Accuracy and loss over the epochs.

    The training curves have five points an epoch, each a mean over the examples since the
    beginning of its epoch, as `train_ch6` of "Dive into Deep Learning" (section 7.6) draws them;
    the test accuracy has one.

    Args:
        records: the lines of a run's metrics. A step has `step` (1-based), `position`
            (0.2 is a fifth of the first epoch), `loss`, `accuracy` (0..1) and `examples`, all of
            that step alone. An epoch has no `step`, but `epoch` (1-based), `train_loss`,
            `train_accuracy` and `test_accuracy` or `validation_accuracy`. None stands for a
            number that was not finite.

    Raises:
        LenetError: there are no records.
    """
    if not records:
        raise LenetError("there is nothing to draw: the run has no metrics yet")
    positions, losses, accuracies = training_points(records)
    summaries = [r for r in records if "step" not in r]
    part = "validation" if any("validation_accuracy" in r for r in summaries) else "test"
    tests = {r["epoch"]: number(r[f"{part}_accuracy"]) for r in summaries}
    epochs, percents = sorted(tests), [100 * tests[epoch] for epoch in sorted(tests)]

    figure = canvas(7.2, 5.6, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    marker = "." if len(positions) <= 20 * POINTS_PER_EPOCH else ""
    train: dict[str, Any] = {"color": BLUE, "linewidth": 1.6, "marker": marker}
    test: dict[str, Any] = {"color": ORANGE, "linewidth": 1.6, "marker": "o", "markersize": 4}
    label = f"train, at last {100 * accuracies[-1]:.2f}%"
    upper.plot(positions, 100 * accuracies, label=label, **train)
    if epochs:
        upper.plot(epochs, percents, label=f"{part}, at last {percents[-1]:.2f}%", **test)
    lower.plot(positions, losses, label=f"train, at last {losses[-1]:.3g}", **train)
    for axes in (upper, lower):
        plain(axes)
        axes.grid(color=LINE, linewidth=0.6, alpha=0.6)
        above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, borderaxespad=0, **above)
    upper.set_ylabel("accuracy (%)", color=INK)
    lower.set_ylabel("loss (mean per example)", color=INK)
    lower.set_xlabel("epoch", color=INK)
    lower.set_xlim(0, 1.01 * max([1, *epochs, *np.ceil(positions)]))
    lower.locator_params(axis="x", integer=True)
    finite = losses[np.isfinite(losses)]
    if len(finite) and 0 < 30 * finite.min() < finite.max():
        lower.set_yscale("log")
    return figure


def training_points(
    records: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Positions, losses and accuracies of the training curves, from `training_curves`'s records.

    An epoch of which no step is recorded has one point, its own record.
    """
    steps = {r["step"]: r for r in records if "step" in r}  # of a repeated step, the last record
    table = np.array(
        [
            (r["position"], number(r["loss"]), number(r["accuracy"]), r["examples"])
            for _, r in sorted(steps.items())
        ],
        dtype=np.float64,
    ).reshape(-1, 4)
    epochs = np.ceil(table[:, 0] - 1e-9)
    points = []
    for epoch in np.unique(epochs):
        position, loss, accuracy, examples = table[epochs == epoch].T
        seen = examples.cumsum()
        fifths = epoch - 1 + np.arange(1, POINTS_PER_EPOCH + 1) / POINTS_PER_EPOCH
        reached = np.searchsorted(position, fifths - 1e-9)
        at = np.unique(reached.clip(max=len(position) - 1))  # an epoch under way: its last step
        means = [(values * examples).cumsum() / seen for values in (loss, accuracy)]
        points += zip(position[at], means[0][at], means[1][at], strict=True)
    for r in records:
        if "step" not in r and r["epoch"] not in epochs:
            points.append((r["epoch"], number(r["train_loss"]), number(r["train_accuracy"])))
    positions, losses, accuracies = np.array(sorted(points), dtype=np.float64).reshape(-1, 3).T
    return positions, losses, accuracies


def confusion_matrix(report: Report) -> "Figure":
    """Numbers of examples by true class (rows) and answer (columns); the darker a mistake, the
    larger its share of the true class. Recall stands at the right, precision at the top.
    """
    counts = np.array(report.confusion)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    cell = 0.52 if classes <= COUNTED_CLASSES else 12 / classes
    figure = canvas(
        cell * classes + 2.2, cell * classes + 2.2, "Confusion matrix: " + summary(report)
    )
    axes = figure.subplots()
    # The square root lets a rare confusion be seen beside a frequent one.
    shades = np.where(shares > 0, np.sqrt(shares), np.nan)
    axes.imshow(shades, cmap="Oranges", vmin=0, vmax=1.4 * np.sqrt(shares.max()) or 1)
    axes.imshow(np.where(np.eye(classes), 1.0, np.nan), cmap="Greys", vmin=0, vmax=8)
    if classes <= COUNTED_CLASSES:
        style: dict[str, Any] = {"ha": "center", "va": "center", "size": 9}
        for i, j in np.argwhere(counts):
            weight = "bold" if i == j else "normal"
            axes.text(j, i, f"{counts[i, j]}", color=INK, weight=weight, **style)
        for i, row in enumerate(report.per_class):
            axes.text(classes - 0.1, i, f"{row.recall:.1%}", color=GREY, **style)
            axes.text(i, -0.8, f"{row.precision:.1%}", color=GREY, **style)
        axes.text(classes - 0.1, -0.8, "recall", color=GREY, **style)
        axes.text(-0.7, -0.8, "precision", color=GREY, ha="right", va="center", size=9)
    plain(axes)
    axes.spines[:].set_visible(False)
    names = [literal(name) for name in report.classes]
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), names, **(turned if max(map(len, names)) > 4 else {}))
    axes.set_yticks(range(classes), names)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlabel("answer", color=INK)
    axes.set_ylabel("true class", color=INK)
    return figure


def rejection_curve(report: Report) -> "Figure":
    """Error of the accepted examples against the share of examples rejected, with the targets
    of the report marked (the paper, figure 10).
    """
    rejected, error = 100 * np.array(report.curve.rejected), 100 * np.array(report.curve.error)
    figure = canvas(7.2, 4.6, "Rejection: " + summary(report))
    axes = figure.subplots()
    plain(axes)
    axes.grid(color=LINE, linewidth=0.6, alpha=0.6)
    marker = "." if len(rejected) <= 50 else ""
    # On a logarithmic scale the curve ends where no mistake is left.
    shown = error > 0 if error.any() else error == 0
    axes.plot(rejected[shown], error[shown], color=BLUE, linewidth=1.6, marker=marker)
    if error.any():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    end = rejected[-1]
    if error.any() and not shown.all():
        end = rejected[~shown][0]
        axes.axvline(end, color=LINE)
        words, place = f"no mistakes from {end:.1f}% on  ", axes.get_xaxis_transform()
        axes.text(end, 0.5, words, color=GREY, size=9, ha="right", transform=place)
    for point in report.rejections:
        axes.axhline(100 * point.target, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        if point.rejected is None or point.error is None:
            continue
        x, y = 100 * point.rejected, 100 * point.error
        axes.plot(x, y, "o", color=ORANGE, markersize=6, zorder=3)
        # The curve falls, so there is room at the right above it and at the left below it.
        side = 1 if x < end / 2 else -1
        axes.annotate(
            f"{100 * point.target:g}% error: reject {point.rejected:.2%}",
            (x, 100 * point.target),
            xytext=(8 * side, 5 * side),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="bottom" if side > 0 else "top",
            color=ORANGE,
            size=9,
        )
    axes.set_xlim(0, 1.05 * end or 1)
    if error.any():
        lowest = 50 * min(point.target for point in report.rejections)
        axes.set_ylim(bottom=min(axes.get_ylim()[0], lowest))  # room below the last target
    axes.set_xlabel("rejected (% of the examples)", color=INK)
    axes.set_ylabel("error of the rest (%)", color=INK)
    return figure


def reliability_diagram(found: Mapping[str, Reliability], title: str) -> "Figure":
    """Share of right answers against the probability they were given, and how many answers have
    which probability, a column a network. On the diagonal, probabilities say what they mean.

    Args:
        found: name of a network -> what `lenet.evaluation.metrics.report` found of it.
        title: any words.

    Raises:
        LenetError: there is no network.
    """
    if not found:
        raise LenetError("there is nothing to draw: no network is there")
    figure = canvas(max(2.9 * len(found), 5.4), 4.6, title)
    rows = figure.subplots(2, len(found), sharex=True, sharey="row", squeeze=False)
    for upper, lower, (name, reliability) in zip(*rows, found.items(), strict=True):
        upper.set_title(f"{name}\nexpected calibration error {reliability.ece:.2%}", **SMALL)
        draw_reliability(upper, lower, reliability)
    rows[1, 0].set_ylim(bottom=0.5)  # of all columns, so not before the last has its bars
    rows[0, 0].set_ylabel("share right", color=INK)
    rows[1, 0].set_ylabel("answers", color=INK)
    figure.supxlabel("probability of the answer", color=INK, size=10)
    return figure


def draw_reliability(upper: "Axes", lower: "Axes", found: Reliability) -> None:
    bins = len(found.count)
    table = np.array([found.probability, found.accuracy, found.count])
    probability, share, count = table[:, table[2] > 0]
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    low, high = wilson(share, count)
    bars: dict[str, Any] = {"color": ORANGE, "marker": "o", "markersize": 4, "linewidth": 1.2}
    # What chance alone can do to a share of so few answers.
    upper.errorbar(probability, share, (share - low, high - share), capsize=2, **bars)
    lower.bar((np.arange(bins) + 0.5) / bins, found.count, 0.9 / bins, color=BLUE, alpha=0.6)
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter("{x:g}")
    for axes in (upper, lower):
        plain(axes)
        axes.grid(color=LINE, linewidth=0.6, alpha=0.6)
    upper.set_xlim(0, 1.02)
    upper.set_ylim(0, 1.02)


def wilson(
    share: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends of 95% intervals for shares of so many draws (Wilson 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)  # but for rounding


def corrupted_images(
    images: Mapping[str, NDArray[np.uint8]], errors: Mapping[str, float], title: str
) -> "Figure":
    """A row of pictures for each corruption, with the error under it.

    Args:
        images: corruption -> uint8 (K, H, W), the same K images in each row.
        errors: corruption -> error, 0..1; for those it lacks none is written.
        title: any words.

    Raises:
        LenetError: there are no images.
    """
    if not images:
        raise LenetError("there is nothing to draw: no images are there")
    rows = [np.concatenate([np.pad(image, 2) for image in row], axis=1) for row in images.values()]
    sheet = np.concatenate(rows)
    height, width = len(rows[0]), sheet.shape[1]
    figure = canvas(width / 50 + 2.6, len(sheet) / 50 + 0.5, title)
    axes = figure.subplots()
    draw(axes, sheet, "gray_r")
    plain(axes)
    axes.spines[:].set_visible(False)
    places = (np.arange(len(rows)) + 0.5) * height - 0.5
    axes.set_xticks([])
    axes.set_yticks(places, [name.replace("_", " ") for name in images])
    axes.tick_params(length=0, labelcolor=INK)
    for place, name in zip(places, images, strict=True):
        if name in errors:
            words = f"{errors[name]:.2%}"
            axes.text(width + 45, place, words, color=INK, size=9, ha="right", va="center")
    return figure


def worst_mistakes(
    images: NDArray[np.uint8],
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    k: int = 24,
) -> "Figure":
    """The `k` mistakes with the largest score gap (`lenet.evaluation.metrics.worst`), the worst first: the
    true class and, below it, the answer, each with its probability.

    Args:
        images: uint8 (N, H, W).
        labels: integers (N,).
        scores: float (N, C), larger is better.
        classes: the C names.

    Raises:
        LenetError: as `lenet.evaluation.metrics.worst`, or the numbers of images and labels differ.
    """
    found = worst(scores, labels, k)
    labels, probabilities = np.asarray(labels), softmax(scores)
    same_length(images, labels)
    columns = max(min(len(found), 6), 3)
    rows = max(-(-len(found) // columns), 1)
    titles = {0: "No mistakes", 1: "The worst mistake"}
    title = titles.get(len(found), f"The {len(found)} worst mistakes")
    figure = canvas(1.3 * columns, 1.65 * rows + 0.7, f"{title}\ntrue class → answer (probability)")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, i in zip(grid, found, strict=False):
        draw(axes, images[i], "gray_r")
        right, answer = int(labels[i]), int(probabilities[i].argmax())
        lines = (
            (f"{classes[right]} ({percent(probabilities[i, right])})", GREY, 1.2),
            (f"→ {classes[answer]} ({percent(probabilities[i, answer])})", ORANGE, 1.06),
        )
        for words, color, y in lines:
            axes.text(
                0.5, y, literal(words), color=color, size=8, ha="center", transform=axes.transAxes
            )
    return figure


def contact_sheet(
    images: NDArray[np.uint8], labels: ArrayLike, classes: Sequence[str], per_class: int = 10
) -> "Figure":
    """The first `per_class` images of each class, a row a class.

    Args:
        images: uint8 (N, H, W).
        labels: integers (N,).
        classes: the names, one for each label.

    Raises:
        LenetError: the numbers of images and labels differ.
    """
    labels = np.asarray(labels)
    same_length(images, labels)
    _, height, width = images.shape
    sheet = np.zeros((len(classes) * (height + 4), per_class * (width + 4)), np.uint8)
    for row in range(len(classes)):
        for column, i in enumerate(np.flatnonzero(labels == row)[:per_class]):
            top, left = row * (height + 4) + 2, column * (width + 4) + 2
            sheet[top : top + height, left : left + width] = images[i]
    inches = sheet.shape[1] * 2 / 100, sheet.shape[0] * 2 / 100
    figure = canvas(inches[0] + 1.4, inches[1] + 0.6, f"The first {per_class} images of each class")
    axes = figure.subplots()
    draw(axes, sheet, "gray_r")
    plain(axes)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks(
        (np.arange(len(classes)) + 0.5) * (height + 4) - 0.5, [literal(name) for name in classes]
    )
    axes.tick_params(length=0, labelcolor=INK)
    return figure


def preprocessing_steps(
    steps: Mapping[str, NDArray[Any]], title: str, answer: Mapping[str, float]
) -> "Figure":
    """What was made of a user's picture, step by step, and the answer.

    Args:
        steps: name -> picture (H, W) or (H, W, 3), uint8 or float in 0..1; shown as it is, 0 is
            black.
        title: any words, e.g. the name of the picture.
        answer: class -> probability, 0..1, in the order of the classes; empty if there is none.

    Raises:
        LenetError: there are no steps.
    """
    if not steps:
        raise LenetError("there is nothing to draw: no step of the preprocessing is there")
    pictures, chart = 1.6, 0.24 * len(answer) + 0.5
    width = max(1.25 * len(steps), 5.0)
    if answer:
        figure = canvas(width, pictures + chart + 0.3, title)
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[pictures, chart])
        upper, lower = parts[:, 0]
        axes = lower.subplots()
        best = max(answer, key=lambda name: answer[name])
        colors = [ORANGE if name == best else BLUE for name in answer]
        bar_chart(axes, answer, [percent(share) for share in answer.values()], colors)
        axes.set_xlim(0, 1)
        axes.set_xlabel("probability", color=INK)
    else:
        upper = figure = canvas(width, pictures + 0.3, title)
    grid = upper.subplots(1, len(steps), squeeze=False)[0]
    for axes, (name, step) in zip(grid, steps.items(), strict=True):
        axes.axis("off")
        draw(axes, step, "gray")
        axes.set_anchor("N")
        axes.set_title(literal(name), color=INK, size=9)
    return figure


@dataclass(frozen=True)
class Coordinate:
    """An axis of `parallel_coordinates`.

    Attributes:
        name: what it shows.
        values: one for each line; with `labels`, the index of its label.
        log: whether the axis is logarithmic.
        labels: the words of an axis of choices, from the bottom up.
    """

    name: str
    values: Sequence[float]
    log: bool = False
    labels: Sequence[str] = ()

    def heights(self) -> NDArray[np.float64]:
        """Of the values, from 0 at the bottom to 1 at the top; NaN for NaN."""
        values = np.array(self.values, dtype=np.float64)
        if self.labels:
            return (values + 0.5) / len(self.labels)
        low, high = self.limits()
        scaled = np.log(values) if self.log else values
        return (scaled - low) / (high - low) if high > low else 0 * scaled + 0.5

    def limits(self) -> tuple[float, float]:
        """Of the values or, on a logarithmic axis, of their logarithms."""
        values = np.array(self.values, dtype=np.float64)
        scaled = np.log(values) if self.log else values
        return float(np.nanmin(scaled)), float(np.nanmax(scaled))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and the words there."""
        if self.labels:
            count = len(self.labels)
            return [((i + 0.5) / count, label) for i, label in enumerate(self.labels)]
        low, high = self.limits()
        if low == high:
            return [(0.5, f"{math.exp(low) if self.log else low:.3g}")]
        places = [(height, low + height * (high - low)) for height in np.linspace(0, 1, TICKS)]
        return [(height, f"{math.exp(x) if self.log else x:.3g}") for height, x in places]


def importances(shares: Mapping[str, float], title: str) -> "Figure":
    """A bar for each knob of a sweep: its share (0..1) in what the knobs explain."""
    figure = canvas(6.4, 1.2 + 0.36 * len(shares), title)
    colors = [BLUE] * len(shares)
    bar_chart(figure.subplots(), shares, [f"{share:.0%}" for share in shares.values()], colors)
    return figure


def parallel_coordinates(
    axes: Sequence[Coordinate], errors: Sequence[float | None], title: str
) -> "Figure":
    """A line for each trial of a sweep, through its value on each axis to its error.

    The best trial is orange and thick, the others are blue, the better the darker; trials that were
    stopped early are grey and end before the last axis.

    Args:
        axes: each with a value for each trial.
        errors: shares of wrong answers, 0..1; None for trials that were stopped early.

    Raises:
        LenetError: the axes have values for other trials than there are errors.
    """
    if any(len(axis.values) != len(errors) for axis in axes):
        raise LenetError("every axis must have a value for every trial")
    percents = np.array([math.nan if e is None else 100 * e for e in errors])
    complete = np.isfinite(percents)
    last = Coordinate("validation error (%)", percents.tolist(), bool(np.nanmin(percents) > 0))
    shown = [*axes, last]
    heights = np.stack([axis.heights() for axis in shown])
    for row, axis in zip(heights, shown, strict=True):
        if axis.labels:  # lines through the same choice lie side by side
            row += np.linspace(-0.3, 0.3, len(errors)) / len(axis.labels)
    order = np.argsort(np.where(complete, -percents, -np.inf))  # the best is drawn last, on top
    places = np.arange(complete.sum()) / max(complete.sum() - 1, 1)  # 0 is the worst
    shades = iter(np.outer(1 - places, PALE) + np.outer(places, DARK))

    figure = canvas(1.6 + 1.7 * len(shown), 4.8, title)
    drawn = figure.subplots()
    for trial in order:
        best = trial == order[-1]
        color = ORANGE if best else next(shades) if complete[trial] else LINE
        drawn.plot(heights[:, trial], color=color, linewidth=2.4 if best else 1.1)
    for number, axis in enumerate(shown):
        drawn.axvline(number, color=INK, linewidth=0.8)
        for height, words in axis.ticks():
            place: dict[str, Any] = {"ha": "right", "va": "center", "zorder": 3}
            paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            drawn.text(
                number - 0.03, height, literal(words), color=GREY, size=8, bbox=paper, **place
            )
    above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
    for color, words in (
        (ORANGE, "the best"),
        (DARK, "better"),
        (PALE, "worse"),
        (LINE, "stopped early"),
    ):
        drawn.plot([], color=color, label=words)
    drawn.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=4, **above)
    drawn.set_xticks(range(len(shown)), [literal(axis.name) for axis in shown], color=INK)
    drawn.set_yticks([])
    drawn.set_xlim(-0.45, len(shown) - 0.8)
    drawn.set_ylim(-0.04, 1.04)
    drawn.spines[:].set_visible(False)
    drawn.tick_params(length=0, labelsize=9)
    return figure


def scaling(
    batch_size: Mapping[str, Sequence[tuple[int, float]]],
    threads: Mapping[str, Sequence[tuple[int, float]]],
    images: Mapping[str, Sequence[tuple[int, float]]],
) -> "Figure":
    """Images per second of each contender against batch size, threads and number of images.

    Args:
        batch_size, threads, images: contender -> points (what was varied, images per second).
    """
    figure = canvas(9.6, 3.6, "Training speed of the d2l network")
    panels = figure.subplots(1, 3, sharey=True)
    titles = ("images in a step", "threads", "images in an epoch")
    colors = (GREY, BLUE, ORANGE)
    for axes, title, lines in zip(panels, titles, (batch_size, threads, images), strict=True):
        for color, (name, points) in zip(colors, lines.items(), strict=False):
            values, rates = zip(*points, strict=True)
            axes.plot(values, rates, color=color, marker="o", markersize=4, label=name)
        plain(axes)
        axes.grid(color=LINE, linewidth=0.6, alpha=0.6)
        axes.set_xscale("log", base=2 if title != titles[2] else 10)
        axes.set_yscale("log")
        axes.set_xlabel(title, color=INK)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panels[1].set_xticks([value for value, _ in next(iter(threads.values()))])
    panels[0].set_ylabel("images per second", color=INK)
    panels[0].legend(frameon=False, labelcolor=INK, fontsize=9)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG or SVG, by the suffix of `path`, in one piece.

    Raises:
        LenetError: another suffix, or the file cannot be written; an old file then stays.
    """
    from matplotlib import rc_context

    suffix = path.suffix.lower()
    if suffix not in DPI:
        raise LenetError(f"{path}: a figure is written as .png or .svg, not {suffix or 'without'}")
    # Neither a date nor random names: the same figure gives the same bytes.
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "lenet"}), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DPI[suffix], metadata=metadata)


def canvas(width: float, height: float, title: str) -> "Figure":
    """An empty figure of width x height inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(literal(title), color=INK, size=12)
    return figure


def plain(axes: "Axes") -> None:
    """Takes away what carries no information and greys the rest."""
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(LINE)
    axes.tick_params(which="both", color=LINE, labelcolor=GREY, labelsize=9)
    axes.set_axisbelow(True)


def bare(axes: "Axes") -> None:
    """No ticks, no frame."""
    plain(axes)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, labelcolor=GREY)


def draw(axes: "Axes", image: NDArray[Any], colors: str) -> None:
    """A picture, its pixels as squares; uint8 or float in 0..1."""
    top = 255 if image.dtype == np.uint8 else 1
    axes.imshow(image, cmap=colors, vmin=0, vmax=top, interpolation="nearest")


def mosaic(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """(rows, columns, H, W) -> one picture, with gaps of NaN around each."""
    rows, columns, height, width = pictures.shape
    padded = np.full((rows, columns, height + GAP, width + GAP), np.nan)
    padded[:, :, :height, :width] = pictures
    return padded.swapaxes(1, 2).reshape(rows * (height + GAP), columns * (width + GAP))


def bar_chart(
    axes: "Axes", values: Mapping[str, float], words: Sequence[str], colors: Sequence[str]
) -> None:
    """A bar for each name, from the top down, with words at its end."""
    drawn = axes.barh([literal(name) for name in values], list(values.values()), color=colors)
    axes.bar_label(drawn, words, padding=4, color=INK, size=9)
    plain(axes)
    axes.spines["bottom"].set_visible(False)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.tick_params(length=0, labelcolor=INK)
    axes.tick_params(axis="x", labelbottom=False)


def summary(report: Report) -> str:
    return f"{report.error:.2%} error on {report.count:,} examples"


def percent(share: float) -> str:
    """A probability for people: 0% and 100% only if it is that, to the last digit."""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def number(value: float | None) -> float:
    return math.nan if value is None else value


def literal(words: str) -> str:
    """Words in which a dollar sign does not begin a formula."""
    return words.replace("$", r"\$")


def same_length(images: NDArray[Any], labels: NDArray[Any]) -> None:
    if len(images) != len(labels):
        raise LenetError(f"there are {len(images)} images, but {len(labels)} labels")
