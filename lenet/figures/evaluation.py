"""Figures of an evaluation: confusions, rejection, reliability, mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.evaluation.metrics import Reliability, Report, softmax, worst
from lenet.figures.style import (
    BLUE,
    CHARACTER,
    DASHES,
    GREY,
    LINE,
    ORANGE,
    bare,
    canvas,
    logarithmic,
    mosaic,
    percent,
    room,
    styled,
)

COUNTED_CLASSES = 26  # with more classes, a confusion matrix has no room for numbers
CAPTION, MARGIN = 9, 3  # pixels above an image, for its two lines of text, and beside it


@styled
def confusion_matrix(report: Report) -> Figure:
    """Draws the numbers of examples by true class (rows) and answer (columns).

    The darker a mistake, the larger its share of the true class. Recall is on the right, precision
    at the top.
    """
    counts = np.array(report.confusion)
    classes, names = len(counts), report.classes
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    side = 0.52 * classes if classes <= COUNTED_CLASSES else 12.0
    turned = max(map(len, names)) > 4
    left, below = 0.35 + max(room(names), 0.7), 0.5 + 0.7 * room(names) if turned else 0.6
    title = "Confusion matrix: " + summary(report)
    figure = canvas(side, side, title, left=left, right=0.7, below=below, above=0.85)
    axes = figure.subplots()
    # The square root keeps a rare confusion visible beside a frequent one.
    shades = np.where(shares > 0, np.sqrt(shares), np.nan)
    axes.imshow(shades, cmap="Oranges", vmin=0, vmax=1.4 * np.sqrt(shares.max()) or 1)
    axes.imshow(np.where(np.eye(classes), 1.0, np.nan), cmap="Greys", vmin=0, vmax=8)
    bare(axes)
    if classes <= COUNTED_CLASSES:
        style: dict[str, Any] = {"ha": "center", "va": "center"}
        for i, j in np.argwhere(counts):
            axes.text(j, i, f"{counts[i, j]}", weight="bold" if i == j else "normal", **style)
        for i, row in enumerate(report.per_class):
            axes.text(classes + 0.05, i, f"{row.recall:.1%}", color=GREY, **style)
            axes.text(i, -0.8, f"{row.precision:.1%}", color=GREY, **style)
        axes.text(classes + 0.05, -0.8, "recall", color=GREY, **style)
        axes.text(-0.7, -0.8, "precision", color=GREY, ha="right", va="center")
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(classes), names, **slant)
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="answer", ylabel="true class")
    return figure


@styled
def rejection_curve(report: Report) -> Figure:
    """Draws the error of the accepted examples against the share of examples rejected, and marks
    the targets of the report (figure 10 of the paper).
    """
    rejected, error = 100 * np.array(report.curve.rejected), 100 * np.array(report.curve.error)
    figure = canvas(6.2, 3.6, "Rejection: " + summary(report))
    axes = figure.subplots()
    axes.grid()
    # On a logarithmic scale the curve ends where no mistakes are left.
    shown, end = error > 0 if error.any() else error == 0, rejected[-1]
    axes.plot(rejected[shown], error[shown], color=BLUE, marker="." if len(error) <= 50 else "")
    if error.any():
        logarithmic(axes.yaxis)
        if not shown.all():
            end = rejected[~shown][0]
            axes.axvline(end, color=LINE, linewidth=1)
            words, place = f"no mistakes from {end:.1f}% on  ", axes.get_xaxis_transform()
            axes.text(end, 0.4, words, color=GREY, ha="right", transform=place)
    for point in report.rejections:
        axes.axhline(100 * point.target, color=GREY, linewidth=0.8, linestyle=DASHES)
        if point.rejected is None or point.error is None:
            continue
        x, y = 100 * point.rejected, 100 * point.error
        axes.plot(x, y, "o", color=ORANGE, markersize=6, zorder=3)
        # The curve falls, so there is room to the right above it and to the left below it.
        side, ha, va = (1, "left", "bottom") if x < end / 2 else (-1, "right", "top")
        target, offset = 100 * point.target, (8 * side, 5 * side)
        words = f"{target:g}% error: reject {point.rejected:.2%}"
        style: dict[str, Any] = {"textcoords": "offset points", "ha": ha, "va": va}
        axes.annotate(words, (x, target), offset, color=ORANGE, **style)
    axes.set_xlim(0, 1.05 * end or 1)
    if error.any():
        low, high = axes.get_ylim()
        targets = [100 * point.target for point in report.rejections]
        axes.set_ylim(min(low, min(targets) / 2), max(high, max(targets) * 1.6))  # and their labels
    axes.set(xlabel="rejected (% of all examples)", ylabel="error of the rest (%)")
    return figure


@styled
def reliability_diagram(networks: Mapping[str, Reliability], title: str) -> Figure:
    """Draws the share of right answers against their probability, and how many answers have which
    probability, with one column for each network. On the diagonal, probabilities mean what they
    say.
    """
    columns = len(networks)
    width = 2.5 * columns + 0.35 * (columns - 1) if columns > 1 else 4.4
    figure = canvas(width, 3.4, title, above=0.9 if any(networks) else 0.75)
    spaces = {"wspace": 0.14, "hspace": 0.12}
    grid = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False, gridspec_kw=spaces)
    for upper, lower, (name, of) in zip(*grid, networks.items(), strict=True):
        upper.set_title(f"{name}\nexpected calibration error {of.ece:.2%}".strip())
        bins = len(of.count)
        table = np.array([of.probability, of.accuracy, of.count])
        probability, share, count = table[:, table[2] > 0]
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=DASHES)
        low, high = wilson(share, count)  # what chance alone does to a share of so few answers
        bars: dict[str, Any] = {"color": ORANGE, "marker": "o", "linewidth": 1.2, "capsize": 2}
        upper.errorbar(probability, share, (share - low, high - share), **bars)
        lower.bar((np.arange(bins) + 0.5) / bins, of.count, 0.9 / bins, color=BLUE, alpha=0.6)
        upper.set(xlim=(0, 1.02), ylim=(0, 1.02))
        upper.grid()
        lower.grid()
    logarithmic(grid[1, 0].yaxis)
    # Only powers of ten, for all columns at once: they share the axis.
    largest = max(max(of.count) for of in networks.values())
    grid[1, 0].set_ylim(0.5, 2 * largest)
    grid[1, 0].set_yticks([10**power for power in range(len(str(largest)))])
    grid[0, 0].set_ylabel("right answers (share)")
    grid[1, 0].set_ylabel("answers")
    figure.supxlabel("probability of the answer", size=10, y=0.03)
    return figure


def wilson(
    share: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends of 95% intervals for shares of `count` draws (Wilson 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)  # despite rounding


def worst_mistakes(
    images: NDArray[np.uint8],
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    most: int = 24,
) -> Figure:
    """Draws the mistakes that `lenet.evaluation.metrics.worst` finds, at most `most`, the worst
    first; otherwise as `mistakes`.
    """
    shown = worst(scores, labels, most)
    titles = {0: "No mistakes", 1: "The worst mistake"}
    title = titles.get(len(shown), f"The {len(shown)} worst mistakes")
    return mistakes(images, labels, scores, classes, shown, title)


@styled
def mistakes(
    images: NDArray[np.uint8],
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    shown: NDArray[np.integer],
    title: str,
    columns: int = 6,
) -> Figure:
    """Draws images, each below its true class and the answer, with their probabilities.

    Args:
        images: uint8 (N, H, W).
        labels: integers (N,).
        scores: float (N, C), larger is better; their softmax gives the probabilities.
        classes: the C names.
        shown: indices of the images to draw.
        title: stands above them.
        columns: images in a row.

    Raises:
        LenetError: the numbers of images and labels differ, or scores are not finite.
    """
    labels, probabilities = np.asarray(labels), softmax(scores)
    if len(images) != len(labels):
        raise LenetError(f"there are {len(images)} images, but {len(labels)} labels")
    height, width = images.shape[1] + CAPTION, images.shape[2] + 2 * MARGIN
    columns = max(min(len(shown), columns), 3)
    rows = max(-(-len(shown) // columns), 1)
    pictures = np.full((rows * columns, height, width), np.nan)
    pictures[: len(shown), CAPTION:, MARGIN:-MARGIN] = images[shown]
    sheet = mosaic(pictures.reshape(rows, columns, height, width))
    pixel = max(1.05, CHARACTER * (max(map(len, classes)) + 9)) / width
    down, across = pixel * np.array(sheet.shape)
    title += "\ntrue class → answer (probability)"
    figure = canvas(across, down, title, left=0.15, right=0.15, below=0.15, above=0.6)
    axes = figure.subplots()
    bare(axes)
    axes.imshow(sheet, vmin=0, vmax=255)
    for place, i in enumerate(shown):
        row, column = divmod(place, columns)
        x, y = column * (width + 1) + width / 2, row * (height + 1)
        right, answer = int(labels[i]), int(probabilities[i].argmax())
        for arrow, label, down, color in (("", right, 3.2, GREY), ("→ ", answer, 7.7, ORANGE)):
            caption = f"{arrow}{classes[label]} ({percent(probabilities[i, label])})"
            axes.text(x - 0.5, y + down, caption, color=color, size=8, ha="center")
    return figure


def summary(report: Report) -> str:
    return f"{report.error:.2%} error on {report.count:,} examples"
