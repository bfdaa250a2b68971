"""The figure of a sweep: every trial, from its values to its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet.figures.style import GREY, INK, LINE, ORANGE, canvas, styled

PALE, DARK = (0.72, 0.84, 0.93), (0.0, 0.2, 0.4)  # red, green, blue of a bad and a good trial
TICKS = np.linspace(0, 1, 5)  # heights on an axis of numbers


@dataclass(frozen=True)
class Coordinate:
    """An axis of `parallel_coordinates`."""

    name: str
    values: Sequence[float]  # one for each trial; with `labels`, the index of its label
    log: bool = False
    labels: Sequence[str] = ()  # of an axis of choices, from the bottom up

    def heights(self) -> tuple[NDArray[np.float64], dict[float, str]]:
        """Heights of the values, 0 (bottom) to 1 (top), and of the labels: height -> label."""
        if self.labels:
            places = (np.arange(len(self.labels)) + 0.5) / len(self.labels)
            return places[list(map(int, self.values))], dict(zip(places, self.labels, strict=True))
        values = np.array(self.values, np.float64)
        scaled = np.log(values) if self.log else values
        low, high = np.nanmin(scaled), np.nanmax(scaled)
        if low == high:
            return 0 * scaled + 0.5, {0.5: f"{np.nanmin(values):.3g}"}
        ticks = low + TICKS * (high - low)
        words = [f"{tick:.3g}" for tick in (np.exp(ticks) if self.log else ticks)]
        return (scaled - low) / (high - low), dict(zip(TICKS, words, strict=True))


@styled
def parallel_coordinates(
    axes: Sequence[Coordinate], errors: Sequence[float | None], title: str
) -> Figure:
    """Draws a line for each trial of a sweep, through its value on each axis to its error.

    The best trial is thick and orange, the others are blue, darker the better they are; trials
    that were stopped early are grey and end before the last axis.

    Args:
        axes: each with a value for each trial.
        errors: shares of wrong answers, 0..1; None for trials that were stopped early.
        title: stands above the axes.
    """
    percents = 100 * np.array(errors, np.float64)  # NaN for None
    complete = np.isfinite(percents)
    last = Coordinate("validation error (%)", percents.tolist(), bool(np.nanmin(percents) > 0))
    shown = [*axes, last]
    rows, ticks = zip(*[axis.heights() for axis in shown], strict=True)
    heights = np.stack(rows)
    for row, axis in zip(heights, shown, strict=True):
        if axis.labels:  # lines through the same choice run side by side
            row += np.linspace(-0.3, 0.3, len(errors)) / len(axis.labels)
    order = np.argsort(np.where(complete, -percents, -np.inf))  # the best is drawn last, on top
    places = np.arange(complete.sum()) / max(complete.sum() - 1, 1)  # 0 is the worst
    shades = iter(np.outer(1 - places, PALE) + np.outer(places, DARK))

    figure = canvas(1.5 * len(shown), 3.8, title, left=0.3, right=0.5, below=0.35, above=0.8)
    panel = figure.subplots()
    for trial in order:
        best = trial == order[-1]
        color = ORANGE if best else next(shades) if complete[trial] else LINE
        panel.plot(heights[:, trial], color=color, linewidth=2.4 if best else 1.1)
    style: dict[str, Any] = {"color": GREY, "size": 8, "ha": "right", "va": "center", "zorder": 3}
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for number, words_at in enumerate(ticks):
        panel.axvline(number, color=INK, linewidth=0.8)
        for height, words in words_at.items():
            panel.text(number - 0.03, height, words, bbox=paper, **style)
    kinds = {"the best": ORANGE, "better": DARK, "worse": PALE, "stopped early": LINE}
    for words, color in kinds.items():
        panel.plot([], color=color, label=words)
    panel.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    panel.set_xticks(range(len(shown)), [axis.name for axis in shown])
    panel.set(yticks=[], xlim=(-0.45, len(shown) - 0.8), ylim=(-0.04, 1.04))
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelcolor=INK)
    return figure
