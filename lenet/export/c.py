"""A network as C99 in a folder of its own, tried and measured."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import __version__, data
from lenet.errors import LenetError
from lenet.evaluation import evaluation
from lenet.export import c99, compiler
from lenet.export.agreement import Agreement, Trial
from lenet.export.quantised import Quantised, quantise
from lenet.files import replacing
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.stages import walk
from lenet.progress import Progress

CALIBRATION = 2000  # training images on which the scales of int8 are chosen
PART = 500  # images between two steps of the progress bar


@dataclass(frozen=True)
class Loss:
    """What int8 costs on a test set.

    Attributes:
        error, error_int8: share of wrong answers, 0..1, of the network and of its int8 form.
        calibrated_on: training images on which the scales were chosen.
    """

    data: str
    count: int
    error: float
    error_int8: float
    calibrated_on: int


@dataclass(frozen=True)
class CExport:
    """What was written.

    Attributes:
        weight_bytes, memory_bytes: constants, and RAM beside a little stack.
        code_bytes: machine code; None if it could not be measured here.
        compiled: by what it was compiled and tried here, or why it was not.
        agreement: of the compiled program with the network; of the same computed in Python where
            int8 was not compiled; None for float32 that was not compiled.
        loss: of int8.
    """

    files: dict[Path, int]
    numbers: str
    weight_bytes: int
    memory_bytes: int
    code_bytes: int | None
    compiled: str
    agreement: Agreement | None
    loss: Loss | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": "c",
            "files": {str(path): size for path, size in self.files.items()},
            "numbers": self.numbers,
            "bytes": {
                "code": self.code_bytes,
                "weights": self.weight_bytes,
                "memory": self.memory_bytes,
            },
            "compiled": self.compiled,
            "check": self.agreement.as_dict() if self.agreement else None,
            "loss": asdict(self.loss) if self.loss else None,
        }


def export(model: Checkpoint, folder: Path, dataset: data.Dataset | None, trial: Trial) -> CExport:
    """Writes lenet.h, lenet.c and main.c, and compares them with the network first.

    Without a compiler on this machine the files are written all the same.

    Args:
        dataset: for int8; its training images choose the scales, its test images measure the loss
            of accuracy. None for float32.

    Raises:
        LenetError: the network has a layer without a form in C, the program answers otherwise
            than the network, or the files cannot be written.
    """
    network = checkpoint.restore(model)
    preparation, stages = walk(network)
    loss, whole = None, None
    if dataset:
        images = spread(dataset.train.images, CALIBRATION)
        whole = quantise(preparation, stages, images)
        loss = measure(whole, model, dataset, len(images))
    arithmetic = c99.Int8(whole) if whole else c99.Float32(preparation, stages)
    classes = evaluation.class_names(model, network.classes)
    program = c99.program(arithmetic, classes, about(model))
    built, words = tried(program.files, trial)
    agreement = None
    if whole:
        scores = whole.answer(trial.images)
        agreement = trial.compare(scores * whole.unit)
        if built and not np.array_equal(np.rint(built.scores / whole.unit), scores):
            raise LenetError(f"the C program gives other scores ({words}); nothing was written")
    elif built:
        agreement = trial.require(built.scores, f"the C program ({words})")
    return CExport(
        files=write(folder, program.files),
        numbers=arithmetic.name,
        weight_bytes=program.weight_bytes,
        memory_bytes=program.memory_bytes,
        code_bytes=built.code_bytes if built else None,
        compiled=words,
        agreement=agreement,
        loss=loss,
    )


def spread(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many of the images, evenly: a folder of pictures is sorted by class."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)]


def measure(whole: Quantised, model: Checkpoint, dataset: data.Dataset, calibrated: int) -> Loss:
    """The errors of a network and of its int8 form on the test set."""
    images, labels = dataset.test.images, dataset.test.labels
    answers = []
    with Progress("measuring int8 on the test set", len(images)) as progress:
        for start in range(0, len(images), PART):
            part = images[start : start + PART]
            answers.append(whole.answer(part).argmax(1))
            progress.advance(len(part))
    exact = evaluation.scorer(model)(images).argmax(1)
    return Loss(
        data=dataset.name,
        count=len(labels),
        error=float((exact != labels).mean()),
        error_int8=float((np.concatenate(answers) != labels).mean()),
        calibrated_on=calibrated,
    )


def tried(files: Mapping[str, str], trial: Trial) -> tuple[compiler.Built | None, str]:
    """The program as compiled and run here, and how; or None, and why not."""
    command = compiler.find()
    if command is None:
        return None, "not compiled: this machine has no C compiler"
    try:
        built = compiler.build(command, files, trial.images)
    except LenetError as error:
        return None, f"not compiled: {error}"
    return built, f"compiled with {built.words}"


def write(folder: Path, files: Mapping[str, str]) -> dict[Path, int]:
    """Writes all of the files or none; returns their sizes."""
    with ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(replacing(folder / name))
            temporary.write_text(text, encoding="utf-8")
    return {folder / name: len(text.encode()) for name, text in files.items()}


def about(model: Checkpoint) -> list[str]:
    """What the comment at the top of the files says of the network."""
    card = model.card
    lines = [f"{model.network}, written by lenet {__version__}. Do not edit: export it again."]
    recipe, trained_on = card.get("recipe") or {}, (card.get("data") or {}).get("name")
    if trained_on:
        lines.append(f"Trained on {Path(trained_on).name} by the recipe {recipe.get('name', '?')}.")
    if isinstance(card.get("error"), float) and card.get("measured_on") == "test":
        lines.append(f"Error on the test set, in float32: {card['error']:.2%}.")
    return lines
