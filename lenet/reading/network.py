"""LeNet as the reader uses it: uint8 images in, log probabilities out.

All that the reader knows of the engine is here.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from lenet.engine.fused import Kernels, flatten, unsupported
from lenet.networks import arithmetic
from lenet.networks.architecture import Architecture, LeNet

NAMES = [
    f"{layer}.{kind}" for layer in ("C1", "C3", "C5", "F6", "output") for kind in ("weight", "bias")
]


def architecture(classes: int) -> Architecture:
    """LeNet with 8 and 24 maps: 88,266 parameters for 10 classes."""
    options = LeNet(channels=(8, 24), activation="relu", pooling="max", init="torch")
    return options.architecture(classes=classes)


class Network:
    """LeNet with given weights, on one thread of the kernels, or by NumPy where there are none.

    Args:
        weights: float32 arrays, in the order of `NAMES`.
    """

    def __init__(self, weights: list[NDArray[np.float32]]) -> None:
        self.weights = [np.ascontiguousarray(array) for array in weights]
        self.architecture = architecture(len(weights[-1]))
        self.kernels = None
        if not unsupported(self.architecture):
            self.kernels = Kernels(self.architecture, threads=1)
        self.flat = flatten(self.weights)

    def __reduce__(self) -> tuple[type["Network"], tuple[list[NDArray[np.float32]]]]:
        return Network, (self.weights,)  # for other processes; the kernels are made anew there

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        with safe_open(str(path), "np") as file:
            return cls([file.get_tensor(name) for name in NAMES])

    def save(self, path: str | Path) -> None:
        save_file(self.named, str(path))

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, 28, 28)."""
        if self.kernels is None:
            return arithmetic.scores(self.architecture, self.named, images)
        return self.kernels.scores(images, self.flat)

    @property
    def named(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name."""
        return dict(zip(NAMES, self.weights, strict=True))

    def logs(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Log probabilities (N, classes) of uint8 images (N, 28, 28)."""
        return log_softmax(self.scores(images))


def log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
