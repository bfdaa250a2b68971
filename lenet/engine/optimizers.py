"""Optimizers: how the weights change after a step, and what that needs to remember.

The formulas and their coefficients are those of `torch.optim`. The fused kernels apply the same
formulas (engine/src/optimizer.h) with the coefficients from here; `update` is for gradients that
are complete only after the kernels' call, as the sum over several processes is.

Weights, gradients and averages are flat float32 arrays (N,) of all parameters in their order. An
optimizer's state is (states, N), zeros at first.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[np.float32]


@dataclass(frozen=True)
class SGD:
    """w <- w - lr v with v <- momentum v + dE/dw + weight_decay w.

    Attributes:
        momentum: 0 needs no state.
        weight_decay: share of the weights in the gradient.
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def states(self) -> int:
        """How many arrays the state has: the velocities v, if there is momentum."""
        return 1 if self.momentum else 0

    def coefficients(self, lr: float, step: int) -> tuple[float, ...]:
        """What the formula needs in a step, numbered from 1, of that learning rate."""
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

    m and v are moving averages of the gradient and of its square; m' and v' the same without
    their bias towards the zeros that they start from.

    Attributes:
        weight_decay: decoupled from the gradient.
        betas: what the averages keep in a step.
        eps: keeps steps finite where gradients vanish.
    """

    name: ClassVar[str] = "adamw"
    states: ClassVar[int] = 2
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def coefficients(self, lr: float, step: int) -> tuple[float, ...]:
        """What the formula needs in a step, numbered from 1, of that learning rate."""
        first, second = self.betas
        bias = math.sqrt(1 - second**step)  # of sqrt(v), taken out of rate and eps instead
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
