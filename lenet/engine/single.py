"""One image through a network, without a batch to fill the vectors' lanes.

The kernels compute layer by layer, and every layer's values stay where they were put, so that a
trace costs no more than the scores. docs/engine.md describes the kernels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from lenet.engine.fused import NOT_INSTALLED
from lenet.engine.plan import sees_everything
from lenet.engine.processor import instruction_set
from lenet.errors import LenetError
from lenet.networks.architecture import (
    Architecture,
    Convolution,
    Distances,
    Flatten,
    Floats,
    FullConnection,
    Layer,
    Pooling,
    Preparation,
    Squashing,
    Weights,
)

try:
    from lenet.engine import _single
except ImportError:  # pure Python installation
    _single = None

IMAGE_SIZE = 28


def instruction_sets() -> tuple[str, ...]:
    """What this processor can run, best first: of "avx512", "avx2", and always "portable"."""
    return () if _single is None else tuple(_single.instruction_sets())


def unsupported(architecture: Architecture) -> str | None:
    """None if a single image can be answered here, else one sentence why not."""
    if _single is None:
        return NOT_INSTALLED
    preparation = architecture.preparation
    if preparation.channels != 1:
        return f"the kernels read 1 input channel, not {preparation.channels}"
    if preparation.size < IMAGE_SIZE:
        return f"the kernels do not shrink images to {preparation.size} pixels"
    border = None
    for layer in architecture.layers:
        if isinstance(layer, Convolution):
            if border not in (None, layer.padding) and not sees_everything(layer):
                return f"the kernels pad {layer.name} only where pooling comes before it"
            border = 0
        elif isinstance(layer, Pooling):
            border = None
    return None


@dataclass(frozen=True)
class View:
    """Where a layer's values lie among all values: start, shape, and strides in numbers."""

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class SingleImage:
    """Answers one image after the other. Safe to call from several threads, and after a fork.

    Args:
        architecture: the network.
        weights: float32 arrays of its parameters by name; they are copied.
        isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE, or
            else the best.

    Raises:
        LenetError: the kernels do not serve the network, or there is no such instruction set.
    """

    def __init__(
        self, architecture: Architecture, weights: Weights, isa: str | None = None
    ) -> None:
        if reason := unsupported(architecture):
            raise LenetError(f"this {architecture.network} cannot be served: {reason}")
        assert _single is not None
        self.isa = instruction_set(instruction_sets(), isa)
        self.classes = architecture.classes
        self._kernels = _single.Network(self.isa)
        self._views: dict[str, View] = {}
        try:
            self._add_input(architecture)
            for layer, border in zip(architecture.layers, borders(architecture), strict=True):
                self._add(layer, border, weights)
        except ValueError as error:
            raise LenetError(f"this {architecture.network} cannot be served: {error}") from None

    def scores(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (classes,) of an image uint8 (28, 28)."""
        return self.batch_scores(image[None])[0]

    def batch_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images uint8 (N, 28, 28), one after the other.

        Raises:
            LenetError: the images have another dtype or shape.
        """
        out = np.empty((len(images), self.classes), np.float32)
        self._kernels.scores(checked(images), out)
        return out

    def trace(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """What every layer answers to an image uint8 (28, 28), as float32 arrays by name.

        "input" is the prepared image (1, H, W); then come the names and shapes of `lenet.trace`,
        without the batch axis, in their order.

        Raises:
            LenetError: the image has another dtype or shape.
        """
        values = np.empty(self._kernels.size, np.float32)
        self._kernels.trace(checked(image[None]), values)
        return {
            name: as_strided(
                values[view.start :], view.shape, [4 * stride for stride in view.strides]
            ).copy()
            for name, view in self._views.items()
        }

    def _add_input(self, architecture: Architecture) -> None:
        how = architecture.preparation
        left, fraction = stretch(how) if how.resize else ([], [])
        border = first_padding(architecture.layers)
        self._kernels.input(
            *(IMAGE_SIZE, how.size, border, how.scale, how.background, how.background),
            *(left, fraction),
        )
        self._name("input", architecture.input_shape)

    def _add(self, layer: Layer, border: int, weights: Weights) -> None:
        """Adds a layer; a pooling leaves so many zeros around its maps for what follows."""
        kernels = self._kernels
        match layer:
            case Convolution() if sees_everything(layer):
                kernels.flatten()
                kernels.multiply(
                    contiguous(layer.filters(weights).reshape(layer.outputs, -1)),
                    contiguous(layer.biases(weights)),
                )
            case Convolution():
                kernels.convolve(
                    contiguous(layer.filters(weights)), contiguous(layer.biases(weights))
                )
            case FullConnection():
                if len(layer.input_shape) == 3:
                    kernels.flatten()
                kernels.multiply(*(contiguous(weights[p.name]) for p in layer.parameters))
            case Pooling():
                self._pool(layer, border, weights)
            case Flatten():
                kernels.flatten()
            case Distances():
                kernels.distances(layer.codes)
        squash = layer.squash if isinstance(layer, SQUASHED) else None
        if squash:
            kernels.activate(squash)
        self._name(layer.name, layer.output_shape)

    def _pool(self, layer: Pooling, border: int, weights: Weights) -> None:
        sources = list(layer.sources or ())
        if layer.method == "max" and not layer.squash:
            self._kernels.pool_largest(border, sources)
            return
        maps = layer.output_shape[0]
        coefficient, bias = np.ones(maps, np.float32), np.zeros(maps, np.float32)
        if layer.squash:
            coefficient, bias = (contiguous(weights[p.name]) for p in layer.parameters)
        self._kernels.pool_sum(
            (np.float32(layer.share) * coefficient).astype(np.float32), bias, border, sources
        )

    def _name(self, name: str, shape: tuple[int, ...]) -> None:
        """Names the latest values, which have that shape."""
        start, _, strides = self._kernels.place()
        self._views[name] = View(start, shape, strides[: len(shape)])


SQUASHED = Convolution | Pooling | FullConnection | Squashing


def contiguous(array: Floats) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def first_padding(layers: tuple[Layer, ...]) -> int:
    """Zeros that the first of these layers wants around its input."""
    layer = layers[0] if layers else None
    return layer.padding if isinstance(layer, Convolution) else 0


def borders(architecture: Architecture) -> list[int]:
    """For each layer, the zeros that the one after it wants around its input."""
    layers = architecture.layers
    return [first_padding(layers[number + 1 :]) for number in range(len(layers))]


def stretch(how: Preparation) -> tuple[list[int], list[float]]:
    """Where each pixel of a row lies between two pixels of the image: the left one, and how far
    from it to the right one."""
    where = np.maximum((np.arange(how.size) + 0.5) * IMAGE_SIZE / how.size - 0.5, 0)
    left = where.astype(int)
    return left.tolist(), (where - left).tolist()


def checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images, contiguous."""
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise LenetError(
            f"images must be uint8 of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, "
            f"not {images.dtype} {images.shape[1:]}"
        )
    return np.ascontiguousarray(images)
