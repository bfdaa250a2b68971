"""Figures: arrays, reports and networks in, matplotlib `Figure` out, which notebooks show inline.

curves: training curves; evaluation: confusions, rejection, reliability, mistakes; images: sheets of
images and the steps of preprocessing; networks, architecture: what is inside a network; numbers:
how numbers were read; sweeps: the trials of a sweep; files: the figures of a run, drawn into its
folder; style: the look of all. Its modules import matplotlib, when a figure is first drawn.

What the commands draw, in Python:

    from lenet import figures
    figures.training_curves(run.metrics, "title")           # lenet train --figures
    figures.confusion_matrix(report)                        # lenet evaluate --out
    figures.rejection_curve(report)
    figures.reliability_diagram({"mine": report.reliability}, "title")
    figures.worst_mistakes(images, labels, scores, classes)
    figures.corruptions("name", errors, split)              # lenet evaluate --corruptions --out
    figures.contact_sheet(split, classes)                   # lenet data --sheet
    figures.preprocessing_steps(prediction.steps, "title", prediction.probabilities)  # predict
    figures.reading_figure(picture, reading)                # lenet read --show
    figures.network("mnist", "maps", "photo.jpg")           # lenet show
    figures.parallel_coordinates(axes, errors, "title")     # lenet sweep
"""

import importlib
from typing import Any

HOMES = {
    "confusion_matrix": "evaluation",
    "contact_sheet": "images",
    "corruptions": "files",
    "network": "networks",
    "parallel_coordinates": "sweeps",
    "preprocessing_steps": "images",
    "reading_figure": "numbers",
    "rejection_curve": "evaluation",
    "reliability_diagram": "evaluation",
    "training_curves": "curves",
    "worst_mistakes": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(HOMES)
