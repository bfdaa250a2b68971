"""One image through a network, without a batch to fill the vectors' lanes. See docs/engine.md.

The kernels compute layer by layer and keep every layer's values, so a trace costs no more than the
scores.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from lenet.engine.fused import NOT_INSTALLED, instruction_sets
from lenet.engine.plan import beyond_kernels, sees_everything
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
    Weights,
)

try:
    from lenet.engine import _single
except ImportError:  # pure Python installation
    _single = None

IMAGE_SIZE = 28


def unsupported(architecture: Architecture) -> str | None:
    """None if these kernels support the network, else one sentence that says why not."""
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
            if extra := beyond_kernels(layer):
                return f"the kernels know no {extra}, as {layer.name} has"
            if border not in (None, layer.padding) and not sees_everything(layer):
                return f"the kernels pad {layer.name} only if it follows pooling without squashing"
            border = 0
        elif isinstance(layer, Pooling):
            border = 0 if layer.squash else None
    return None


class SingleImage:
    """Scores and traces of one image at a time. Safe to call from several threads, and in a fork.

    Args:
        architecture: the network.
        weights: float32 arrays of its parameters by name; they are copied.
        isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE or the
            best.

    Raises:
        LenetError: the network or the instruction set is not supported.
    """

    def __init__(
        self, architecture: Architecture, weights: Weights, isa: str | None = None
    ) -> None:
        if reason := unsupported(architecture):
            raise LenetError(f"this {architecture.network} is not supported: {reason}")
        assert _single is not None
        self.isa = instruction_set(instruction_sets(), isa)
        self.classes = architecture.classes
        self._kernels = _single.Network(self.isa)
        # Each layer's values among all: start, shape, and strides in numbers.
        self._views: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        layers = architecture.layers
        try:
            self._add_input(architecture, first_padding(layers))
            for number, layer in enumerate(layers):
                self._add(layer, first_padding(layers[number + 1 :]), weights)
        except ValueError as error:
            raise LenetError(f"this {architecture.network} is not supported: {error}") from None

    def scores(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (classes,) of an image uint8 (28, 28)."""
        return self.batch_scores(image[None])[0]

    def batch_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images uint8 (N, 28, 28), one by one.

        Raises:
            LenetError: the images have another dtype or shape.
        """
        out = np.empty((len(images), self.classes), np.float32)
        self._kernels.scores(checked(images), out)
        return out

    def trace(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The output of every layer for an image uint8 (28, 28), as float32 arrays by name.

        "input" is the prepared image (1, H, W); names, order and shapes of the others are those of
        `lenet.trace`, without the batch axis.

        Raises:
            LenetError: the image has another dtype or shape.
        """
        values = np.empty(self._kernels.size, np.float32)
        self._kernels.trace(checked(image[None]), values)
        return {
            name: as_strided(values[start:], shape, [4 * stride for stride in strides]).copy()
            for name, (start, shape, strides) in self._views.items()
        }

    def _add_input(self, architecture: Architecture, border: int) -> None:
        how = architecture.preparation
        left, fraction = stretch(how) if how.resize else ([], [])
        values = how.scale, how.background, how.background
        self._kernels.input(IMAGE_SIZE, how.size, border, *values, left, fraction)
        self._name("input", architecture.input_shape)

    def _add(self, layer: Layer, border: int, weights: Weights) -> None:
        """Adds a layer; if it pools, with a border of zeros for the next layer."""
        kernels = self._kernels
        match layer:
            case Convolution():
                filters, biases = (contiguous(f(weights)) for f in (layer.filters, layer.biases))
                if sees_everything(layer):
                    kernels.flatten()
                    kernels.multiply(filters.reshape(layer.outputs, -1), biases)
                else:
                    kernels.convolve(filters, biases)
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
        if squash := getattr(layer, "squash", None):
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
        self._kernels.pool_sum(np.float32(layer.share) * coefficient, bias, border, sources)

    def _name(self, name: str, shape: tuple[int, ...]) -> None:
        """Names the values of the latest layer."""
        start, _, strides = self._kernels.place()
        self._views[name] = start, shape, strides[: len(shape)]


def contiguous(array: Floats) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def first_padding(layers: tuple[Layer, ...]) -> int:
    """The zeros around the input of the first of these layers."""
    return layers[0].padding if layers and isinstance(layers[0], Convolution) else 0


def stretch(how: Preparation) -> tuple[list[int], list[float]]:
    """The positions of a row's pixels in the image: the pixel to the left, and the fraction of the
    way to the next."""
    where = np.maximum((np.arange(how.size) + 0.5) * IMAGE_SIZE / how.size - 0.5, 0)
    left = where.astype(int)
    return left.tolist(), (where - left).tolist()


def checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images, C-contiguous, after a check."""
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise LenetError(
            f"images must be uint8 of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, "
            f"not {images.dtype} {images.shape[1:]}"
        )
    return np.ascontiguousarray(images)
