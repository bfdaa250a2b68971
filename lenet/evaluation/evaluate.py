"""Measures trained networks: from a network and a split to a report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet.data import Split
from lenet.data.corruptions import CORRUPTIONS, corrupt
from lenet.engine.scores import Scorer, scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.files import write_text
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.progress import Progress

if TYPE_CHECKING:
    from lenet.networks.torch import nn

REPORT = "report.json"


def evaluate(
    model: "str | Path | Checkpoint | nn.Module",
    split: Split,
    classes: Sequence[str] | None = None,
    threads: int | None = None,
) -> metrics.Report:
    """Measures a network on a split.

    Args:
        model: a run folder, a weights file, a pretrained name or a `Checkpoint`; or a PyTorch
            module, one of lenet's or any other that maps float32 (N, C, H, W) with values 0..1 to
            scores. It is used in evaluation mode and stays on its device.
        split: images and labels.
        classes: names of the classes; by default those the network was trained with.
        threads: CPU threads; None for as many as this process may use.

    Raises:
        LenetError: there is no such network, or labels or shapes do not fit it.
    """
    if isinstance(model, str | Path):
        model = checkpoint.read(model)
    card: dict[str, Any] = getattr(model, "card", {})
    if isinstance(model, Checkpoint):
        scores = scorer(model, threads)(split.images)
    elif not hasattr(model, "named_modules"):
        raise LenetError(
            f"a {type(model).__name__} cannot be evaluated: give a run folder, a weights file, a "
            "pretrained name or a PyTorch module that maps (N, C, H, W) to scores"
        )
    else:
        from lenet.networks import torch

        scores = torch.scores(model, split.images)
    names = classes or card.get("classes") or [str(n) for n in range(scores.shape[1])]
    return metrics.report(scores, split.labels, names, card.get("temperature") or 1.0)


def robustness(score: Scorer, split: Split) -> dict[str, float]:
    """The error (0..1) on the split's images under each of `lenet.data.corruptions`, by name."""
    errors = {}
    with Progress("corruptions", len(CORRUPTIONS)) as bar:
        for name in CORRUPTIONS:
            answers = score(corrupt(split.images, name)).argmax(1)
            errors[name] = float(np.mean(answers != split.labels))
            bar.advance(note=name)
    return errors


def write_report(folder: Path, report: metrics.Report) -> Path:
    """Writes report.json into a folder, which is made if it is missing; returns the file.

    Raises:
        LenetError: the file cannot be written.
    """
    write_text(folder / REPORT, json.dumps(report.as_dict(), indent=1) + "\n")
    return folder / REPORT
