"""How numbers in a picture were read: boxes, cuts, and the path through the graph."""

from typing import TYPE_CHECKING

import numpy as np

from lenet.data.pictures.decoding import Source, load_picture
from lenet.reading.confidence import Evidence
from lenet.reading.reader import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SURE, UNSURE, CUT = "#1a7f37", "#b35900", "#c62828"


def reading_figure(picture: Source, reading: Reading, title: str = "") -> "Figure":
    """The picture with a box about every number and digit, and every line with its cuts and, over
    it, what each segment of the best path was read as."""
    from lenet.figures.style import canvas

    rows = len(reading.steps)
    figure = canvas(8, 3 + 1.5 * rows, title or reading.text or reading.reason or "no number")
    grid = figure.add_gridspec(rows + 1, 1, height_ratios=[2.5] + [1] * rows)
    axes = figure.add_subplot(grid[0])
    loaded = load_picture(picture)
    extent = (-0.5, loaded.size[0] - 0.5, loaded.size[1] - 0.5, -0.5)
    axes.imshow(loaded.gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    axes.axis("off")
    for number in reading.numbers:
        colour = UNSURE if number.rejected else SURE
        frame(axes, number.box, colour, 2)
        label = f"{number.written or '-'} {number.confidence:.0%} {number.reason or ''}"
        axes.text(number.box[0], number.box[1], label, color=colour, va="bottom")
        for digit in number.digits:
            frame(axes, digit.box, colour, 0.7)
    for row, steps in enumerate(reading.steps, 1):
        draw_line(figure.add_subplot(grid[row]), steps)
    return figure


def frame(axes: "Axes", box: list[int], colour: str, width: float) -> None:
    left, top, right, bottom = np.array(box) - 0.5
    outline = [left, right, right, left, left], [top, top, bottom, bottom, top]
    axes.plot(*outline, color=colour, linewidth=width)


def draw_line(axes: "Axes", steps: Evidence) -> None:
    axes.imshow(1 - steps.line.ink, cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    for seam in steps.segments.seams:
        axes.plot(seam, np.arange(len(seam)), color=CUT, linewidth=0.7)
    for arc, digit in steps.path:
        left, top, right, bottom = steps.segments.boxes[arc].tolist()
        if digit:
            frame(axes, [left, top, right, bottom], SURE, 1)
        axes.text((left + right) / 2, -1, digit or "·", color=SURE, ha="center", va="bottom")
