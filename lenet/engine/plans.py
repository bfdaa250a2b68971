"""Plans: what the fused kernels must know of a network, its input and its loss.

A plan describes the network as data: stages of convolution, activation and 2x2 pooling, then fully
connected layers, then the scores. Nothing here imports PyTorch.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lenet.networks.codebook import (
    BACKGROUND,
    C3_GROUPS,
    FOREGROUND,
    GLYPH_HEIGHT,
    GLYPH_WIDTH,
    MNIST_MEAN,
    MNIST_STD,
    c3_table,
)

ACTIVATIONS = ("sigmoid", "tanh", "scaled-tanh", "relu", "gelu", "silu")
POOLINGS = ("average", "sum", "max")
LOSSES = ("cross-entropy", "mse", "penalty", "map")
HEADS = ("linear", "rbf")
IMAGE_SIDES = (16, 1024)  # the kernels read at least so many pixels at once
MOST_STAGES = MOST_LAYERS = 8
MOST_CLASSES = 1000
MOST_VALUES = 2**20  # of one example in one layer
MOST_WEIGHTS = 2**22  # of one layer

# For each set of kernels, the input maps that it reads, for every map that it makes.
Groups = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Stage:
    """A convolution with stride 1, its activation, and 2x2 pooling with stride 2.

    Attributes:
        outputs: number of maps.
        kernel: side of the kernels.
        padding: zeros around the input.
        activation: one of `ACTIVATIONS`, before the pooling.
        pooling: one of `POOLINGS`.
        subsampling: f, where the maps then become f(coefficient * pooled + bias) with one trainable
            coefficient and bias each.
        groups: which input maps the maps are connected to, and which of them share kernels and
            bias; None: each has its own for all input maps.
        separate: whether each group has its own arrays of kernels (1, inputs, kernel, kernel) and
            bias (1,). Otherwise the groups' kernels lie in one array (connections, kernel, kernel).
    """

    outputs: int
    kernel: int = 5
    padding: int = 0
    activation: str = "sigmoid"
    pooling: str = "average"
    subsampling: str | None = None
    groups: Groups | None = None
    separate: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything the kernels must know; the default is the network of "Dive into Deep Learning".

    Attributes:
        image_size: side of the uint8 images.
        input_size: side of the network's input: images are enlarged by pixels of value 0 on all
            sides, or resized. The input is (x / 255 - mean) / std.
        resize: whether images are resized bilinearly, antialiased where they shrink.
        stages: the convolutions.
        hidden: units of the fully connected layers before the scores.
        activation: one of `ACTIVATIONS`, after each hidden layer.
        flatten: whether the first fully connected layer's weights are (units, values), or (units,
            maps, side, side).
        head: "linear", a last fully connected layer, or "rbf", the negative squared distances of
            the last hidden layer to the glyphs of the digits (paper of 1998, section II.B).
        classes: number of scores.
        loss: one of `LOSSES`, as in `lenet.training.losses`; label_smoothing and j belong to it.
        distillation: share w of the loss that comes from given targets p,
            (1 - w) loss + w T^2 cross_entropy(p, softmax(scores / T)), T the temperature.
    """

    image_size: int = 28
    input_size: int = 28
    resize: bool = False
    mean: float = 0.0
    std: float = 1.0
    stages: tuple[Stage, ...] = (Stage(6, padding=2), Stage(16))
    hidden: tuple[int, ...] = (120, 84)
    activation: str = "sigmoid"
    flatten: bool = True
    head: str = "linear"
    classes: int = 10
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    j: float = 10.0
    distillation: float = 0.0
    temperature: float = 1.0

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the input of every stage, and of the maps after the last."""
        sides = [self.input_size]
        for stage in self.stages:
            sides.append((sides[-1] + 2 * stage.padding - stage.kernel + 1) // 2)
        return tuple(sides)

    @property
    def maps(self) -> tuple[int, ...]:
        """Number of input maps of every stage, and after the last."""
        return (1, *(stage.outputs for stage in self.stages))

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the fully connected layers."""
        sizes = [self.maps[-1] * self.sides[-1] ** 2, *self.hidden]
        if self.head == "linear":
            sizes.append(self.classes)
        return tuple(itertools.pairwise(sizes))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the network's parameters, in their order."""
        shapes: list[tuple[int, ...]] = []
        for stage, inputs in zip(self.stages, self.maps[:-1], strict=True):
            side = stage.kernel
            if stage.groups is None:
                shapes += [(stage.outputs, inputs, side, side), (stage.outputs,)]
            elif stage.separate:
                for group in stage.groups:
                    shapes += [(1, len(group[0]), side, side), (1,)]
            else:
                kernels = sum(len(group[0]) for group in stage.groups)
                shapes += [(kernels, side, side), (len(stage.groups),)]
            if stage.subsampling:
                shapes += [(stage.outputs,), (stage.outputs,)]
        for inputs, outputs in self.layers:
            shapes += [(outputs, inputs), (outputs,)]
        if not self.flatten:
            first = -2 * len(self.layers)
            shapes[first] = (self.layers[0][1], self.maps[-1], self.sides[-1], self.sides[-1])
        return tuple(shapes)


def obstacle(plan: Plan) -> str | None:
    """None if the kernels serve this plan, else one sentence why not."""
    smallest, largest = IMAGE_SIDES
    choices = [("activation", plan.activation, ACTIVATIONS), ("loss", plan.loss, LOSSES)]
    choices.append(("head", plan.head, HEADS))
    for stage in plan.stages:
        choices.append(("activation", stage.activation, ACTIVATIONS))
        choices.append(("pooling", stage.pooling, POOLINGS))
        if stage.subsampling:
            choices.append(("subsampling", stage.subsampling, ACTIVATIONS))
    for field, value, allowed in choices:
        if value not in allowed:
            return f"the {field} {value!r} is not one of {', '.join(allowed)}"
    if not 1 <= len(plan.stages) <= MOST_STAGES:
        return f"the fused kernels serve 1 to {MOST_STAGES} convolutions, not {len(plan.stages)}"
    if len(plan.hidden) >= MOST_LAYERS:
        return f"the fused kernels serve up to {MOST_LAYERS - 1} hidden layers"
    if not smallest <= plan.image_size <= largest:
        return (
            f"the fused kernels read images of {smallest} to {largest} pixels a side, "
            f"not {plan.image_size}"
        )
    if not plan.resize and plan.input_size < plan.image_size:
        return (
            f"images of {plan.image_size}x{plan.image_size} pixels do not fit the input of "
            f"{plan.input_size}x{plan.input_size}"
        )
    if not 1 <= plan.classes <= MOST_CLASSES:
        return f"the fused kernels serve 1 to {MOST_CLASSES} classes, not {plan.classes}"
    if any(units < 1 for units in plan.hidden):
        return f"hidden layers must have 1 unit or more, not {min(plan.hidden)}"
    for stage, inputs, side in zip(plan.stages, plan.maps[:-1], plan.sides[:-1], strict=True):
        if stage.outputs < 1 or stage.kernel < 1 or stage.padding < 0:
            return (
                f"{stage.outputs} maps of {stage.kernel}x{stage.kernel} kernels with padding "
                f"{stage.padding} are no convolution"
            )
        convolved = side + 2 * stage.padding - stage.kernel + 1
        if convolved < 2:
            return (
                f"a {stage.kernel}x{stage.kernel} convolution and 2x2 pooling do not fit an input "
                f"of {side}x{side} with padding {stage.padding}"
            )
        values = max(inputs * (side + 2 * stage.padding) ** 2, stage.outputs * convolved**2)
        weights = stage.outputs * inputs * stage.kernel**2
        if values > MOST_VALUES or weights > MOST_WEIGHTS:
            return f"a convolution to {stage.outputs} maps is too large for the fused kernels"
        if stage.groups is not None:
            read = [maps for group in stage.groups for maps in group]
            if len(read) != stage.outputs or any(
                not maps or min(maps) < 0 or max(maps) >= inputs or len(maps) != len(group[0])
                for group in stage.groups
                for maps in group
            ):
                return f"the groups of a convolution do not fit {inputs} to {stage.outputs} maps"
    if any(inputs * outputs > MOST_WEIGHTS for inputs, outputs in plan.layers):
        return "a fully connected layer is too large for the fused kernels"
    codes = (10, GLYPH_HEIGHT * GLYPH_WIDTH)
    if plan.head == "rbf" and (plan.classes, *plan.hidden[-1:]) != codes:
        return f"the head rbf has {codes[0]} classes and {codes[1]} units before them"
    if not (math.isfinite(plan.mean) and math.isfinite(plan.std) and plan.std > 0):
        return f"mean {plan.mean} and std {plan.std} must be finite, and std positive"
    if not math.isfinite(plan.j):
        return f"j must be finite, not {plan.j}"
    if not 0 <= plan.label_smoothing <= 1:
        return f"label smoothing must be from 0 to 1, not {plan.label_smoothing}"
    if plan.label_smoothing and plan.loss != "cross-entropy":
        return "label smoothing belongs to the loss cross-entropy"
    if not 0 <= plan.distillation <= 1:
        return f"distillation must be from 0 to 1, not {plan.distillation}"
    if not (math.isfinite(plan.temperature) and plan.temperature > 0):
        return f"the temperature must be finite and positive, not {plan.temperature}"
    return None


# The plans of the networks in lenet.networks.models, by their constructors' arguments. They leave the
# loss to the caller.


def lenet(options: Mapping[str, Any], image_size: int) -> Plan | str:
    if options["in_channels"] != 1:
        return f"the fused kernels read 1 input channel, not {options['in_channels']}"
    stages = zip(options["channels"], options["kernel_sizes"], options["padding"], strict=True)
    return Plan(
        image_size=image_size,
        input_size=options["input_size"],
        resize=options["input_size"] < image_size,
        mean=options["mean"],
        std=options["std"],
        stages=tuple(
            Stage(outputs, kernel, padding, options["activation"], options["pooling"])
            for outputs, kernel, padding in stages
        ),
        hidden=tuple(options["hidden"]),
        activation=options["activation"],
        classes=options["classes"],
    )


def lenet5(options: Mapping[str, Any], image_size: int) -> Plan:
    def stage(outputs: int, groups: Groups | None = None) -> Stage:
        pooling, squashing = options["subsampling"], "scaled-tanh"
        return Stage(outputs, 5, 0, squashing, pooling, squashing, groups)

    std = 1 / (FOREGROUND - BACKGROUND)
    table = tuple((tuple(row.nonzero()[0].tolist()),) for row in c3_table())
    return Plan(
        image_size=image_size,
        input_size=32,
        resize=image_size > 32,
        mean=-BACKGROUND * std,
        std=std,
        stages=(stage(6), stage(16, table)),
        hidden=(120, 84),
        activation="scaled-tanh",
        flatten=False,
        head="rbf" if options["head"] == "rbf" else "linear",
    )


def lenet5s(options: Mapping[str, Any], image_size: int) -> Plan:
    groups = tuple(tuple(tuple(maps) for maps in group) for group in C3_GROUPS.values())
    return Plan(
        image_size=image_size,
        input_size=32,
        resize=True,
        mean=MNIST_MEAN,
        std=MNIST_STD,
        stages=(
            Stage(6, activation="relu"),
            Stage(16, activation="relu", groups=groups, separate=True),
        ),
        activation="relu",
    )


NETWORKS: dict[str, Callable[[Mapping[str, Any], int], Plan | str]] = {
    "LeNet": lenet,
    "LeNet5": lenet5,
    "LeNet5s": lenet5s,
}
