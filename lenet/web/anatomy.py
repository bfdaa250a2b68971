"""A trained network layer by layer, with its weights, as the page explains it; no PyTorch."""

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.codebook import C3_GROUPS, c3_table, digit_codes
from lenet.web.schemas import Array, Field28, Layer

Weights = dict[str, NDArray[np.float32]]


def layers_of(model: Checkpoint) -> list[Layer]:
    """The layers that compute something, in order. A layer's squashing belongs to it.

    Raises:
        LenetError: the network reads more than one channel.
    """
    match model.network:
        case "LeNet5":
            return lenet5(model)
        case "LeNet5s":
            return lenet5s(model.weights)
        case _:
            return lenet(model)


def input_of(model: Checkpoint) -> Field28:
    """How the network's input comes from 28x28 pixels."""
    match model.network:
        case "LeNet5":
            return Field28(shape=[1, 32, 32], offset=2, scale=1)
        case "LeNet5s":
            return Field28(shape=[1, 32, 32], offset=0, scale=32 / 28)
        case _:
            side = model.options["input_size"]
            if side >= 28:
                return Field28(shape=[1, side, side], offset=(side - 28) // 2, scale=1)
            return Field28(shape=[1, side, side], offset=0, scale=side / 28)


def lenet5(model: Checkpoint) -> list[Layer]:
    """LeNet-5 of 1998: squashing inside the layers, a connection table, codes at the end."""
    weights, table = model.weights, c3_table()
    scale = 1.0 if model.options.get("subsampling") == "sum" else 0.25
    squash = "scaled-tanh"
    layers = [
        convolution("C1", weights, full(1, 6), 28, squash),
        subsampling("S2", weights, 6, 14, scale),
        convolution("C3", weights, [np.flatnonzero(row).tolist() for row in table], 10, squash),
        subsampling("S4", weights, 16, 5, scale),
        convolution("C5", weights, full(16, 120), 1, squash),
        full_connection("F6", weights, squash),
    ]
    if model.options.get("head") == "softmax":
        return [*layers, full_connection("output", weights, None)]
    return [*layers, distances(digit_codes())]


def lenet5s(weights: Weights) -> list[Layer]:
    """LeNet5s: the maps of a group in C3 share one kernel set."""
    kernels, biases = [], []
    for name, groups in C3_GROUPS.items():
        kernels += [weights[f"C3.{name}.weight"][0]] * len(groups)
        biases += [weights[f"C3.{name}.bias"]] * len(groups)
    shared = {"C3.weight": np.concatenate(kernels), "C3.bias": np.concatenate(biases)}
    connections = [inputs for groups in C3_GROUPS.values() for inputs in groups]
    return [
        convolution("C1", weights, full(1, 6), 28, "relu", "C1_relu"),
        pooling("S2", "average", 6, 14),
        convolution("C3", shared, connections, 10, "relu", "C3_relu"),
        pooling("S4", "average", 16, 5),
        over_map("C5", weights, 16, "relu", "C5_relu"),
        full_connection("F6", weights, "relu", "F6_relu"),
        full_connection("output", weights, None),
    ]


def lenet(model: Checkpoint) -> list[Layer]:
    """LeNet with any knobs: squashing in layers of its own."""
    options, weights = model.options, model.weights
    if options["in_channels"] != 1:
        raise LenetError(f"{model.path} reads {options['in_channels']} channels; pictures have 1")
    squash, pool = options["activation"], {"average": "average", "max": "maximum"}
    layers, maps, side, number = [], 1, options["input_size"], 1
    for out, kernel, padding in zip(
        options["channels"], options["kernel_sizes"], options["padding"], strict=True
    ):
        name = f"C{number}"
        side += 2 * padding - kernel + 1
        layers.append(
            convolution(name, weights, full(maps, out), side, squash, f"{name}_{squash}", padding)
        )
        side //= 2
        layers.append(pooling(f"S{number + 1}", pool[options["pooling"]], out, side))
        maps, number = out, number + 2
    names = [f"F{number + i}" for i in range(len(options["hidden"]))]
    if names and layers:
        names[0] = f"C{number}"
    layers += [
        over_map(names[0], weights, maps, squash, f"{names[0]}_{squash}")
        if names
        else over_map("output", weights, maps, None),
    ]
    layers += [full_connection(name, weights, squash, f"{name}_{squash}") for name in names[1:]]
    return [*layers, full_connection("output", weights, None)] if names else layers


def full(inputs: int, outputs: int) -> list[list[int]]:
    """Every map reads all maps."""
    return [list(range(inputs))] * outputs


def convolution(
    name: str,
    weights: Weights,
    connections: list[list[int]],
    side: int,
    squash: str | None,
    answers: str | None = None,
    padding: int = 0,
) -> Layer:
    """A convolution whose maps have `side` x `side` units."""
    kernels = weights[f"{name}.weight"]
    return Layer(
        name=name,
        answers=answers or name,
        kind="convolution",
        shape=[len(connections), side, side],
        window=kernels.shape[-1],
        stride=1,
        padding=padding,
        squash=squash,
        connections=connections,
        weights=Array.of(kernels.reshape(-1, *kernels.shape[-2:])),
        biases=Array.of(weights[f"{name}.bias"]),
        scale=1,
    )


def over_map(
    name: str, weights: Weights, maps: int, squash: str | None, answers: str | None = None
) -> Layer:
    """A full connection to maps: the paper's C5, a convolution whose kernel is a whole map."""
    matrix = weights[f"{name}.weight"]
    side = round((matrix.shape[1] / maps) ** 0.5)
    kernels = {
        f"{name}.weight": matrix.reshape(len(matrix), maps, side, side),
        f"{name}.bias": weights[f"{name}.bias"],
    }
    return convolution(name, kernels, full(maps, len(matrix)), 1, squash, answers)


def subsampling(name: str, weights: Weights, maps: int, side: int, scale: float) -> Layer:
    """The subsampling of 1998: coefficient, bias and squashing for each map."""
    return pooling(name, "subsampling", maps, side).model_copy(
        update=dict(
            squash="scaled-tanh",
            weights=Array.of(weights[f"{name}.coefficient"]),
            biases=Array.of(weights[f"{name}.bias"]),
            scale=scale,
        )
    )


def pooling(name: str, kind: str, maps: int, side: int) -> Layer:
    """2x2 pooling to maps of `side` x `side` units."""
    return Layer.model_validate(
        dict(
            name=name,
            answers=name,
            kind=kind,
            shape=[maps, side, side],
            window=2,
            stride=2,
            padding=0,
            squash=None,
            connections=[[number] for number in range(maps)],
            weights=None,
            biases=None,
            scale=0.25,
        )
    )


def full_connection(
    name: str, weights: Weights, squash: str | None, answers: str | None = None
) -> Layer:
    matrix = weights[f"{name}.weight"]
    return Layer(
        name=name,
        answers=answers or name,
        kind="full connection",
        shape=[len(matrix)],
        window=1,
        stride=1,
        padding=0,
        squash=squash,
        connections=[],
        weights=Array.of(matrix),
        biases=Array.of(weights[f"{name}.bias"]),
        scale=1,
    )


def distances(codes: NDArray[np.float32]) -> Layer:
    """The output of 1998: squared distances to the codes; a score is a distance with a minus."""
    return Layer(
        name="output",
        answers="output",
        kind="distances",
        shape=[len(codes)],
        window=1,
        stride=1,
        padding=0,
        squash=None,
        connections=[],
        weights=Array.of(codes),
        biases=None,
        scale=1,
    )
