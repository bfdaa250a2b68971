"""Training one pattern at a time for any network of scaled-tanh layers: LeNet1989, LeNet1, LeNet4.

The criterion is the mean squared error to +1 for the right class and -1 for the others. Steps and
curvature are those of `lenet.engine.sequential`, which knows LeNet-5 alone and is faster.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lenet.engine.sequential import Flat, Images, Numbers, check, in_slices
from lenet.networks.architecture import Architecture, Convolution, FullConnection, Layer, Pooling

try:
    from lenet.engine import _patterns
except ImportError:  # pure Python installation
    _patterns = None


def is_served(architecture: Architecture) -> bool:
    """Whether the native module trains this network."""
    kinds = Convolution, FullConnection, Pooling
    return _patterns is not None and all(
        isinstance(layer, kinds)
        and layer.squash == "scaled-tanh"
        and getattr(layer, "method", "average") != "max"
        for layer in architecture.layers
    )


def describe(architecture: Architecture) -> list[dict[str, Any]]:
    """The layers as the compiled module reads them; kernels and biases by their places among all
    parameters."""
    places = iter(np.cumsum([0, *(p.size for p in architecture.parameters)]).tolist())
    return [described(layer, places) for layer in architecture.layers]


def described(layer: Layer, places: Iterator[int]) -> dict[str, Any]:
    inputs, side, _ = (*layer.input_shape, 1, 1)[:3]
    outputs, out_side, _ = (*layer.output_shape, 1, 1)[:3]
    starts = [next(places) for _ in layer.parameters]
    window, stride = layer.window
    description: dict[str, Any] = {
        "subsampling": isinstance(layer, Pooling),
        "unit_biases": False,
        "inputs": inputs,
        "side": side,
        "outputs": outputs,
        "out_side": out_side,
        "kernel": window,
        "stride": stride,
        "padding": 0,
        "border": 0.0,
        "share": 1.0,
        "biases": [starts[-1] + number for number in range(outputs)],
    }
    match layer:
        case Pooling():
            sources = layer.sources or range(outputs)
            wires = [(number, source, number) for number, source in enumerate(sources)]
            description["share"], size = layer.share, 1
        case Convolution():
            wires = [(m, source, k) for m, row in enumerate(layer.wiring) for source, k in row]
            own = layer.unit_biases
            each, size = out_side**2 if own else 1, window**2
            biases = [starts[-1] + each * owner for owner in layer.owners]
            description |= {"padding": layer.padding, "border": layer.border}
            description |= {"unit_biases": own, "biases": biases}
        case _:
            wires = [(m, i, m * inputs + i) for m in range(outputs) for i in range(inputs)]
            description["kernel"], size = side, side**2
    return {**description, "wires": [(m, i, starts[0] + size * k) for m, i, k in wires]}


class Patterns:
    """Trains a network that `is_served`; the methods are those of `sequential.Patterns`.

    Args:
        architecture: the network.
        weights: changed in place.
    """

    def __init__(self, architecture: Architecture, weights: Flat) -> None:
        assert _patterns is not None
        self.prepare, self.weights = architecture.preparation, weights
        self.network = _patterns.Patterns(describe(architecture), len(weights))

    def train(
        self, images: Images, labels: Numbers, order: Numbers, step_sizes: Flat
    ) -> tuple[float, int]:
        check(images, labels, order)

        def train(part: Numbers) -> tuple[float, int]:
            inputs, own = self.prepare(images[part]), np.arange(len(part))
            return self.network.train(inputs, labels[part], own, self.weights, step_sizes)

        return in_slices(order, train)

    def curvature(self, images: Images, labels: Numbers, order: Numbers) -> Flat:
        check(images, labels, order)
        h = np.zeros_like(self.weights)
        inputs = self.prepare(images[order])
        self.network.curvature(inputs, np.arange(len(order)), self.weights, h)
        return h
