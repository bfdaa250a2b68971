"""Networks in integers: int8 weights, uint8 activations, int32 sums.

A value x of a layer is kept as a byte q: x = size * (q - zero). Weights have a size for each
output (map or unit), so a sum of products is an integer, too. A multiplication and a shift, then
either a clamp or a table of the squashing function, turn it into the next byte. Nothing is left to
floating point, so every machine gives the same bits, and `Quantised.scores` gives the scores of
the C that `lenet.export.c99` writes.

After Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018), section 2.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.export.lowering import IMAGE_SIDE, lower
from lenet.networks import architecture as net
from lenet.networks import arithmetic

TABLE = 1024  # entries of a squashing table
RESIZE = 256  # the sum of the weights that resize a row of an image
BATCH = 500  # images at a time
LOWEST = -8.0  # GELU and SiLU are 0 below, to a byte

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Scale:
    """A byte q stands for size * (q - zero). Only the input may have a zero that is not an
    integer."""

    size: float
    zero: float


# Squashing functions that are flat, to a byte, beyond +-end: name -> (end, scale of the bytes).
# 1/74 makes the targets +-1 of F6 integers, and 1.7159 just fits.
SATURATING = {
    "sigmoid": (8.0, Scale(1 / 255, 0)),
    "tanh": (4.0, Scale(1 / 127, 128)),
    "scaled-tanh": (6.0, Scale(1 / 74, 128)),
}


@dataclass(frozen=True)
class Rescaling:
    """Turns the sums of a layer into its outputs.

    r = (sum * multiplier + 2^(shift - 1)) >> shift, for each output. The next byte is
    table[r + offset], with the index clamped, or without a table r + offset, clamped to 0..255.
    In a last layer without squashing r is the score.
    """

    multiplier: Whole  # (outputs,), at least 0 and below 2^31
    shift: Whole  # (outputs,), 1 to 62
    offset: int = 0
    table: NDArray[np.uint8] | None = None  # (1024,)

    def rounded(self, sums: net.Floats) -> Whole:
        """r for sums (N, outputs, ...)."""
        across = (-1, *[1] * (sums.ndim - 2))
        multiplier, shift = self.multiplier.reshape(across), self.shift.reshape(across)
        return (sums.astype(np.int64) * multiplier + (1 << (shift - 1))) >> shift

    def bytes(self, sums: net.Floats) -> net.Floats:
        """The bytes for the next layer, as float64."""
        r = self.rounded(sums) + self.offset
        if self.table is None:
            return r.clip(0, 255).astype(np.float64)
        return self.table[r.clip(0, TABLE - 1)].astype(np.float64)


@dataclass(frozen=True)
class Quantised:
    """A network in integers."""

    architecture: net.Architecture  # lowered, with sums in place of averages that are weighted
    weights: net.Weights  # integers in float64, -127..127; biases within 32 bits
    zeros: dict[str, int]  # layer -> zero of its input; "scores" -> zero of the scores
    rescalings: dict[str, Rescaling]  # by layer
    unit: float  # of a score

    def scores(self, images: NDArray[np.uint8]) -> Whole:
        """The scores of the C, (N, classes), in units of `unit`, for images (N, 28, 28)."""
        parts = [self.forward(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts)

    def forward(self, images: NDArray[np.uint8]) -> Whole:
        *layers, last = self.architecture.layers
        x = pixels(self.architecture.preparation, images)
        for layer in layers:
            if layer.name not in self.rescalings:  # pooling that leaves bytes as they are
                x = np.floor(arithmetic.forward(layer, x, self.weights) + 0.5)
            else:
                x = self.rescalings[layer.name].bytes(self.sums(layer, x))
        sums = self.sums(last, x)
        if isinstance(last, net.Distances):
            return sums.astype(np.int64)
        rescaling = self.rescalings[last.name]
        if getattr(last, "squash", None):
            return rescaling.bytes(sums).astype(np.int64) - self.zeros["scores"]
        return rescaling.rounded(sums)

    def sums(self, layer: net.Layer, x: net.Floats) -> net.Floats:
        # Exact: float64 holds integers below 2^53.
        return arithmetic.weighted_sums(layer, x - self.zeros[layer.name], self.weights)


def quantise(
    architecture: net.Architecture, weights: net.Weights, images: NDArray[np.uint8]
) -> Quantised:
    """Converts a network to integers, with scales chosen on training images (N, 28, 28).

    Raises LenetError if sums may exceed 32 bits or a layer cannot be written in int8.
    """
    architecture = lower(architecture)
    how, last = architecture.preparation, architecture.layers[-1]
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    scale, unit = Scale(how.scale, -how.background / how.scale), 1.0
    x: net.Floats = how(images).astype(np.float64)
    layers: list[net.Layer] = []
    whole: dict[str, net.Floats] = {}
    zeros: dict[str, int] = {}
    rescalings: dict[str, Rescaling] = {}
    for layer in architecture.layers:
        squash: str | None = getattr(layer, "squash", None)
        totals = arithmetic.weighted_sums(layer, x, exact)
        x = arithmetic.squash(squash, totals)
        zeros[layer.name] = round(scale.zero)
        if isinstance(layer, net.Pooling) and not squash:
            if layer.method == "sum":  # the bytes of the average stand for four times as much
                layer, scale = replace(layer, method="average"), replace(scale, size=4 * scale.size)
            layers.append(layer)
            continue
        match layer:
            case net.Distances() if layer is last:
                codes = (layer.codes / scale.size).round()
                if abs(codes).max() > 127:
                    raise LenetError(
                        f"{layer.name}: its codes lie too far outside the range of the activation "
                        "before it to fit 8 bits: export it in float32"
                    )
                layers.append(replace(layer, codes=codes))
                unit = scale.size**2
                continue
            case net.Squashing():
                done, units = layer, np.full(layer.output_shape[0], scale.size)
            case net.Convolution() | net.Pooling() | net.FullConnection():
                done, units, arrays = whole_sums(layer, exact, scale)
                whole.update(arrays)
            case _:
                raise LenetError(f"{layer.name}: {layer.kind} cannot be written in int8")
        layers.append(done)
        if layer is last and squash is None:
            unit = float(units.max())
            rescalings[layer.name] = rescaling(units / unit)
        else:
            rescalings[layer.name], scale = bend(squash, units, totals)
            if layer is last:
                unit, zeros["scores"] = scale.size, int(scale.zero)
    architecture = replace(architecture, layers=tuple(layers))
    return Quantised(architecture, whole, zeros, rescalings, unit)


def whole_sums(
    layer: net.Convolution | net.Pooling | net.FullConnection, weights: net.Weights, scale: Scale
) -> tuple[net.Layer, net.Floats, net.Weights]:
    """Converts a layer to integers, for an input of that scale; returns the layer, the value of 1
    in the sums of each output, and its weights."""
    arrays = [weights[parameter.name] for parameter in layer.parameters]
    weight, bias, starts = arrays[0], arrays[-1], np.arange(len(arrays[-1]))
    inputs = weight.reshape(len(weight), -1)
    match layer:
        case net.Convolution(groups=tuple(groups)):  # rows are connections; a group shares a bias
            inputs = layer.kernels(weights).reshape(-1, layer.kernel**2)
            bias = np.concatenate([weights[p.name] for p in layer.parameters[1::2]])
            starts = np.cumsum([0, *(len(group[0]) for group in groups)])[:-1]
            layer = replace(layer, parts=())
        case net.Pooling() if layer.method != "max":
            inputs = (layer.share * inputs).repeat(4, 1)
            layer = replace(layer, method="sum")
    zero = round(scale.zero)
    if isinstance(layer, net.Convolution):
        layer = replace(layer, border=round(layer.border / scale.size + scale.zero - zero))
    biases = bias.reshape(len(bias), -1)  # one for each output, or for each unit of its map
    # The fraction of a zero that is not an integer goes into the biases.
    fraction = scale.size * (zero - scale.zero)
    biases = biases + fraction * np.add.reduceat(inputs.sum(1), starts)[:, None]
    # The largest weight of an output becomes 127, unless its bias would then exceed 30 bits.
    largest = np.maximum.reduceat(abs(inputs).max(1), starts)
    highest = abs(biases).max(1)
    sizes = np.maximum(np.maximum(largest / 127, highest / (2**30 * scale.size)), 2.0**-60)
    units = sizes * scale.size
    inputs = (inputs / sizes.repeat(np.diff(starts, append=len(inputs)))[:, None]).round()
    biases = (biases / units[:, None]).round()
    reach = max(abs(zero), abs(255 - zero)) * np.add.reduceat(abs(inputs).sum(1), starts)
    if (reach + abs(biases).max(1)).max() >= 2**31:
        raise LenetError(
            f"{layer.name} has so many inputs that its sums may need 33 bits: export it in float32"
        )
    first, second = layer.parameters
    if isinstance(layer, net.Pooling):
        inputs = inputs[:, :1]
    whole = {first.name: inputs.reshape(first.shape), second.name: biases.reshape(bias.shape)}
    return layer, units[list(layer.owners)] if isinstance(layer, net.Convolution) else units, whole


def bend(squash: str | None, units: net.Floats, totals: net.Floats) -> tuple[Rescaling, Scale]:
    """Chooses how the sums of a layer become bytes, and what the bytes stand for, from the value of
    1 in the sums of each output (`units`) and the sums for the calibration images (`totals`)."""
    lowest, highest = float(totals.min()), float(totals.max())
    if squash in (None, "relu"):
        low = 0.0 if squash else lowest
        size = max(highest - low, 1e-6) / 255
        zero = round(-low / size)
        return rescaling(units / size, zero), Scale(size, zero)
    if squash in SATURATING:
        end, scale = SATURATING[squash]
        low, high = -end, end
    else:
        scale, low, high = None, max(lowest, LOWEST), max(highest, 1.0)
    step = (high - low) / TABLE
    first = round(low / step)
    values = arithmetic.squash(squash, step * np.arange(first, first + TABLE, dtype=np.float64))
    if scale is None:
        size = float(np.ptp(values)) / 255
        scale = Scale(size, round(-float(values.min()) / size))
    table = (values / scale.size + scale.zero).round().clip(0, 255).astype(np.uint8)
    return rescaling(units / step, -first, table), scale


def rescaling(
    factors: net.Floats, offset: int = 0, table: NDArray[np.uint8] | None = None
) -> Rescaling:
    """Multiplies by the factors (outputs,) with integer multipliers and shifts.

    Raises LenetError if a factor is 2^30 or more.
    """
    exponents = np.frexp(factors)[1]
    shift = np.minimum(31 - exponents, 62)
    multiplier = np.minimum((factors * 2.0**shift).round(), 2**31 - 1)
    if shift.min() < 1:
        raise LenetError(f"a factor of {factors.max():.3g} is too large: export it in float32")
    return Rescaling(multiplier.astype(np.int64), shift.astype(np.int64), offset, table)


def whole_rows(how: net.Preparation) -> net.Floats:
    """`how.rows` for images, in integers; each row adds up to 256."""
    rows = (how.rows(IMAGE_SIDE, IMAGE_SIDE).astype(np.float64) * RESIZE).round()
    rows[range(how.size), rows.argmax(1)] += RESIZE - rows.sum(1)
    return rows


def pixels(how: net.Preparation, images: NDArray[np.uint8]) -> net.Floats:
    """The bytes for the first layer, as float64 (N, channels, size, size)."""
    planes = how.planes(images).astype(np.float64)
    if (margin := how.margin(IMAGE_SIDE)) is not None:
        rest = how.size - IMAGE_SIDE - margin
        return np.pad(planes, ((0, 0), (0, 0), (margin, rest), (margin, rest)))
    rows = whole_rows(how)
    return np.floor((rows @ planes @ rows.T + RESIZE**2 // 2) / RESIZE**2)
