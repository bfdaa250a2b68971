"""A network as C99 in a folder of its own, tried and measured."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import __version__, data
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.export import Export, c99, compiler
from lenet.export.agreement import Trial
from lenet.export.quantised import Quantised, quantise
from lenet.files import replacing
from lenet.networks.checkpoint import Checkpoint

CALIBRATION = 2000  # training images on which the scales of int8 are chosen


def export(model: Checkpoint, folder: Path, dataset: data.Dataset | None, trial: Trial) -> Export:
    """Writes lenet.h, lenet.c and main.c, and compares them with the network first.

    Without a compiler on this machine the files are written all the same. The facts are `numbers`;
    `bytes` of `code` (None if it was not measured), `weights` and `memory`; `compiled`: by what,
    or why not; `check`: the agreement with the network, of int8 that was not compiled as computed
    in Python; and `loss`: what int8 costs on the test set.

    Args:
        dataset: for int8; its training images choose the scales, its test images measure the loss
            of accuracy. None for float32.

    Raises:
        LenetError: the network has a layer without a form in C, the program answers otherwise
            than the network, or the files cannot be written.
    """
    loss, whole, check = None, None, None
    if dataset:
        images = spread(dataset.train.images, CALIBRATION)
        whole = quantise(model.architecture, model.weights, images)
        loss = {**measure(whole, model, dataset), "calibrated_on": len(images)}
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


def spread(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many of the images, evenly: a folder of pictures is sorted by class."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)]


def measure(whole: Quantised, model: Checkpoint, dataset: data.Dataset) -> dict[str, Any]:
    """The errors, 0..1, of a network and of its int8 form on the test set."""
    images, labels = dataset.test.images, dataset.test.labels
    return {
        "data": dataset.name,
        "count": len(labels),
        "error": float((scorer(model)(images).argmax(1) != labels).mean()),
        "error_int8": float((whole.scores(images).argmax(1) != labels).mean()),
    }


def write(folder: Path, files: Mapping[str, str]) -> dict[Path, int]:
    """Writes all of the files or none; returns their sizes."""
    with ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(replacing(folder / name))
            temporary.write_text(text, encoding="utf-8")
    return {folder / name: len(text.encode()) for name, text in files.items()}


def about(model: Checkpoint) -> list[str]:
    """What the comment at the top of the files says of the network."""
    card, name = model.card, model.architecture.network
    lines = [f"{name}, written by lenet {__version__}. Do not edit: export it again."]
    recipe, trained_on = card.get("recipe") or {}, (card.get("data") or {}).get("name")
    if trained_on:
        lines.append(f"Trained on {Path(trained_on).name} by the recipe {recipe.get('name', '?')}.")
    if isinstance(card.get("error"), float) and card.get("measured_on") == "test":
        lines.append(f"Error on the test set, in float32: {card['error']:.2%}.")
    return lines
