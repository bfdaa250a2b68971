"""How training speed grows, drawn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lenet.figures.style import BLUE, GREY, ORANGE, canvas, logarithmic, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lines = Mapping[str, Sequence[tuple[int, float]]]


@styled
def scaling(batch_size: Lines, threads: Lines, images: Lines) -> "Figure":
    """Images per second of each contender against batch size, threads and number of images.

    Args:
        batch_size, threads, images: contender -> points (what was varied, images per second).
    """
    figure = canvas(8.4, 2.5, "Training speed of the d2l network", left=0.9)
    panels = figure.subplots(1, 3, sharey=True, gridspec_kw={"wspace": 0.08})
    titles = ("images in a step", "threads", "images in an epoch")
    for axes, title, lines in zip(panels, titles, (batch_size, threads, images), strict=True):
        for color, (name, points) in zip((GREY, BLUE, ORANGE), lines.items(), strict=False):
            axes.plot(*zip(*points, strict=True), "o-", color=color, label=name)
        axes.grid()
        axes.set_xscale("log", base=2 if title != titles[2] else 10)
        logarithmic(axes.yaxis)
        axes.set_xlabel(title)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    panels[1].set_xticks([value for value, _ in next(iter(threads.values()))])
    panels[0].set_ylabel("images per second")
    panels[0].legend()
    return figure
