"""The figures of one network: what each needs is gathered here, and drawn by `lenet.figures.portraits`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lenet import data
from lenet.engine.steps import SCORE_BATCH
from lenet.errors import LenetError
from lenet.evaluation.evaluation import class_names
from lenet.figures import portraits
from lenet.networks.codebook import GLYPH_HEIGHT, GLYPH_WIDTH
from lenet.networks.inspection import (
    input_gradient,
    occlusion,
    principal_components,
    summary,
    trace,
)
from lenet.networks.layers import EuclideanRBF
from lenet.networks.models import Network
from lenet.networks.stages import Convolution, Dense, Distances, walk
from lenet.reading.prediction import preprocessor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SQUARE = 5  # pixels that are hidden at once


@dataclass(frozen=True)
class Subject:
    """A network, an image to show it, and the data set from whose test images one is taken.

    Attributes:
        title: name of the network.
        image: uint8 (28, 28) to be shown, or the number of a test image.
        words: what the image is.
        data_name, data_dir: as for `lenet.data.load`; only read when a figure needs test images.
    """

    model: Network
    title: str
    image: NDArray[np.uint8] | int
    words: str
    data_name: str
    data_dir: str | Path | None = None

    @cached_property
    def test(self) -> data.Split:
        return data.load(self.data_name, self.data_dir).test

    @cached_property
    def classes(self) -> list[str]:
        return class_names(self.model, self.model.classes)

    @cached_property
    def x(self) -> torch.Tensor:
        """The image as the network's input (1, C, H, W)."""
        image = self.image
        if isinstance(image, int):
            if not 0 <= image < len(self.test):
                raise LenetError(f"there is no test image {image}: 0 to {len(self.test) - 1}")
            image = self.test.images[image]
        if self.model.input_shape[0] != 1:
            raise LenetError(
                f"the network reads {self.model.input_shape[0]} channels, and images have one"
            )
        return self.model.prepare(image[None])

    @cached_property
    def activations(self) -> dict[str, torch.Tensor]:
        """What each layer answers to the image, without the batch axis."""
        with torch.no_grad():
            return {name: values[0] for name, values in trace(self.model, self.x).items()}

    @property
    def answer(self) -> int:
        return int(list(self.activations.values())[-1].argmax())


def subject(
    model: Network, title: str, image: str, data_name: str | None, data_dir: str | Path | None
) -> Subject:
    """A network and an image: a picture's path, or the number of a test image.

    Raises:
        LenetError: the picture cannot be read, or shows no digit.
    """
    data_name = data_name or str((model.card.get("data") or {}).get("name", "mnist"))
    title = Path(title).name if model.card else f"{title}, untrained"
    if image.isdecimal() and not Path(image).exists():
        words = f"test image {image} of {data_name}"
        return Subject(model, title, int(image), words, data_name, data_dir)
    found = preprocessor(model.card)(image)
    if found.image is None:
        raise LenetError(f"{image}: {found.reason}")
    return Subject(model, title, found.image, Path(image).name, data_name, data_dir)


def architecture(subject: Subject) -> "Figure":
    return portraits.architecture(summary(subject.model))


def kernels(subject: Subject) -> "Figure":
    weights: dict[str, NDArray[np.floating]] = {}
    shape: tuple[int, ...] = subject.model.input_shape
    for stage in walk(subject.model)[1]:
        match stage:
            case Convolution():
                placed = stage.filters()
                placed[~table(stage)] = np.nan
                weights[stage.name] = placed
                pooling = stage.pooling
                if pooling and pooling.weight is not None and pooling.bias is not None:
                    weights[f"{pooling.name}\nweight, bias"] = np.stack(
                        [pooling.weight, pooling.bias]
                    )
            case Dense():
                weight = stage.weight
                weights[stage.name] = weight.reshape(-1, *shape) if len(shape) == 3 else weight
            case Distances():
                weights[stage.name] = stage.codes.reshape(-1, 1, GLYPH_HEIGHT, GLYPH_WIDTH)
        shape = stage.output_shape
    return portraits.kernels(weights, f"Weights of {subject.title}: red excites, blue inhibits")


def connections(subject: Subject) -> "Figure":
    convolutions = [s for s in walk(subject.model)[1] if isinstance(s, Convolution)]
    if len(convolutions) < 2:
        raise LenetError("the network has no second convolution, whose connections could be drawn")
    second = convolutions[1]
    connected = table(second)
    sets = [tuple(kernel for _, kernel in wires) for wires in second.wiring]
    groups = [f"reads {len(wires)} maps" for wires in sets]
    if len(set(sets)) < len(sets):
        groups = [f"{sets.count(kernels)} maps share {len(kernels)} kernels" for kernels in sets]
    total = f"{connected.sum()} of {connected.size} pairs of maps, {len(second.kernels)} kernels"
    return portraits.connection_table(connected, groups, f"{second.name} connects {total}")


def maps(subject: Subject) -> "Figure":
    activations = {
        name: values.flatten().numpy() if values.shape[-1] == 1 else values.numpy()
        for name, values in subject.activations.items()
        if name != "flatten"
    }
    if isinstance(list(subject.model.children())[-1], EuclideanRBF):  # F6 draws a digit
        activations["F6"] = activations["F6"].reshape(1, GLYPH_HEIGHT, GLYPH_WIDTH)
    name = subject.classes[subject.answer]
    title = f"{subject.title} reads {subject.words} as {name}"
    return portraits.feature_maps(subject.x[0, 0].numpy(), activations, subject.classes, title)


def saliency(subject: Subject) -> "Figure":
    model, x, answer = subject.model, subject.x, subject.answer
    return portraits.saliency(
        x[0, 0].numpy(),
        input_gradient(model, x, answer)[0].numpy(),
        occlusion(model, x, answer, SQUARE).numpy(),
        subject.classes[answer],
        SQUARE,
    )


def f6(subject: Subject) -> "Figure":
    model, test = subject.model, subject.test
    names = [name for name, _ in model.named_children()]
    if len(names) < 2:
        raise LenetError("the network has no layer before its scores")
    features, answers = [], []
    with torch.no_grad():
        for start in range(0, len(test), SCORE_BATCH):
            images = test.images[start : start + SCORE_BATCH]
            *_, before, scores = trace(model, model.prepare(images)).values()
            features.append(before.flatten(1).numpy())
            answers.append(scores.argmax(1).numpy())
    features = np.concatenate(features)
    found = principal_components(features)
    output = list(model.children())[-1]
    targets = None
    if isinstance(output, EuclideanRBF):
        targets = found.coordinates(output.codes.numpy())
    return portraits.feature_plane(
        found.coordinates(features),
        test.labels,
        np.concatenate(answers),
        subject.classes,
        found.shares.tolist(),
        f"{names[-2].split('_')[0]} of {subject.title}, on {len(test):,} test images",
        targets,
    )


def table(stage: Convolution) -> NDArray[np.bool_]:
    """(outputs, inputs), true where there is a kernel."""
    connected = np.zeros((len(stage.bias), stage.input_shape[0]), bool)
    for output, wires in enumerate(stage.wiring):
        connected[output, [source for source, _ in wires]] = True
    return connected


FIGURES: "dict[str, Callable[[Subject], Figure]]" = {
    "architecture": architecture,
    "kernels": kernels,
    "connections": connections,
    "maps": maps,
    "saliency": saliency,
    "f6": f6,
}
