"""Draws the pictures of first-principles.md: ``python docs/figures.py`` from the root.

Every number in them is computed with `lenet.networks.primitives`.
"""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lenet.networks.primitives import (
    corr2d,
    invariance_error,
    learn_kernel,
    pixels_seen,
    pool2d,
    receptive_field,
)

INK, GREY, LINE = "#1f2933", "#6b7785", "#c3cad2"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#b3478f"
BLUE_TINT, ORANGE_TINT = "#cfe6f5", "#fbdcc6"

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
}


def correlation() -> Figure:
    """One window of the 3x3 input, the 2x2 kernel, and the output it gives."""
    X = torch.arange(9.0).reshape(3, 3)
    K = torch.arange(4.0).reshape(2, 2)
    Y = corr2d(X, K)
    figure, axes = canvas(7.6, 2.7, width=11.8, height=4.4)
    place = [(0.3, 1.2), (5.0, 1.7), (9.2, 1.7)]
    numbers(axes, X, place[0], {(i, j): BLUE_TINT for i in (0, 1) for j in (0, 1)})
    numbers(axes, K, place[1], {(i, j): "#eef1f4" for i in (0, 1) for j in (0, 1)})
    numbers(axes, Y, place[2], {(0, 0): ORANGE_TINT})
    axes.add_patch(Rectangle((0.3, 2.2), 2, 2, fill=False, edgecolor=BLUE, linewidth=2.4))
    axes.add_patch(Rectangle((9.2, 2.7), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.4))
    axes.text(4.15, 2.7, "∗", fontsize=18, ha="center", va="center")
    axes.text(8.1, 2.7, "=", fontsize=18, ha="center", va="center")
    for x, label in ((1.8, "input X, 3×3"), (6.0, "kernel K, 2×2"), (10.2, "output Y, 2×2")):
        axes.text(x, 0.85, label, ha="center", va="center", color=GREY)
    axes.text(
        6.3, 0.2, "0·0 + 1·1 + 3·2 + 4·3 = 19", ha="center", va="center", fontsize=12, color=ORANGE
    )
    return figure


def edges() -> Figure:
    """The image with two vertical edges, the answer of [1, -1], and the kernel being learned."""
    X = torch.ones(6, 8)
    X[:, 2:6] = 0
    Y = corr2d(X, torch.tensor([[1.0, -1.0]]))
    figure = Figure(figsize=(7.6, 2.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[8, 7, 9])
    picture(left, X, "X: white, black, white", cmap="gray", low=0, high=1)
    picture(middle, Y, "Y = corr2d(X, [[1, −1]])", cmap="RdBu_r", low=-1.6, high=1.6)
    for i, j in ((i, j) for i in range(6) for j in (1, 5)):
        middle.text(j, i, f"{Y[i, j]:.0f}".replace("-", "−"), ha="center", va="center", color=INK)

    steps = range(0, 21)
    kernels = [learned(X, Y, step) for step in steps]
    for part, color, goal in ((0, BLUE, 1), (1, ORANGE, -1)):
        right.axhline(goal, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
        right.plot(steps, [float(K[0, part]) for K in kernels], ".-", color=color, linewidth=1.6)
        right.text(20.6, goal, f"{goal}".replace("-", "−"), color=color, va="center")
    right.axvline(10, color=LINE, linewidth=1)
    right.text(10.3, 0, "10 steps", color=GREY, va="center")
    right.set(xlabel="step", xlim=(-0.5, 20.3), ylim=(-1.5, 1.5), yticks=[-1, 0, 1])
    right.set_title("the kernel's two numbers, learned", fontsize=10)
    return figure


def receptive_fields() -> Figure:
    """What one unit of each of LeNet's layers sees of a 28x28 digit."""
    layers = [("C1", (5, 2, 1)), ("S2", (2, 0, 2)), ("C3", (5, 0, 1)), ("S4", (2, 0, 2))]
    units = {"C1": 14, "S2": 7, "C3": 4, "S4": 2}
    colors = {"C1": BLUE, "S2": GREEN, "C3": ORANGE, "S4": PINK}
    figure, axes = canvas(7.6, 3.9, width=57, height=29)
    axes.imshow(zero(28).numpy(), cmap="gray_r", vmax=2, extent=(0.5, 28.5, 0.5, 28.5))
    for edge in range(29):
        axes.plot([0.5, 28.5], [edge + 0.5] * 2, color=LINE, linewidth=0.4)
        axes.plot([edge + 0.5] * 2, [0.5, 28.5], color=LINE, linewidth=0.4)
    for x, label in ((31, "one unit of"), (41, "sees"), (48, "neighbour's field")):
        axes.text(x, 24.5, label, color=GREY, va="center")
    for row, (name, _) in enumerate(layers):
        chain = [layer for _, layer in layers[: row + 1]]
        field, seen = receptive_field(chain), pixels_seen(chain, units[name], 28)
        inset = 0.3 * (len(layers) - 1 - row)  # so that edges in common stay apart
        axes.add_patch(
            Rectangle(
                (0.5 + seen.start + inset, 28.5 - seen.stop + inset),
                len(seen) - 2 * inset,
                len(seen) - 2 * inset,
                fill=False,
                edgecolor=colors[name],
                linewidth=2.2,
                zorder=3,
            )
        )
        y = 20 - 4.5 * row
        axes.add_patch(Rectangle((31, y - 0.9), 1.8, 1.8, facecolor=colors[name]))
        axes.text(34, y, name, fontsize=13, va="center")
        axes.text(41, y, f"{field.size}×{field.size}", fontsize=13, va="center")
        axes.text(48, y, f"{field.jump} px away", fontsize=13, va="center")
    return figure


def shifts() -> Figure:
    """A digit and the same one pixel to the right: how much each kind of answer changes."""
    scene = zero(30)[1:29]
    views = {"the digit": scene[:, 1:], "moved 1 pixel right": scene[:, :-1]}

    def edges(view: Tensor) -> Tensor:
        return corr2d(view, torch.tensor([[1.0, -1.0]])).relu()

    answers: dict[str, Callable[[Tensor], Tensor]] = {
        "image": lambda view: view,
        "edges": edges,
        "edges, 4×4 max pooling": lambda view: pool2d(edges(view), 4, stride=4),
        "edges, largest of all": lambda view: pool2d(edges(view), 28),
    }
    figure = Figure(figsize=(7.6, 4.3), layout="constrained")
    for column, (title, answer) in zip(figure.subplots(2, 4).T, answers.items(), strict=True):
        cmap, high = ("gray_r", 1.3) if title == "image" else ("Oranges", 1.0)
        for axes, view in zip(column, views.values(), strict=True):
            picture(axes, answer(view)[:, :28], "", cmap, 0, high)
        column[0].set_title(title, fontsize=10)
        change = invariance_error(answer, scene, (0, 1))
        column[1].text(
            0.5,
            -0.07,
            f"change {change:.2f}",
            transform=column[1].transAxes,
            ha="center",
            va="top",
            fontsize=11,
        )
        if title == "image":
            for axes, label in zip(column, views, strict=True):
                axes.set_ylabel(label, fontsize=10)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "correlation": correlation,
    "edges": edges,
    "receptive-fields": receptive_fields,
    "shifts": shifts,
}


def zero(n: int) -> Tensor:
    """A handwritten 0 by formula: a soft elliptic ring, (n, n), values 0..1."""
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    middle = (n - 1) / 2
    radius = torch.hypot((y - middle) / 10, (x - middle) / 7)
    return torch.exp(-(((radius - 0.8) / 0.15) ** 2))


def learned(X: Tensor, Y: Tensor, steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with redirect_stdout(io.StringIO()):
        return learn_kernel(X, Y, (1, 2), steps=steps, generator=generator)[0]


def canvas(
    inches_wide: float, inches_high: float, width: float, height: float
) -> tuple[Figure, Axes]:
    """An empty drawing of width x height units, y upwards, without axes."""
    figure = Figure(figsize=(inches_wide, inches_high))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def numbers(
    axes: Axes, values: Tensor, corner: tuple[float, float], tints: dict[tuple[int, int], str]
) -> None:
    """A matrix as a grid of unit squares with its lower left corner there."""
    rows, columns = values.shape
    for i in range(rows):
        for j in range(columns):
            x, y = corner[0] + j, corner[1] + rows - 1 - i
            tint = tints.get((i, j), "white")
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=tint, edgecolor=LINE))
            axes.text(
                x + 0.5, y + 0.48, f"{values[i, j]:.0f}", ha="center", va="center", fontsize=13
            )


def picture(axes: Axes, values: Tensor, title: str, cmap: str, low: float, high: float) -> None:
    """A matrix as an image with fine lines between its pixels."""
    axes.imshow(values.numpy(), cmap=cmap, vmin=low, vmax=high)
    rows, columns = values.shape
    axes.set_xticks([j - 0.5 for j in range(1, columns)], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, rows)], minor=True)
    axes.grid(which="minor", color=LINE, linewidth=0.25 if columns > 10 else 0.8)
    axes.tick_params(which="both", length=0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.set_title(title, fontsize=10)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        with rc_context(STYLE):
            draw().savefig(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
