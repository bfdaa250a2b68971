"""Training LeNet-5 (1998) one pattern at a time, as the paper does.

Every pattern changes the weights before the next one is seen. A native module does that for the
RBF head in float32 on the CPU; everywhere else, and where the module was not built, PyTorch does
the same slowly. Both give the same numbers but for rounding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet.engine.processor import instruction_set
from lenet.errors import LenetError
from lenet.networks.layers import EuclideanRBF, Subsampling, TableConv2d
from lenet.networks.models import LeNet5
from lenet.training.losses import cross_entropy, map_criterion, penalty
from lenet.training.optim import gauss_newton_diagonal

try:
    from lenet.engine import _sequential  # pyright: ignore[reportAttributeAccessIssue]

    native: ModuleType | None = _sequential
except ImportError:
    native = None

Images = NDArray[np.uint8]
Numbers = NDArray[np.int64]

SLICE = 2000  # patterns between two chances to interrupt the native module


@dataclass(frozen=True)
class Options:
    """What a pass makes small.

    Attributes:
        criterion: "penalty" (8) or "map" (9) of the paper; the softmax head has cross-entropy.
        j: constant of criterion (9).
        exact: see `lenet.training.optim.gauss_newton_diagonal`.
        instruction_set: "avx512", "avx2" or "portable"; None takes that of the environment variable
            LENET_ENGINE, or else the best of this processor.
    """

    criterion: str = "map"
    j: float = 10.0
    exact: bool = False
    instruction_set: str | None = None

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
) -> Pass:
    """Trains on the patterns in that order: w <- w - step size * gradient after each of them.

    Args:
        model: changed in place.
        images: (N, 28, 28).
        labels: (N,), 0..9.
        order: (M,), which images to present.
        step_sizes: one tensor for each parameter of the model, in their order.
        options: criterion and instruction set.

    Raises:
        LenetError: the arrays do not fit together, or the weights left the range of numbers.
    """
    check(images, labels, order)
    images = np.ascontiguousarray(images)
    train = train_natively if is_native(model) else train_in_torch
    loss, errors = 0.0, 0
    for start in range(0, len(order), SLICE):
        part = order[start : start + SLICE]
        part_loss, part_errors = train(model, images, labels, part, step_sizes, options)
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
) -> dict[str, Tensor]:
    """`lenet.training.optim.gauss_newton_diagonal` over the patterns of `order`; arguments as above."""
    check(images, labels, order)
    if not is_native(model):
        x = presented(model, images[order])
        where = torch.as_tensor(labels[order], device=x.device)
        return gauss_newton_diagonal(
            model, x, where, criterion=options.criterion, j=options.j, exact=options.exact
        )
    images = np.ascontiguousarray(images)
    h = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    native_network(model, options).curvature(
        arrays(model.parameters()), arrays(h.values()), images, labels, order
    )
    return {name: value / len(order) for name, value in h.items()}


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
) -> tuple[float, int]:
    """(sum of losses, number of wrong answers) of one slice of `train_pass`."""
    network = native_network(model, options)
    weights, steps = arrays(model.parameters()), arrays(step_sizes)
    return network.train(weights, steps, images, labels, order)


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
        pooling="sum" if s2.scale == 1 else "average",
        loss=options.criterion,
        j=options.j,
        exact=options.exact,
        instruction_set=instruction_set(native.instruction_sets(), options.instruction_set),
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
) -> tuple[float, int]:
    """(sum of losses, number of wrong answers) of one slice of `train_pass`."""
    parameters = list(model.parameters())
    x = presented(model, images[order])
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


def presented(model: LeNet5, images: Images) -> Tensor:
    """The network's input (N, 1, 32, 32), on its device and in its precision."""
    return model.prepare(images).to(next(model.parameters()))
