"""Training of LeNet-5 (1998) one pattern at a time, as in the paper: each pattern changes the
weights before the next one.

Stochastic diagonal Levenberg-Marquardt (appendix C): every parameter has its own step size,
eta / (mu + h), which is small where the error is curved. h is the diagonal of the Gauss-Newton
approximation of the Hessian, estimated now and then on a few hundred patterns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from lenet.engine.fused import views
from lenet.engine.processor import instruction_set
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture, Convolution, Distances, Pooling

try:
    from lenet.engine import _sequential  # pyright: ignore[reportAttributeAccessIssue]

    native: ModuleType | None = _sequential
except ImportError:
    native = None

Images = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Flat = NDArray[np.float32]  # all parameters in their order

SLICE = 2000  # patterns between two chances to interrupt the native module


@dataclass(frozen=True)
class Criterion:
    """What a pass minimises."""

    competitive: bool = True  # criterion (9) of the paper, else (8)
    j: float = 10.0  # constant of criterion (9)
    exact: bool = False
    """Second derivatives of criterion (9) start with d2E/dx2 = 2 for every unit of F6, as in
    criterion (8), or with the exact value, which nearly vanishes for confident answers."""


def is_served(architecture: Architecture, image_size: int = 28) -> bool:
    """Whether the native module trains this network on square images of that side: LeNet-5 of 1998
    with its RBF output, on 28x28 pixels."""
    is_lenet5 = architecture.network == "LeNet5" and image_size == 28
    return native is not None and is_lenet5 and isinstance(architecture.layers[-1], Distances)


class Patterns:
    """Trains a network that `is_served` on patterns of one split.

    Args:
        architecture: the network.
        weights: changed in place.
        criterion: what is minimised.
        isa: "avx512", "avx2" or "portable"; by default the environment variable LENET_ENGINE or the
            best.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Flat,
        criterion: Criterion,
        isa: str | None = None,
    ) -> None:
        assert native is not None
        (pooling, *_) = (layer for layer in architecture.layers if isinstance(layer, Pooling))
        _, convolution, *_ = (i for i in architecture.layers if isinstance(i, Convolution))
        codes = architecture.layers[-1]
        assert isinstance(codes, Distances)
        table = np.zeros((convolution.outputs, convolution.input_shape[0]), np.bool_)
        for output, wires in enumerate(convolution.wiring):
            table[output, [source for source, _ in wires]] = True
        self.shapes = [parameter.shape for parameter in architecture.parameters]
        self.weights = views(weights, self.shapes)
        self.network = native.Network(
            codes=codes.codes,
            table=table,
            pooling=pooling.method,
            loss="map" if criterion.competitive else "penalty",
            j=criterion.j,
            exact=criterion.exact,
            instruction_set=instruction_set(native.instruction_sets(), isa),
        )

    def train(
        self, images: Images, labels: Numbers, order: Numbers, step_sizes: Flat
    ) -> tuple[float, int]:
        """Trains on patterns in that order: w <- w - step size * gradient after each of them.

        Args:
            images: (N, 28, 28).
            labels: (N,), 0..9.
            order: (M,), the images to present.
            step_sizes: one for each parameter.

        Returns:
            Sum of the criterion and number of wrong answers, for each pattern before its update.

        Raises:
            LenetError: the arrays do not fit together, or the weights overflow.
        """
        check(images, labels, order)
        images, steps = np.ascontiguousarray(images), views(step_sizes, self.shapes)
        return in_slices(
            order, lambda part: self.network.train(self.weights, steps, images, labels, part)
        )

    def curvature(self, images: Images, labels: Numbers, order: Numbers) -> Flat:
        """h of every parameter (paper, eq. 20-27), averaged over the patterns of `order`."""
        check(images, labels, order)
        h = np.zeros(sum(weight.size for weight in self.weights), np.float32)
        images = np.ascontiguousarray(images)
        self.network.curvature(self.weights, views(h, self.shapes), images, labels, order)
        return h / np.float32(len(order))


def in_slices(order: Numbers, train: Callable[[Numbers], tuple[float, int]]) -> tuple[float, int]:
    """Trains on SLICE patterns at a time, so that Ctrl-C is heard; returns the sums of `train`.

    Raises:
        LenetError: the weights overflow.
    """
    loss, errors = 0.0, 0
    for start in range(0, len(order), SLICE):
        of_part = train(order[start : start + SLICE])
        loss, errors = loss + of_part[0], errors + of_part[1]
        if not np.isfinite(loss):
            raise LenetError("training diverged: lower lr or raise mu")
    return loss, errors


def step_sizes(h: Flat, lr: float, mu: float) -> Flat:
    """eta / (mu + h) of every parameter (paper, eq. 18)."""
    return (np.float32(lr) / (np.float32(mu) + h)).astype(np.float32)


def check(images: Images, labels: Numbers, order: Numbers) -> None:
    square = images.ndim == 3 and images.shape[1] == images.shape[2]
    if images.dtype != np.uint8 or not square:
        raise LenetError(f"images must be uint8 (N, H, H), not {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.dtype != np.int64:
        raise LenetError("labels must be int64, one for each image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
        raise LenetError("labels must be 0..9")
    if not len(order) or not 0 <= order.min() <= order.max() < len(images):
        raise LenetError("order must have at least one image, and only images that exist")
