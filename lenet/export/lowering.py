"""A network with fewer kinds of layers, for formats that are written loop by loop."""

from dataclasses import replace

from lenet.errors import LenetError
from lenet.networks.architecture import (
    Architecture,
    Convolution,
    Distances,
    Flatten,
    FullConnection,
    Layer,
    Squashing,
)

IMAGE_SIDE = 28  # pixels of an image before its preparation


def lower(architecture: Architecture) -> Architecture:
    """The same network without flattening, and with squashing in the layer whose sums it takes.

    Layers after the flattening see maps instead of a row of units, in the same order.

    Raises:
        LenetError: the scores come from neither a full connection nor distances.
    """
    layers: list[Layer] = []
    for layer in architecture.layers:
        match layer, layers[-1:]:
            case Flatten(), _:
                pass
            case Squashing(), [(Convolution() | FullConnection()) as last] if not last.squash:
                layers[-1] = replace(last, squash=layer.squash)
            case _:
                layers.append(layer)
    last = layers[-1]
    if not isinstance(last, FullConnection | Distances):
        raise LenetError(f"{last.name}: scores that come from {last.kind} cannot be written as C")
    return replace(architecture, layers=tuple(layers))
