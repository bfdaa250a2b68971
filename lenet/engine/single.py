"""One image through a network, without PyTorch and without a batch to fill the vectors' lanes.

The kernels compute layer by layer, and every layer's values stay where they were put, so that a
trace costs no more than the scores. Served are `LeNet` of any sizes that reads one channel,
`LeNet5` and `LeNet5s`. docs/engine.md describes the kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from lenet.engine.fused import NOT_INSTALLED
from lenet.engine.plans import ACTIVATIONS
from lenet.engine.processor import instruction_set
from lenet.errors import LenetError
from lenet.networks.codebook import (
    BACKGROUND,
    C3_GROUPS,
    FOREGROUND,
    MNIST_MEAN,
    MNIST_STD,
    c3_table,
    digit_codes,
)

try:
    from lenet.engine import _single
except ImportError:  # pure Python installation
    _single = None

IMAGE_SIZE = 28
POOLINGS = ("average", "max")
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {  # what options may be
    "LeNet": {"activation": ACTIVATIONS, "pooling": POOLINGS},
    "LeNet5": {"subsampling": ("average", "sum"), "head": ("rbf", "softmax")},
    "LeNet5s": {},
}


def instruction_sets() -> tuple[str, ...]:
    """What this processor can run, best first: of "avx512", "avx2", and always "portable"."""
    return () if _single is None else tuple(_single.instruction_sets())


def unsupported(network: str, options: Mapping[str, Any]) -> str | None:
    """None if a single image can be answered here, else one sentence why not.

    Args:
        network: class name in `lenet.networks.models`.
        options: arguments of its constructor, as `Network.options` gives them.
    """
    if _single is None:
        return NOT_INSTALLED
    if network not in CHOICES:
        return f"there are no kernels for {network}"
    for name, allowed in CHOICES[network].items():
        if options[name] not in allowed:
            return f"{name} is {options[name]!r}, none of {', '.join(allowed)}"
    if network != "LeNet":
        return None
    if options["in_channels"] != 1:
        return f"the kernels read 1 input channel, not {options['in_channels']}"
    if options["input_size"] < IMAGE_SIZE:
        return f"the kernels do not shrink images to {options['input_size']} pixels"
    if not (np.isfinite(options["mean"]) and np.isfinite(options["std"]) and options["std"] > 0):
        return f"mean {options['mean']} and std {options['std']} must be finite, and std positive"
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
        network: "LeNet", "LeNet5" or "LeNet5s".
        options: arguments of its constructor, as `lenet.networks.models.Network.options` gives them.
        weights: float32 arrays by name, as in a weights file; they are copied.
        isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE, or
            else the best.

    Attributes:
        classes: number of scores.

    Raises:
        LenetError: the kernels do not serve the network, the weights do not fit it, or there is
            no such instruction set.
    """

    def __init__(
        self,
        network: str,
        options: Mapping[str, Any],
        weights: Mapping[str, NDArray[np.float32]],
        isa: str | None = None,
    ) -> None:
        if not (available := instruction_sets()):
            raise LenetError(NOT_INSTALLED)
        self.isa = instruction_set(available, isa)
        layers = Layers(self.isa, weights)
        try:
            if obstacle := unsupported(network, options):
                raise LenetError(f"this {network} cannot be served: {obstacle}")
            add = {"LeNet": add_lenet, "LeNet5": add_lenet5, "LeNet5s": add_lenet5s}[network]
            add(layers, options)
        except LenetError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LenetError(f"these options describe no {network}: {error}") from None
        layers.finish()
        self._kernels, self._views = layers.kernels, layers.views
        (self.classes,) = self._views["output"].shape

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


def checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images, contiguous."""
    if images.dtype != np.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise LenetError(
            f"images must be uint8 of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, "
            f"not {images.dtype} {images.shape[1:]}"
        )
    return np.ascontiguousarray(images)


class Layers:
    """A network in the making: each method adds a layer to those before.

    Attributes:
        kernels: the native network.
        views: name -> where the layer's values lie.
    """

    def __init__(self, isa: str, weights: Mapping[str, NDArray[np.float32]]) -> None:
        assert _single is not None
        self.kernels = _single.Network(isa)
        self.weights = dict(weights)
        self.views: dict[str, View] = {}

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """The weights of that name, which are used once."""
        if name not in self.weights:
            raise LenetError(f"the weights lack {name}")
        array = self.weights.pop(name)
        if array.dtype != np.float32 or array.shape != shape:
            raise LenetError(f"{name} must be float32 {shape}, not {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise LenetError(f"{name} has values that are not finite")
        return np.ascontiguousarray(array)

    def finish(self) -> None:
        if self.weights:
            raise LenetError(f"the network has no {', '.join(self.weights)}")

    def name(self, name: str, *, flat: bool = False) -> None:
        """Names the latest values; `flat` ones have one axis."""
        start, shape, strides = self.kernels.place()
        self.views[name] = (
            View(start, shape[:1], strides[:1]) if flat else View(start, shape, strides)
        )

    @property
    def units(self) -> int:
        return int(np.prod(self.kernels.place()[1]))

    def padded_input(
        self, size: int, border: int, scale: float, shift: float, background: float
    ) -> None:
        """scale * pixel + shift in the middle of background, zeros around it."""
        self.kernels.input(IMAGE_SIZE, size, border, scale, shift, background, [], [])
        self.name("input")

    def stretched_input(self, size: int, scale: float, shift: float) -> None:
        """scale * pixel + shift of the image resized bilinearly."""
        where = np.maximum((np.arange(size) + 0.5) * IMAGE_SIZE / size - 0.5, 0)
        left = where.astype(int)
        self.kernels.input(
            IMAGE_SIZE, size, 0, scale, shift, 0.0, left.tolist(), (where - left).tolist()
        )
        self.name("input")

    def convolve(self, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        self.kernels.convolve(np.ascontiguousarray(weight), bias)

    def pool_average(self, border: int = 0) -> None:
        channels = self.kernels.place()[1][0]
        self.kernels.pool_sum(
            np.full(channels, 0.25, np.float32), np.zeros(channels, np.float32), border
        )

    def connect(self, name: str, outputs: int) -> None:
        """A fully connected layer."""
        weight = self.take(f"{name}.weight", outputs, self.units)
        self.kernels.multiply(weight, self.take(f"{name}.bias", outputs))
        self.name(name, flat=True)


def add_lenet(layers: Layers, options: Mapping[str, Any]) -> None:
    mean, std, activation = options["mean"], options["std"], options["activation"]
    channels, paddings = options["channels"], [*options["padding"], 0]
    layers.padded_input(options["input_size"], paddings[0], 1 / 255 / std, -mean / std, -mean / std)

    def activate(name: str, *, flat: bool) -> None:
        layers.kernels.activate(activation)
        layers.name(f"{name}_{activation}", flat=flat)

    depth, number = 1, 1
    for out, kernel, border in zip(channels, options["kernel_sizes"], paddings[1:], strict=True):
        name = f"C{number}"
        weight = layers.take(f"{name}.weight", out, depth, kernel, kernel)
        layers.convolve(weight, layers.take(f"{name}.bias", out))
        layers.name(name)
        activate(name, flat=False)
        if options["pooling"] == "max":
            layers.kernels.pool_largest(border)
        else:
            layers.pool_average(border)
        layers.name(f"S{number + 1}")
        depth, number = out, number + 2
    layers.kernels.flatten()
    layers.name("flatten", flat=True)
    letter = "C" if channels else "F"
    for out in options["hidden"]:
        layers.connect(f"{letter}{number}", out)
        activate(f"{letter}{number}", flat=True)
        number, letter = number + 1, "F"
    layers.connect("output", options["classes"])


def add_lenet5(layers: Layers, options: Mapping[str, Any]) -> None:
    scale = (FOREGROUND - BACKGROUND) / 255
    layers.padded_input(32, 0, scale, BACKGROUND, BACKGROUND)

    def squash(name: str, *, flat: bool = False) -> None:
        layers.kernels.activate("scaled-tanh")
        layers.name(name, flat=flat)

    def subsample(name: str, maps: int) -> None:
        share = 1.0 if options["subsampling"] == "sum" else 0.25
        coefficient = share * layers.take(f"{name}.coefficient", maps)
        layers.kernels.pool_sum(coefficient, layers.take(f"{name}.bias", maps), 0)
        squash(name)

    layers.convolve(layers.take("C1.weight", 6, 1, 5, 5), layers.take("C1.bias", 6))
    squash("C1")
    subsample("S2", 6)
    table = c3_table()
    weight = np.zeros((*table.shape, 5, 5), np.float32)
    weight[table] = layers.take("C3.weight", table.sum(), 5, 5)
    layers.convolve(weight, layers.take("C3.bias", 16))
    squash("C3")
    subsample("S4", 16)
    layers.kernels.flatten()
    weight = layers.take("C5.weight", 120, 16, 5, 5).reshape(120, 400)
    layers.kernels.multiply(weight, layers.take("C5.bias", 120))
    squash("C5")
    layers.kernels.multiply(layers.take("F6.weight", 84, 120), layers.take("F6.bias", 84))
    squash("F6", flat=True)
    if options["head"] == "softmax":
        layers.connect("output", 10)
    else:
        layers.kernels.distances(digit_codes())
        layers.name("output", flat=True)


def add_lenet5s(layers: Layers, options: Mapping[str, Any]) -> None:
    def rectify(name: str, *, flat: bool = False) -> None:
        layers.kernels.activate("relu")
        layers.name(f"{name}_relu", flat=flat)

    layers.stretched_input(32, 1 / 255 / MNIST_STD, -MNIST_MEAN / MNIST_STD)
    layers.convolve(layers.take("C1.weight", 6, 1, 5, 5), layers.take("C1.bias", 6))
    layers.name("C1")
    rectify("C1")
    layers.pool_average()
    layers.name("S2")
    weight, bias = np.zeros((16, 6, 5, 5), np.float32), np.empty(16, np.float32)
    position = 0
    for name, groups in C3_GROUPS.items():
        kernels = layers.take(f"C3.{name}.weight", 1, len(groups[0]), 5, 5)[0]
        bias[position : position + len(groups)] = layers.take(f"C3.{name}.bias", 1)
        for group in groups:
            weight[position, group] = kernels
            position += 1
    layers.convolve(weight, bias)
    layers.name("C3")
    rectify("C3")
    layers.pool_average()
    layers.name("S4")
    layers.kernels.flatten()
    layers.name("flatten", flat=True)
    for name, units in (("C5", 120), ("F6", 84)):
        layers.connect(name, units)
        rectify(name, flat=True)
    layers.connect("output", 10)
