"""Looking inside a network: what each layer is and costs, and what an answer depends on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.errors import LenetError
from lenet.networks import arithmetic, checkpoint
from lenet.networks.architecture import NETWORKS, Architecture, Floats, Weights
from lenet.tables import table

if TYPE_CHECKING:
    from lenet.networks.torch import nn


class HasArchitecture(Protocol):
    """One of lenet's modules, or a `Checkpoint`."""

    @property
    def architecture(self) -> Architecture: ...


@dataclass(frozen=True)
class Row:
    """One layer of a summary."""

    name: str  # as in weights and traces
    kind: str  # convolution, average pooling, full connection ...
    output_shape: tuple[int, ...]  # without the batch axis
    parameters: int  # trainable numbers
    connections: int  # inputs of all units; a bias counts as one, as in the paper
    multiply_adds: int  # multiplications followed by an addition, for one image
    receptive_field: int  # side of the square of input pixels that one unit sees


@dataclass(frozen=True, repr=False)
class Summary:
    """The rows of a network and their totals; prints as a table."""

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

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        rows = [
            [
                row.name,
                row.kind,
                "x".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.connections:,}",
                f"{row.multiply_adds:,}",
                f"{row.receptive_field}x{row.receptive_field}",
            ]
            for row in self.rows
        ]
        numbers = (self.parameters, self.connections, self.multiply_adds)
        rows.append(["total", "", "", *(f"{number:,}" for number in numbers), ""])
        return table(
            f"{self.network}, input {'x'.join(map(str, self.input_shape))}",
            ["layer", "kind", "output", "parameters", "connections", "multiply-adds", "sees"],
            rows,
            totals=True,
        )

    def as_dict(self) -> dict[str, Any]:
        names = ("parameters", "connections", "multiply_adds")
        return {**asdict(self), "totals": {name: getattr(self, name) for name in names}}


def summary(
    model: "str | Path | Architecture | HasArchitecture | nn.Module",
    input_shape: tuple[int, int, int] = (1, 28, 28),
) -> Summary:
    """Summarises what every layer of a network is and costs, for one image.

    Args:
        model: a network in any form, the name of one (LeNet, LeNet5 ...), a run folder, a weights
            file or a pretrained name; or any other PyTorch module, which is called once.
        input_shape: (channels, height, width) of the input of any other module.

    Raises:
        LenetError: there is no such network, or the module does not take that input.
    """
    if hasattr(model, "named_modules") and not hasattr(model, "architecture"):
        from lenet.networks import torch  # is installed, as there is a module

        return torch.summary(cast("nn.Module", model), input_shape)
    architecture = architecture_of(model)
    rows, field, jump = [], 1, 1
    for layer in architecture.layers:
        window, stride = layer.window
        field = min(field + (window - 1) * jump, architecture.preparation.size)
        jump *= stride
        numbers = sum(parameter.size for parameter in layer.parameters)
        cost = numbers, layer.connections, layer.multiply_adds
        rows.append(Row(layer.name, layer.kind, layer.output_shape, *cost, field))
    return Summary(architecture.network, architecture.input_shape, tuple(rows))


def architecture_of(
    model: "str | Path | Architecture | HasArchitecture | nn.Module",
) -> Architecture:
    if isinstance(model, Architecture):
        return model
    if isinstance(model, str | Path):
        if str(model) in NETWORKS:
            return NETWORKS[str(model)]().architecture()
        return checkpoint.read(model).architecture
    if not hasattr(model, "architecture"):
        raise LenetError(
            f"a {type(model).__name__} has no architecture: give one of lenet's networks, its "
            "name, a run folder or a weights file"
        )
    return cast(HasArchitecture, model).architecture


def occlusion(
    architecture: Architecture, weights: Weights, x: Floats, label: int, side: int = 5
) -> Floats:
    """Measures how much the score of a class falls when a square of the input is made blank.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2013), section 4.2.

    Args:
        x: one prepared image (1, C, H, W).
        side: of the square, an odd number; squares are cut at the border.

    Returns:
        (H, W): the fall for the square around each pixel; positive where what is there supports
        the class, negative where it speaks against it.
    """
    _, height, width = architecture.input_shape
    rows, columns = np.arange(height), np.arange(width)
    near_row = abs(rows[:, None] - rows) <= side // 2  # (square, pixel)
    near_column = abs(columns[:, None] - columns) <= side // 2

    def score(inputs: Floats) -> Floats:
        return list(arithmetic.activations(architecture, weights, inputs).values())[-1][:, label]

    background = x.dtype.type(architecture.preparation.background)
    falls = []
    for near in near_row:
        hidden = near[None, :, None] & near_column[:, None, :]  # (squares of a row, H, W)
        falls.append(score(x) - score(np.where(hidden[:, None], background, x)))
    return np.stack(falls)


@dataclass(frozen=True)
class Principal:
    """The directions in which features vary most, in descending order."""

    mean: NDArray[np.float64]  # (D,)
    directions: NDArray[np.float64]  # (count, D), of length 1; the largest entry is positive
    shares: NDArray[np.float64]  # (count,), of the variance, 0..1

    def coordinates(self, features: ArrayLike) -> NDArray[np.float64]:
        """Features (N, D) along the directions: (N, count)."""
        return (np.asarray(features, np.float64) - self.mean) @ self.directions.T


def principal_components(features: ArrayLike, count: int = 2) -> Principal:
    """Computes principal components of features (N, D).

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
