"""Sheets of images, and what preprocessing makes of a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet.data import Split
from lenet.errors import LenetError
from lenet.figures.style import BLUE, ORANGE, bare, canvas, mosaic, percent, room, styled

GAP = 4  # pixels between images


@styled
def image_rows(
    rows: Mapping[str, NDArray[np.uint8]], title: str, ends: Mapping[str, str] | None = None
) -> Figure:
    """Draws a row of images for each name.

    Args:
        rows: name -> uint8 (K, H, W); only K may differ between rows.
        title: stands above the rows.
        ends: name -> words at the end of its row.

    Raises:
        LenetError: there are no images.
    """
    columns, ends = max(map(len, rows.values()), default=0), ends or {}
    if not columns:
        raise LenetError("there are no images to draw")
    _, height, width = next(iter(rows.values())).shape
    pictures = np.full((len(rows), columns, height, width), np.nan)
    for row, images in zip(pictures, rows.values(), strict=True):
        row[: len(images)] = images
    sheet = mosaic(pictures, GAP)
    down, across = sheet.shape
    left, right = max(room([*rows]), 0.5), room([*ends.values()])
    figure = canvas(across / 50, down / 50, title, left=left, right=right, below=0.15)
    axes = figure.subplots()
    axes.imshow(sheet, vmin=0, vmax=255)
    bare(axes)
    places = np.arange(len(rows)) * (height + GAP) + (height - 1) / 2
    axes.set_yticks(places, [*rows])
    for place, name in zip(places, rows, strict=True):
        axes.text(across + 3, place, ends.get(name, ""), va="center")
    return figure


def contact_sheet(split: Split, classes: Sequence[str], per_class: int = 10) -> Figure:
    """Draws the first `per_class` images of each class in a row."""
    rows = {
        name: split.gray[split.labels == label][:per_class] for label, name in enumerate(classes)
    }
    return image_rows(rows, f"The first {per_class} images of each class")


@styled
def preprocessing_steps(
    steps: Mapping[str, NDArray[Any]], title: str, answer: Mapping[str, float]
) -> Figure:
    """Draws what preprocessing made of a picture, step by step, and the answer.

    Args:
        steps: name -> picture (H, W) or (H, W, 3), uint8 or float in 0..1; 0 is black.
        title: stands above them.
        answer: class -> probability, 0..1, in the order of the classes; empty if there is none.
    """
    width, pictures, chart = max(1.25 * len(steps), 4.5), 1.25, 0.24 * len(answer)
    left, below = max(room([*answer]), 0.25), 0.35 if answer else 0.1
    height = pictures + 0.2 + chart
    figure = canvas(width, height, title, left=left, right=0.5, below=below, above=0.65)
    if answer:
        places = figure.add_gridspec(2, 1, height_ratios=[pictures, chart], hspace=0.2)
        upper = places[0].subgridspec(1, len(steps), wspace=0.08)
        axes = figure.add_subplot(places[1])
        best = max(answer, key=lambda name: answer[name])
        colors = [ORANGE if name == best else BLUE for name in answer]
        bars = axes.barh([*answer], [*answer.values()], color=colors)
        axes.bar_label(bars, [percent(share) for share in answer.values()], padding=4)
        bare(axes)
        axes.set_yticks(range(len(answer)), [*answer])
        axes.set(xlim=(0, 1), ylim=(len(answer) - 0.5, -0.5), xlabel="probability")
    else:
        upper = figure.add_gridspec(1, len(steps), wspace=0.08)
    for number, (name, step) in enumerate(steps.items()):
        axes = figure.add_subplot(upper[number], anchor="N")
        bare(axes)
        axes.imshow(step, cmap="gray", vmin=0, vmax=255 if step.dtype == np.uint8 else 1)
        axes.set_title(name)
    return figure
