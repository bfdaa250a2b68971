"""The networks as data: each is a list of layers, and everything else loops over that list.

Parameters and initial weights, summaries, the plans of the kernels, PyTorch modules, exports and
the page's explanations all come from here. A new network is one new entry of `NETWORKS`. Layers are
named as in the paper of 1998: C1, S2, C3, S4, C5, F6, output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lenet import fields
from lenet.errors import LenetError
from lenet.networks import codebook

Activation = Literal["sigmoid", "tanh", "scaled-tanh", "relu", "gelu", "silu"]
Initial = Literal["xavier-uniform", "torch", "kaiming-uniform", "lecun-uniform"]
Floats = NDArray[np.floating[Any]]
Weights = Mapping[str, Floats]  # parameter name -> array
Maps = tuple[int, int, int]  # maps, height, width
# Of one network, so that a file of a few kB cannot make one that takes hours or all memory.
MOST_PARAMETERS = 2**28  # 1 GiB of float32
MOST_VALUES = 2**25  # of all layers for one image, or what convolutions copy of their inputs
MOST_MULTIPLY_ADDS = 2**30  # for one image; 2,500 times those of LeNet
MOST_LAYERS, MOST_UNITS = 100, 2**20
LARGEST_NORMALISATION = 1e6  # of mean, std and 1 / std


@dataclass(frozen=True)
class Parameter:
    """A trainable array, which starts uniformly distributed in centre +- bound."""

    name: str  # the layer's name, a point, and its own: C1.weight
    shape: tuple[int, ...]
    bound: float | tuple[float, ...]  # one, or one for each entry of the first axis
    centre: float = 0.0

    @property
    def size(self) -> int:
        return prod(self.shape)


def weight_and_bias(
    name: str,
    shape: tuple[int, ...],
    biases: tuple[int, ...],
    bounds: Sequence[float | tuple[float, ...]],
) -> tuple[Parameter, Parameter]:
    """The parameters of a layer, or of a part of it."""
    weight, bias = bounds
    return Parameter(f"{name}.weight", shape, weight), Parameter(f"{name}.bias", biases, bias)


@dataclass(frozen=True)
class Layer:
    """What all layers have."""

    name: str  # as in weights, summaries and traces
    input_shape: tuple[int, ...]  # (maps, height, width), or (units,), of one image
    kind: ClassVar[str]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.input_shape

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    @property
    def window(self) -> tuple[int, int]:
        """Side and stride of the square of inputs that one unit sees."""
        return 1, 1

    @property
    def multiply_adds(self) -> int:
        """Multiplications followed by an addition, for one image."""
        return 0

    @property
    def connections(self) -> int:
        """The inputs of all units; a bias counts as one, as in the paper."""
        return self.multiply_adds + (prod(self.output_shape) if self.parameters else 0)


# For each set of kernels, the input maps of every map that it computes.
Groups = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution with square kernels.

    Attributes:
        outputs: number of maps.
        kernel: side of the kernels.
        bounds: of the initial weights and biases, each a number or one for each map.
        padding: values added around the input.
        border: what is added, 0 or a constant such as the background of the input.
        stride: distance of neighbouring units' windows in the input.
        unit_biases: whether every unit has a bias of its own, instead of every map.
        squash: the activation, if it belongs to the layer.
        groups: the input maps to which the maps are connected; the maps of a group share kernels
            and bias. None: each map has its own for all input maps.
        parts: a name for each group, if each has arrays of its own: weight (1, inputs, kernel,
            kernel) and bias (1,). Otherwise weight is (outputs, inputs, kernel, kernel), or
            (connections, kernel, kernel) with groups, ordered by map and input map. With
            unit_biases, a bias is (1, height, width) instead of (1,).
    """

    kind = "convolution"
    outputs: int
    kernel: int
    bounds: tuple[float | tuple[float, ...], float | tuple[float, ...]]
    padding: int = 0
    squash: Activation | None = None
    groups: Groups | None = None
    parts: tuple[str, ...] = ()
    stride: int = 1
    border: float = 0.0
    unit_biases: bool = False

    def __post_init__(self) -> None:
        maps, height, width = self.input_shape
        for side in (height, width):
            out = side + 2 * self.padding - self.kernel + 1
            if out < 1:
                raise LenetError(
                    f"{self.name}: a {self.kernel}x{self.kernel} convolution does not fit its "
                    f"{height}x{width} input: {side} + 2*{self.padding} - {self.kernel} + 1 = "
                    f"{out}; use a larger input_size or padding, smaller kernels or fewer layers"
                )
        if self.groups is not None:
            read = [inputs for group in self.groups for inputs in group]
            if len(read) != self.outputs or not all(
                inputs and 0 <= min(inputs) <= max(inputs) < maps for inputs in read
            ):
                raise LenetError(
                    f"{self.name}: groups must connect each map to some of {maps} maps"
                )

    @property
    def output_shape(self) -> Maps:
        _, height, width = self.input_shape
        grown = 2 * self.padding - self.kernel
        rows, columns = ((side + grown) // self.stride + 1 for side in (height, width))
        return self.outputs, rows, columns

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        weight, bias = self.bounds
        side, each = self.kernel, self.output_shape[1:] if self.unit_biases else ()
        if self.groups is None:
            shape = (self.outputs, self.input_shape[0], side, side)
            return weight_and_bias(self.name, shape, (self.outputs, *each), self.bounds)
        sizes = [len(group[0]) for group in self.groups]
        if not self.parts:
            if isinstance(weight, tuple):
                weight = tuple(np.repeat(weight, sizes).tolist())
            shape, bounds = (sum(sizes), side, side), (weight, bias)
            return weight_and_bias(self.name, shape, (len(sizes), *each), bounds)
        parameters: list[Parameter] = []
        for number, (part, size) in enumerate(zip(self.parts, sizes, strict=True)):
            own = [b[number] if isinstance(b, tuple) else b for b in self.bounds]
            name, shape = f"{self.name}.{part}", (1, size, side, side)
            parameters += weight_and_bias(name, shape, (1, *each), own)
        return tuple(parameters)

    @property
    def all_groups(self) -> Groups:
        """`groups`, or each map as a group with all input maps."""
        return self.groups or ((tuple(range(self.input_shape[0])),),) * self.outputs

    @property
    def wiring(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The (input map, number of the kernel) that each map adds up."""
        wires, first = [], 0
        for group in self.all_groups:
            wires += [tuple((i, first + k) for k, i in enumerate(inputs)) for inputs in group]
            first += len(group[0])
        return tuple(wires)

    @property
    def owners(self) -> tuple[int, ...]:
        """The number of each map's bias."""
        return tuple(number for number, group in enumerate(self.all_groups) for _ in group)

    def kernels(self, weights: Weights) -> Floats:
        """All kernels (kernels, side, side), numbered as in `wiring`."""
        arrays = [weights[p.name] for p in self.parameters if p.name.endswith("weight")]
        return np.concatenate([array.reshape(-1, self.kernel, self.kernel) for array in arrays])

    def filters(self, weights: Weights) -> Floats:
        """The kernels by map and input map, 0 without a connection: (outputs, inputs, k, k)."""
        kernels = self.kernels(weights)
        if self.groups is None:
            return kernels.reshape(self.outputs, -1, self.kernel, self.kernel)
        inputs = self.input_shape[0]
        filters = np.zeros((self.outputs, inputs, self.kernel, self.kernel), kernels.dtype)
        for output, wires in enumerate(self.wiring):
            for source, number in wires:
                filters[output, source] += kernels[number]
        return filters

    def biases(self, weights: Weights) -> Floats:
        """The bias of each map, (outputs,), or of each unit, (outputs, height, width)."""
        arrays = [weights[p.name] for p in self.parameters if p.name.endswith("bias")]
        return np.concatenate(arrays)[list(self.owners)]

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel, self.stride

    @property
    def multiply_adds(self) -> int:
        read = sum(len(inputs) for group in self.all_groups for inputs in group)
        return read * self.kernel**2 * prod(self.output_shape[1:])


@dataclass(frozen=True)
class Pooling(Layer):
    """2x2 pooling with stride 2; the last row or column is ignored if their number is odd."""

    method: Literal["average", "sum", "max"]
    squash: Activation | None = None
    """f, if the maps are f(coefficient * pooled + bias) with one trainable coefficient and one bias
    for each: the subsampling of 1998."""
    bound: float = 0.0  # of the initial coefficients and biases; 0 starts as the squashed mean
    sources: tuple[int, ...] | None = None  # the input map of each map, if they are not the same

    def __post_init__(self) -> None:
        maps, height, width = self.input_shape
        if min(height, width) < 2:
            raise LenetError(
                f"{self.name}: 2x2 pooling does not fit its {height}x{width} input: "
                f"{min(height, width)} // 2 = 0; use a larger input_size or padding, smaller "
                "kernels or fewer layers"
            )
        if self.sources is not None and not all(0 <= source < maps for source in self.sources):
            raise LenetError(f"{self.name}: sources must be from 0 to {maps - 1}")

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "subsampling" if self.squash else f"{self.method} pooling"

    @property
    def output_shape(self) -> Maps:
        maps, height, width = self.input_shape
        return maps if self.sources is None else len(self.sources), height // 2, width // 2

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        if not self.squash:
            return ()
        shape = (self.output_shape[0],)
        centre = 0.0 if self.bound else 0.25 / self.share
        return (
            Parameter(f"{self.name}.coefficient", shape, self.bound, centre),
            Parameter(f"{self.name}.bias", shape, self.bound),
        )

    @property
    def share(self) -> float:
        """The weight of each of the four inputs in an average or a sum."""
        return 1.0 if self.method == "sum" else 0.25

    @property
    def window(self) -> tuple[int, int]:
        return 2, 2

    @property
    def multiply_adds(self) -> int:
        return 0 if self.method == "max" else 4 * prod(self.output_shape)

    @property
    def connections(self) -> int:
        return (5 if self.squash else 4) * prod(self.output_shape)


@dataclass(frozen=True)
class Squashing(Layer):
    """An activation as a layer of its own."""

    squash: Activation

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.squash


@dataclass(frozen=True)
class Flatten(Layer):
    """(maps, height, width) -> (units,)."""

    kind = "flatten"

    @property
    def output_shape(self) -> tuple[int]:
        return (prod(self.input_shape),)

    @property
    def window(self) -> tuple[int, int]:
        return self.input_shape[-1], 1  # what follows sees the whole map


@dataclass(frozen=True)
class FullConnection(Layer):
    """Every unit sees the whole input: weight (outputs, inputs), bias (outputs,)."""

    kind = "full connection"
    outputs: int
    bounds: tuple[float, float]
    squash: Activation | None = None

    @property
    def output_shape(self) -> tuple[int]:
        return (self.outputs,)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        shape = (self.outputs, prod(self.input_shape))
        return weight_and_bias(self.name, shape, (self.outputs,), self.bounds)

    @property
    def multiply_adds(self) -> int:
        return self.outputs * prod(self.input_shape)

    @property
    def window(self) -> tuple[int, int]:
        return (self.input_shape[-1], 1) if len(self.input_shape) == 3 else (1, 1)


@dataclass(frozen=True, eq=False)
class Distances(Layer):
    """Scores are squared distances to fixed codes, times -1 (paper, section II.B)."""

    kind = "distances"
    codes: NDArray[np.float32]  # (classes, units) of -1 and +1

    @property
    def output_shape(self) -> tuple[int]:
        return (len(self.codes),)

    @property
    def multiply_adds(self) -> int:
        return self.codes.size


@dataclass(frozen=True)
class Preparation:
    """How uint8 images become a network's input: background + (foreground - background) x / 255."""

    channels: int  # images that make up one input
    size: int  # side of the input in pixels
    background: float  # the value of pixels of 0 ...
    foreground: float  # ... and of 255
    resize: bool = False
    """Whether all images are resized. Otherwise smaller ones are padded with 0 on all sides, as in
    the paper, and larger ones are first shrunk to fit."""

    @property
    def scale(self) -> float:
        """The difference of one grey level."""
        return (self.foreground - self.background) / 255

    def rows(self, height: int, width: int) -> NDArray[np.float32]:
        """The weight of each row of an image in each row of the input: (size, height).

        The same holds for columns: the input is rows(h, w) @ image @ rows(w, h).T, then scaled.
        Resizing is bilinear, with antialiasing when it shrinks, as in PyTorch.
        """
        if self.resize:
            return resampling(height, self.size)
        longest = max(height, width)
        within = height if longest <= self.size else max(1, round(height * self.size / longest))
        rows = np.zeros((self.size, height), np.float32)
        top = (self.size - within) // 2
        rows[top : top + within] = resampling(height, within)
        return rows

    def margin(self, side: int) -> int | None:
        """Pixels of padding on each side of square images of that side; None if resized."""
        return (self.size - side) // 2 if side <= self.size and not self.resize else None

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, H, W) or (N, C, H, W) -> float32 (N, C, size, size).

        Raises:
            LenetError: the images have another dtype or number of channels.
        """
        planes = self.planes(images).astype(np.float32)
        height, width = planes.shape[-2:]
        if (height, width) != (self.size, self.size):
            planes = self.rows(height, width) @ planes @ self.rows(width, height).T
        return np.float32(self.background) + np.float32(self.scale) * planes

    def planes(self, images: Any) -> Any:
        """The images (an array or tensor of uint8) as (N, C, H, W), after a check."""
        if str(images.dtype).removeprefix("torch.") != "uint8":
            raise LenetError(f"images must be uint8 with values 0..255, not {images.dtype}")
        planes = images[:, None] if images.ndim == 3 else images
        if planes.ndim != 4 or planes.shape[1] != self.channels:
            raise LenetError(
                f"images must have shape (N, H, W) or (N, {self.channels}, H, W), "
                f"not {tuple(images.shape)}"
            )
        return planes


def resampling(size: int, target: int) -> NDArray[np.float32]:
    """Weights (target, size) of a bilinear resize of a row of pixels. To shrink it, the triangle is
    widened to the pixels that a new one covers."""
    scale = size / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None]) / width
    weights = np.maximum(1 - distances, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Architecture:
    """A network: how it prepares images, and its layers."""

    options: "Options"  # an entry of `NETWORKS`, with the values that make this network
    preparation: Preparation
    layers: tuple[Layer, ...]  # in order; the last computes the scores

    def __post_init__(self) -> None:
        counts = {
            "parameters": (sum(p.size for p in self.parameters), MOST_PARAMETERS),
            "values": (self.values, MOST_VALUES),
            "multiply-adds": (sum(x.multiply_adds for x in self.layers), MOST_MULTIPLY_ADDS),
        }
        for name, (count, most) in counts.items():
            if count > most:
                raise LenetError(
                    f"this {self.network} has {count:,} {name}; at most {most:,} are possible"
                )

    @property
    def network(self) -> str:
        return type(self.options).__name__

    @property
    def values(self) -> int:
        """Numbers that all layers hold for one image: their inputs or outputs, or for convolutions
        the windows that each output sees, whichever are more."""
        return sum(
            max(
                prod(layer.input_shape),
                prod(layer.output_shape),
                layer.multiply_adds // layer.output_shape[0],
            )
            for layer in self.layers
        )

    def as_dict(self) -> dict[str, Any]:
        """The options with which `build` makes this network again, JSON-able."""
        sizes = {"in_channels": self.preparation.channels, "classes": self.classes}
        return {**self.options.as_dict(), **sizes}

    @property
    def input_shape(self) -> Maps:
        return self.preparation.channels, self.preparation.size, self.preparation.size

    @property
    def classes(self) -> int:
        return self.layers[-1].output_shape[0]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All trainable arrays, in the order of their layers."""
        return tuple(p for layer in self.layers for p in layer.parameters)

    def initial_weights(self, seed: int) -> dict[str, NDArray[np.float32]]:
        """Weights by name, drawn from NumPy's generator: the same for a seed, whatever trains."""
        generator = np.random.default_rng([seed, 0])
        weights = {}
        for parameter in self.parameters:
            drawn = generator.uniform(-1, 1, parameter.shape)
            bound = np.reshape(parameter.bound, (-1, *[1] * (drawn.ndim - 1)))
            weights[parameter.name] = (parameter.centre + bound * drawn).astype(np.float32)
        return weights


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a network; its subclasses are the entries of `NETWORKS`."""

    def __post_init__(self) -> None:
        fields.check(self)

    def as_dict(self) -> dict[str, Any]:
        """Values by option, JSON-able."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        """The network with these options.

        Args:
            in_channels: channels of the input, 1 for grey images.
            classes: number of scores.

        Raises:
            LenetError: they do not fit together; the message shows the arithmetic.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LeNet(Options):
    """LeNet as in "Dive into Deep Learning" (section 7.6): 61,706 parameters by default."""

    input_size: int = 28
    """Side of the input in pixels; smaller images are padded with 0, larger ones shrunk."""
    channels: tuple[int, ...] = (6, 16)
    """Output channels of the convolution layers, one number a layer."""
    kernel_sizes: tuple[int, ...] = (5,)
    """Side of the kernels, one number a layer; the last is repeated."""
    padding: tuple[int, ...] = (2,)
    """Zeros around the input of each convolution; 0 for further layers. The book pads the first by
    2 to make up for 28x28 images, where the paper has 32x32."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the fully connected layers before the output."""
    activation: Activation = "sigmoid"
    """What follows every layer but the last; gelu is x * sigmoid(1.702 x)."""
    pooling: Literal["average", "max"] = "average"
    """2x2 pooling after every convolution."""
    init: Initial = "xavier-uniform"
    """Initial weights: xavier-uniform is the book's; torch is PyTorch's default, uniform with
    variance 1 / (3 fan-in); kaiming-uniform is He's for ReLU; lecun-uniform is uniform in
    +-2.4 / fan-in, as in the paper (appendix A). Biases always start as in PyTorch."""
    mean: float = 0.0
    """Pixels in 0..1 are normalised to (pixel - mean) / std."""
    std: float = 1.0
    """See mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("input_size", (self.input_size,), 1)
        within("padding", self.padding, 0)
        for name in ("channels", "kernel_sizes", "hidden"):
            within(name, getattr(self, name), 1)
        most = LARGEST_NORMALISATION
        fields.require(self, mean=abs(self.mean) <= most, std=1 / most <= self.std <= most)

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        within("in_channels", (in_channels,), 1)
        within("classes", (classes,), 1)
        count = len(self.channels)
        kernels = per_layer("kernel_sizes", self.kernel_sizes, count, self.kernel_sizes[-1:])
        paddings = per_layer("padding", self.padding, count, (0,))
        layers: list[Layer] = []
        shape: tuple[int, ...] = (in_channels, self.input_size, self.input_size)
        number = 1
        for outputs, kernel, padding in zip(self.channels, kernels, paddings, strict=True):
            bounds = start(self.init, shape[0] * kernel**2, outputs * kernel**2)
            layer = Convolution(f"C{number}", shape, outputs, kernel, bounds, padding)
            shape = follow(layers, layer, self.activation)
            shape = follow(layers, Pooling(f"S{number + 1}", shape, self.pooling))
            number += 2
        shape = follow(layers, Flatten("flatten", shape))
        # The first fully connected layer is the paper's C5: a convolution over the whole map.
        letter = "C" if count else "F"
        for units in self.hidden:
            bounds = start(self.init, shape[0], units)
            layer = FullConnection(f"{letter}{number}", shape, units, bounds)
            shape = follow(layers, layer, self.activation)
            number, letter = number + 1, "F"
        bounds = start(self.init, shape[0], classes)
        follow(layers, FullConnection("output", shape, classes, bounds))
        background, foreground = -self.mean / self.std, (1 - self.mean) / self.std
        preparation = Preparation(in_channels, self.input_size, background, foreground)
        return Architecture(self, preparation, tuple(layers))


def follow(layers: list[Layer], layer: Layer, squash: Activation | None = None) -> tuple[int, ...]:
    """Appends a layer, and its activation as a layer of its own; returns their output shape."""
    layers.append(layer)
    if squash:
        layers.append(Squashing(f"{layer.name}_{squash}", layer.output_shape, squash))
    return layer.output_shape


def within(name: str, values: Sequence[int], least: int) -> None:
    """Refuses impossible sizes before anything is computed from them."""
    if len(values) > MOST_LAYERS:
        raise LenetError(f"{name} has {len(values)} values; at most {MOST_LAYERS} are possible")
    for value in values:
        if not least <= value <= MOST_UNITS:
            raise LenetError(
                f"{name} must be from {least} to {MOST_UNITS:,}, not {fields.shown(value)}"
            )


def start(init: Initial, fan_in: int, fan_out: int) -> tuple[float, float]:
    """Bounds of the uniform initial weights and biases."""
    bound = {
        "xavier-uniform": sqrt(6 / (fan_in + fan_out)),
        "torch": 1 / sqrt(fan_in),
        "kaiming-uniform": sqrt(6 / fan_in),
        "lecun-uniform": 2.4 / fan_in,
    }[init]
    return bound, 1 / sqrt(fan_in)


def per_layer(
    name: str, values: tuple[int, ...], count: int, filler: tuple[int, ...]
) -> tuple[int, ...]:
    """The values of `count` layers, completed by the filler."""
    if count and not 0 < len(values) <= count:
        raise LenetError(
            f"{name} has {len(values)} values for {count} convolution layers; give 1 to {count}"
        )
    return (*values, *filler * count)[:count]


@dataclass(frozen=True, kw_only=True)
class LeNet5(Options):
    """LeNet-5 as published in 1998: 60,000 trainable parameters, 340,908 connections.

    Squashing belongs to the layers, so that these are exactly the paper's. The options are what the
    paper leaves open, and common variants.
    """

    subsampling: Literal["average", "sum"] = "average"
    """What S2 and S4 compute from 2x2 inputs. Section II.A averages, II.B adds; the coefficients
    differ by a factor of 4, and so does the effect of a step."""
    initial: Literal["linear", "sqrt"] = "linear"
    """Bound of the uniform initial values for a fan-in of F: linear is the published 2.4 / F
    (appendix A), sqrt is 2.4 / sqrt(F). With the published one, units start nearly silent, and the
    steps of mu = 0.02 are too large for any training."""
    fan_in: Literal["inputs", "inputs+bias"] = "inputs"
    """Whether F counts the bias. The paper does not say."""
    subsampling_start: Literal["average", "random"] = "average"
    """Whether S2 and S4 start as the squashed mean of their inputs, or at random as other layers,
    with F = 4. The paper does not say."""
    head: Literal["rbf", "softmax"] = "rbf"
    """rbf is the paper's output, distances to the glyphs; softmax is a trainable linear layer 84-10
    (60,850 parameters), as in most later networks."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)

        def bound(inputs: int) -> float:
            return published_bound(inputs + (self.fan_in == "inputs+bias"), self.initial)

        squash: Activation = "scaled-tanh"
        table = codebook.groups(codebook.C3_DRAWING)
        of_c1, of_c5, of_f6 = bound(25), bound(400), bound(120)
        of_c3 = tuple(bound(25 * len(group[0])) for group in table)
        pooling = self.subsampling, squash, bound(4) if self.subsampling_start == "random" else 0.0
        c1 = Convolution("C1", (1, 32, 32), 6, 5, (of_c1, of_c1), squash=squash)
        s2 = Pooling("S2", c1.output_shape, *pooling)
        c3 = Convolution("C3", s2.output_shape, 16, 5, (of_c3, of_c3), squash=squash, groups=table)
        s4 = Pooling("S4", c3.output_shape, *pooling)
        c5 = Convolution("C5", s4.output_shape, 120, 5, (of_c5, of_c5), squash=squash)
        f6 = FullConnection("F6", c5.output_shape, 84, (of_f6, of_f6), squash)
        if self.head == "rbf":
            output: Layer = Distances("output", f6.output_shape, codebook.digit_codes())
        else:
            output = FullConnection("output", f6.output_shape, 10, start("torch", 84, 10))
        preparation = Preparation(1, 32, codebook.BACKGROUND, codebook.FOREGROUND)
        return Architecture(self, preparation, (c1, s2, c3, s4, c5, f6, output))


@dataclass(frozen=True, kw_only=True)
class LeNet5s(Options):
    """LeNet5s: ReLU, average pooling, and a C3 whose maps share a set of kernels in each group.

    59,719 parameters, 429 of them in C3 (the paper's C3 has a set of kernels for each map: 1,516).
    The input is resized to 32x32 and normalised with MNIST's mean and standard deviation.
    """

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)
        layers: list[Layer] = []
        c1 = Convolution("C1", (1, 32, 32), 6, 5, start("torch", 25, 150))
        shape = follow(layers, c1, "relu")
        shape = follow(layers, Pooling("S2", shape, "average"))
        parts, groups = tuple(codebook.C3_PARTS), tuple(codebook.C3_PARTS.values())
        # PyTorch's start, of four convolutions with 3, 4, 4 and 6 inputs.
        own = tuple(1 / sqrt(25 * len(group[0])) for group in groups)
        c3 = Convolution("C3", shape, 16, 5, (own, own), groups=groups, parts=parts)
        shape = follow(layers, c3, "relu")
        shape = follow(layers, Pooling("S4", shape, "average"))
        shape = follow(layers, Flatten("flatten", shape))
        for name, units in (("C5", 120), ("F6", 84), ("output", 10)):
            bounds = start("torch", shape[0], units)
            squash = None if name == "output" else "relu"
            shape = follow(layers, FullConnection(name, shape, units, bounds), squash)
        background = -codebook.MNIST_MEAN / codebook.MNIST_STD
        foreground = (1 - codebook.MNIST_MEAN) / codebook.MNIST_STD
        preparation = Preparation(1, 32, background, foreground, resize=True)
        return Architecture(self, preparation, tuple(layers))


def published_bound(fan_in: int, initial: Literal["linear", "sqrt"]) -> float:
    """Bound of the uniform initial values for that fan-in (paper, appendix A)."""
    return 2.4 / (fan_in if initial == "linear" else sqrt(fan_in))


@dataclass(frozen=True, kw_only=True)
class Ancestor(Options):
    """Common options of the networks before LeNet-5, whose ten outputs have the targets +-1."""

    activation: Activation = "scaled-tanh"
    """The squashing of all layers."""
    initial: Literal["linear", "sqrt"] = "linear"
    """Bound of the uniform initial weights and biases for a fan-in of F: 2.4 / F or 2.4 / sqrt(F).
    Subsampling starts as the squashed mean of its inputs."""
    head: Literal["squashed", "softmax"] = "squashed"
    """Whether the outputs are squashed as all other units, or left linear, for cross-entropy."""

    def convolution(
        self, name: str, shape: tuple[int, ...], outputs: int, groups: Groups | None = None
    ) -> Convolution:
        """A squashed layer of 5x5 kernels; its maps see those of their groups, or all."""
        seen = groups or ((tuple(range(shape[0])),),) * outputs
        own = tuple(published_bound(25 * len(group[0]), self.initial) for group in seen)
        squash = self.activation
        return Convolution(name, shape, outputs, 5, (own, own), squash=squash, groups=groups)

    def connection(self, name: str, shape: tuple[int, ...], outputs: int) -> FullConnection:
        """A full connection; that of name "output" as `head` says."""
        bound = published_bound(prod(shape), self.initial)
        squash = None if name == "output" and self.head == "softmax" else self.activation
        return FullConnection(name, shape, outputs, (bound, bound), squash)


@dataclass(frozen=True, kw_only=True)
class LeNet1989(Ancestor):
    """The zip code network of 1989: 9,760 trainable parameters, 64,660 connections.

    LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition", Neural Computation
    1(4), 1989. Its convolutions have stride 2, see -1 beyond the border, and have a bias for every
    unit. It does not print which maps of H1 those of H2 see: `codebook.H2_DRAWING` is a guess.
    """

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)

        def strided(layer: Convolution) -> Convolution:
            return replace(layer, padding=2, border=-1.0, stride=2, unit_biases=True)

        h1 = strided(self.convolution("H1", (1, 16, 16), 12))
        groups = codebook.groups(codebook.H2_DRAWING)
        h2 = strided(self.convolution("H2", h1.output_shape, 12, groups))
        h3 = self.connection("H3", h2.output_shape, 30)
        output = self.connection("output", h3.output_shape, 10)
        return Architecture(self, Preparation(1, 16, -1, 1), (h1, h2, h3, output))


@dataclass(frozen=True, kw_only=True)
class LeNet1(Ancestor):
    """LeNet-1 of 1990: 2,578 trainable parameters, 98,442 connections.

    LeCun et al., "Handwritten Digit Recognition with a Back-Propagation Network", NIPS 2, 1990;
    paper of 1998, section III.C. Which maps are connected is a guess: `codebook.LENET1_DRAWING`.
    """

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)
        c1 = self.convolution("C1", (1, 28, 28), 4)
        s2 = Pooling("S2", c1.output_shape, "average", self.activation)
        c3 = self.convolution("C3", s2.output_shape, 12, codebook.groups(codebook.LENET1_DRAWING))
        s4 = Pooling("S4", c3.output_shape, "average", self.activation)
        output = self.connection("output", s4.output_shape, 10)
        preparation = Preparation(1, 28, codebook.BACKGROUND, codebook.FOREGROUND)
        return Architecture(self, preparation, (c1, s2, c3, s4, output))


@dataclass(frozen=True, kw_only=True)
class LeNet4(Ancestor):
    """LeNet-4 (paper of 1998, section III.C): 16,998 trainable parameters, 258,306 connections.

    S2 has two maps for each of C1. The paper's "about 17,000" parameters leave C5, "fully
    connected", only 4.7 of the 16 maps of S4 for each unit. Which maps C3 and C5 see is a guess:
    `codebook.LENET4_DRAWING` and `codebook.LENET4_C5_DRAWING`.
    """

    c5: Literal["partial", "full"] = "partial"
    """Whether C5 has the printed number of parameters, or sees all maps: 50,998 in all."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)
        pairs = tuple(number // 2 for number in range(8))
        c1 = self.convolution("C1", (1, 32, 32), 4)
        s2 = Pooling("S2", c1.output_shape, "average", self.activation, sources=pairs)
        c3 = self.convolution("C3", s2.output_shape, 16, codebook.groups(codebook.LENET4_DRAWING))
        s4 = Pooling("S4", c3.output_shape, "average", self.activation)
        seen = codebook.groups(codebook.LENET4_C5_DRAWING) * 8 if self.c5 == "partial" else None
        c5 = self.convolution("C5", s4.output_shape, 120, seen)
        output = self.connection("output", c5.output_shape, 10)
        preparation = Preparation(1, 32, codebook.BACKGROUND, codebook.FOREGROUND)
        return Architecture(self, preparation, (c1, s2, c3, s4, c5, output))


def require_digits(options: Options, in_channels: int, classes: int) -> None:
    """Refuses channels and classes other than those of a network of fixed sizes."""
    if (in_channels, classes) != (1, 10):
        raise LenetError(
            f"{type(options).__name__} reads 1 channel and has 10 classes, but the data have "
            f"{in_channels} and {classes}"
        )


NETWORKS: dict[str, type[Options]] = {
    entry.__name__: entry for entry in (LeNet, LeNet5, LeNet5s, LeNet1989, LeNet1, LeNet4)
}


def build(network: str, options: Mapping[str, Any]) -> Architecture:
    """The network of that name with those options, as files and callers give them.

    Args:
        options: fields of the entry, in_channels and classes; all are optional.

    Raises:
        LenetError: there is no such network, or it does not have those options.
    """
    if network not in NETWORKS:
        raise LenetError(
            f"there is no network {fields.shown(network)}; choose {', '.join(NETWORKS)}"
        )
    entry, sizes = NETWORKS[network], {"in_channels": int, "classes": int}
    fields.require_known(options, {**fields.annotations(entry), **sizes}, network)
    given = {name: fields.typed(int, options[name], name) for name in sizes if name in options}
    values = {name: value for name, value in options.items() if name not in sizes}
    return entry(**values).architecture(**given)
