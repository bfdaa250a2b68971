"""What every layer computes, in NumPy: slow, but for every network, and exact in float64.

Used where the kernels do not support a network or are not installed. Results have the precision of
the weights.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lenet.networks.architecture import (
    MOST_VALUES,
    Architecture,
    Convolution,
    Distances,
    Flatten,
    Floats,
    FullConnection,
    Layer,
    Pooling,
    Weights,
)

AMPLITUDE, STEEPNESS = 1.7159, 2 / 3  # of the scaled tanh (paper, appendix A)
GELU = 1.702  # of its sigmoid form (Hendrycks and Gimpel 2016, section 2)
BATCH = 500  # images at once


def sigmoid(a: Floats) -> Floats:
    return (1 + np.tanh(a / 2)) / 2


def swish(a: Floats, steepness: float) -> Floats:
    """a * sigmoid(steepness a): SiLU, and GELU's sigmoid form."""
    return a * sigmoid(steepness * a)


def swish_slope(a: Floats, steepness: float) -> Floats:
    s = sigmoid(steepness * a)
    return s + steepness * a * s * (1 - s)


# f(a) and its derivative f'(a) by name.
ACTIVATIONS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "sigmoid": (sigmoid, lambda a: sigmoid(a) * (1 - sigmoid(a))),
    "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
    "scaled-tanh": (
        lambda a: AMPLITUDE * np.tanh(STEEPNESS * a),
        lambda a: AMPLITUDE * STEEPNESS * (1 - np.tanh(STEEPNESS * a) ** 2),
    ),
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0).astype(a.dtype)),
    "gelu": (lambda a: swish(a, GELU), lambda a: swish_slope(a, GELU)),
    "silu": (lambda a: swish(a, 1.0), lambda a: swish_slope(a, 1.0)),
}


def squash(name: str | None, sums: Floats) -> Floats:
    """The activation of that name; None leaves the sums as they are."""
    return ACTIVATIONS[name][0](sums) if name else sums


def forward(layer: Layer, x: Floats, weights: Weights) -> Floats:
    """A layer's output (N, *output_shape) for its input (N, *input_shape)."""
    return squash(getattr(layer, "squash", None), weighted_sums(layer, x, weights))


def weighted_sums(layer: Layer, x: Floats, weights: Weights) -> Floats:
    """A layer's output before its squashing."""
    match layer:
        case Convolution():
            x = padded(x, layer.padding, layer.border)
            sums = correlated(x, layer.filters(weights), layer.stride)
            biases = layer.biases(weights)
            return sums + (biases if layer.unit_biases else planes(biases))
        case Pooling():
            values = pooled(layer, x)
            if layer.squash:
                coefficient, bias = (planes(weights[p.name]) for p in layer.parameters)
                return coefficient * values + bias
            return values
        case Flatten():
            return x.reshape(len(x), -1)
        case FullConnection():
            weight, bias = (weights[p.name] for p in layer.parameters)
            return x.reshape(len(x), -1) @ weight.T + bias
        case Distances():
            # Differences first: x^2 - 2 x code + code^2 would cancel for the right class.
            return -np.square(x.reshape(len(x), 1, -1) - layer.codes).sum(2)
    return x


def planes(values: Floats) -> Floats:
    """One number for each of the maps (N, maps, H, W)."""
    return values[:, None, None]


def padded(x: Floats, padding: int, border: float = 0.0) -> Floats:
    """Maps (N, maps, H, W) with that many values more on each side."""
    if not padding:
        return x
    around = (0, 0), (0, 0), (padding, padding), (padding, padding)
    return np.pad(x, around, constant_values=border)


def correlated(x: Floats, filters: Floats, stride: int = 1) -> Floats:
    """Cross-correlation (N, outputs, H', W') of maps (N, inputs, H, W) with filters (outputs,
    inputs, k, k)."""
    windows = sliding_window_view(x, filters.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.moveaxis(np.tensordot(windows, filters, ((1, 4, 5), (1, 2, 3))), -1, 1)


def blocks(layer: Pooling, x: Floats) -> Floats:
    """The 2x2 inputs of each unit of a pooling layer: (N, maps, H/2, W/2, 4)."""
    maps, height, width = layer.output_shape
    if layer.sources is not None:
        x = x[:, list(layer.sources)]
    cut = x[:, :, : 2 * height, : 2 * width].reshape(len(x), maps, height, 2, width, 2)
    return cut.swapaxes(3, 4).reshape(len(x), maps, height, width, 4)


def pooled(layer: Pooling, x: Floats) -> Floats:
    """The average, sum or maximum of 2x2 inputs, before the coefficients of a subsampling."""
    inputs = blocks(layer, x)
    return inputs.max(4) if layer.method == "max" else layer.share * inputs.sum(4)


def backward(layer: Layer, x: Floats, weights: Weights, delta: Floats) -> Floats:
    """Derivatives with respect to a layer's input x (N, *input_shape), from those with respect to
    its output, delta (N, *output_shape).
    """
    if name := getattr(layer, "squash", None):
        delta = delta * ACTIVATIONS[name][1](weighted_sums(layer, x, weights))
    match layer:
        case Convolution():
            turned = layer.filters(weights)[:, :, ::-1, ::-1].swapaxes(0, 1)
            height, width = layer.input_shape[1:]
            p, k = layer.padding, layer.kernel
            # As with stride 1: 0 for the units in between.
            places = height + 2 * p - k + 1, width + 2 * p - k + 1
            spread = np.zeros((*delta.shape[:2], *places), delta.dtype)
            spread[:, :, :: layer.stride, :: layer.stride] = delta
            gradient = correlated(padded(spread, k - 1), turned)
            return gradient[:, :, p : p + height, p : p + width]
        case Pooling():
            return pooling_backward(layer, x, weights, delta)
        case FullConnection():
            return (delta @ weights[layer.parameters[0].name]).reshape(x.shape)
        case Distances():
            difference = x.reshape(len(x), 1, -1) - layer.codes
            return (-2 * delta[:, :, None] * difference).sum(1).reshape(x.shape)
    return delta.reshape(x.shape)


def pooling_backward(layer: Pooling, x: Floats, weights: Weights, delta: Floats) -> Floats:
    if layer.squash:
        delta = delta * planes(weights[layer.parameters[0].name])
    inputs = blocks(layer, x)
    shares = np.full_like(inputs, layer.share)
    if layer.method == "max":
        shares = (np.arange(4) == inputs.argmax(4)[..., None]).astype(x.dtype)
    _, maps, height, width = delta.shape
    spread = (delta[..., None] * shares).reshape(-1, maps, height, width, 2, 2)
    spread = spread.swapaxes(3, 4).reshape(-1, maps, 2 * height, 2 * width)
    gradient = np.zeros_like(x)
    for number in range(maps):
        source = number if layer.sources is None else layer.sources[number]
        gradient[:, source, : 2 * height, : 2 * width] += spread[:, number]
    return gradient


def activations(architecture: Architecture, weights: Weights, x: Floats) -> dict[str, Floats]:
    """The prepared inputs x (N, C, H, W) as "input", and every layer's output by name."""
    values = {"input": x}
    for layer in architecture.layers:
        values[layer.name] = x = forward(layer, x, weights)
    return values


def scores(
    architecture: Architecture, weights: Weights, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Scores (N, classes) of uint8 images (N, H, W) or (N, C, H, W)."""
    parts = [np.empty((0, architecture.classes), np.float32)]
    batch = max(1, min(BATCH, MOST_VALUES // architecture.values))
    for first in range(0, len(images), batch):
        x: Floats = architecture.preparation(images[first : first + batch])
        for layer in architecture.layers:
            x = forward(layer, x, weights)
        parts.append(x.astype(np.float32))
    return np.concatenate(parts)


def input_gradient(architecture: Architecture, weights: Weights, x: Floats, label: int) -> Floats:
    """The gradient of a class's score with respect to the inputs x (N, C, H, W).

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2013), section 3.
    """
    values = list(activations(architecture, weights, x).values())
    delta = np.zeros_like(values[-1])
    delta[:, label] = 1
    for layer, inputs in zip(architecture.layers[::-1], values[-2::-1], strict=True):
        delta = backward(layer, inputs, weights, delta)
    return delta
