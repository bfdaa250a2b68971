from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS: list[str]
POOLINGS: list[str]
LOSSES: list[str]
OPTIMIZERS: list[str]

def instruction_sets() -> list[str]: ...
def warp(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    maps: NDArray[np.float32],
    knots: NDArray[np.float32] | None,
    shades: NDArray[np.float32] | None,
    noise: NDArray[np.int64] | None,
    out: NDArray[np.uint8],
    threads: int,
    isa: str,
) -> None: ...

class Parameters:
    def __init__(
        self,
        weights: NDArray[np.float32],
        gradients: NDArray[np.float32],
        optimizer: str | None,
        state: NDArray[np.float32] | None,
        average: NDArray[np.float32] | None,
        averaging: float,
    ) -> None: ...

class FusedStep:
    def __init__(self, description: dict[str, Any], threads: int, isa: str) -> None: ...
    def step(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        index: NDArray[np.int64],
        parameters: Parameters,
        maps: NDArray[np.float32] | None,
        knots: NDArray[np.float32] | None,
        shades: NDArray[np.float32] | None,
        noise: NDArray[np.int64] | None,
        targets: NDArray[np.float32] | None,
        update: Sequence[float] | None,
    ) -> tuple[float, int]: ...
    def scores(
        self,
        images: NDArray[np.uint8],
        weights: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None: ...
