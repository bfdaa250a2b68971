"""A network written down as arithmetic: the preparation of an image, then a list of stages.

A stage is what the paper draws as one or two layers: weighted sums, their squashing, and the
pooling that follows. Exports walk through the stages and need not know a network by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.networks.codebook import C3_GROUPS
from lenet.networks.layers import (
    EuclideanRBF,
    SquashedConv2d,
    SquashedLinear,
    Subsampling,
    TableConv2d,
)
from lenet.networks.models import ACTIVATIONS, GroupConv2d, Network

IMAGE_SIDE = 28  # pixels of an image before its preparation
Floats = NDArray[np.float64]
Wiring = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Preparation:
    """From pixels to the network's input: X = shift + scale * (rows P rows^T), P 28x28 pixels.

    Attributes:
        channels: images that make up one input; each is prepared alike.
        rows: (side, 28); what each row of the input takes of each row of the image. Columns are
            treated as rows are, as all padding and resizing here is the same in both directions.
        scale, shift: from pixels 0..255 to what the network reads.
    """

    channels: int
    rows: Floats
    scale: float
    shift: float

    @property
    def side(self) -> int:
        return len(self.rows)

    @property
    def padding(self) -> int | None:
        """Pixels of padding on each side; None if the image is resized."""
        around = (self.side - IMAGE_SIDE) // 2
        padded = around >= 0 and np.array_equal(
            self.rows, np.eye(self.side, IMAGE_SIDE, -around), equal_nan=False
        )
        return around if padded else None


@dataclass(frozen=True)
class Pooling:
    """2x2 inputs of a map become one.

    Attributes:
        kind: "average", "max", or "sum"; a sum is weighted, added to the bias and squashed.
        weight, bias: (maps,), of a sum.
        squash: a key of `lenet.networks.models.ACTIVATIONS`, of a sum.
    """

    name: str
    kind: str
    weight: Floats | None = None
    bias: Floats | None = None
    squash: str | None = None


@dataclass(frozen=True)
class Convolution:
    """Maps from maps: kernels at each place, squashing, pooling.

    Attributes:
        kernels: (kernels, k, k).
        wiring: for each map of the output, the (map of the input, kernel) that it adds up.
        bias: (outputs,).
        padding: zeros around the input.
        input_shape: (maps, side, side).
        squash: a key of `lenet.networks.models.ACTIVATIONS`, or None.
        pooling: what follows, or None.
    """

    name: str
    kernels: Floats
    wiring: Wiring
    bias: Floats
    padding: int
    input_shape: tuple[int, int, int]
    squash: str | None = None
    pooling: Pooling | None = None

    @property
    def side(self) -> int:
        """Side of a map before the pooling."""
        return self.input_shape[1] + 2 * self.padding - self.kernels.shape[1] + 1

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(maps, side, side) after the pooling."""
        side = self.side // 2 if self.pooling else self.side
        return len(self.bias), side, side

    @property
    def is_full(self) -> bool:
        """Whether each output has a kernel of its own for each input."""
        inputs = self.input_shape[0]
        return self.wiring == full_wiring(len(self.bias), inputs)

    def filters(self) -> Floats:
        """The kernels at their places, 0 where there is no connection: (outputs, inputs, k, k)."""
        placed = np.zeros((len(self.bias), self.input_shape[0], *self.kernels.shape[1:]))
        for output, wires in enumerate(self.wiring):
            for source, kernel in wires:
                placed[output, source] += self.kernels[kernel]
        return placed


@dataclass(frozen=True)
class Dense:
    """Every unit sees the whole input: weight (outputs, inputs), bias (outputs,), squashing."""

    name: str
    weight: Floats
    bias: Floats
    squash: str | None = None

    @property
    def output_shape(self) -> tuple[int]:
        return (len(self.bias),)


@dataclass(frozen=True)
class Distances:
    """Scores are squared distances to codes (classes, inputs), times -1."""

    name: str
    codes: Floats

    @property
    def output_shape(self) -> tuple[int]:
        return (len(self.codes),)


Stage = Convolution | Dense | Distances
SQUASHES = {kind: name for name, kind in ACTIVATIONS.items()}
BEND: dict[str, nn.Module] = {name: kind() for name, kind in ACTIVATIONS.items()}


def walk(model: Network) -> tuple[Preparation, list[Stage]]:
    """What the network does with an image, as a preparation and stages.

    Raises:
        LenetError: a layer, or an order of layers, that has no stage.
    """
    return preparation(model), list(stages(model))


def preparation(model: Network) -> Preparation:
    """How `prepare` of the network works on 28x28 images, found by asking it.

    Raises:
        LenetError: it does more than padding, resizing, scaling and shifting.
    """
    channels, side, _ = model.input_shape
    black, white = (np.full((1, channels, 28, 28), level, np.uint8) for level in (0, 255))
    one_row = np.zeros((IMAGE_SIDE, channels, IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    one_row[range(IMAGE_SIDE), :, range(IMAGE_SIDE)] = 255
    middle = side // 2
    shift = float(model.prepare(black)[0, 0, middle, middle])
    span = float(model.prepare(white)[0, 0, middle, middle]) - shift
    rows = ((model.prepare(one_row)[:, 0, :, middle].double().numpy() - shift) / span).T
    # float32 leaves 1e-7 of noise; a thousandth of a grey level is less than what rounding costs.
    rows = np.where(abs(rows - rows.round()) < 1e-5, rows.round(), rows)
    found = Preparation(channels, rows, span / 255, shift)
    trial = np.random.default_rng(0).integers(0, 256, (4, channels, 28, 28), dtype=np.uint8)
    expected = model.prepare(trial).double().numpy()
    if not np.allclose(prepared(found, trial).numpy(), expected, atol=1e-4 * abs(span)):
        raise LenetError(f"{type(model).__name__} prepares its images in a way not known here")
    return found


def stages(model: Network) -> Iterator[Stage]:
    """The layers, with squashing and pooling drawn into the stage before them."""
    shape: tuple[int, ...] = model.input_shape
    last: Stage | None = None
    for name, layer in model.named_children():
        squash = SQUASHES.get(type(layer))
        if isinstance(layer, nn.Flatten):
            continue
        if squash and isinstance(last, Convolution | Dense) and last.squash is None:
            last = replace(last, squash=squash)
        elif (pooling := pooling_of(name, layer)) and isinstance(last, Convolution):
            last = replace(last, pooling=pooling)
        else:
            if last:
                yield last
            last = stage_of(name, layer, shape)
        shape = last.output_shape
    if last:
        yield last


def pooling_of(name: str, layer: nn.Module) -> Pooling | None:
    match layer:
        case nn.AvgPool2d(kernel_size=2, stride=2):
            return Pooling(name, "average")
        case nn.MaxPool2d(kernel_size=2, stride=2):
            return Pooling(name, "max")
        case Subsampling():
            weight = layer.scale * numbers(layer.coefficient)
            return Pooling(name, "sum", weight, numbers(layer.bias), "scaled-tanh")
    return None


def stage_of(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Stage:
    """The stage that a layer begins, for an input of that shape."""
    match layer:
        case nn.Linear():
            return Dense(name, numbers(layer.weight), numbers(layer.bias))
        case SquashedLinear():
            return Dense(name, numbers(layer.weight), numbers(layer.bias), "scaled-tanh")
        case SquashedConv2d() if shape[-1] == layer.window[0]:  # it sees the whole map
            weight = numbers(layer.weight.flatten(1))
            return Dense(name, weight, numbers(layer.bias), "scaled-tanh")
        case EuclideanRBF():
            return Distances(name, numbers(layer.codes))
    maps, side, _ = shape if len(shape) == 3 else (0, 0, 0)
    match layer:
        case nn.Conv2d(stride=(1, 1), groups=1, dilation=(1, 1), padding=(above, left)):
            if layer.bias is not None and above == left and maps:
                return full(name, layer.weight, layer.bias, int(above), (maps, side, side))
        case SquashedConv2d():
            stage = full(name, layer.weight, layer.bias, 0, (maps, side, side))
            return replace(stage, squash="scaled-tanh")
        case TableConv2d():
            wires = [torch.nonzero(row).flatten().tolist() for row in layer.table]
            starts = np.cumsum([0, *map(len, wires)]).tolist()
            wiring = tuple(
                tuple(zip(row, range(start, start + len(row)), strict=True))
                for row, start in zip(wires, starts, strict=False)
            )
            kernels, bias = numbers(layer.weight), numbers(layer.bias)
            return Convolution(name, kernels, wiring, bias, 0, (maps, side, side), "scaled-tanh")
        case GroupConv2d():
            return grouped(name, layer, (maps, side, side))
    raise LenetError(f"{name} is a {type(layer).__name__}, which has no form outside of PyTorch")


def full(
    name: str, weight: Tensor, bias: Tensor, padding: int, input_shape: tuple[int, int, int]
) -> Convolution:
    """A convolution with a kernel for every pair of maps: weight (outputs, inputs, k, k)."""
    outputs, inputs = weight.shape[:2]
    kernels = numbers(weight.flatten(0, 1))
    wiring = full_wiring(outputs, inputs)
    return Convolution(name, kernels, wiring, numbers(bias), padding, input_shape)


def full_wiring(outputs: int, inputs: int) -> Wiring:
    return tuple(tuple((i, o * inputs + i) for i in range(inputs)) for o in range(outputs))


def grouped(name: str, layer: GroupConv2d, input_shape: tuple[int, int, int]) -> Convolution:
    """C3 of LeNet5s: each kernel set is kept once, and shared by the maps of its group."""
    kernels, bias, wiring = [], [], []
    for part, groups in C3_GROUPS.items():
        convolution = layer.get_submodule(part)
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        start = sum(map(len, kernels))
        kernels.append(numbers(convolution.weight[0]))
        for group in groups:
            wiring.append(tuple((source, start + k) for k, source in enumerate(group)))
            bias.append(convolution.bias.item())
    return Convolution(name, np.concatenate(kernels), tuple(wiring), np.array(bias), 0, input_shape)


def numbers(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


# The stages computed in float64, whose sums of whole numbers below 2^53 are exact


def prepared(how: Preparation, images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, 28, 28) or (N, channels, 28, 28) -> float64 (N, channels, side, side)."""
    pixels = images.reshape(len(images), how.channels, IMAGE_SIDE, IMAGE_SIDE)
    return torch.from_numpy(how.shift + how.scale * (how.rows @ pixels @ how.rows.T))


def sums(stage: Stage, x: Tensor) -> Tensor:
    """The weighted sums of a stage, or its scores where it measures distances."""
    match stage:
        case Convolution():
            filters, bias = torch.from_numpy(stage.filters()), torch.from_numpy(stage.bias)
            return F.conv2d(x, filters, bias, padding=stage.padding)
        case Dense():
            weight, bias = torch.from_numpy(stage.weight), torch.from_numpy(stage.bias)
            return F.linear(x.flatten(1), weight, bias)
        case Distances():
            codes = torch.from_numpy(stage.codes)
            return -(x.flatten(1)[:, None] - codes).square().sum(2)


def pooled(pooling: Pooling, x: Tensor) -> Tensor:
    """(N, maps, H, W) -> (N, maps, H/2, W/2), before the squashing that a sum has."""
    if pooling.kind == "max":
        return F.max_pool2d(x, 2)
    mean = F.avg_pool2d(x, 2)
    if pooling.weight is None or pooling.bias is None:
        return mean
    weight, bias = (torch.from_numpy(v)[:, None, None] for v in (pooling.weight, pooling.bias))
    return 4 * weight * mean + bias


def squashed(squash: str | None, x: Tensor) -> Tensor:
    return BEND[squash](x) if squash else x
