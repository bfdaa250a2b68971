"""Scores and traces of trained networks, by whatever serves here: our kernels, else NumPy."""

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

FEW = 8  # fewer images are answered one by one: a batch, however small, costs as much as about 10

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
    """A function from uint8 images (N, 28, 28) to scores (N, classes).

    Args:
        model: a network with its weights.
        threads: CPU threads of the kernels; None for as many as this process may use.
        engine: auto takes the kernels where they serve, and says once on standard error where
            NumPy answers because they are not installed.

    Raises:
        LenetError: the kernels were asked for and cannot serve.
    """
    architecture, weights = model.architecture, model.weights
    reason = fused.unsupported(architecture)
    if engine == "fused" and reason:
        raise LenetError(f"the fused kernels cannot serve here: {reason}")
    if engine == "numpy" or reason:
        if reason == fused.NOT_INSTALLED:
            say_that_numpy_serves()
        return lambda images: arithmetic.scores(architecture, weights, images)
    flat = fused.flatten(weights[parameter.name] for parameter in architecture.parameters)
    kernels: fused.Kernels | None = None
    one_image: single.SingleImage | None = None
    if not single.unsupported(architecture):
        one_image = single.SingleImage(architecture, weights)

    def scores(images: Images) -> NDArray[np.float32]:
        nonlocal kernels
        if one_image and len(images) < FEW:
            return one_image.batch_scores(images)
        if kernels is None:  # many a scorer sees single images alone
            kernels = fused.Kernels(architecture, threads=threads)
        return kernels.scores(np.ascontiguousarray(images), flat)

    return scores


def tracer(model: Trained) -> Tracer:
    """A function from one image to what every layer of the network answers to it.

    It takes uint8 (28, 28) and gives float32 arrays without a batch axis: "input", the prepared
    image (C, H, W), and then each layer's name and answer, in order.

    Raises:
        LenetError: by the function, for an image of another dtype or shape.
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
def say_that_numpy_serves() -> None:
    print(
        f"lenet: NumPy answers, which is slower, as {fused.NOT_INSTALLED}; install again where "
        "there is a C++ compiler to have them",
        file=sys.stderr,
    )
