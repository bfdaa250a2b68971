"""The look of all figures, and what they share. Sizes are in inches."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.files import replacing

INK, GREY, LINE = "#1f2933", "#6b7785", "#c3cad2"
BLUE, ORANGE = "#0072b2", "#d55e00"  # from Okabe and Ito's palette, safe for the colour-blind
CLASSES = (  # ten that can be told apart, after Tableau
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2"),
    *("#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#3d3d3d"),
)
DASHES = (0, (4, 3))
CHARACTER = 0.075  # mean width of a character at 9 points
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name does not start a formula
    "figure.facecolor": "white",
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "image.cmap": "gray_r",  # ink on paper: 0 is white
    "image.interpolation": "nearest",
    "svg.hashsalt": "lenet",  # the same figure gives the same bytes
}
DPI = {".png": 100, ".svg": 300}  # an inch is 100 pixels; images inside an SVG are finer

styled = rc_context(STYLE)  # as a decorator: draws in this style, and leaves that of others


class InlineFigure(Figure):
    """A figure that a notebook shows where it is the value of a cell."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with rc_context(STYLE):
            self.savefig(file, format="png", dpi=DPI[".png"])
        return file.getvalue()


def canvas(
    width: float,
    height: float,
    title: str,
    left: float = 0.75,
    right: float = 0.25,
    below: float = 0.6,
    above: float = 0.5,
) -> Figure:
    """An empty figure with width x height for its panels, inside the given margins.

    The margins are explicit because matplotlib's automatic layouts draw every figure twice more.
    """
    across, up = left + width + right, below + height + above
    figure = InlineFigure(figsize=(across, up))
    figure.subplots_adjust(left / across, below / up, 1 - right / across, 1 - above / up)
    longest = max(map(len, title.split("\n")))
    size = min(12, 130 * across / max(longest, 1))  # the largest that fits
    figure.suptitle(title, y=1 - 0.12 / up, size=size)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG or SVG, depending on the suffix of `path`.

    Raises:
        LenetError: for any other suffix, or if the file cannot be written; an existing file is
            then kept.
    """
    suffix = path.suffix.lower()
    if suffix not in DPI:
        raise LenetError(f"{path}: name a file that ends in .png or .svg")
    # No date, so that the same figure gives the same bytes.
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DPI[suffix], metadata=metadata)


def bare(axes: Axes) -> None:
    """Removes ticks and frame; labels can still be set."""
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0, labelcolor=INK)


def logarithmic(axis: Axis) -> None:
    """Makes an axis logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def mosaic(pictures: NDArray[Any], gap: int = 1) -> NDArray[np.float64]:
    """Tiles pictures (rows, columns, H, W) into one, with gaps of NaN between them."""
    rows, columns, height, width = pictures.shape
    padded = np.full((rows, columns, height + gap, width + gap), np.nan)
    padded[:, :, :height, :width] = pictures
    picture = padded.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    return picture[:-gap, :-gap]


def percent(share: float) -> str:
    """A probability as a whole percentage; 0% and 100% only if it is exactly 0 or 1."""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def shape_words(shape: Sequence[int]) -> str:
    """A layer's shape as the paper writes it: 6@28×28, or a number of units."""
    return f"{shape[0]}@{shape[1]}×{shape[2]}" if len(shape) == 3 else str(shape[0])


def room(names: Sequence[str]) -> float:
    """Inches that the longest of the names takes beside a panel."""
    return 0.2 + CHARACTER * max(map(len, names), default=0)
