"""Writes a network as C99 into a folder, and checks and measures it first."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lenet import __version__, data
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.export import Export, c99, compiler
from lenet.export.agreement import Trial
from lenet.export.quantised import quantise
from lenet.files import replacing
from lenet.networks.checkpoint import Checkpoint

CALIBRATION = 2000  # training images that the scales of int8 are chosen on


def export(model: Checkpoint, folder: Path, dataset: data.Dataset | None, trial: Trial) -> Export:
    """Compares the C program with the network, then writes lenet.h, lenet.c and main.c.

    Without a compiler on this machine the files are written unchecked. The facts are `numbers`;
    `bytes` of `code` (None if unknown), `weights` and `memory`; `compiled`: how, or why not;
    `check`: the agreement with the network (int8 that was not compiled is computed in Python); and
    `loss`: what int8 costs on the test set.

    Args:
        model: the network.
        folder: is created if necessary.
        dataset: None for float32. For int8, its training images choose the scales, its test
            images measure the loss of accuracy.
        trial: for the comparison.

    Raises:
        LenetError: the network has a layer that C99 export cannot write, the program gives other
            scores than the network, or the files cannot be written.
    """
    loss, whole, check = None, None, None
    if dataset:
        # At even steps, because folders of pictures are sorted by class.
        count = len(dataset.train.images)
        spread = np.linspace(0, count - 1, min(count, CALIBRATION)).astype(np.int64)
        whole = quantise(model.architecture, model.weights, dataset.train.images[spread])
        images, labels = dataset.test.images, dataset.test.labels
        loss = {
            "data": dataset.name,
            "count": len(labels),
            "error": float((scorer(model)(images).argmax(1) != labels).mean()),
            "error_int8": float((whole.scores(images).argmax(1) != labels).mean()),
            "calibrated_on": len(spread),
        }
    numbers = c99.Int8(whole) if whole else c99.Float32(model.architecture, model.weights)
    program = c99.program(numbers, model, about(model))
    built, words = compiler.tried(program.files, trial.images)
    if whole:
        scores = whole.scores(trial.images)
        check = trial.compare(scores * whole.unit)
        if built and not np.array_equal(np.rint(built.scores / whole.unit), scores):
            raise LenetError(f"the C program gives other scores ({words}); nothing was written")
    elif built:
        check = trial.require(built.scores, f"the C program ({words})")
    facts = {
        "numbers": numbers.name,
        "bytes": {
            "code": built.code_bytes if built else None,
            "weights": program.weight_bytes,
            "memory": program.memory_bytes,
        },
        "compiled": words,
        "check": check,
        "loss": loss,
    }
    return Export("c", write(folder, program.files), facts)


def write(folder: Path, files: Mapping[str, str]) -> dict[Path, int]:
    """Writes all of the files or none; returns their sizes."""
    with ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(replacing(folder / name))
            temporary.write_text(text, encoding="utf-8")
    return {folder / name: len(text.encode()) for name, text in files.items()}


def about(model: Checkpoint) -> list[str]:
    """The comment at the top of the files."""
    card, name = model.card, model.architecture.network
    lines = [f"{name}, written by lenet {__version__}. Do not edit; export it again."]
    recipe, trained_on = card.get("recipe") or {}, (card.get("data") or {}).get("name")
    if trained_on:
        by = recipe.get("name", "?")
        lines.append(f"Trained on {Path(trained_on).name} with the recipe {by}.")
    if isinstance(card.get("error"), float) and card.get("measured_on") == "test":
        lines.append(f"Error on the test set, in float32: {card['error']:.2%}.")
    return lines
