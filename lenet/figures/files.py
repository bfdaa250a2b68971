"""The figures of runs and evaluations, drawn into folders."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
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
    """Draws curves.png and the files of `draw_evaluation` into the folder of a finished run.

    Args:
        folder: a run folder.
        data_dir: as for `lenet.data.load`.

    Raises:
        LenetError: the run is not finished, its data are missing, or a file cannot be written.
    """
    model = checkpoint.read(folder)
    dataset = data.load(model.data, data_dir, *model.pictures)
    if held_out := (model.card.get("recipe") or {}).get("validation"):
        dataset = dataset.hold_out(held_out)
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LenetError(f"{folder / METRICS} cannot be read: {error.strerror}") from None
    save(curves.training_curves([*map(json.loads, lines)], folder.resolve().name), folder / CURVES)
    scores = scorer(model)(dataset.test.images)
    report = metrics.report(scores, dataset.test.labels, model.classes, model.temperature)
    return [folder / CURVES, *draw_evaluation(folder, report, scores, dataset.test)]


def draw_evaluation(
    folder: Path, report: Report, scores: NDArray[np.float32], split: Split
) -> list[Path]:
    """Draws confusion.png, rejection.png, reliability.png and mistakes.png into a folder.

    Args:
        folder: is created if necessary.
        report: of the scores.
        scores: (N, classes), of the split's images.

    Raises:
        LenetError: a file cannot be written.
    """
    figures = evaluation_figures(report, scores, split)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def evaluation_figures(
    report: Report, scores: NDArray[np.float32], split: Split
) -> dict[str, Figure]:
    """Draws confusion, rejection, reliability and mistakes; the arguments are those of
    `draw_evaluation`."""
    title = f"Reliability: {evaluation.summary(report)}"
    scaled = scores / report.temperature
    return {
        "confusion": evaluation.confusion_matrix(report),
        "rejection": evaluation.rejection_curve(report),
        "reliability": evaluation.reliability_diagram({"": report.reliability}, title),
        "mistakes": evaluation.worst_mistakes(split.gray, split.labels, scaled, report.classes),
    }


def draw_corruptions(folder: Path, name: str, errors: dict[str, float], split: Split) -> Path:
    """Draws the figure of `corruptions` into corruptions.png in a folder."""
    save(corruptions(name, errors, split), folder / CORRUPTIONS)
    return folder / CORRUPTIONS


def corruptions(name: str, errors: dict[str, float], split: Split) -> Figure:
    """Draws the split's first images under each corruption, with its error.

    Args:
        name: of the network, for the title.
        errors: corruption -> error, 0..1, as `lenet.evaluation.evaluate.robustness` measures it.
    """
    few = split.images[:EXAMPLES]
    rows = {corruption.replace("_", " "): corrupt(few, corruption) for corruption in errors}
    ends = {corruption.replace("_", " "): f"{error:.2%}" for corruption, error in errors.items()}
    title = f"{name} under corruptions: mean error {np.mean([*errors.values()]):.2%}"
    return images.image_rows({"none": few, **rows}, title, ends)
