"""Plans: what the fused kernels must know of a network, worked out from its architecture.

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
from lenet.networks.architecture import (
    Activation,
    Architecture,
    Convolution,
    Distances,
    Flatten,
    FullConnection,
    Layer,
    Pooling,
    Squashing,
)

IMAGE_SIDES = (16, 1024)  # the kernels read at least so many pixels at once
MOST_STAGES = MOST_LAYERS = 8
MOST_CLASSES = 1000
MOST_VALUES = 2**20  # of one example in one layer
MOST_WEIGHTS = 2**22  # of one layer


@dataclass(frozen=True)
class Stage:
    """A convolution, the activation after it, and the pooling after that."""

    convolution: Convolution
    activation: Activation | None
    pooling: Pooling


@dataclass(frozen=True)
class Connection:
    """A layer whose units see everything, and the activation after it."""

    layer: Convolution | FullConnection
    activation: Activation | None


@dataclass(frozen=True)
class Plan:
    """A network in the order of the kernels; `codes` are those of a last layer of distances."""

    architecture: Architecture
    image_size: int
    stages: tuple[Stage, ...]
    connections: tuple[Connection, ...]
    codes: NDArray[np.float32] | None


def plan(architecture: Architecture, image_size: int = 28) -> Plan | str:
    """The plan of a network for square images of that side, or one sentence why there is none."""
    layers = [layer for layer in architecture.layers if not isinstance(layer, Flatten)]
    stages: list[Stage] = []
    connections: list[Connection] = []
    codes = None
    while layers:
        layer = layers.pop(0)
        if codes is not None:
            return f"nothing can follow the distances, but {layer.name} does"
        match layer:
            case Distances() if connections:
                codes = layer.codes
            case Convolution() | FullConnection() if sees_everything(layer):
                connections.append(Connection(layer, activation_after(layer, layers)))
            case Convolution() if not connections:
                activation = activation_after(layer, layers)
                if not layers or not isinstance(layers[0], Pooling):
                    return f"2x2 pooling must follow the convolution {layer.name}"
                pooling = layers.pop(0)
                assert isinstance(pooling, Pooling)
                stages.append(Stage(layer, activation, pooling))
            case _:
                return f"the fused kernels have no place for {layer.name}, a {layer.kind}"
    plan = Plan(architecture, image_size, tuple(stages), tuple(connections), codes)
    return obstacle(plan) or plan


def sees_everything(layer: Layer) -> bool:
    """Whether every unit of a layer is connected to all of its input."""
    if isinstance(layer, Convolution):
        return layer.groups is None and layer.output_shape[1:] == (1, 1) and not layer.padding
    return isinstance(layer, FullConnection)


def activation_after(layer: Convolution | FullConnection, layers: list[Layer]) -> Activation | None:
    """A layer's activation; takes it from the layers that follow, if it is there."""
    if layer.squash is None and layers and isinstance(layers[0], Squashing):
        return layers.pop(0).squash  # pyright: ignore[reportAttributeAccessIssue]
    return layer.squash


def obstacle(plan: Plan) -> str | None:
    """None if the sizes of a plan are within the kernels' bounds, else one sentence."""
    smallest, largest = IMAGE_SIDES
    if plan.architecture.preparation.channels != 1:
        channels = plan.architecture.preparation.channels
        return f"the fused kernels read 1 input channel, not {channels}"
    if not 1 <= len(plan.stages) <= MOST_STAGES:
        return f"the fused kernels serve 1 to {MOST_STAGES} convolutions, not {len(plan.stages)}"
    if not 1 <= len(plan.connections) <= MOST_LAYERS:
        return f"the fused kernels serve 1 to {MOST_LAYERS} fully connected layers"
    if not smallest <= plan.image_size <= largest:
        return (
            f"the fused kernels read images of {smallest} to {largest} pixels a side, "
            f"not {plan.image_size}"
        )
    if plan.architecture.classes > MOST_CLASSES:
        classes = plan.architecture.classes
        return f"the fused kernels serve 1 to {MOST_CLASSES} classes, not {classes}"
    for stage in plan.stages:
        layer = stage.convolution
        inputs, side, _ = layer.input_shape
        outputs = stage.pooling.output_shape[0]
        values = max(inputs * (side + 2 * layer.padding) ** 2, outputs * layer.output_shape[1] ** 2)
        if values > MOST_VALUES or outputs * inputs * layer.kernel**2 > MOST_WEIGHTS:
            return f"the convolution {layer.name} is too large for the fused kernels"
    for connection in plan.connections:
        if connection.layer.parameters[0].size > MOST_WEIGHTS:
            return f"{connection.layer.name} is too large for the fused kernels"
    return None


def describe(plan: Plan, objective: Objective) -> dict[str, Any]:
    """The plan as the compiled module reads it: every size worked out, and where in the arrays of
    parameters everything lies."""
    parameters = plan.architecture.parameters
    array = {parameter.name: number for number, parameter in enumerate(parameters)}
    # Pooling leaves a last odd row and column out: nothing is computed for them, and what only they
    # would read is not computed either. So the sides are found from the last stage to the first.
    stages: list[dict[str, Any]] = []
    pooled = plan.stages[-1].pooling.output_shape[1]
    for stage in reversed(plan.stages):
        layer, pooling = stage.convolution, stage.pooling
        inputs, side, _ = layer.input_shape
        read = min(side, 2 * pooled + layer.kernel - 1 - layer.padding)
        kernels, biases, shared = places(stage, array)
        coefficients, shifts = [array[p.name] for p in pooling.parameters] or (0, 0)
        stages.insert(
            0,
            {
                "inputs": inputs,
                "outputs": pooling.output_shape[0],
                "kernel": layer.kernel,
                "padding": layer.padding,
                "input_side": read,
                "side": 2 * pooled,
                "activation": stage.activation,
                "pooling": pooling.method,
                "subsampling": pooling.squash,
                "shared": shared,
                "kernels": kernels,
                "biases": biases,
                "coefficients": coefficients,
                "shifts": shifts,
            },
        )
        pooled = read
    layers = []
    for connection in plan.connections:
        weight, bias = connection.layer.parameters
        layers.append(
            {
                "inputs": prod(connection.layer.input_shape),
                "outputs": connection.layer.outputs,
                "activation": connection.activation,
                "weight": array[weight.name],
                "bias": array[bias.name],
            }
        )
    preparation, size = plan.architecture.preparation, plan.image_size
    pads = preparation.margin(size) is not None
    values = asdict(objective)
    del values["teachers"]
    return {
        "image_size": size,
        "input_size": preparation.size,
        "resampling": None if pads else preparation.rows(size, size),
        # The kernels read (x / 255 - mean) / std.
        "mean": -preparation.background / (preparation.foreground - preparation.background),
        "std": 1 / (preparation.foreground - preparation.background),
        "stages": stages,
        "layers": layers,
        "codes": plan.codes,
        "classes": plan.architecture.classes,
        "sizes": [parameter.size for parameter in parameters],
        **values,
    }


def places(
    stage: Stage, array: dict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], bool]:
    """Where the kernels of a stage lie (outputs, inputs, 2) and its biases (outputs, 2), each as
    the number of an array and an offset in it, -1 where maps are not connected; and whether
    several connections have the same kernel.

    A map of the convolution that several maps pool counts once for each of them.
    """
    layer, pooling = stage.convolution, stage.pooling
    of_kernels: list[tuple[int, int]] = []
    of_biases: list[tuple[int, int]] = []
    for parameter in layer.parameters:
        is_weight = parameter.name.endswith("weight")
        where, step = (of_kernels, layer.kernel**2) if is_weight else (of_biases, 1)
        where += [(array[parameter.name], offset) for offset in range(0, parameter.size, step)]
    maps: Sequence[int] = pooling.sources or range(layer.outputs)
    kernels = np.full((len(maps), layer.input_shape[0], 2), -1, np.int32)
    for output, number in enumerate(maps):
        for source, kernel in layer.wiring[number]:
            kernels[output, source] = of_kernels[kernel]
    biases = np.array([of_biases[layer.owners[number]] for number in maps], np.int32)
    used = [kernel for number in maps for _, kernel in layer.wiring[number]]
    return kernels, biases, len(set(used)) < len(used)
