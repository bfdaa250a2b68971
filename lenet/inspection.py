"""Looking inside a network: what each layer costs, and what each layer answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.models import Network


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
    """Name -> activation of every layer, in order, for a prepared input (N, C, H, W)."""
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
