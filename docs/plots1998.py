"""Figures of LeNet-5 (1998): errors pass by pass, and F6's codes.

As in `lenet.figures`, every function takes arrays or records and returns a matplotlib `Figure`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.figures.style import BLUE, GREY, INK, ORANGE, bare, canvas, logarithmic, mosaic, styled
from lenet.networks.arithmetic import AMPLITUDE
from lenet.networks.codebook import GLYPH_HEIGHT, GLYPH_WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
Points = Sequence[tuple[float, float]]

CELL = 84  # pixels of a side: 3 for a pixel of an image, 7 for one of a glyph


@styled
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
    figure = canvas(4.2 * len(runs), 3.4, "Error, pass by pass", above=0.75)
    spaces = {"wspace": 0.08}
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False, gridspec_kw=spaces)[0]
    logarithmic(panels[0].yaxis)
    panels[0].yaxis.set_major_formatter("{x:g}%")
    parts = {"test": ("test set", ORANGE), "train": ("training set, on line", BLUE)}
    for axes, (title, several) in zip(panels, runs.items(), strict=True):
        tables = [[r for r in records if "step" not in r] for records in several]
        if not tables or not tables[0] or len({len(table) for table in tables}) > 1:
            raise LenetError(f"{title}: runs of one and the same number of passes are needed")
        passes = [r["epoch"] for r in tables[0]]
        for part, (words, color) in parts.items():
            errors = np.array([[100 * (1 - r[f"{part}_accuracy"]) for r in t] for t in tables])
            band = {"color": color, "alpha": 0.18, "linewidth": 0}
            axes.fill_between(passes, errors.min(0), errors.max(0), **band)
            axes.plot(passes, errors.mean(0), color=color, label=words)
            if points := paper.get(title, {}).get(part, ()):
                how = {"marker": "D", "markersize": 5.5, "markerfacecolor": "white", "zorder": 3}
                line = ":" if part == "test" else ""
                label = f"{words}, the paper"
                axes.plot(*np.array(points).T, linestyle=line, color=color, label=label, **how)
        axes.grid()
        axes.set(xlim=(0.5, passes[-1] + 0.7), xlabel="pass", title=title)
        axes.set_xticks([1, *range(5, passes[-1] + 1, 5)])
        axes.legend()
    panels[0].set(ylim=(None, 1.5 * panels[0].get_ylim()[1]), ylabel="wrong answers")
    return figure


@styled
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
    """
    labels, features, codes = np.asarray(labels), np.asarray(features), np.asarray(codes)
    penalties = np.square(features[:, None, :] - codes).sum(axis=2)
    order = np.argsort(penalties, axis=1, kind="stable")[:, :2]
    glyphs = np.stack([features, *codes[order.T]]).reshape(3, -1, GLYPH_HEIGHT, GLYPH_WIDTH)
    rows = np.full((4, len(labels), CELL + 26, CELL + 8), np.nan)  # below a code is its penalty
    rows[0, :, :CELL, :CELL] = np.kron(images / 255, np.ones((3, 3)))
    left = (CELL - 7 * GLYPH_WIDTH) // 2 - 1
    for row, values in zip(rows[1:], glyphs, strict=True):
        darkness = np.kron((values / AMPLITUDE + 1) / 2, np.ones((7, 7)))
        framed = np.pad(darkness, [(0, 0), (1, 1), (1, 1)], constant_values=0.25)
        row[:, : CELL + 2, left : left + framed.shape[2]] = framed
    sheet = mosaic(rows)
    height, width = np.array(sheet.shape) / 100
    title = "F6 draws the digit that it sees"
    figure = canvas(width, height, title, left=1.1, below=0.05)
    axes = figure.subplots()
    axes.imshow(sheet, vmin=0, vmax=1)
    bare(axes)
    down, across = CELL + 27, CELL + 9
    names = ("image", "F6", "nearest code", "next nearest")
    axes.set_yticks(down * np.arange(4) + CELL / 2, names, size=10)
    for column, (label, y, best) in enumerate(zip(labels, penalties, order, strict=True)):
        right = best[0] == label
        colors = (INK if right else ORANGE, GREY)
        x, style = across * column + CELL / 2, {"ha": "center", "size": 10}
        axes.text(x, CELL + 18, f"a {label}", color=GREY if right else ORANGE, ha="center")
        for row, (digit, color) in enumerate(zip(best, colors, strict=True), 2):
            words = f"{digit}: {y[digit]:.1f}"
            weight = "bold" if row == 2 else "normal"
            axes.text(x, down * row + CELL + 18, words, color=color, weight=weight, **style)
    return figure
