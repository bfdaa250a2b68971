"""Safetensors: the weights under documented keys, and the constants of the network."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lenet.export import Export
from lenet.networks import architecture as net
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint


def export(model: Checkpoint, path: Path) -> Export:
    """Writes a network as safetensors, for any reader and for `lenet.load`.

    All tensors are float32. The metadata are JSON: `keys` says what each tensor is, `constants`
    holds what is not trained (which maps are connected, the codes of the output); `options`,
    `card` and `model` are as in the files of `lenet.save`.

    Raises:
        LenetError: the file cannot be written.
    """
    keys = describe(model.architecture)
    notes = {"keys": json.dumps(keys), "constants": json.dumps(constants(model.architecture))}
    checkpoint.write(path, model.architecture, model.weights, model.card, notes)
    return Export("safetensors", {path: path.stat().st_size}, {"keys": keys})


def describe(architecture: net.Architecture) -> dict[str, str]:
    """Shape and meaning of every tensor, by key."""
    return {
        parameter.name: f"{parameter.shape}: {meaning(layer, parameter)}"
        for layer in architecture.layers
        for parameter in layer.parameters
    }


def meaning(layer: net.Layer, parameter: net.Parameter) -> str:
    if parameter.name.endswith("bias"):
        maps = isinstance(layer, net.Convolution) and layer.unit_biases
        return "biases (map, row, column)" if maps else "biases, one for each output"
    maps = "kernels (output map, input map, row, column)"
    match layer:
        case net.Convolution(groups=tuple(groups), parts=parts) if parts:
            group = [list(inputs) for inputs in groups[parts.index(parameter.name.split(".")[1])]]
            return f"{maps}, shared by one output map for each of the input maps {group}"
        case net.Convolution(groups=tuple()):
            return "kernels (connection, row, column); connections by output map, then input map"
        case net.Convolution():
            return maps
        case net.Pooling():
            pooled = {"average": "mean", "sum": "sum", "max": "maximum"}[layer.method]
            return f"coefficients of the {pooled} of each 2x2 window, one for each map"
        case net.FullConnection():
            return "weights (unit, input); inputs in the order (map, row, column)"
    raise AssertionError(f"a {layer.kind} layer has no parameters")


def constants(architecture: net.Architecture) -> dict[str, Any]:
    """What the layers hold besides their weights."""
    values: dict[str, Any] = {}
    for layer in architecture.layers:
        match layer:
            case net.Convolution(groups=tuple()):
                table = np.zeros((layer.outputs, layer.input_shape[0]), np.int64)
                for output, wires in enumerate(layer.wiring):
                    table[output, [source for source, _ in wires]] = 1
                values[f"{layer.name}.table"] = table.tolist()
            case net.Pooling(sources=tuple(sources)):
                values[f"{layer.name}.sources"] = list(sources)
            case net.Distances():
                values[f"{layer.name}.codes"] = layer.codes.astype(int).tolist()
    return values
