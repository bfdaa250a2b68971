"""The layers of a trained network with their weights, as the page draws and explains them."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from lenet.errors import LenetError
from lenet.networks import architecture as net
from lenet.web.schemas import Array

IMAGE_SIZE = 28  # pixels


class Input(BaseModel):
    """Where the 28x28 pixels lie in the network's input: x -> offset + scale * x."""

    shape: net.Maps
    offset: float
    scale: float


class Layer(BaseModel):
    """A layer and the arithmetic of its units.

    A unit sums its bias and, for each connection of its map, the products of the kernel and the
    values in the unit's window of the input map. If `operation` is "maximum", it takes the largest
    of these values, times the kernel if there is one; if "distances", minus the sum of the squared
    differences between kernel and values. To the result it applies `squash`.
    """

    name: str = Field(description="As in the paper: C1, S2, C3 ...")
    answers: str = Field(description="Name of the layer's output in a trace, after `squash`.")
    kind: str = Field(description="convolution, max pooling, full connection ...")
    operation: Literal["sum", "maximum", "distances"]
    shape: list[int] = Field(description="Maps, height, width; or units, as maps of one value.")
    window: int = Field(description="Side of the square that a unit sees in a map.")
    stride: int
    padding: int
    border: float = Field(description="The value of the padding.")
    squash: str | None = Field(description="The activation.")
    connections: list[list[tuple[int, int]]] | None = Field(
        description="For each map, the input maps that it reads and the numbers of the kernels "
        "for them; null if it reads all, each with a kernel of its own."
    )
    kernels: Array | None = Field(description="(kernels, window, window), ordered by map.")
    biases: Array | None = Field(description="One for each map, or for each unit.")


def input_of(preparation: net.Preparation) -> Input:
    """How 28x28 pixels become the network's input."""
    margin, size = preparation.margin(IMAGE_SIZE), preparation.size
    scale = 1 if margin is not None else size / IMAGE_SIZE
    return Input(shape=(preparation.channels, size, size), offset=margin or 0, scale=scale)


def layers_of(architecture: net.Architecture, weights: net.Weights) -> list[Layer]:
    """The layers that compute something, in order.

    An activation is part of the layer before it, and flattened maps stay maps. Raises LenetError if
    the network reads more than one channel.
    """
    if (channels := architecture.preparation.channels) != 1:
        raise LenetError(f"this {architecture.network} reads {channels} channels; pictures have 1")
    layers: list[Layer] = []
    maps: tuple[int, ...] = architecture.input_shape
    for layer in architecture.layers:
        side = maps[-1] if len(maps) == 3 else 1
        match layer:
            case net.Convolution():
                kernels, biases = layer.kernels(weights), layer.biases(weights)
                described = describe(layer, layer.window[0], kernels, biases)
                described.padding, described.border = layer.padding, layer.border
                if layer.groups is not None:
                    described.connections = [list(wires) for wires in layer.wiring]
            case net.Pooling():
                described = pooling(layer, weights)
            case net.FullConnection():
                kernels, biases = (weights[parameter.name] for parameter in layer.parameters)
                described = describe(layer, side, kernels, biases)
            case net.Distances():
                described = describe(layer, side, layer.codes)
                described.operation = "distances"
            case net.Squashing():
                layers[-1].squash, layers[-1].answers = layer.squash, layer.name
                continue
            case _:
                continue
        layers.append(described)
        maps = layer.output_shape
    return layers


def pooling(layer: net.Pooling, weights: net.Weights) -> Layer:
    maps, side = layer.output_shape[0], layer.window[0]
    share = 1.0 if layer.method == "max" else layer.share
    kernels, biases = np.full((1, side, side), share, np.float32), None
    if layer.parameters:
        coefficients, biases = (weights[parameter.name] for parameter in layer.parameters)
        kernels = coefficients[:, None, None] * kernels
    described = describe(layer, side, kernels, biases)
    sources = range(maps) if layer.sources is None else layer.sources
    described.connections = [
        [(source, number if layer.parameters else 0)] for number, source in enumerate(sources)
    ]
    if layer.method == "max":
        described.operation = "maximum"
        described.kernels = described.kernels if layer.parameters else None
    return described


def describe(
    layer: net.Layer, window: int, kernels: net.Floats, biases: net.Floats | None = None
) -> Layer:
    """Describes a layer that sums over all input maps, with kernels of that side."""
    assert kernels.size % window**2 == 0, f"{layer.name} has kernels of another size"
    return Layer(
        name=layer.name,
        answers=layer.name,
        kind=layer.kind,
        operation="sum",
        shape=list(layer.output_shape),
        window=window,
        stride=layer.window[1],
        padding=0,
        border=0,
        squash=getattr(layer, "squash", None),
        connections=None,
        kernels=Array.of(kernels.reshape(-1, window, window)),
        biases=None if biases is None else Array.of(biases),
    )
