"""Training LeNet-5 (1998) one pattern at a time, as the paper does.

Every pattern changes the weights before the next one is seen. A native module does that for the
RBF head in float32 on the CPU; everywhere else, and where the module was not built, PyTorch does
the same slowly. Both see the same distortions and give the same numbers but for rounding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet.errors import LenetError
from lenet.layers import EuclideanRBF, Subsampling, TableConv2d
from lenet.losses import cross_entropy, map_criterion, penalty
from lenet.models import LeNet5
from lenet.optim import gauss_newton_diagonal

try:
    from lenet.engine import _sequential  # pyright: ignore[reportAttributeAccessIssue]

    native: ModuleType | None = _sequential
except ImportError:
    native = None

Images = NDArray[np.uint8]
Numbers = NDArray[np.int64]

SLICE = 2000  # patterns between two chances to interrupt the native module


@dataclass(frozen=True)
class Distortion:
    """Half-widths of uniform ranges; the paper names the four kinds, not the ranges.

    A point (x, y) of the image, seen from its centre, goes to
    (s q (x + h y) + tx, s / q y + ty). Pixels are interpolated bilinearly.

    Attributes:
        translation: of tx and ty, in pixels.
        scale: of the natural logarithm of s.
        squeeze: of the natural logarithm of q: wider and flatter, or narrower and higher.
        shear: of h, horizontal.
    """

    translation: float = 1.0
    scale: float = 0.1
    squeeze: float = 0.1
    shear: float = 0.15


@dataclass(frozen=True)
class Options:
    """What a pass makes small, and what it sees.

    Attributes:
        criterion: "penalty" (8) or "map" (9) of the paper; the softmax head has cross-entropy.
        j: constant of criterion (9).
        exact: see `lenet.optim.gauss_newton_diagonal`.
        distortion: drawn anew at every presentation; None shows the images as they are.
        seed: of the distortions. The one of presentation n depends on seed and n alone.
        instruction_set: "avx512", "avx2" or "portable"; "" takes the best of this processor.
    """

    criterion: str = "map"
    j: float = 10.0
    exact: bool = False
    distortion: Distortion | None = None
    seed: int = 0
    instruction_set: str = ""

    def __post_init__(self) -> None:
        if self.criterion not in ("penalty", "map"):
            raise LenetError(f"criterion must be penalty or map, not {self.criterion!r}")


@dataclass(frozen=True)
class Pass:
    """What a pass saw on line: each pattern before the weights learnt from it.

    Attributes:
        loss: mean of the criterion.
        error: share of wrong answers, 0..1.
    """

    loss: float
    error: float


def train_pass(
    model: LeNet5,
    images: Images,
    labels: Numbers,
    order: Numbers,
    step_sizes: Sequence[Tensor],
    options: Options,
    first: int = 0,
) -> Pass:
    """Trains on the patterns in that order: w <- w - step size * gradient after each of them.

    Args:
        model: changed in place.
        images: (N, 28, 28).
        labels: (N,), 0..9.
        order: (M,), which images to present.
        step_sizes: one tensor for each parameter of the model, in their order.
        options: criterion and distortions.
        first: number of the first presentation, which fixes its distortion: 0 in the first pass,
            M in the second and so on.

    Raises:
        LenetError: the arrays do not fit together, or the weights left the range of numbers.
    """
    check(images, labels, order)
    images = np.ascontiguousarray(images)
    train = train_natively if is_native(model) else train_in_torch
    loss, errors = 0.0, 0
    for start in range(0, len(order), SLICE):
        part = order[start : start + SLICE]
        part_loss, part_errors = train(
            model, images, labels, part, step_sizes, options, first + start
        )
        loss, errors = loss + part_loss, errors + part_errors
        if not np.isfinite(loss):
            raise LenetError("training diverged: lower lr or raise mu")
    return Pass(loss / len(order), errors / len(order))


def curvature(
    model: LeNet5,
    images: Images,
    labels: Numbers,
    order: Numbers,
    options: Options,
    first: int = 0,
) -> dict[str, Tensor]:
    """`lenet.optim.gauss_newton_diagonal` over the patterns of `order`; arguments as above."""
    check(images, labels, order)
    if not is_native(model):
        x = presented(model, images[order], options, first)
        where = torch.as_tensor(labels[order], device=x.device)
        return gauss_newton_diagonal(
            model, x, where, criterion=options.criterion, j=options.j, exact=options.exact
        )
    images = np.ascontiguousarray(images)
    h = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    native_network(model, options).curvature(
        arrays(model.parameters()), arrays(h.values()), images, labels, order, first
    )
    return {name: value / len(order) for name, value in h.items()}


def scores(model: LeNet5, images: Images) -> NDArray[np.float32]:
    """The network's answers to undistorted images (N, 28, 28): (N, 10), the largest wins."""
    if not is_native(model):
        with torch.no_grad():
            return np.concatenate(
                [
                    model(presented(model, part, Options(), 0)).cpu().numpy()
                    for part in sliced(images)
                ]
            )
    out = np.empty((len(images), 10), np.float32)
    network, every = native_network(model, Options()), np.arange(len(images))
    network.scores(arrays(model.parameters()), np.ascontiguousarray(images), every, 0, out)
    return out


def sliced(images: Images) -> Iterator[Images]:
    for start in range(0, len(images), SLICE):
        yield images[start : start + SLICE]


def check(images: Images, labels: Numbers, order: Numbers) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise LenetError(f"images must be uint8 (N, 28, 28), not {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.dtype != np.int64:
        raise LenetError("labels must be int64, one for each image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
        raise LenetError("labels must be 0..9")
    if not len(order) or not 0 <= order.min() <= order.max() < len(images):
        raise LenetError("order must name at least one image, and only images that exist")


# The native module


def is_native(model: LeNet5) -> bool:
    """Whether the native module serves this model."""
    return (
        native is not None
        and isinstance(model.get_submodule("output"), EuclideanRBF)
        and all(
            p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous()
            for p in model.parameters()
        )
    )


def train_natively(
    model: LeNet5,
    images: Images,
    labels: Numbers,
    order: Numbers,
    step_sizes: Sequence[Tensor],
    options: Options,
    first: int,
) -> tuple[float, int]:
    """(sum of losses, number of wrong answers) of one slice of `train_pass`."""
    network = native_network(model, options)
    weights, steps = arrays(model.parameters()), arrays(step_sizes)
    return network.train(weights, steps, images, labels, order, first)


def native_network(model: LeNet5, options: Options) -> Any:
    """What the native module needs besides the weights."""
    assert native is not None
    output, s2, c3 = (model.get_submodule(name) for name in ("output", "S2", "C3"))
    assert isinstance(output, EuclideanRBF)
    assert isinstance(s2, Subsampling)
    assert isinstance(c3, TableConv2d)
    return native.Network(
        codes=output.codes.numpy(),
        table=c3.table.numpy(),
        pooling_scale=s2.scale,
        competitive=options.criterion == "map",
        j=options.j,
        exact=options.exact,
        distortion=list(astuple(options.distortion)) if options.distortion else [],
        seed=options.seed,
        instruction_set=options.instruction_set,
    )


def arrays(tensors: Iterable[Tensor]) -> list[NDArray[np.float32]]:
    """The same memory as NumPy sees it."""
    return [tensor.detach().numpy() for tensor in tensors]


# The same in PyTorch


def train_in_torch(
    model: LeNet5,
    images: Images,
    labels: Numbers,
    order: Numbers,
    step_sizes: Sequence[Tensor],
    options: Options,
    first: int,
) -> tuple[float, int]:
    """(sum of losses, number of wrong answers) of one slice of `train_pass`."""
    parameters = list(model.parameters())
    x = presented(model, images[order], options, first)
    targets = torch.as_tensor(labels[order], device=x.device)
    total, errors = 0.0, 0
    for pattern, target in zip(x.split(1), targets.split(1), strict=True):
        answer = model(pattern)
        if not isinstance(model.get_submodule("output"), EuclideanRBF):
            loss = cross_entropy(answer, target)
        elif options.criterion == "map":
            loss = map_criterion(answer, target, options.j)
        else:
            loss = penalty(answer, target)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, size, gradient in zip(parameters, step_sizes, gradients, strict=True):
                parameter.addcmul_(size, gradient, value=-1)
        total += loss.item()
        errors += int(answer.argmax(dim=1).item() != target.item())
    return total, errors


def presented(model: LeNet5, images: Images, options: Options, first: int) -> Tensor:
    """The network's input (N, 1, 32, 32) for presentations first, first + 1, ..., N of them."""
    parameter = next(model.parameters())
    x = model.prepare(images).numpy()
    if options.distortion:
        x = distorted(x, options.distortion, options.seed, first)
    return torch.as_tensor(x).to(parameter)


def distorted(
    x: NDArray[np.float32], distortion: Distortion, seed: int, first: int
) -> NDArray[np.float32]:
    """Distorts prepared images (N, 1, 32, 32); number i as presentation first + i."""
    ranges = [distortion.translation, distortion.translation, *astuple(distortion)[1:]]
    draws = uniform(seed, first + np.arange(len(x)), 5) * ranges
    tx, ty, log_s, log_q, h = draws.T[:, :, None, None]
    s, q = np.exp(log_s), np.exp(log_q)
    grid = np.arange(32) - 15.5
    y = (grid[:, None] - ty) * q / s
    x_from = (grid - tx) / (s * q) - h * y
    wide = np.pad(x[:, 0], ((0, 0), (16, 16), (16, 16)), mode="edge")  # the edge is background
    rows, columns = (np.clip(v + 31.5, 0, 62.999) for v in (y, x_from))
    rows = np.broadcast_to(rows, columns.shape)
    top, left = rows.astype(int), columns.astype(int)
    below, right = rows - top, columns - left
    image = np.arange(len(x))[:, None, None]
    upper = (1 - right) * wide[image, top, left] + right * wide[image, top, left + 1]
    lower = (1 - right) * wide[image, top + 1, left] + right * wide[image, top + 1, left + 1]
    return ((1 - below) * upper + below * lower).astype(np.float32)[:, None]


def uniform(seed: int, presentations: Numbers, count: int) -> NDArray[np.float64]:
    """`count` numbers in [-1, 1) for each presentation: SplitMix64 as a function of a counter."""
    counters = presentations.astype(np.uint64)[:, None] * np.uint64(count)
    counters = counters + np.arange(1, count + 1, dtype=np.uint64)
    start = mixed(np.array([seed], np.uint64))
    bits = mixed(start + counters * np.uint64(0x9E3779B97F4A7C15))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
