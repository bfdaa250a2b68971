"""Scores and traces of trained networks, by the kernels if possible, or by NumPy."""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet.engine import fused, single
from lenet.errors import LenetError
from lenet.networks import arithmetic
from lenet.networks.architecture import Architecture

FEW = 8  # fewer images are scored one by one: even a small batch costs as much as about 10

Images = NDArray[np.uint8]
Scorer = Callable[[Images], NDArray[np.float32]]
Tracer = Callable[[Images], dict[str, NDArray[np.float32]]]


class Trained(Protocol):
    """A network with its weights: a `Checkpoint`, or what an engine trains."""

    @property
    def architecture(self) -> Architecture: ...
    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]: ...


def scorer(
    model: Trained, threads: int | None = None, engine: Literal["auto", "fused", "numpy"] = "auto"
) -> Scorer:
    """Makes a function from uint8 images (N, H, W) or (N, C, H, W) to scores (N, classes).

    Args:
        model: a network with its weights.
        threads: CPU threads of the kernels; None for as many as this process may use.
        engine: auto uses the kernels if they support the network; if they are not installed, it
            says so once on standard error.

    Raises:
        LenetError: `engine` is fused, and the kernels do not support the network.
    """
    architecture, weights = model.architecture, model.weights
    reason = fused.unsupported(architecture)
    if engine == "fused" and reason:
        raise LenetError(f"the fused kernels cannot be used: {reason}")
    if engine == "numpy" or reason:
        if reason == fused.NOT_INSTALLED:
            report_missing_kernels()
        return lambda images: arithmetic.scores(architecture, weights, images)
    flat = fused.flatten(weights[parameter.name] for parameter in architecture.parameters)
    kernels: dict[int, fused.Kernels] = {}  # by the side of the images
    no_single = single.unsupported(architecture)
    one_image = None if no_single else single.SingleImage(architecture, weights)

    def scores(images: Images) -> NDArray[np.float32]:
        if one_image and len(images) < FEW and images.shape[1:] == (28, 28):
            return one_image.batch_scores(images)
        if images.ndim > 2 and fused.unsupported_images(architecture, images.shape[1:]):
            return arithmetic.scores(architecture, weights, images)
        side = images.shape[-1]
        if side not in kernels:  # many scorers see single images only
            kernels[side] = fused.Kernels(architecture, image_size=side, threads=threads)
        return kernels[side].scores(np.ascontiguousarray(images), flat)

    return scores


def tracer(model: Trained) -> Tracer:
    """Makes a function from one image to the outputs of all layers.

    It takes uint8 (28, 28) and returns float32 arrays by name, without a batch axis: "input", the
    prepared image (C, H, W), and then the layers in order. It raises LenetError for an image of
    another dtype or shape.
    """
    architecture, weights = model.architecture, model.weights
    if not single.unsupported(architecture):
        return single.SingleImage(architecture, weights).trace

    def trace(image: Images) -> dict[str, NDArray[np.float32]]:
        x = architecture.preparation(image[None])
        values = arithmetic.activations(architecture, weights, x)
        return {name: answers[0].astype(np.float32) for name, answers in values.items()}

    return trace


@cache
def report_missing_kernels() -> None:
    print(
        f"lenet: {fused.NOT_INSTALLED}; NumPy is used instead, which is slower. Installing lenet "
        "again with a C++ compiler builds them.",
        file=sys.stderr,
    )
