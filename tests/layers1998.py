"""Single layers of 1998 as PyTorch modules, made from their descriptions."""

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from lenet.networks.architecture import Convolution, Distances, FullConnection, Pooling
from lenet.networks.torch import module

SIDE = 30  # of input maps: modules take any


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
    shape = (inputs, SIDE, SIDE)
    layer = Convolution("C", shape, outputs, kernel, (0.5, 0.5), squash="scaled-tanh")
    return module(layer)


def table_convolution(table: ArrayLike, kernel: int) -> nn.Module:
    rows = np.asarray(table, bool)
    groups = tuple((tuple(np.flatnonzero(row).tolist()),) for row in rows)
    shape = (rows.shape[1], SIDE, SIDE)
    return module(
        Convolution(
            *("C", shape, len(rows), kernel, (0.5, 0.5)), squash="scaled-tanh", groups=groups
        )
    )


def subsampling(maps: int, method: str) -> nn.Module:
    layer = Pooling("S", (maps, SIDE, SIDE), method, "scaled-tanh")  # pyright: ignore[reportArgumentType]
    made = module(layer)
    for name, values in zip(("coefficient", "bias"), layer.parameters, strict=True):
        nn.init.constant_(made.get_parameter(name), values.centre)
    return made


def linear(inputs: int, outputs: int) -> nn.Module:
    return module(FullConnection("F", (inputs, 1, 1), outputs, (0.5, 0.5), "scaled-tanh"))


def rbf(codes: ArrayLike) -> nn.Module:
    array = np.asarray(codes, np.float32)
    return module(Distances("output", (array.shape[1],), array))
