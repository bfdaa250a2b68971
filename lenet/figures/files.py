"""The figures of runs and evaluations, drawn into folders."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.data import Split
from lenet.data.corruptions import corrupt
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.evaluation.metrics import Report
from lenet.figures import curves, evaluation, images
from lenet.figures.style import save
from lenet.networks import checkpoint

CURVES, CORRUPTIONS = "curves.png", "corruptions.png"
METRICS = "metrics.jsonl"
EXAMPLES = 10  # images in a row under a corruption


def draw_run(folder: Path, data_dir: str | Path | None = None) -> list[Path]:
    """Draws all figures of a finished run into its folder, from what lies there and its data.

    Args:
        folder: a run folder.
        data_dir: as for `lenet.data.load`.

    Returns:
        The files: curves.png and those of `draw_evaluation`.

    Raises:
        LenetError: the run is not finished, its data cannot be had, or a file cannot be written.
    """
    model = checkpoint.read(folder)
    dataset = data.load(model.data, data_dir)
    if held_out := (model.card.get("recipe") or {}).get("validation"):
        dataset = dataset.hold_out(held_out)
    scores = scorer(model)(dataset.test.images)
    report = metrics.report(scores, dataset.test.labels, model.classes, model.temperature)
    return [draw_curves(folder), *draw_evaluation(folder, report, scores, dataset.test)]


def draw_curves(folder: Path) -> Path:
    """Draws the training curves of a run folder into it, also of a run that is under way.

    Raises:
        LenetError: it has no metrics yet, or the file cannot be written.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LenetError(f"{folder / METRICS} cannot be read: {error.strerror}") from None
    save(curves.training_curves([*map(json.loads, lines)], folder.resolve().name), folder / CURVES)
    return folder / CURVES


def draw_evaluation(
    folder: Path, report: Report, scores: NDArray[np.float32], split: Split
) -> list[Path]:
    """Draws an evaluation into a folder, which is made where it is missing.

    Args:
        report: what `lenet.evaluation.metrics.report` says of the scores.
        scores: (N, classes), of the split's images.

    Returns:
        The files: confusion.png, rejection.png, reliability.png and mistakes.png.

    Raises:
        LenetError: a file cannot be written.
    """
    title = f"Reliability: {evaluation.summary(report)}"
    shares = scores / report.temperature
    figures = {
        "confusion": evaluation.confusion_matrix(report),
        "rejection": evaluation.rejection_curve(report),
        "reliability": evaluation.reliability_diagram({"": report.reliability}, title),
        "mistakes": evaluation.worst_mistakes(split.images, split.labels, shares, report.classes),
    }
    files = {folder / f"{name}.png": figure for name, figure in figures.items()}
    for file, figure in files.items():
        save(figure, file)
    return [*files]


def draw_corruptions(folder: Path, name: str, errors: dict[str, float], split: Split) -> Path:
    """Draws corruptions.png: the split's first images under each corruption, with its error.

    Args:
        name: what the network is called.
        errors: corruption -> error, 0..1.
    """
    few = split.images[:EXAMPLES]
    rows = {corruption.replace("_", " "): corrupt(few, corruption) for corruption in errors}
    ends = dict(zip(rows, (f"{error:.2%}" for error in errors.values()), strict=True))
    title = f"{name} under corruptions: mean error {np.mean([*errors.values()]):.2%}"
    save(images.image_rows({"none": few, **rows}, title, ends), folder / CORRUPTIONS)
    return folder / CORRUPTIONS
