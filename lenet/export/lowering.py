"""Networks with fewer kinds of layers, for the formats that are written loop by loop."""

from dataclasses import replace

from lenet.errors import LenetError
from lenet.networks import architecture as net

IMAGE_SIDE = 28  # pixels, before the preparation
Linear = net.Convolution | net.FullConnection  # layers that can take an activation


def lower(architecture: net.Architecture) -> net.Architecture:
    """Drops flattening, so that layers after it see maps in the same order instead of a row of
    units, and moves activations into the layers before them.

    Raises LenetError if the scores come from neither a full connection nor distances.
    """
    layers: list[net.Layer] = []
    for layer in architecture.layers:
        last = layers[-1] if layers else None
        if isinstance(layer, net.Squashing) and isinstance(last, Linear) and not last.squash:
            layers[-1] = replace(last, squash=layer.squash)
        elif not isinstance(layer, net.Flatten):
            layers.append(layer)
    last = layers[-1]
    if not isinstance(last, net.FullConnection | net.Distances):
        raise LenetError(f"{last.name}: scores that come from {last.kind} cannot be written as C")
    return replace(architecture, layers=tuple(layers))
