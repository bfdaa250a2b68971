"""Network figures that need no weights: the layers to scale, and which maps are connected."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.figures.style import CLASSES, GREY, INK, LINE, ORANGE, bare, canvas, shape_words, styled
from lenet.networks.architecture import Architecture, Convolution, Layer, Pooling
from lenet.networks.inspection import Row, summary

STACK = 12  # units in a column, where units do not lie in maps
LABELS = 26  # width of the labels on the left; a unit is 1 wide
LINES = "layer", "output", "parameters", "connections", "multiply-adds", "receptive field"


@styled
def architecture(network: Architecture) -> Figure:
    """The network to scale, as in figure 2 of the paper: every unit is a square of the same size.

    Units that do not form maps stand in columns of twelve. Orange marks what one unit sees of the
    previous layer. Below each layer stand the shape of its output and the numbers of its
    parameters, connections and multiply-adds, and the side of a unit's receptive field.
    """
    table = summary(network)
    layers = [layer for layer in network.layers if layer.connections]
    rows = [Row("input", "", table.input_shape, 0, 0, 0, 1), *(r for r in table if r.connections)]
    blocks, middles, right = [], [], 0.0
    for row in rows:
        squares = squares_of(row.output_shape)
        width, height = (squares[:, :2] + squares[:, 2:]).max(0)
        column = max(width + 7, 21)
        middles.append(right + column / 2)
        blocks.append(squares + np.array([middles[-1] - width / 2, -height / 2, 0]))
        right += column
    top = max((squares[:, 1] + squares[:, 2]).max() for squares in blocks) + 2
    bottom = -top - 6.2 * len(LINES) - 1
    inch = 10.6 / (LABELS + right)
    totals = f"{table.parameters:,} parameters, {table.connections:,} connections"
    title = f"{table.network}: {totals}, each square is a unit"
    margins = {"left": 0.2, "right": 0.2, "below": 0.05, "above": 0.45}
    figure = canvas(10.6, (top - bottom) * inch, title, **margins)
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(-LABELS, right), ylim=(bottom, top), aspect="equal")
    for squares in blocks:
        linewidth = 0.5 if squares[0, 2] > 1 else 0.3
        style: dict[str, Any] = {"facecolor": "#e9f1f7", "edgecolor": INK, "linewidth": linewidth}
        for x, y, side in squares:
            axes.add_patch(Rectangle((x, y), side, side, **style))
    for layer, before, squares in zip(layers, blocks, blocks[1:], strict=False):
        draw_window(axes, layer, before, squares)
    y = -top - 4 - 6.2 * np.arange(len(LINES))
    for line, words in enumerate(LINES):
        axes.text(-LABELS + 1, y[line], words, color=GREY, va="center", size=8.5)
    for row, x in zip(rows, middles, strict=True):
        counts = (row.parameters, row.connections, row.multiply_adds)
        words = [f"{count:,}" if row.connections else "" for count in counts]
        field = f"{row.receptive_field}×{row.receptive_field}"
        for line, cell in enumerate([row.name, shape_words(row.output_shape), *words, field]):
            weight = "normal" if line else "bold"
            axes.text(x, y[line], cell, ha="center", va="center", size=8.5, weight=weight)
    return figure


def squares_of(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Left, bottom and side of a layer's maps, the rearmost first, or of its units: (N, 3)."""
    count = np.arange(shape[0])
    if len(shape) == 3 and shape[1] > 1:
        depth = count[::-1] * min(2.0, 20 / shape[0])  # each behind the next, up and to the right
        return np.stack([depth, depth, np.full(shape[0], shape[1])], 1)
    column, down = np.divmod(count, STACK)
    return np.stack([column, min(shape[0], STACK) - 1 - down, np.ones(shape[0])], 1)


def draw_window(
    axes: Axes, layer: Layer, before: NDArray[np.float64], squares: NDArray[np.float64]
) -> None:
    """Outlines a unit and what it sees of the previous layer, and joins them by lines."""
    (x, y), (unit_x, unit_y) = before[:, :2].min(0), squares[:, :2].min(0)
    side_before, side = before[0, 2], squares[0, 2]
    if side_before > 1 and side > 1:
        window, stride = layer.window
        padding = layer.padding if isinstance(layer, Convolution) else 0
        third = side // 3  # away from the border, so that the window stands out
        x += third * stride - padding
        y += side_before - third * stride + padding - window
        width = height = window
        unit_x, unit_y = unit_x + third, unit_y + side - 1 - third
    else:  # the unit sees everything
        width = height = side_before
        if side_before == 1:
            width, height = before[:, :2].max(0) + 1 - (x, y)
        unit_y += round(len(squares[squares[:, 0] == unit_x]) / 2)
    style: dict[str, Any] = {"color": ORANGE, "linewidth": 0.8, "zorder": 3}
    axes.add_patch(Rectangle((x, y), width, height, fill=False, **style))
    axes.add_patch(Rectangle((unit_x, unit_y), 1, 1, fill=False, **style))
    for up, unit_up in ((0, 0), (height, 1)):
        axes.plot([x + width, unit_x], [y + up, unit_y + unit_up], alpha=0.7, **style)


@styled
def connections(network: Architecture) -> Figure:
    """Which maps are connected, drawn as in Table I of the paper.

    It shows the convolutions that have a connection table and the poolings whose maps share input
    maps; if there are none, the second convolution. Raises LenetError if that is missing, too.
    """
    layers: list[Layer] = [
        layer
        for layer in network.layers
        if (isinstance(layer, Convolution) and layer.groups is not None)
        or (isinstance(layer, Pooling) and layer.sources is not None)
    ]
    convolutions = [layer for layer in network.layers if isinstance(layer, Convolution)]
    layers = layers or [*convolutions[1:2]]
    if not layers:
        raise LenetError("the network has no second convolution whose connections could be drawn")
    tables = [connected(layer) for layer in layers]
    outputs = max(map(len, tables))
    cell = min(0.42, 8.5 / outputs)
    low = sum(cell * table.shape[1] + 1.5 for table in tables)
    title = f"{network.network}: which maps are connected"
    figure = canvas(max(cell * outputs, 4.0), low, title, left=0.7, below=0.0, above=0.4)
    width, height = figure.get_size_inches()
    for layer, table in zip(layers, tables, strict=True):
        across, down = cell * np.array(table.shape)
        low -= down + 1.5
        place = (0.7 / width, (low + 0.7) / height, across / width, down / height)
        draw_table(figure.add_axes(place), layer, table, cell)
    return figure


def connected(layer: Layer) -> NDArray[np.bool_]:
    """True where an output map reads an input map: (outputs, inputs)."""
    table = np.zeros((layer.output_shape[0], layer.input_shape[0]), bool)
    if isinstance(layer, Convolution):
        for output, wires in enumerate(layer.wiring):
            table[output, [source for source, _ in wires]] = True
    elif isinstance(layer, Pooling):
        table[range(len(table)), layer.sources or range(len(table))] = True
    return table


def draw_table(axes: Axes, layer: Layer, table: NDArray[np.bool_], cell: float) -> None:
    outputs, inputs = table.shape
    kinds = [f"reads {count} map{'s' if count > 1 else ''}" for count in table.sum(1)]
    total = f"{layer.name} connects {table.sum()} of {table.size} pairs of maps"
    if isinstance(layer, Convolution):
        total += f" by {len({kernel for wires in layer.wiring for _, kernel in wires})} kernels"
        groups = layer.groups or ()
        if any(len(group) > 1 for group in groups):
            sizes = [len(group) for group in groups]
            verbs = ["maps share" if size > 1 else "map has" for size in sizes]
            each = zip(sizes, verbs, groups, strict=True)
            words = [f"{size} {verb} {len(group[0])} kernels" for size, verb, group in each]
            kinds = np.repeat(words, sizes).tolist()
    for kind, color in zip(dict.fromkeys(kinds), CLASSES * len(kinds), strict=False):
        own = table & (np.array(kinds) == kind)[:, None]
        axes.scatter(*own.nonzero(), s=(45 * cell) ** 2, marker="s", color=color, label=kind)
    axes.scatter(*(~table).nonzero(), s=6, color=LINE)
    bare(axes)
    axes.set(xlim=(-0.5, outputs - 0.5), ylim=(inputs - 0.5, -0.5))
    axes.set_xticks(range(outputs), map(str, range(outputs)), size=8)
    axes.set_yticks(range(inputs), map(str, range(inputs)), size=8)
    axes.xaxis.tick_top()
    axes.set_title(f"{total}\noutput map", size=10, loc="left")
    axes.set_ylabel("input map")
    axes.legend(ncols=2, markerscale=0.6, loc="upper left", bbox_to_anchor=(0, 0))
