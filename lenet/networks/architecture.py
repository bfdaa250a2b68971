"""The networks as data: each is a list of layers, and everything else loops over that list.

From here come parameters and initial weights, summaries, the plans of the kernels, the PyTorch
modules, exports and what the page explains. A new network is one new entry of `NETWORKS`.
Layers are named as in the paper of 1998: C1, S2, C3, S4, C5, F6, output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod, sqrt
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
MOST_PARAMETERS = 2**28  # of one network: 1 GiB of float32
MOST_LAYERS, MOST_UNITS = 100, 2**20


@dataclass(frozen=True)
class Parameter:
    """A trainable array.

    Attributes:
        name: the layer's name, a point, and its own: C1.weight.
        shape: its shape.
        bound: half the width of the uniform distribution that it starts from; a number, or one
            for each entry of its first axis.
        centre: the middle of that distribution.
    """

    name: str
    shape: tuple[int, ...]
    bound: float | tuple[float, ...]
    centre: float = 0.0

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Layer:
    """What all layers have.

    Attributes:
        name: as in weights, summaries and traces.
        input_shape: (maps, height, width), or (units,), of one image.
    """

    name: str
    input_shape: tuple[int, ...]
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
        """Inputs that reach each unit; a bias counts as one, as in the paper."""
        return 0


# For each set of kernels, the input maps that it reads, for every map that it makes.
Groups = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution with stride 1 and square kernels.

    Attributes:
        outputs: number of maps.
        kernel: side of the kernels.
        bounds: of the initial weights, and of the initial biases; a number each, or one for each
            map.
        padding: zeros around the input.
        squash: the activation, where it belongs to the layer.
        groups: which input maps the maps are connected to, and which of them share kernels and
            bias. None: each map has its own for all input maps.
        parts: a name for each group where each has arrays of its own, weight (1, inputs, kernel,
            kernel) and bias (1,). Otherwise weight is (outputs, inputs, kernel, kernel), or
            (connections, kernel, kernel) where there are groups, ordered by map and input map.
    """

    kind = "convolution"
    input_shape: Maps
    outputs: int
    kernel: int
    bounds: tuple[float | tuple[float, ...], float | tuple[float, ...]]
    padding: int = 0
    squash: Activation | None = None
    groups: Groups | None = None
    parts: tuple[str, ...] = ()

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
                raise LenetError(f"{self.name}: its groups do not connect {maps} maps to all of it")

    @property
    def output_shape(self) -> Maps:
        _, height, width = self.input_shape
        grown = 2 * self.padding - self.kernel + 1
        return self.outputs, height + grown, width + grown

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        weight, bias = self.bounds
        side = self.kernel
        if self.groups is None:
            shapes = (self.outputs, self.input_shape[0], side, side), (self.outputs,)
        elif not self.parts:
            sizes = [len(group[0]) for group in self.groups]
            shapes = (sum(sizes), side, side), (len(sizes),)
            if isinstance(weight, tuple):
                weight = tuple(np.repeat(weight, sizes).tolist())
        else:
            parameters = []
            for number, (part, group) in enumerate(zip(self.parts, self.groups, strict=True)):
                name, shape = f"{self.name}.{part}", (1, len(group[0]), side, side)
                own = [b[number] if isinstance(b, tuple) else b for b in self.bounds]
                parameters.append(Parameter(f"{name}.weight", shape, own[0]))
                parameters.append(Parameter(f"{name}.bias", (1,), own[1]))
            return tuple(parameters)
        names = f"{self.name}.weight", f"{self.name}.bias"
        return Parameter(names[0], shapes[0], weight), Parameter(names[1], shapes[1], bias)

    @property
    def wiring(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each map, the (input map, number of the kernel) that it adds up."""
        if self.groups is None:
            inputs = self.input_shape[0]
            return tuple(
                tuple((i, o * inputs + i) for i in range(inputs)) for o in range(self.outputs)
            )
        wires, first = [], 0
        for group in self.groups:
            wires += [tuple((i, first + k) for k, i in enumerate(inputs)) for inputs in group]
            first += len(group[0])
        return tuple(wires)

    @property
    def owners(self) -> tuple[int, ...]:
        """For each map, the number of its bias."""
        if self.groups is None:
            return tuple(range(self.outputs))
        return tuple(number for number, group in enumerate(self.groups) for _ in group)

    def kernels(self, weights: Weights) -> Floats:
        """All kernels (kernels, side, side), numbered as in `wiring`."""
        arrays = [weights[p.name] for p in self.parameters if p.name.endswith("weight")]
        return np.concatenate([array.reshape(-1, self.kernel, self.kernel) for array in arrays])

    def filters(self, weights: Weights) -> Floats:
        """The kernels where they act, 0 where there is no connection: (outputs, inputs, k, k)."""
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
        """The bias of each map, (outputs,)."""
        arrays = [weights[p.name] for p in self.parameters if p.name.endswith("bias")]
        return np.concatenate(arrays)[list(self.owners)]

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel, 1

    @property
    def multiply_adds(self) -> int:
        if self.groups is None:
            read = self.outputs * self.input_shape[0]
        else:
            read = sum(len(inputs) for group in self.groups for inputs in group)
        return read * self.kernel**2 * prod(self.output_shape[1:])

    @property
    def connections(self) -> int:
        return self.multiply_adds + prod(self.output_shape)


@dataclass(frozen=True)
class Pooling(Layer):
    """2x2 inputs of a map become one, with stride 2; a last odd row or column is left out.

    Attributes:
        method: average, sum or max.
        squash: f, where the maps become f(coefficient * pooled + bias) with one trainable
            coefficient and one bias a map: the subsampling of 1998.
        bound: of the initial coefficients and biases; 0 starts as the squashed mean.
        sources: the input map that each map pools, where it is not its own.
    """

    input_shape: Maps
    method: Literal["average", "sum", "max"]
    squash: Activation | None = None
    bound: float = 0.0
    sources: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        maps, height, width = self.input_shape
        if min(height, width) < 2:
            raise LenetError(
                f"{self.name}: 2x2 pooling does not fit its {height}x{width} input: "
                f"{min(height, width)} // 2 = 0; use a larger input_size or padding, smaller "
                "kernels or fewer layers"
            )
        if self.sources is not None and not all(0 <= source < maps for source in self.sources):
            raise LenetError(f"{self.name}: its sources are not all among the {maps} maps")

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
        """What each of the four inputs adds to an average or a sum."""
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
    """Maps in a row: (maps, height, width) -> (units,)."""

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
        weight, bias = self.bounds
        return (
            Parameter(f"{self.name}.weight", (self.outputs, prod(self.input_shape)), weight),
            Parameter(f"{self.name}.bias", (self.outputs,), bias),
        )

    @property
    def multiply_adds(self) -> int:
        return self.outputs * prod(self.input_shape)

    @property
    def connections(self) -> int:
        return self.multiply_adds + self.outputs

    @property
    def window(self) -> tuple[int, int]:
        return (self.input_shape[-1], 1) if len(self.input_shape) == 3 else (1, 1)


@dataclass(frozen=True, eq=False)
class Distances(Layer):
    """Scores are squared distances to fixed codes, times -1 (paper, section II.B).

    Attributes:
        codes: (classes, units) of -1 and +1.
    """

    kind = "distances"
    codes: NDArray[np.float32]

    @property
    def output_shape(self) -> tuple[int]:
        return (len(self.codes),)

    @property
    def multiply_adds(self) -> int:
        return self.codes.size

    @property
    def connections(self) -> int:
        return self.codes.size


@dataclass(frozen=True)
class Preparation:
    """How uint8 images become a network's input: background + (foreground - background) x / 255.

    Attributes:
        channels: images that make up one input; each is prepared alike.
        size: side of the input in pixels.
        background, foreground: what pixels of 0 and 255 become.
        resize: whether every image is resized. Otherwise smaller ones are padded with 0 on all
            sides, as in the paper, and larger ones are shrunk to fit first.
    """

    channels: int
    size: int
    background: float
    foreground: float
    resize: bool = False

    @property
    def scale(self) -> float:
        """What one grey level adds."""
        return (self.foreground - self.background) / 255

    def rows(self, height: int, width: int) -> NDArray[np.float32]:
        """(size, height): what each row of the input takes of each row of an image.

        Columns are treated alike, so that the input is rows(h, w) @ image @ rows(w, h).T, then
        scaled. Resizing is bilinear, antialiased where it shrinks, as PyTorch's.
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
        """Pixels of padding above square images of that side; None if they are resized."""
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
        """The same images (an array or tensor of uint8) as (N, C, H, W)."""
        if str(images.dtype).removeprefix("torch.") != "uint8":
            raise LenetError(f"images must be uint8 with values 0..255, not {images.dtype}")
        planes = images[:, None] if images.ndim == 3 else images
        if planes.ndim != 4 or planes.shape[1] != self.channels:
            raise LenetError(
                f"images must have shape (N, H, W) or (N, {self.channels}, H, W), "
                f"not {tuple(images.shape)}"
            )
        return planes


def resampling(size: int, wanted: int) -> NDArray[np.float32]:
    """Weights (wanted, size) that resize rows of pixels: bilinearly, and with the triangle widened
    to the pixels that one new pixel covers where it shrinks them."""
    scale = size / wanted
    width = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None]) / width
    weights = np.maximum(1 - distances, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Architecture:
    """A network: how it prepares images, and its layers from first to last.

    Attributes:
        options: the entry of `NETWORKS` that it was made from, with its values.
        preparation: from images to the input.
        layers: in order; the last gives the scores.
    """

    options: "Options"
    preparation: Preparation
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if (size := sum(p.size for p in self.parameters)) > MOST_PARAMETERS:
            raise LenetError(
                f"this {self.network} has {size:,} parameters; {MOST_PARAMETERS:,} are possible"
            )

    @property
    def network(self) -> str:
        return type(self.options).__name__

    def as_dict(self) -> dict[str, Any]:
        """The options of `build` that make this network again, JSON-able."""
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
        """Weights drawn from NumPy's generator: the same for the same seed, whatever trains."""
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
        """JSON-able: option -> value."""
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
    """LeNet in the form of "Dive into Deep Learning" (section 7.6): 61,706 parameters.

    The defaults are the network of the book; every option is a knob to turn.
    """

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
    """Start of the weights: xavier-uniform is the book's; torch is PyTorch's own, uniform with
    variance 1 / (3 fan-in); kaiming-uniform is He's for ReLU; lecun-uniform is uniform in
    +-2.4 / fan-in, as in the paper (appendix A). Biases start as PyTorch's do in every case."""
    mean: float = 0.0
    """Pixels in 0..1 are normalised to (pixel - mean) / std."""
    std: float = 1.0
    """See mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = dict(
            input_size=(self.input_size,),
            channels=self.channels,
            kernel_sizes=self.kernel_sizes,
            hidden=self.hidden,
        )
        for name, values in sizes.items():
            within(name, values, 1)
        within("padding", self.padding, 0)
        if not (self.std > 0 and isfinite(self.std) and isfinite(self.mean)):
            raise LenetError(
                f"mean and std must be finite and std positive, not {self.mean} and {self.std}"
            )

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        within("in_channels", (in_channels,), 1)
        within("classes", (classes,), 1)
        count = len(self.channels)
        kernels = per_layer("kernel_sizes", self.kernel_sizes, count, self.kernel_sizes[-1:])
        paddings = per_layer("padding", self.padding, count, (0,))
        layers: list[Layer] = []

        def follow(layer: Layer, squashed: bool) -> tuple[int, ...]:
            layers.append(layer)
            if squashed:
                name = f"{layer.name}_{self.activation}"
                layers.append(Squashing(name, layer.output_shape, self.activation))
            return layer.output_shape

        shape: tuple[int, ...] = (in_channels, self.input_size, self.input_size)
        number = 1
        for outputs, kernel, padding in zip(self.channels, kernels, paddings, strict=True):
            inputs = as_maps(shape)
            bounds = start(self.init, inputs[0] * kernel**2, outputs * kernel**2)
            layer = Convolution(f"C{number}", inputs, outputs, kernel, bounds, padding)
            shape = follow(layer, squashed=True)
            shape = follow(Pooling(f"S{number + 1}", as_maps(shape), self.pooling), squashed=False)
            number += 2
        shape = follow(Flatten("flatten", shape), squashed=False)
        # The first fully connected layer is the paper's C5: a convolution over the whole map.
        letter = "C" if count else "F"
        for units in self.hidden:
            bounds = start(self.init, shape[0], units)
            layer = FullConnection(f"{letter}{number}", shape, units, bounds)
            shape = follow(layer, squashed=True)
            number, letter = number + 1, "F"
        bounds = start(self.init, shape[0], classes)
        follow(FullConnection("output", shape, classes, bounds), squashed=False)
        background, foreground = -self.mean / self.std, (1 - self.mean) / self.std
        preparation = Preparation(in_channels, self.input_size, background, foreground)
        return Architecture(self, preparation, tuple(layers))


def within(name: str, values: Sequence[int], least: int) -> None:
    """Refuses sizes that no network has, before anything is computed from them."""
    if len(values) > MOST_LAYERS:
        raise LenetError(f"{name} has {len(values)} values; at most {MOST_LAYERS} are possible")
    for value in values:
        if not least <= value <= MOST_UNITS:
            raise LenetError(f"{name} must be from {least} to {MOST_UNITS:,}, not {value:,}")


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
    """One value for each of `count` layers; missing ones are the filler."""
    if count and not 0 < len(values) <= count:
        raise LenetError(
            f"{name} has {len(values)} values for {count} convolution layers; give 1 to {count}"
        )
    return (*values, *filler * count)[:count]


def as_maps(shape: Sequence[int]) -> Maps:
    maps, height, width = shape
    return maps, height, width


@dataclass(frozen=True, kw_only=True)
class LeNet5(Options):
    """LeNet-5 as published in 1998: 60,000 trainable parameters, 340,908 connections.

    Squashing belongs to the layers, so that these are exactly the paper's. What the paper leaves
    open, or what people ask for, is an option.
    """

    subsampling: Literal["average", "sum"] = "average"
    """What S2 and S4 take of 2x2 inputs. Section II.A averages, II.B adds; the two differ by a
    factor 4 in the coefficient, and so in how far a step moves it."""
    initial: Literal["linear", "sqrt"] = "linear"
    """Bound of the uniform initial values for the fan-in F: linear is the published 2.4 / F
    (appendix A), sqrt is 2.4 / sqrt(F). The published one starts with nearly silent units, where
    mu = 0.02 gives steps too large to ever train."""
    fan_in: Literal["inputs", "inputs+bias"] = "inputs"
    """Whether F counts the bias. The paper does not say."""
    subsampling_start: Literal["average", "random"] = "average"
    """S2 and S4 start as the squashed mean of their inputs, or at random as the other layers, with
    F = 4. The paper does not say which."""
    head: Literal["rbf", "softmax"] = "rbf"
    """rbf is the paper's output, distances to the glyphs; softmax puts a trainable linear layer
    84-10 in its place (60,850 parameters), as most later networks have."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)

        def bound(inputs: int) -> float:
            fan_in = inputs + (self.fan_in == "inputs+bias")
            return 2.4 / (fan_in if self.initial == "linear" else sqrt(fan_in))

        def both(inputs: int) -> tuple[float, float]:
            return bound(inputs), bound(inputs)

        def subsample(name: str, shape: Maps) -> Pooling:
            start = bound(4) if self.subsampling_start == "random" else 0.0
            return Pooling(name, shape, self.subsampling, "scaled-tanh", start)

        table = codebook.c3_groups()
        of_maps = tuple(bound(25 * len(group[0])) for group in table)
        squash: Activation = "scaled-tanh"
        c1 = Convolution("C1", (1, 32, 32), 6, 5, both(25), squash=squash)
        s2 = subsample("S2", c1.output_shape)
        c3 = Convolution(
            "C3", s2.output_shape, 16, 5, (of_maps, of_maps), squash=squash, groups=table
        )
        s4 = subsample("S4", c3.output_shape)
        c5 = Convolution("C5", s4.output_shape, 120, 5, both(400), squash=squash)
        f6 = FullConnection("F6", c5.output_shape, 84, both(120), squash)
        if self.head == "rbf":
            output: Layer = Distances("output", f6.output_shape, codebook.digit_codes())
        else:
            output = FullConnection("output", f6.output_shape, 10, start("torch", 84, 10))
        preparation = Preparation(1, 32, codebook.BACKGROUND, codebook.FOREGROUND)
        return Architecture(self, preparation, (c1, s2, c3, s4, c5, f6, output))


@dataclass(frozen=True, kw_only=True)
class LeNet5s(Options):
    """LeNet5s: ReLU, average pooling, and a C3 whose maps share one kernel set per group.

    59,719 parameters, of them 429 in C3 (the paper's C3 has a kernel set per map: 1,516).
    32x32 input by resizing, normalised with MNIST's mean and standard deviation.
    """

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        require_digits(self, in_channels, classes)

        layers: list[Layer] = []

        def follow(layer: Layer, squashed: bool = True) -> tuple[int, ...]:
            layers.append(layer)
            if squashed:
                layers.append(Squashing(f"{layer.name}_relu", layer.output_shape, "relu"))
            return layer.output_shape

        def connect(name: str, inputs: int, units: int) -> FullConnection:
            return FullConnection(name, (inputs,), units, start("torch", inputs, units))

        shape = follow(Convolution("C1", (1, 32, 32), 6, 5, start("torch", 25, 150)))
        shape = follow(Pooling("S2", as_maps(shape), "average"), squashed=False)
        groups = codebook.C3_PARTS
        # PyTorch's start, of four convolutions with 3, 4, 4 and 6 inputs.
        bounds = tuple(1 / sqrt(25 * len(group[0])) for group in groups.values())
        shape = follow(
            Convolution(
                *("C3", as_maps(shape), 16, 5, (bounds, bounds)),
                groups=tuple(groups.values()),
                parts=tuple(groups),
            )
        )
        shape = follow(Pooling("S4", as_maps(shape), "average"), squashed=False)
        follow(Flatten("flatten", shape), squashed=False)
        follow(connect("C5", 400, 120))
        follow(connect("F6", 120, 84))
        follow(connect("output", 84, 10), squashed=False)
        background = -codebook.MNIST_MEAN / codebook.MNIST_STD
        foreground = (1 - codebook.MNIST_MEAN) / codebook.MNIST_STD
        preparation = Preparation(1, 32, background, foreground, resize=True)
        return Architecture(self, preparation, tuple(layers))


def require_digits(options: Options, in_channels: int, classes: int) -> None:
    """Refuses what a network of fixed sizes does not have."""
    if (in_channels, classes) != (1, 10):
        raise LenetError(
            f"{type(options).__name__} reads 1 channel and has 10 classes, the data have "
            f"{in_channels} and {classes}"
        )


NETWORKS: dict[str, type[Options]] = {"LeNet": LeNet, "LeNet5": LeNet5, "LeNet5s": LeNet5s}


def build(network: str, options: Mapping[str, Any]) -> Architecture:
    """The network of that name with those options, as files and callers give them.

    Args:
        options: an entry's fields, in_channels and classes; all may be missing.

    Raises:
        LenetError: there is no such network, or it does not take those options.
    """
    if network not in NETWORKS:
        raise LenetError(f"there is no network {network!r:.100}; choose {', '.join(NETWORKS)}")
    entry, sizes = NETWORKS[network], {"in_channels": int, "classes": int}
    fields.require_known(options, {**fields.annotations(entry), **sizes}, network)
    given = {name: fields.typed(int, options[name], name) for name in sizes if name in options}
    values = {name: value for name, value in options.items() if name not in sizes}
    return entry(**values).architecture(**given)
