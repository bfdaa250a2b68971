"""Optimizers: how the weights change after a step, and the state that this needs.

The formulas and their coefficients are those of `torch.optim`. The fused kernels apply the same
formulas (engine/src/optimizer.h) with the coefficients from here; `update` is for gradients that
are complete only after the kernels' call, such as sums over several processes.

Weights, gradients and averages are flat float32 arrays (N,) of all parameters in their order. An
optimizer's state is (states, N), initially zeros.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[np.float32]


@dataclass(frozen=True)
class SGD:
    """w <- w - lr v with v <- momentum v + dE/dw + weight_decay w."""

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0  # 0 needs no state
    weight_decay: float = 0.0

    @property
    def states(self) -> int:
        """Number of arrays in the state: the velocities v, if there is momentum."""
        return 1 if self.momentum else 0

    def coefficients(self, lr: float, step: int) -> tuple[float, ...]:
        """The formula's coefficients for a learning rate and a step, numbered from 1."""
        return lr, self.weight_decay, self.momentum

    def update(
        self, weights: Flat, gradients: Flat, state: NDArray[np.float32], lr: float, step: int
    ) -> None:
        """Changes weights and state in place; arguments as in `coefficients`."""
        rate, decay, momentum = self.coefficients(lr, step)
        velocity = gradients + decay * weights
        if momentum:
            state[0] *= momentum
            state[0] += velocity
            velocity = state[0]
        weights -= rate * velocity


@dataclass(frozen=True)
class AdamW:
    """w <- w - lr (m' / (sqrt(v') + eps) + weight_decay w): Loshchilov and Hutter (2019).

    m and v are moving averages of the gradient and of its square; m' and v' are corrected for their
    bias towards the initial zeros.
    """

    name: ClassVar[str] = "adamw"
    states: ClassVar[int] = 2
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)  # what the averages keep in a step
    eps: float = 1e-8

    def coefficients(self, lr: float, step: int) -> tuple[float, ...]:
        """The formula's coefficients for a learning rate and a step, numbered from 1."""
        first, second = self.betas
        bias = math.sqrt(1 - second**step)  # of sqrt(v), corrected in rate and eps instead
        rate = lr * bias / (1 - first**step)
        return rate, lr * self.weight_decay, 1 - first, 1 - second, self.eps * bias

    def update(
        self, weights: Flat, gradients: Flat, state: NDArray[np.float32], lr: float, step: int
    ) -> None:
        """Changes weights and state in place; arguments as in `coefficients`."""
        rate, decay, share, share_of_square, eps = self.coefficients(lr, step)
        mean, mean_square = state
        mean += share * (gradients - mean)
        mean_square += share_of_square * (gradients * gradients - mean_square)
        weights -= decay * weights + rate * (mean / (np.sqrt(mean_square) + eps))


Optimizer = SGD | AdamW


def update_average(average: Flat, weights: Flat, averaging: float) -> None:
    """average <- averaging * average + (1 - averaging) * weights, in place, after each update."""
    average += (1 - averaging) * (weights - average)
