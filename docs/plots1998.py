"""Figures of LeNet-5 (1998): errors pass by pass, kernels, F6's codes, and all mistakes.

As in `lenet.figures.plots`, every function takes arrays or records and returns a matplotlib `Figure`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.figures.plots import (
    BLUE,
    GAP,
    GREY,
    INK,
    LINE,
    ORANGE,
    bare,
    canvas,
    draw,
    literal,
    mosaic,
    plain,
    same_length,
)
from lenet.networks.codebook import GLYPH_HEIGHT, GLYPH_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
Points = Sequence[tuple[float, float]]

KERNEL = 5  # pixels of a kernel's side
LARGEST = 1.7159  # answer of a unit (paper, appendix A)
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # % error, on the logarithmic axis


def error_curves(
    runs: Mapping[str, Sequence[Records]], paper: Mapping[str, Mapping[str, Points]]
) -> "Figure":
    """Test error and on-line training error after every pass, beside points of the paper.

    Lines are means over the runs of a panel, bands reach from their lowest to their highest.

    Args:
        runs: title of a panel -> for each run the lines of its metrics; those of a pass have
            `epoch`, `train_accuracy` and `test_accuracy` (0..1).
        paper: title of a panel -> "test" and "train" -> (pass, error in %). A dotted line joins
            those of the test set; a point of NaN interrupts it.

    Raises:
        LenetError: a panel has no run, or its runs are not of the same number of passes.
    """
    figure = canvas(4.6 * len(runs) + 0.4, 4.4, "Error, pass by pass")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (title, several) in zip(panels, runs.items(), strict=True):
        tables = [[r for r in records if "step" not in r] for records in several]
        if not tables or not tables[0] or len({len(table) for table in tables}) > 1:
            raise LenetError(f"{title}: runs of one and the same number of passes are needed")
        passes = [r["epoch"] for r in tables[0]]
        for part, words, color in (
            ("test", "test set", ORANGE),
            ("train", "training set, on line", BLUE),
        ):
            errors = np.array([[100 * (1 - r[f"{part}_accuracy"]) for r in t] for t in tables])
            axes.fill_between(
                passes, errors.min(0), errors.max(0), color=color, alpha=0.18, linewidth=0
            )
            axes.plot(passes, errors.mean(0), color=color, linewidth=1.8, label=words)
            points = paper.get(title, {}).get(part, ())
            if points:
                axes.plot(
                    *np.array(points).T,
                    color=color,
                    linestyle=":" if part == "test" else "",
                    linewidth=1.4,
                    marker="D",
                    markersize=5.5,
                    markerfacecolor="white",
                    markeredgewidth=1.4,
                    label=f"{words}, the paper",
                    zorder=3,
                )
        plain(axes)
        axes.grid(color=LINE, linewidth=0.6, alpha=0.6)
        axes.set_yscale("log")
        axes.set_xlim(0.5, passes[-1] + 0.7)
        axes.set_xticks([1, *range(5, passes[-1] + 1, 5)])
        axes.set_xlabel("pass", color=INK)
        axes.set_title(literal(title), color=INK, size=10)
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    low, high = panels[0].get_ylim()
    panels[0].set_yticks(TICKS, [f"{tick:g}%" for tick in TICKS])
    panels[0].set_yticks([], minor=True)
    panels[0].set_ylim(low, 1.5 * high)
    panels[0].set_ylabel("wrong answers", color=INK)
    return figure


def kernels(
    first: NDArray[np.floating], second: NDArray[np.floating], table: NDArray[np.bool_]
) -> "Figure":
    """The kernels of C1 and C3: C3's lie in Table I of the paper, where a kernel takes the place
    of each X, and each row begins with the kernel of C1 that feeds it through S2.

    Args:
        first: kernels of C1, (6, 1, 5, 5).
        second: kernels of C3, (60, 5, 5), ordered by map of C3 and then by map of S2.
        table: (16, 6) booleans, [map of C3, map of S2].

    The darkest shade is the largest weight of the layer.
    """
    outputs, inputs = table.shape
    pictures = np.full((inputs, 2 + outputs, KERNEL, KERNEL), np.nan)
    pictures[:, 0] = first[:, 0] / np.abs(first).max()
    pictures[:, 2:].swapaxes(0, 1)[table] = second / np.abs(second).max()
    figure = canvas(11, 4.5, "The learned kernels: red excites, blue inhibits")
    axes = figure.subplots()
    bare(axes)
    axes.imshow(mosaic(pictures), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")

    def middle(number: Any) -> Any:
        return number * (KERNEL + GAP) + KERNEL // 2

    for output, source in np.argwhere(~table):
        axes.plot(middle(2 + output), middle(source), ".", color=LINE)
    axes.set_xticks(middle(2 + np.arange(outputs)), [str(i) for i in range(outputs)])
    axes.set_yticks(middle(np.arange(inputs)), [str(i) for i in range(inputs)])
    above: dict[str, Any] = {"y": -2.5, "color": INK, "size": 10, "ha": "center"}
    axes.text(middle(0), s="C1", **above)
    words = "C3: a column is a map of C3, a row a map of S2"
    axes.text(middle(2 + (outputs - 1) / 2), s=words, **above)
    return figure


def f6_codes(
    images: NDArray[np.uint8], labels: ArrayLike, features: ArrayLike, codes: ArrayLike
) -> "Figure":
    """What F6 answers to digits, drawn as 7x12 pictures, above the two nearest codes.

    Below each code stand its digit and its penalty y, the squared distance to F6's answer; the
    smallest answers. Wrong answers are orange.

    Args:
        images: uint8 (N, H, W).
        labels: integers (N,).
        features: answers of F6, (N, 84).
        codes: (10, 84) of +1 and -1.

    Raises:
        LenetError: the numbers of images, labels and features differ.
    """
    labels, features, codes = np.asarray(labels), np.asarray(features), np.asarray(codes)
    same_length(images, labels)
    same_length(features, labels)
    penalties = np.square(features[:, None, :] - codes).sum(axis=2)
    figure = canvas(0.86 * len(labels) + 1.2, 5.6, "F6 draws the digit that it sees")
    grid = figure.subplots(4, len(labels), height_ratios=[1, 1.55, 1.55, 1.55], squeeze=False)
    for column, image, label, feature, y in zip(
        grid.T, images, labels, features, penalties, strict=True
    ):
        best, second = np.argsort(y, kind="stable")[:2]
        color = INK if best == label else ORANGE
        for axes in column:
            bare(axes)
        draw(column[0], image, "gray_r")
        pictures = (feature, codes[best], codes[second])
        for axes, values in zip(column[1:], pictures, strict=True):
            glyph(axes, values)
        column[0].set_title(f"a {label}", color=GREY if best == label else ORANGE, size=9)
        column[2].set_xlabel(f"{best}: {y[best]:.1f}", color=color, size=10, weight="bold")
        column[3].set_xlabel(f"{second}: {y[second]:.1f}", color=GREY, size=10)
    for axes, words in zip(
        grid[:, 0], ("image", "F6", "nearest code", "next nearest"), strict=True
    ):
        axes.set_ylabel(words, color=INK, size=10, rotation=0, ha="right", va="center")
    return figure


def glyph(axes: "Axes", values: NDArray[Any]) -> None:
    """84 numbers as a picture: black is as large as a unit's answer can be, white as small."""
    picture = values.reshape(GLYPH_HEIGHT, GLYPH_WIDTH)
    axes.imshow(picture, cmap="gray_r", vmin=-LARGEST, vmax=LARGEST, interpolation="nearest")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(LINE)


def all_mistakes(images: NDArray[np.uint8], labels: ArrayLike, answers: ArrayLike) -> "Figure":
    """Every wrongly answered image in the order of the set, as figure 8 of the paper has them:
    below each the true digit and the answer.

    Args:
        images: uint8 (N, H, W).
        labels: integers (N,).
        answers: integers (N,).

    Raises:
        LenetError: the numbers of images, labels and answers differ.
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    same_length(images, labels)
    same_length(answers, labels)
    wrong = np.flatnonzero(answers != labels)
    columns = 12
    rows = max(-(-len(wrong) // columns), 1)
    title = f"{len(wrong)} mistakes on {len(labels):,} images: true class → answer"
    figure = canvas(0.8 * columns, 1.05 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, i in zip(grid, wrong, strict=False):
        draw(axes, images[i], "gray_r")
        words: dict[str, Any] = {"size": 10, "va": "top", "transform": axes.transAxes}
        axes.text(0.5, -0.03, f"{labels[i]} → ", color=GREY, ha="right", **words)
        axes.text(0.5, -0.03, f"{answers[i]}", color=ORANGE, ha="left", weight="bold", **words)
    return figure
