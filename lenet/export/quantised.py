"""Networks in whole numbers: int8 weights, uint8 activations, int32 sums.

A value x of a layer is kept as a byte q: x = size * (q - zero). Weights have a size for each
output (map or unit), so that a sum of products is a whole number, too. It becomes the next byte by
a multiplication and a shift, and then either a clamp (ReLU) or a look into a table of the squashing
function. No floating point is left, and the same bits come out on every machine: `answer` here and
the C that `lenet.export.c99` writes compute the same.

After Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018), section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet.errors import LenetError
from lenet.networks.stages import (
    IMAGE_SIDE,
    Convolution,
    Dense,
    Distances,
    Floats,
    Pooling,
    Preparation,
    Stage,
    pooled,
    prepared,
    squashed,
    sums,
)

TABLE = 1024  # entries of a squashing table
RESIZE = 256  # what the weights add up to by which a row of an image is resized
BATCH = 500  # images at once
LOWEST = -8.0  # GELU and SiLU are 0 below, to a byte

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Scale:
    """What a byte q stands for: size * (q - zero)."""

    size: float
    zero: int


# Squashing functions that are flat, to a byte, beyond +-end: name -> (end, scale of the bytes).
# 1/74 makes the targets +-1 of F6 whole numbers, and 1.7159 just fits.
SATURATING = {
    "sigmoid": (8.0, Scale(1 / 255, 0)),
    "tanh": (4.0, Scale(1 / 127, 128)),
    "scaled-tanh": (6.0, Scale(1 / 74, 128)),
}


@dataclass(frozen=True)
class Rescaling:
    """From the sums of a stage to what it passes on.

    r = (sum * multiplier + 2^(shift - 1)) >> shift, for each output. The next byte is
    table[r + offset], with the index clamped, if there is a table; r clamped to 0..255 if there is
    none. In the last stage r is the score.

    Attributes:
        multiplier: (outputs,), at least 0 and below 2^31.
        shift: (outputs,), 1 to 62.
        table: uint8 (1024,), or None.
    """

    multiplier: Whole
    shift: Whole
    offset: int = 0
    table: NDArray[np.uint8] | None = None

    def rounded(self, sums: Tensor) -> Tensor:
        """r for sums (N, outputs, ...)."""
        across = (-1, *[1] * (sums.ndim - 2))
        multiplier = torch.from_numpy(self.multiplier).reshape(across)
        shift = torch.from_numpy(self.shift).reshape(across)
        return (sums.long() * multiplier + (1 << (shift - 1))) >> shift

    def bytes(self, sums: Tensor) -> Tensor:
        """The bytes that are passed on, as float64."""
        r = self.rounded(sums)
        if self.table is None:
            return r.clamp(0, 255).double()
        return torch.from_numpy(self.table)[(r + self.offset).clamp(0, TABLE - 1)].double()


@dataclass(frozen=True)
class Quantised:
    """A network in whole numbers.

    Attributes:
        preparation: its rows in 256ths where the image is resized.
        stages: weights (-127..127), codes and biases are whole numbers.
        zeros: name of a stage, or of a pooling that sums -> zero of its input.
        rescalings: name of a stage, or of a pooling that sums -> from its sums to its output.
        unit: of a score.
    """

    preparation: Preparation
    stages: list[Stage]
    zeros: dict[str, int]
    rescalings: dict[str, Rescaling]
    unit: float

    def answer(self, images: NDArray[np.uint8]) -> Whole:
        """Scores in units of `unit`, (N, classes), for images (N, 28, 28): what the C computes."""
        parts = [self.forward(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return torch.cat(parts).numpy()

    def forward(self, images: NDArray[np.uint8]) -> Tensor:
        x = pixels(self.preparation, images)
        for stage in self.stages:
            total = sums(stage, x - self.zeros[stage.name])
            if stage is self.stages[-1]:
                rescaling = self.rescalings.get(stage.name)
                return rescaling.rounded(total) if rescaling else total.long()
            x = self.rescalings[stage.name].bytes(total)
            pooling = stage.pooling if isinstance(stage, Convolution) else None
            if pooling and pooling.name in self.rescalings:
                total = pooled(pooling, x - self.zeros[pooling.name])
                x = self.rescalings[pooling.name].bytes(total)
            elif pooling:
                x = torch.floor(pooled(pooling, x) + 0.5)
        raise AssertionError("a network has at least one stage")


def quantise(how: Preparation, stages: Sequence[Stage], images: NDArray[np.uint8]) -> Quantised:
    """A network in whole numbers, whose scales are chosen on training images (N, 28, 28).

    Raises:
        LenetError: sums would leave 32 bits, or a layer before the last has no squashing function.
    """
    zero = -how.shift / how.scale
    scale = Scale(how.scale, round(zero))
    # The zero of the input is seldom a whole number; what is left of it goes into the first biases.
    left = how.scale * (scale.zero - zero)
    x = prepared(how, images)
    whole: list[Stage] = []
    zeros: dict[str, int] = {}
    rescalings: dict[str, Rescaling] = {}
    for stage in stages[:-1]:
        assert not isinstance(stage, Distances)
        done, units = whole_stage(stage, scale, left)
        totals = sums(stage, x)
        zeros[stage.name] = scale.zero
        rescalings[stage.name], scale = bend(stage.name, stage.squash, units, totals)
        x, left = squashed(stage.squash, totals), 0.0
        if isinstance(stage, Convolution) and isinstance(done, Convolution) and stage.pooling:
            totals = pooled(stage.pooling, x)
            x = squashed(stage.pooling.squash, totals)
            if stage.pooling.weight is not None:
                pooling, units = whole_pooling(stage.pooling, scale)
                done = replace(done, pooling=pooling)
                zeros[pooling.name] = scale.zero
                rescalings[pooling.name], scale = bend(pooling.name, pooling.squash, units, totals)
        whole.append(done)

    last = stages[-1]
    zeros[last.name] = scale.zero
    if isinstance(last, Distances):
        whole.append(replace(last, codes=(last.codes / scale.size).round()))
        unit = scale.size**2
    else:
        done, units = whole_stage(last, scale, left)
        unit = float(units.max())
        whole.append(done)
        rescalings[last.name] = rescaling(units / unit)
    return Quantised(whole_rows(how), whole, zeros, rescalings, unit)


def whole_stage(
    stage: Convolution | Dense, scale: Scale, left: float = 0.0
) -> tuple[Convolution | Dense, Floats]:
    """The stage in whole numbers for an input of that scale, and what 1 of each sum stands for."""
    weights = stage.filters() if isinstance(stage, Convolution) else stage.weight
    weights = weights.reshape(len(stage.bias), -1)
    bias = stage.bias + left * weights.sum(1)
    sizes = weight_sizes(weights, bias, scale)
    units = sizes * scale.size
    bias = (bias / units).round()
    require_32_bits(stage.name, (weights / sizes[:, None]).round(), bias, scale)
    if isinstance(stage, Dense):
        return replace(stage, weight=(stage.weight / sizes[:, None]).round(), bias=bias), units
    # Maps that share a kernel share all of them, and so their size.
    owner = {kernel: o for o, wires in enumerate(stage.wiring) for _, kernel in wires}
    of_kernels = sizes[[owner[kernel] for kernel in range(len(stage.kernels))]]
    kernels = (stage.kernels / of_kernels[:, None, None]).round()
    return replace(stage, kernels=kernels, bias=bias), units


def whole_pooling(pooling: Pooling, scale: Scale) -> tuple[Pooling, Floats]:
    """As `whole_stage`, for a pooling that sums."""
    assert pooling.weight is not None and pooling.bias is not None
    four = pooling.weight[:, None].repeat(4, 1)
    sizes = weight_sizes(four, pooling.bias, scale)
    units = sizes * scale.size
    weight, bias = (pooling.weight / sizes).round(), (pooling.bias / units).round()
    require_32_bits(pooling.name, (four / sizes[:, None]).round(), bias, scale)
    return replace(pooling, weight=weight, bias=bias), units


def weight_sizes(weights: Floats, bias: Floats, scale: Scale) -> Floats:
    """What 1 stands for in the weights (outputs, inputs) of each output, so that the largest is
    127, and a bias without weights to speak of still fits 30 bits."""
    return np.maximum.reduce(
        [
            abs(weights).max(1) / 127,
            abs(bias) / (2**30 * scale.size),
            np.full(len(bias), 2.0**-60),
        ]
    )


def require_32_bits(name: str, weights: Floats, bias: Floats, scale: Scale) -> None:
    largest = max(abs(scale.zero), abs(255 - scale.zero))
    if (largest * abs(weights).sum(1) + abs(bias)).max() >= 2**31:
        raise LenetError(
            f"{name} has {weights.shape[1]:,} inputs a unit, whose sums can leave 32 bits: "
            "export it in float32"
        )


def bend(name: str, squash: str | None, units: Floats, totals: Tensor) -> tuple[Rescaling, Scale]:
    """From whole sums to bytes, and what the bytes stand for.

    Args:
        units: what 1 of the sum of each output stands for.
        totals: sums in the calibration images.
    """
    if squash is None:
        raise LenetError(f"{name} has no squashing function, so its range of values is unknown")
    if squash == "relu":
        size = max(float(totals.max()), 1e-6) / 255
        return rescaling(units / size), Scale(size, 0)
    if squash in SATURATING:
        end, scale = SATURATING[squash]
        low, high = -end, end
    else:
        scale, low, high = None, max(float(totals.min()), LOWEST), max(float(totals.max()), 1.0)
    step = (high - low) / TABLE
    first = round(low / step)
    values = squashed(squash, step * torch.arange(first, first + TABLE, dtype=torch.float64))
    if scale is None:
        size = float(values.max() - values.min()) / 255
        scale = Scale(size, round(-float(values.min()) / size))
    table = (values / scale.size + scale.zero).round().clamp(0, 255).to(torch.uint8).numpy()
    return rescaling(units / step, -first, table), scale


def rescaling(
    factors: Floats, offset: int = 0, table: NDArray[np.uint8] | None = None
) -> Rescaling:
    """Multiplication by the factors (outputs,), as whole multipliers and shifts.

    Raises:
        LenetError: a factor is 2^30 or more.
    """
    exponents = np.frexp(factors)[1]
    shift = np.minimum(31 - exponents, 62)
    multiplier = np.minimum((factors * 2.0**shift).round(), 2**31 - 1)
    if shift.min() < 1:
        raise LenetError(
            f"a factor of {factors.max():.3g} between two layers is too large for int8"
        )
    return Rescaling(multiplier.astype(np.int64), shift.astype(np.int64), offset, table)


def whole_rows(how: Preparation) -> Preparation:
    """The preparation with its rows in 256ths, each of which adds up to 256, if it resizes."""
    if how.padding is not None:
        return how
    rows = (how.rows * RESIZE).round()
    rows[range(how.side), rows.argmax(1)] += RESIZE - rows.sum(1)
    return replace(how, rows=rows)


def pixels(how: Preparation, images: NDArray[np.uint8]) -> Tensor:
    """The bytes that go into the first stage, as float64 (N, channels, side, side)."""
    planes = images.reshape(len(images), how.channels, IMAGE_SIDE, IMAGE_SIDE).astype(np.float64)
    resized = torch.from_numpy(how.rows @ planes @ how.rows.T)
    if how.padding is None:
        resized = torch.floor((resized + RESIZE * RESIZE // 2) / RESIZE**2)
    return resized
