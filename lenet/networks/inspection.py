"""Looking inside a network: what each layer costs and answers, and what an answer hangs on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.networks.models import Network


@runtime_checkable
class Counted(Protocol):
    """A layer of ours that counts its own connections and multiply-adds."""

    def connections(self, output_shape: Sequence[int]) -> int: ...
    def multiply_adds(self, output_shape: Sequence[int]) -> int: ...


@dataclass(frozen=True)
class Row:
    """One layer of a summary.

    Attributes:
        name: as in weights and traces.
        kind: class of the layer.
        output_shape: without the batch axis.
        parameters: trainable numbers.
        connections: inputs that reach each unit, biases counted as one each, as in the paper.
        multiply_adds: multiplications followed by an addition, for one image.
        receptive_field: side of the square of input pixels that one unit sees.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    connections: int
    multiply_adds: int
    receptive_field: int


@dataclass(frozen=True)
class Summary:
    """The rows of a network and their totals."""

    network: str
    input_shape: tuple[int, int, int]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def connections(self) -> int:
        return sum(row.connections for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, Any]:
        totals = {
            "parameters": self.parameters,
            "connections": self.connections,
            "multiply_adds": self.multiply_adds,
        }
        return {**asdict(self), "totals": totals}


def trace(model: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """What every layer answers: its name -> its activation, in order, input first to last.

    Args:
        model: any of the networks, or another sequence of named layers, in any floating dtype, on
            any device.
        x: a prepared input (N, C, H, W), of that dtype and on that device.

    Returns:
        Activations (N, ...) of x's dtype; the last is what ``model(x)`` returns. Gradients run
        through them unless they are switched off. Names are those of ``model.named_children()``:
        C1, S2, C3 ..., and where squashing is a layer of its own, C1_sigmoid and the like.
    """
    activations = {}
    for name, layer in model.named_children():
        x = layer(x)
        activations[name] = x
    return activations


def summary(model: Network) -> Summary:
    """What every layer of the network is and costs, for one image."""
    parameter = next(model.parameters())
    image = torch.zeros(1, *model.input_shape, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        activations = trace(model, image)
    rows = []
    field, jump, inputs = 1, 1, image
    for name, layer in model.named_children():
        output = activations[name]
        window, stride = window_of(layer, inputs)
        field, jump = min(field + (window - 1) * jump, model.input_shape[-1]), jump * stride
        connections, multiply_adds = counts(layer, inputs[0].shape, output[0].shape)
        rows.append(
            Row(
                name=name,
                kind=type(layer).__name__,
                output_shape=tuple(output.shape[1:]),
                parameters=sum(p.numel() for p in layer.parameters() if p.requires_grad),
                connections=connections,
                multiply_adds=multiply_adds,
                receptive_field=field,
            )
        )
        inputs = output
    return Summary(type(model).__name__, model.input_shape, tuple(rows))


def window_of(layer: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """(side, stride) of the window through which one unit sees the layer's input (N, C, H, W)."""
    match layer:
        case nn.Conv2d():
            return layer.kernel_size[0], layer.stride[0]
        case nn.AvgPool2d() | nn.MaxPool2d():
            return 2, 2
        case nn.Flatten():
            return inputs.shape[-1], 1  # what follows sees the whole map
    return getattr(layer, "window", (1, 1))


def counts(
    layer: nn.Module, input_shape: Sequence[int], output_shape: Sequence[int]
) -> tuple[int, int]:
    """(connections, multiply-adds) of one layer for one image."""
    units = 1
    for size in output_shape:
        units *= size
    match layer:
        case Counted():
            return layer.connections(output_shape), layer.multiply_adds(output_shape)
        case nn.Conv2d():
            fan_in = layer.weight[0].numel()
            return units * (fan_in + 1), units * fan_in
        case nn.Linear():
            return units * (layer.in_features + 1), units * layer.in_features
        case nn.AvgPool2d():
            return 4 * units, 4 * units
        case nn.MaxPool2d():
            return 4 * units, 0
        case _ if not list(layer.parameters()):
            return 0, 0
    raise LenetError(f"no rule to count the connections of {type(layer).__name__}")


def input_gradient(model: Network, x: Tensor, label: int) -> Tensor:
    """How the score of a class changes with each number of the input.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2013), section 3.

    Args:
        x: one prepared image (1, C, H, W).

    Returns:
        The derivative, (C, H, W), with its sign.
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(x)[0, label], x)
    return gradient[0]


def occlusion(model: Network, x: Tensor, label: int, side: int = 5) -> Tensor:
    """How much the score of a class falls when a square of the input is made blank.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2013), section 4.2.

    Args:
        x: one prepared image (1, C, H, W).
        side: of the square, an odd number; at the border what is left of it.

    Returns:
        (H, W): the fall for the square around each place; positive where the answer hangs on what
        is there, negative where the blank would serve it better.
    """
    channels, height, width = model.input_shape
    blank = model.prepare(np.zeros((1, channels, height, width), np.uint8)).to(x)
    rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
    half = side // 2
    near_row = (rows[:, None] - rows).abs() <= half  # (place, pixel)
    near_column = (columns[:, None] - columns).abs() <= half
    with torch.no_grad():
        whole = model(x)[0, label]
        falls = []
        for near in near_row:
            hidden = near[None, :, None] & near_column[:, None, :]  # (places of a row, H, W)
            falls.append(whole - model(torch.where(hidden[:, None], blank, x))[:, label])
    return torch.stack(falls)


@dataclass(frozen=True)
class Principal:
    """The directions in which features vary most, the first most of all.

    Attributes:
        mean: (D,).
        directions: (count, D), of length 1; the largest part of each is positive.
        shares: (count,), of the variance, 0..1.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    shares: NDArray[np.float64]

    def coordinates(self, features: ArrayLike) -> NDArray[np.float64]:
        """Features (N, D) along the directions: (N, count)."""
        return (np.asarray(features, np.float64) - self.mean) @ self.directions.T


def principal_components(features: ArrayLike, count: int = 2) -> Principal:
    """Principal components of features (N, D).

    Raises:
        LenetError: there are fewer examples or features than directions.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or min(features.shape) < count:
        raise LenetError(f"features of shape {features.shape} do not have {count} directions")
    mean = features.mean(0)
    _, lengths, directions = np.linalg.svd(features - mean, full_matrices=False)
    directions = directions[:count]
    signs = np.sign(directions[np.arange(count), abs(directions).argmax(1)])
    total = max(float((lengths**2).sum()), np.finfo(np.float64).tiny)
    return Principal(mean, signs[:, None] * directions, lengths[:count] ** 2 / total)
