"""Plans: what the fused kernels must know of a network, derived from its architecture.

The kernels compute stages (a convolution, its activation and 2x2 pooling), then fully connected
layers, then the scores.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.engine.objective import Objective
from lenet.errors import LenetError
from lenet.networks.architecture import (
    Activation,
    Architecture,
    Convolution,
    Distances,
    Flatten,
    FullConnection,
    Layer,
    Parameter,
    Pooling,
    Squashing,
)

SMALLEST_SIDE, LARGEST_SIDE = 16, 1024  # the kernels read at least 16 pixels at once
MOST_STAGES = MOST_LAYERS = 8
MOST_CLASSES = 1000
MOST_VALUES = 2**20  # of one example in one layer
MOST_WEIGHTS = 2**22  # of one layer

Stage = tuple[Convolution, Activation | None, Pooling]
Connection = tuple[Convolution | FullConnection, Activation | None]  # sees its whole input


@dataclass(frozen=True)
class Plan:
    """A network in the order of the kernels; `codes` are those of a last layer of distances."""

    architecture: Architecture
    image_size: int
    stages: list[Stage]
    connections: list[Connection]
    codes: NDArray[np.float32] | None


def plan(architecture: Architecture, image_size: int = 28) -> Plan:
    """The plan of a network for square images of that side.

    Raises:
        LenetError: the kernels do not support the network; the message says why.
    """
    layers = [layer for layer in architecture.layers if not isinstance(layer, Flatten)]
    stages: list[Stage] = []
    connections: list[Connection] = []
    codes = None
    while layers:
        layer = layers.pop(0)
        if codes is not None:
            raise LenetError(f"nothing can follow the distances, but {layer.name} does")
        if isinstance(layer, Convolution) and (extra := beyond_kernels(layer)):
            raise LenetError(f"the fused kernels know no {extra}, as {layer.name} has")
        match layer:
            case Distances() if connections:
                codes = layer.codes
            case Convolution() | FullConnection() if sees_whole_maps(layer):
                connections.append((layer, activation_after(layer, layers)))
            case Convolution() if not connections:
                activation = activation_after(layer, layers)
                pooling = layers.pop(0) if layers else None
                if not isinstance(pooling, Pooling):
                    raise LenetError(f"2x2 pooling must follow the convolution {layer.name}")
                stages.append((layer, activation, pooling))
            case _:
                raise LenetError(f"the fused kernels have no place for {layer.name} ({layer.kind})")
    plan = Plan(architecture, image_size, stages, connections, codes)
    require_sizes(plan)
    return plan


def sees_everything(layer: Layer) -> bool:
    """Whether every unit of a layer is connected to all of its input."""
    if isinstance(layer, Convolution):
        return layer.groups is None and layer.output_shape[1:] == (1, 1) and not layer.padding
    return isinstance(layer, FullConnection)


def sees_whole_maps(layer: Layer) -> bool:
    """Whether every unit of a layer is connected to all of its input, or of some input maps by
    kernels of its own."""
    if not isinstance(layer, Convolution) or layer.groups is None:
        return sees_everything(layer)
    own = not layer.parts and all(len(group) == 1 for group in layer.groups)
    return own and layer.output_shape[1:] == (1, 1) and not layer.padding


def beyond_kernels(layer: Convolution) -> str | None:
    """What a convolution has and no kernels compute."""
    if layer.stride > 1:
        return "strided convolutions"
    if layer.padding and layer.border:
        return "border other than 0"
    return "biases for single units" if layer.unit_biases else None


def activation_after(layer: Convolution | FullConnection, layers: list[Layer]) -> Activation | None:
    """A layer's activation; removes it from the layers that follow if it is one of them."""
    if layer.squash is None and layers and isinstance(layers[0], Squashing):
        return layers.pop(0).squash  # pyright: ignore[reportAttributeAccessIssue]
    return layer.squash


def require_sizes(plan: Plan) -> None:
    """Refuses what exceeds the bounds of the kernels."""
    if (channels := plan.architecture.preparation.channels) != 1:
        raise LenetError(f"the fused kernels read 1 input channel, not {channels}")
    limits = (
        ("convolutions", len(plan.stages), 1, MOST_STAGES),
        ("fully connected layers", len(plan.connections), 1, MOST_LAYERS),
        ("pixels on each side of an image", plan.image_size, SMALLEST_SIDE, LARGEST_SIDE),
        ("classes", plan.architecture.classes, 1, MOST_CLASSES),
    )
    for name, number, least, most in limits:
        if not least <= number <= most:
            raise LenetError(f"the fused kernels support {least} to {most} {name}, not {number}")
    for layer, _, pooling in plan.stages:
        inputs, side, _ = layer.input_shape
        outputs = pooling.output_shape[0]
        values = max(inputs * (side + 2 * layer.padding) ** 2, outputs * layer.output_shape[1] ** 2)
        if values > MOST_VALUES or outputs * inputs * layer.kernel**2 > MOST_WEIGHTS:
            raise LenetError(f"the convolution {layer.name} is too large for the fused kernels")
    for layer, _ in plan.connections:
        if layer.parameters[0].size > MOST_WEIGHTS:
            raise LenetError(f"{layer.name} is too large for the fused kernels")


def describe(plan: Plan, objective: Objective) -> dict[str, Any]:
    """The plan as the compiled module reads it, with all sizes and with the place of each kernel
    and bias in the arrays of parameters."""
    parameters = plan.architecture.parameters
    array = {parameter.name: number for number, parameter in enumerate(parameters)}
    # Pooling ignores a last odd row and column: neither they nor what only they read is computed.
    # So the sides are computed from the last stage to the first.
    stages: list[dict[str, Any]] = []
    pooled = plan.stages[-1][2].output_shape[1]
    for layer, activation, pooling in reversed(plan.stages):
        inputs, side, _ = layer.input_shape
        read = min(side, 2 * pooled + layer.kernel - 1 - layer.padding)
        # A map of the convolution that several maps pool counts once for each of them.
        maps: Sequence[int] = pooling.sources or range(layer.outputs)
        used = [kernel for number in maps for _, kernel in layer.wiring[number]]
        coefficients, shifts = [array[p.name] for p in pooling.parameters] or (0, 0)
        stage = {
            "inputs": inputs,
            "outputs": pooling.output_shape[0],
            "kernel": layer.kernel,
            "padding": layer.padding,
            "input_side": read,
            "side": 2 * pooled,
            "activation": activation,
            "pooling": pooling.method,
            "subsampling": pooling.squash,
            "shared": len(set(used)) < len(used),
            "kernels": kernel_places(layer, maps, array),
            "biases": bias_places(layer, maps, array),
            "coefficients": coefficients,
            "shifts": shifts,
        }
        stages.insert(0, stage)
        pooled = read
    layers = []
    for layer, activation in plan.connections:
        weight, bias = (array[parameter.name] for parameter in layer.parameters)
        inputs, pieces = prod(layer.input_shape), None
        if isinstance(layer, Convolution) and layer.groups:
            pieces = kernel_places(layer, range(layer.outputs), array)
        description = {
            "inputs": inputs,
            "outputs": layer.outputs,
            "activation": activation,
            "weight": weight,
            "bias": bias,
            "piece": inputs if pieces is None else inputs // layer.input_shape[0],
            "pieces": pieces,
        }
        layers.append(description)
    preparation, size = plan.architecture.preparation, plan.image_size
    pads = preparation.margin(size) is not None
    values = asdict(objective)
    del values["teachers"]
    return {
        "image_size": size,
        "input_size": preparation.size,
        "resampling": None if pads else preparation.rows(size, size),
        # The kernels compute (x / 255 - mean) / std.
        "mean": -preparation.background / (preparation.foreground - preparation.background),
        "std": 1 / (preparation.foreground - preparation.background),
        "stages": stages,
        "layers": layers,
        "codes": plan.codes,
        "classes": plan.architecture.classes,
        "sizes": [parameter.size for parameter in parameters],
        **values,
    }


def kernel_places(
    layer: Convolution, maps: Sequence[int], array: dict[str, int]
) -> NDArray[np.int32]:
    """The places of some maps' kernels (maps, inputs, 2): for each the number of an array and an
    offset in it, -1 where maps are not connected."""
    places = all_places(layer.parameters[::2], layer.kernel**2, array)
    kernels = np.full((len(maps), layer.input_shape[0], 2), -1, np.int32)
    for output, number in enumerate(maps):
        for source, kernel in layer.wiring[number]:
            kernels[output, source] = places[kernel]
    return kernels


def bias_places(
    layer: Convolution, maps: Sequence[int], array: dict[str, int]
) -> NDArray[np.int32]:
    """The places of some maps' biases (maps, 2), as in `kernel_places`."""
    places = all_places(layer.parameters[1::2], 1, array)
    return np.array([places[layer.owners[number]] for number in maps], np.int32)


def all_places(
    parameters: Sequence[Parameter], size: int, array: dict[str, int]
) -> list[tuple[int, int]]:
    """The array and the offset of each `size` numbers of the parameters."""
    return [(array[p.name], offset) for p in parameters for offset in range(0, p.size, size)]
