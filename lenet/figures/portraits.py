"""Figures of one network: its architecture, weights, answers, and what these hang on.

As in `lenet.figures.plots`, every function takes arrays and returns a matplotlib `Figure`. Where signs
matter white is 0, red positive and blue negative.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.figures.plots import (
    GREY,
    INK,
    LINE,
    ORANGE,
    bare,
    canvas,
    literal,
    mosaic,
    plain,
    same_length,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

    from lenet.networks.inspection import Row, Summary

WIDTH = 11.0  # inches of a figure
LEFT, RIGHT, ABOVE = 1.15, 0.8, 0.55  # inches beside and above the panels
TITLE, BETWEEN, BELOW = (
    0.3,
    0.16,
    0.3,
)  # inches above a panel for its words, below it, and below all
STACK = 12  # units above each other where they have no place in a map
LARGEST_CELL = 0.085  # inches of a weight
SIGNED, UNSIGNED = "RdBu_r", "Reds"
PAPER: dict[str, Any] = {"cmap": "gray_r"}
CLASS_COLORS = (  # ten that can be told apart, after Tableau
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2",
    "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#3d3d3d",
)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A picture of a row of a figure, in inches."""

    values: NDArray[Any]
    words: str
    cell: float
    aspect: float = 1.0  # height of a cell over its width

    @property
    def width(self) -> float:
        return self.values.shape[1] * self.cell

    @property
    def height(self) -> float:
        return self.values.shape[0] * self.cell * self.aspect


def kernels(weights: Mapping[str, NDArray[np.floating]], title: str) -> "Figure":
    """All weights of a network, a panel a layer, each with a scale of its own.

    Args:
        weights: name of a layer -> kernels (outputs, inputs, height, width), NaN where there is no
            connection: outputs stand beside, inputs below each other; or (outputs, inputs), where a
            row is an output.
        title: any words.

    Raises:
        LenetError: there are no weights.
    """
    if not weights:
        raise LenetError("there is nothing to draw: the network has no weights")
    panels = []
    for name, values in weights.items():
        outputs, inputs = values.shape[:2]
        known = int(np.isfinite(values).sum())
        if values.ndim == 4:
            picture, largest = beside(values, 60), LARGEST_CELL
            words = f"{known:,} weights; outputs across: {outputs}, inputs down: {inputs}"
        else:
            picture, largest = values, max(LARGEST_CELL / 2, 0.35 / outputs)
            words = f"{known:,} weights; rows: {outputs}, columns: {inputs}"
        cell = min((WIDTH - LEFT - RIGHT) / picture.shape[1], largest)
        panels.append((name, Panel(picture, words, cell)))
    return rows_of_panels(panels, title)


def beside(kernels: NDArray[np.floating], most: int) -> NDArray[np.float64]:
    """Kernels (outputs, inputs, H, W) as one picture; after so many outputs a new line begins."""
    outputs, inputs, height, width = kernels.shape
    across = min(outputs, most)
    lines = -(-outputs // across)
    padded = np.full((lines * across, inputs, height, width), np.nan)
    padded[:outputs] = kernels
    table = padded.reshape(lines, across, inputs, height, width).swapaxes(1, 2)
    return mosaic(table.reshape(lines * inputs, across, height, width))[:-1, :-1]


def feature_maps(
    image: NDArray[Any],
    activations: Mapping[str, NDArray[np.floating]],
    classes: Sequence[str],
    title: str,
) -> "Figure":
    """What every layer answers to an image, a row a layer, each with a scale of its own.

    Args:
        image: the network's input (H, W), or uint8.
        activations: name of a layer -> maps (C, H, W) or units (C,); the last are the scores.
        classes: names of the scores.
        title: any words.

    Raises:
        LenetError: there are no activations, or not as many scores as classes.
    """
    if not activations:
        raise LenetError("there is nothing to draw: no layer has answered")
    scores = list(activations.values())[-1]
    if scores.shape != (len(classes),):
        raise LenetError(f"the last layer has shape {scores.shape}, for {len(classes)} classes")
    room = WIDTH - LEFT - RIGHT
    panels = [("input", Panel(image, shape_words((1, *image.shape)), 1.0 / len(image)))]
    for name, values in activations.items():
        words = shape_words(values.shape)
        if values.ndim == 3:
            picture = beside(values[:, None], 16)
            cell = min(room / picture.shape[1], 0.95 / values.shape[1])
            panels.append((name, Panel(picture, words, cell)))
        else:
            cell = min(room / len(values), 0.6)
            panels.append((name, Panel(values[None], words, cell, aspect=0.26 / cell)))
    figure = rows_of_panels(panels, title)
    axes = figure.axes[2 * (len(panels) - 1)]
    words = [f"{literal(name)}\n{few_digits(s)}" for name, s in zip(classes, scores, strict=True)]
    axes.set_xticks(range(len(classes)), words)
    axes.tick_params(length=0, labelcolor=INK, labelsize=8)
    return figure


def connection_table(table: NDArray[np.bool_], groups: Sequence[str], title: str) -> "Figure":
    """Which maps a convolution connects, drawn as Table I of the paper.

    Args:
        table: (outputs, inputs), true where there is a kernel.
        groups: what kind each output is of, any words; a colour and a legend entry for each.
        title: any words.

    Raises:
        LenetError: there is not a group for each output.
    """
    outputs, inputs = table.shape
    if len(groups) != outputs:
        raise LenetError(f"there are {outputs} outputs, but {len(groups)} groups")
    cell = min(0.42, (WIDTH - 2.5) / outputs)
    figure = canvas(cell * outputs + 2.5, cell * inputs + 2.3, title)
    axes = figure.subplots()
    kinds = list(dict.fromkeys(groups))
    colors = {kind: CLASS_COLORS[i % len(CLASS_COLORS)] for i, kind in enumerate(kinds)}
    for kind in kinds:
        members = [i for i, group in enumerate(groups) if group == kind]
        places = [(o, i) for o in members for i in np.flatnonzero(table[o])]
        axes.scatter(
            *np.array(places).T, s=(45 * cell) ** 2, marker="s", color=colors[kind], label=kind
        )
    missing = np.argwhere(~table)
    axes.scatter(missing[:, 0], missing[:, 1], s=6, color=LINE)
    bare(axes)
    axes.set_aspect("equal")
    axes.set_xlim(-0.6, outputs + 0.1)
    axes.set_ylim(inputs + 0.1, -0.6)
    if outputs <= 40:
        small: dict[str, Any] = {"ha": "center", "va": "center", "size": 8, "color": GREY}
        for output, count in enumerate(table.sum(1)):
            axes.text(output, inputs - 0.2, f"{count}", **small)
        for source, count in enumerate(table.sum(0)):
            axes.text(outputs - 0.2, source, f"{count}", **small)
    axes.set_xticks(range(outputs), [str(i) for i in range(outputs)], size=8)
    axes.set_yticks(range(inputs), [str(i) for i in range(inputs)], size=8)
    axes.xaxis.tick_top()
    axes.set_title("map of the output", color=INK, size=10)
    axes.set_ylabel("map of the input", color=INK)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02)}
    axes.legend(
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        ncols=min(len(kinds), 2),
        markerscale=0.6,
        **below,
    )
    return figure


def architecture(summary: "Summary") -> "Figure":
    """The network to scale, as in figure 2 of the paper: a unit is the same square everywhere.

    Units without a place in a map stand in columns of twelve. Orange is what one unit sees of the
    layer before. Below each layer are the shape of its output, its trainable parameters, its
    connections, its multiply-adds, and the field of a unit in the input.
    """
    blocks = blocks_of(summary)
    left, right = 26.0, blocks[-1].left + blocks[-1].column
    top = max(block.height for block in blocks) / 2 + 2
    bottom = -top - 6.2 * len(COUNTS) - 4
    scale = WIDTH / (left + right)
    totals = f"{summary.parameters:,} parameters, {summary.connections:,} connections"
    figure = canvas(
        WIDTH, (top - bottom) * scale + 0.5, f"{summary.network}: {totals}, a square is a unit"
    )
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(-left, right), ylim=(bottom, top), aspect="equal")
    for before, block in zip([None, *blocks], blocks, strict=False):
        block.draw(axes)
        if before:
            draw_window(axes, before, block)
    style: dict[str, Any] = {"va": "center", "size": 8.5}
    for line, (words, count) in enumerate(COUNTS.items()):
        y = -top - 4 - 6.2 * line
        axes.text(-left + 1, y, words, color=GREY, **style)
        for block in blocks:
            weight = "bold" if line == 0 else "normal"
            words = count(block.row)
            axes.text(block.middle, y, words, color=INK, ha="center", weight=weight, **style)
    return figure


COUNTS: "dict[str, Callable[[Row], str]]" = {
    "layer": lambda row: row.name,
    "output": lambda row: shape_words(row.output_shape),
    "parameters": lambda row: f"{row.parameters:,}" if row.connections else "",
    "connections": lambda row: f"{row.connections:,}" if row.connections else "",
    "multiply-adds": lambda row: f"{row.multiply_adds:,}" if row.connections else "",
    "a unit sees": lambda row: f"{row.receptive_field}×{row.receptive_field}",
}


def shape_words(shape: Sequence[int]) -> str:
    return f"{shape[0]}@{shape[1]}×{shape[2]}" if len(shape) == 3 else str(shape[0])


@dataclass(frozen=True)
class Block:
    """A layer in the drawing of an architecture; lengths are in units.

    Attributes:
        left: where its column begins.
        column: width of the column.
        jump: pixels of the input between neighbouring units.
    """

    row: "Row"
    left: float = 0.0
    column: float = 0.0
    jump: int = 1

    @property
    def maps(self) -> tuple[int, int]:
        """Number and side of the maps; (1, 0) where units are in no map."""
        shape = self.row.output_shape
        return (shape[0], shape[1]) if len(shape) == 3 and shape[1] > 1 else (1, 0)

    @property
    def step(self) -> float:
        """From a map to the next behind it, to the right and up."""
        return min(2.0, 20 / self.maps[0])

    @property
    def width(self) -> float:
        count, side = self.maps
        return side + (count - 1) * self.step if side else -(-self.row.output_shape[0] // STACK)

    @property
    def height(self) -> float:
        count, side = self.maps
        return side + (count - 1) * self.step if side else min(self.row.output_shape[0], STACK)

    @property
    def middle(self) -> float:
        return self.left + self.column / 2

    @property
    def corner(self) -> tuple[float, float]:
        """Lower left corner of the foremost map, or of the units."""
        return self.middle - self.width / 2, -self.height / 2

    def draw(self, axes: "Axes") -> None:
        from matplotlib.patches import Rectangle

        (x, y), (count, side) = self.corner, self.maps
        style: dict[str, Any] = {"facecolor": "#e9f1f7", "edgecolor": INK}
        if side:
            for depth in reversed(range(count)):
                place = x + depth * self.step, y + depth * self.step
                axes.add_patch(Rectangle(place, side, side, linewidth=0.5, **style))
            return
        units = self.row.output_shape[0]
        for unit in range(units):
            column, down = divmod(unit, STACK)
            place = x + column, y + self.height - 1 - down
            axes.add_patch(Rectangle(place, 1, 1, linewidth=0.3, **style))


def blocks_of(summary: "Summary") -> list[Block]:
    """The input and the layers that have connections, from the left."""
    from lenet.networks.inspection import Row

    blank = Row("input", "", summary.input_shape, 0, 0, 0, 1)
    blocks: list[Block] = []
    left, jump, side = 0.0, 1, summary.input_shape[-1]
    for row in (blank, *(row for row in summary if row.connections)):
        block = Block(row)
        jump *= 2 if block.maps[1] and block.maps[1] == side // 2 else 1
        side = block.maps[1]
        block = replace(block, left=left, column=max(block.width + 7, 21), jump=jump)
        blocks.append(block)
        left += block.column
    return blocks


def draw_window(axes: "Axes", before: Block, block: Block) -> None:
    """What one unit of a block sees of the block before it, joined by lines."""
    from matplotlib.patches import Rectangle

    (x, y), side_before = before.corner, before.maps[1]
    (unit_x, unit_y), side = block.corner, block.maps[1]
    if side_before and side:
        stride = block.jump // before.jump
        fields = block.row.receptive_field - before.row.receptive_field
        window = min(fields // before.jump + 1, side_before)
        padding = (stride * (side - 1) + window - side_before + 1) // 2
        third = side // 3  # down and to the right, so that the window is clear of the border
        seen_x = x + third * stride - padding
        seen_y = y + side_before - third * stride + padding - window
        width = height = window
        unit_x, unit_y = unit_x + third, unit_y + side - 1 - third
    else:  # it sees everything
        seen_x, seen_y = x, y
        width, height = (side_before, side_before) if side_before else (before.width, before.height)
        unit_y += round(block.height / 2)
    style: dict[str, Any] = {"color": ORANGE, "linewidth": 0.8, "zorder": 3}
    axes.add_patch(Rectangle((seen_x, seen_y), width, height, fill=False, **style))
    axes.add_patch(Rectangle((unit_x, unit_y), 1, 1, fill=False, **style))
    for up, unit_up in ((0, 0), (height, 1)):
        axes.plot([seen_x + width, unit_x], [seen_y + up, unit_y + unit_up], alpha=0.7, **style)


def saliency(
    image: NDArray[np.floating],
    gradient: NDArray[np.floating],
    fall: NDArray[np.floating],
    name: str,
    square: int,
) -> "Figure":
    """What an answer hangs on: by the gradient of its score, and by hiding parts of the image.

    Args:
        image: the network's input (H, W).
        gradient: of the score with respect to the input (H, W).
        fall: of the score when a square around each place is blank (H, W).
        name: the class whose score it is.
        square: side of that square.
    """
    figure = canvas(10.2, 3.9, f"What the score of {name} hangs on")
    grid = figure.subplots(1, 3)
    titles = (
        "the input",
        f"gradient: red, more ink here\nraises the score of {name}",
        f"occlusion: red, the score of {name} falls\nif {square}×{square} around here are blank",
    )
    for axes, title, values in zip(grid, titles, (image, gradient, fall), strict=True):
        bare(axes)
        axes.set_title(literal(title), color=INK, size=9.5)
        if values is image:
            drawn = axes.imshow(values, interpolation="nearest", **PAPER)
        else:
            drawn = axes.imshow(values, interpolation="nearest", **color_scale(values))
            middle = (float(image.min()) + float(image.max())) / 2
            if image.min() < image.max():
                axes.contour(image, [middle], colors=[INK], linewidths=0.7, alpha=0.6)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.72, pad=0.03, aspect=22)
        plain_bar(bar)
    return figure


def feature_plane(
    points: NDArray[np.floating],
    labels: ArrayLike,
    answers: ArrayLike,
    classes: Sequence[str],
    shares: Sequence[float],
    title: str,
    targets: NDArray[np.floating] | None = None,
) -> "Figure":
    """Examples in a plane, coloured by class; mistakes have a ring of the class answered.

    Args:
        points: (N, 2).
        labels, answers: integers (N,).
        classes: the names.
        shares: of the variance (2,), 0..1.
        title: any words.
        targets: where each class is wanted (classes, 2), drawn as stars.

    Raises:
        LenetError: the numbers of points, labels and answers differ.
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    same_length(points, labels)
    same_length(answers, labels)
    figure = canvas(8.4, 6.6, title)
    axes = figure.subplots()
    plain(axes)
    colors = [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(classes))]
    shown: dict[str, Any] = {"linewidths": 0, "alpha": 0.5, "rasterized": True}
    for label, name in enumerate(classes):
        own = points[labels == label]
        axes.scatter(*own.T, s=7, color=colors[label], **shown)
        axes.plot([], [], "o", color=colors[label], markersize=5, label=literal(name))
    wrong = labels != answers
    rings = [colors[answer] for answer in answers[wrong]]
    axes.scatter(*points[wrong].T, s=26, facecolors="none", edgecolors=rings, linewidths=1)
    ring: dict[str, Any] = {"markerfacecolor": "none", "color": GREY, "markersize": 6}
    axes.plot([], [], "o", label=f"{wrong.sum():,} mistakes, in a\nring of the answer", **ring)
    if targets is not None:
        star: dict[str, Any] = {"s": 150, "marker": "*", "edgecolors": INK, "linewidths": 0.8}
        axes.scatter(*targets.T, c=colors, zorder=4, **star)
        axes.plot([], [], "*", color="white", markeredgecolor=INK, markersize=10, label="targets")
    for label, name in enumerate(classes):
        own = points[labels == label]
        if len(own):
            write_over(axes, np.median(own, axis=0), name)
    for which, share in zip("xy", shares, strict=True):
        order = "first" if which == "x" else "second"
        axes.set(**{f"{which}label": f"{order} principal component, {share:.0%} of the variance"})
    axes.legend(
        frameon=False, labelcolor=INK, fontsize=9, markerscale=2, loc="upper left",
        bbox_to_anchor=(1, 1),
    )  # fmt: skip
    return figure


def write_over(axes: "Axes", place: NDArray[np.floating], words: str) -> None:
    """Words that can be read on top of points."""
    from matplotlib.patheffects import withStroke

    x, y = place
    text = axes.text(x, y, literal(words), color=INK, size=11, weight="bold", ha="center", zorder=5)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


# Rows of panels, laid out in inches


def rows_of_panels(panels: Sequence[tuple[str, Panel]], title: str) -> "Figure":
    """A panel a row: name at the left, words above, and the scale of its colours at the right."""
    height = ABOVE + sum(TITLE + panel.height + BETWEEN for _, panel in panels) + BELOW
    figure = canvas(WIDTH, height, title)
    figure.set_layout_engine("none")
    top = height - ABOVE
    for name, panel in panels:
        top -= TITLE + panel.height
        place = (LEFT / WIDTH, top / height, panel.width / WIDTH, panel.height / height)
        axes = figure.add_axes(place)
        bare(axes)
        values = panel.values
        colors = color_scale(values) if name != "input" else PAPER
        drawn = axes.imshow(values, aspect=panel.aspect, interpolation="nearest", **colors)
        axes.set_title(literal(panel.words), color=GREY, size=8.5, loc="left", pad=4)
        middle = top + panel.height / 2
        figure.text(
            (LEFT - 0.15) / WIDTH, middle / height, literal(name),
            color=INK, size=10, ha="right", va="center",
        )  # fmt: skip
        bar_height = min(max(panel.height, 0.25), 1.3)
        place = (
            (LEFT + panel.width + 0.1) / WIDTH,
            (middle - bar_height / 2) / height,
            0.09 / WIDTH,
            bar_height / height,
        )
        bar = figure.colorbar(drawn, cax=figure.add_axes(place))
        plain_bar(bar, ends_only=bar_height < 0.6)
        top -= BETWEEN
    return figure


def color_scale(values: NDArray[np.floating]) -> dict[str, Any]:
    """Colours with white at 0; as dark in both directions where there are both signs."""
    largest = float(np.nanmax(abs(values), initial=0)) or 1.0
    if np.nanmin(values, initial=0) < 0:
        return {"cmap": SIGNED, "vmin": -largest, "vmax": largest}
    return {"cmap": UNSIGNED, "vmin": 0, "vmax": largest}


def plain_bar(bar: "Colorbar", ends_only: bool = False) -> None:
    """The scale of colours with few numbers."""
    low, high = bar.mappable.get_clim()
    ticks = [low, high] if ends_only or low != -high else [low, 0.0, high]
    bar.set_ticks(ticks, labels=[few_digits(tick) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=GREY, pad=2)
    for label, side in zip(bar.ax.get_yticklabels(), ("bottom", "top"), strict=False):
        label.set_verticalalignment(side if ends_only else "center")
    bar.outline.set_visible(False)


def few_digits(value: float) -> str:
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return digits.replace("-", "−")
