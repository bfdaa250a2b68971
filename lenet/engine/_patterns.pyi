from typing import Any

import numpy as np
from numpy.typing import NDArray

class Patterns:
    def __init__(self, layers: list[dict[str, Any]], parameters: int) -> None: ...
    def train(
        self,
        inputs: NDArray[np.float32],
        labels: NDArray[np.int64],
        order: NDArray[np.int64],
        weights: NDArray[np.float32],
        steps: NDArray[np.float32],
    ) -> tuple[float, int]: ...
    def curvature(
        self,
        inputs: NDArray[np.float32],
        order: NDArray[np.int64],
        weights: NDArray[np.float32],
        h: NDArray[np.float32],
    ) -> None: ...
