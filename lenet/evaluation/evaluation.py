"""Evaluation: a trained network and a split in, a report, its figures and its files out."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet import engine
from lenet.data import Split
from lenet.engine.single import SingleImage, unsupported
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.figures import plots
from lenet.files import write_text
from lenet.networks.checkpoint import Checkpoint, restore
from lenet.progress import Progress

if TYPE_CHECKING:
    from lenet.networks.models import Network

REPORT = "report.json"
FIGURES = ("confusion.png", "rejection.png", "reliability.png", "mistakes.png")
FEW = 8  # fewer images are answered one by one: a batch, however small, costs as much as about 10
MISTAKES = 40  # worst mistakes in the picture of them

SHOWN = 12  # images under each corruption in the picture of them

Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Tracer = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]


def evaluate(
    model: "Network | Checkpoint", split: Split, classes: Sequence[str] | None = None
) -> metrics.Report:
    """Measures a network on a split, without gradients, in evaluation mode, where it lives.

    Args:
        model: a network on any device, or a checkpoint as `lenet.networks.checkpoint.read` gives it.
        split: images uint8 (N, 28, 28) and labels.
        classes: names of the classes; by default those the network was trained with.

    Raises:
        LenetError: labels or shapes do not fit the network.
    """
    if isinstance(model, Checkpoint):
        scores = scorer(model)(split.images)
    else:
        from lenet.engine.steps import scores_by_autograd

        scores = scores_by_autograd(model, split.images)
    names = classes or class_names(model, scores.shape[1])
    return metrics.report(scores, split.labels, names, temperature(model))


def scorer(model: Checkpoint, asked: str = "auto", threads: int | None = None) -> Scorer:
    """A function from uint8 images (N, 28, 28) to scores (N, classes), by the engine that serves.

    PyTorch is imported only where the fused kernels do not serve. Where it serves because they
    are not installed, standard error says so, once.

    Raises:
        LenetError: the engine that was asked for cannot serve, or the weights do not fit.
    """
    weights = list(model.weights.values())
    found = plan(model)
    name, reason = engine.choose(asked, "cpu", found)
    if reason == engine.fused.NOT_INSTALLED:
        say_that_pytorch_serves()
    if name == "fused":
        assert not isinstance(found, str)
        if tuple(w.shape for w in weights) != found.shapes:
            raise LenetError(
                f"{model.path}: the weights do not fit the {model.network} it describes"
            )
        kernels, alone = engine.fused.Kernels(found, threads), one_image(model)
        flat = engine.fused.flatten(weights)

        def scores_of_batch(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            if alone and len(images) < FEW:
                return alone.batch_scores(images)
            return kernels.scores(np.ascontiguousarray(images), flat)

        return scores_of_batch
    from lenet.engine.steps import cpu_threads, scores_by_autograd

    network = restore(model)

    def scores(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with cpu_threads(threads):
            return scores_by_autograd(network, images)

    return scores


@cache
def say_that_pytorch_serves() -> None:
    print(
        f"lenet: PyTorch answers, which is slower, as {engine.fused.NOT_INSTALLED}; "
        "install again where there is a C++ compiler to have them",
        file=sys.stderr,
    )


def tracer(model: Checkpoint) -> Tracer:
    """A function from one image to what every layer of the network answers to it.

    It takes uint8 (28, 28) and gives float32 arrays without a batch axis: "input", the prepared
    image (C, H, W), and then the names and shapes of `lenet.trace`, in their order. PyTorch is
    imported only where the kernels for one image do not serve the network.

    Raises:
        LenetError: the weights do not fit the network. The function raises it for an image of
            another dtype or shape.
    """
    if kernels := one_image(model):
        return kernels.trace
    import torch

    from lenet.networks.inspection import trace

    network = restore(model)

    def activations(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.no_grad():
            prepared = network.prepare(image[None])
            layers = {"input": prepared, **trace(network, prepared)}
        return {name: values[0].numpy() for name, values in layers.items()}

    return activations


def one_image(model: Checkpoint) -> SingleImage | None:
    """The kernels for one image, where they serve the network.

    Raises:
        LenetError: the weights do not fit the network.
    """
    with described_by(model):
        if unsupported(model.network, model.options):
            return None
        return SingleImage(model.network, model.options, model.weights)


def plan(model: Checkpoint) -> "engine.fused.Plan | str":
    """`engine.plan`, for options that come from a file."""
    with described_by(model):
        return engine.plan(model.network, model.options)


@contextmanager
def described_by(model: Checkpoint) -> Iterator[None]:
    """Errors inside are those of the options and weights in the checkpoint's file."""
    try:
        yield
    except LenetError as error:
        raise LenetError(f"{model.path}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError):
        raise LenetError(f"{model.path} describes no possible {model.network}") from None


def class_names(model: "Network | Checkpoint", count: int) -> list[str]:
    """The classes that a network was trained with; plain numbers if it does not say.

    Raises:
        LenetError: it names another number of classes than `count`.
    """
    names = model.card.get("classes") or [str(label) for label in range(count)]
    if len(names) != count:
        raise LenetError(f"the network has {count} scores, but its card names {len(names)} classes")
    return names


def temperature(model: "Network | Checkpoint") -> float:
    """What its scores are divided by before they become probabilities; 1 if it was not fitted."""
    return model.card.get("temperature") or 1.0


def robustness(score: Scorer, split: Split) -> dict[str, float]:
    """Corruption -> error, 0..1, on the split's images under each of `lenet.data.corruptions`."""
    from lenet.data.corruptions import CORRUPTIONS, corrupt

    errors = {}
    with Progress("corruptions", len(CORRUPTIONS)) as bar:
        for name in CORRUPTIONS:
            answers = score(corrupt(split.images, name)).argmax(1)
            errors[name] = float((answers != split.labels).mean())
            bar.advance(note=name)
    return errors


def draw_corruptions(folder: Path, errors: dict[str, float], split: Split, name: str) -> Path:
    """Draws the split's first images under each corruption, with its error; returns the file."""
    from lenet.data.corruptions import corrupt

    few = split.images[:SHOWN]
    images = {"none": few, **{name: corrupt(few, name) for name in errors}}
    title = f"{name} under corruptions: mean error {np.mean([*errors.values()]):.2%}"
    file = folder / "corruptions.png"
    plots.save(plots.corrupted_images(images, errors, title), file)
    return file


def write(
    folder: Path, report: metrics.Report, scores: NDArray[np.float32], split: Split
) -> list[Path]:
    """Writes report.json and the figures of an evaluation; returns their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LenetError(f"cannot make the folder {folder}: {error.strerror}") from None
    write_text(folder / REPORT, json.dumps(report.as_dict(), indent=1) + "\n")
    calibrated, title = scores / report.temperature, "Reliability: " + plots.summary(report)
    figures = (
        plots.confusion_matrix(report),
        plots.rejection_curve(report),
        plots.reliability_diagram({"": report.reliability}, title),
        plots.worst_mistakes(split.images, split.labels, calibrated, report.classes, MISTAKES),
    )
    for figure, name in zip(figures, FIGURES, strict=True):
        plots.save(figure, folder / name)
    return [folder / name for name in (REPORT, *FIGURES)]
