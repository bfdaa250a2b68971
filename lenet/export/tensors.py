"""Safetensors: the weights under documented keys, and what else the network is made of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lenet.files import replacing
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.codebook import C3_GROUPS
from lenet.networks.layers import EuclideanRBF, SquashedLinear, Subsampling, TableConv2d
from lenet.networks.models import GroupConv2d, Network

MAPS = "kernels (output map, input map, row, column)"
UNITS = "weights (unit, input); inputs in the order (map, row, column)"


@dataclass(frozen=True)
class TensorExport:
    """What was written.

    Attributes:
        keys: key -> shape and meaning.
    """

    path: Path
    size: int
    keys: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {"format": "safetensors", "files": {str(self.path): self.size}, "keys": self.keys}


def export(model: Checkpoint, path: Path) -> TensorExport:
    """Writes a network as safetensors that any reader takes, and `lenet.load` as well.

    All tensors are float32. The metadata are JSON: `keys` says what each tensor is, `constants`
    holds what is not trained (the connection table of C3, the codes of the output), `options`,
    `card`, `model` and `order` are those that `lenet.save` writes.

    Raises:
        LenetError: the file cannot be written.
    """
    network = checkpoint.restore(model)
    keys = describe(network)
    metadata = {
        **checkpoint.description(network),
        "keys": json.dumps(keys),
        "constants": json.dumps(constants(network)),
    }
    with replacing(path) as temporary:
        checkpoint.save_tensors(dict(model.weights), temporary, metadata)
        size = temporary.stat().st_size
    return TensorExport(path, size, keys)


def describe(network: Network) -> dict[str, str]:
    """Key -> shape and meaning, for every tensor."""
    found = {}
    for name, layer in network.named_children():
        for key, parameter in layer.named_parameters():
            words = "biases, one for each output" if key.endswith("bias") else meaning(layer, key)
            found[f"{name}.{key}"] = f"{tuple(parameter.shape)}: {words}"
    return found


def meaning(layer: nn.Module, key: str) -> str:
    match layer:
        case TableConv2d():
            return "kernels (connection, row, column); connections by output map, then input map"
        case GroupConv2d():
            groups = C3_GROUPS[key.split(".")[0]]
            return f"{MAPS}, shared by one output map for each of the input maps {groups}"
        case Subsampling():
            kind = "sum" if layer.scale == 1 else "mean"
            return f"coefficients, one a map, of the {kind} of each 2x2"
        case nn.Linear() | SquashedLinear():
            return UNITS
    return MAPS


def constants(network: Network) -> dict[str, Any]:
    """What the layers hold beside their weights."""
    found: dict[str, Any] = {}
    for name, layer in network.named_children():
        if isinstance(layer, TableConv2d):
            found[f"{name}.table"] = layer.table.int().tolist()
        if isinstance(layer, EuclideanRBF):
            found[f"{name}.codes"] = layer.codes.int().tolist()
    return found
