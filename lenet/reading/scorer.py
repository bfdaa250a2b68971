"""What a segment is, by its picture and by its place in the line."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lenet.reading.network import NAMES, Network, log_softmax
from lenet.reading.segments import Segments

CLASSES = 12  # ten digits, part of one or more than one, junk
LEAST = -12.0  # log probability
Arrays = dict[str, NDArray[np.float32]]


class Scorer:
    """LeNet on a segment's picture, then a small network on its answer and the geometry.

    Args:
        network: LeNet with CLASSES outputs.
        geometry: the arrays of `mix`.
    """

    def __init__(self, network: Network, geometry: Arrays) -> None:
        self.network, self.geometry = network, geometry

    @classmethod
    def load(cls, path: str | Path) -> "Scorer":
        arrays = load_file(str(path))
        geometry = {name[9:]: a for name, a in arrays.items() if name.startswith("geometry.")}
        return cls(Network([arrays[name] for name in NAMES]), geometry)

    def save(self, path: str | Path) -> None:
        arrays = dict(zip(NAMES, self.network.weights, strict=True))
        arrays |= {f"geometry.{name}": array for name, array in self.geometry.items()}
        save_file(arrays, str(path))

    def logs(self, segments: Segments) -> NDArray[np.float64]:
        """Log probabilities (N, CLASSES) of every segment."""
        logs = self.network.logs(segments.images)
        return mix(logs, segments.geometry, self.geometry).astype(np.float64)


def mix(
    logs: NDArray[np.float32], geometry: NDArray[np.float32], arrays: Arrays
) -> NDArray[np.float32]:
    """Log probabilities (N, CLASSES) corrected by the segments' geometry (N, GEOMETRY): what a
    hidden layer of tanh units adds to them.

    `arrays`: "mean" and "std" of the inputs, weights and biases "w1", "b1", "w2", "b2".
    """
    inputs = np.concatenate([np.maximum(logs, LEAST), geometry], 1)
    hidden = np.tanh((inputs - arrays["mean"]) / arrays["std"] @ arrays["w1"] + arrays["b1"])
    return log_softmax(logs + hidden @ arrays["w2"] + arrays["b2"])
