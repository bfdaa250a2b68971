"""Training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.figures.style import BLUE, ORANGE, canvas, logarithmic, styled

POINTS_PER_EPOCH = 5


@styled
def training_curves(records: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draws accuracy and loss over the epochs.

    The training curves have five points an epoch, each a mean over the examples since the start
    of its epoch, as `train_ch6` of "Dive into Deep Learning" (section 7.6) draws them; the test
    accuracy has one.

    Args:
        records: the lines of a run's metrics. A step has `step` (1-based), `position`
            (0.2 is a fifth of the first epoch) and the `loss`, `accuracy` (0..1) and `examples`
            of that step alone. An epoch has no `step`, but `epoch` (1-based), `train_loss`,
            `train_accuracy` and `test_accuracy` or `validation_accuracy`. None stands for a
            number that was not finite.

    Raises:
        LenetError: there are no records.
    """
    if not records:
        raise LenetError("there is nothing to draw: the run has no metrics yet")
    positions, losses, accuracies = training_points(records)
    summaries = [r for r in records if "step" not in r]
    part = "validation" if any("validation_accuracy" in r for r in summaries) else "test"
    epochs = [r["epoch"] for r in summaries]
    percents = 100 * np.array([r[f"{part}_accuracy"] for r in summaries], np.float64)

    figure = canvas(6.2, 4.5, title, above=0.75)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.2})
    train = {"color": BLUE, "marker": "." if len(positions) <= 20 * POINTS_PER_EPOCH else ""}
    label = f"train, {100 * accuracies[-1]:.2f}% at the end"
    upper.plot(positions, 100 * accuracies, label=label, **train)
    if epochs:
        label = f"{part}, {percents[-1]:.2f}% at the end"
        upper.plot(epochs, percents, "o-", color=ORANGE, label=label)
    lower.plot(positions, losses, label=f"train, {losses[-1]:.3g} at the end", **train)
    for axes in (upper, lower):
        axes.grid()
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    upper.set_ylabel("accuracy (%)")
    lower.set(ylabel="loss (mean per example)", xlabel="epoch")
    lower.set_xlim(0, 1.01 * max([1, *epochs, *np.ceil(positions)]))
    lower.locator_params(axis="x", integer=True)
    finite = losses[np.isfinite(losses)]
    if len(finite) and 0 < 30 * finite.min() < finite.max():
        logarithmic(lower.yaxis)
    return figure


def training_points(
    records: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Positions, losses and accuracies of the points on the training curves.

    An epoch without recorded steps has one point, from its own record.
    """
    names = "position", "loss", "accuracy", "examples"
    steps = [[r[name] for name in names] for r in records if "step" in r]
    table = np.array(steps, np.float64).reshape(-1, 4)  # None becomes NaN
    epochs = np.ceil(table[:, 0] - 1e-9)
    points = []
    for epoch in np.unique(epochs):
        position, loss, accuracy, examples = table[epochs == epoch].T
        fifths = epoch - 1 + np.arange(1, POINTS_PER_EPOCH + 1) / POINTS_PER_EPOCH
        reached = np.searchsorted(position, fifths - 1e-9)
        at = np.unique(reached.clip(max=len(position) - 1))  # or the last step yet
        means = [(values * examples).cumsum() / examples.cumsum() for values in (loss, accuracy)]
        points += zip(position[at], means[0][at], means[1][at], strict=True)
    for r in records:
        if "step" not in r and r["epoch"] not in epochs:
            points.append((r["epoch"], r["train_loss"], r["train_accuracy"]))
    table = np.array(points, np.float64).reshape(-1, 3)
    positions, losses, accuracies = table[table[:, 0].argsort()].T
    return positions, losses, accuracies
