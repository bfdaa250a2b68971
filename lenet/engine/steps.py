"""Training steps: forward and backward of one batch, leaving the gradients in `.grad`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet.data import Split
from lenet.engine import fused
from lenet.errors import LenetError
from lenet.networks.models import Network
from lenet.training.augment import Warps, warp

SCORE_BATCH = 1000  # images that PyTorch answers at once


class Step(Protocol):
    """Executes steps on a resident training split."""

    def __call__(
        self,
        index: NDArray[np.int64],
        warps: Warps | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[Any, Any]:
        """One step on the images `index`.

        Args:
            index: (B,), which images.
            warps: how each of them is distorted; None for not at all.
            targets: (B, classes), what teachers say of them; None without distillation.

        Returns:
            Mean loss and number right: numbers, or tensors of one number on the device.
        """
        ...

    def scores(self, model: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, 28, 28) by a network of the same plan."""
        ...


class AutogradStep:
    """Steps by PyTorch, on any device; `criterion` takes scores, labels and targets."""

    def __init__(
        self,
        model: Network,
        train: Split,
        criterion: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    ) -> None:
        self.model, self.criterion = model, criterion
        self.device = next(model.parameters()).device
        self.images = torch.from_numpy(train.images).to(self.device)
        self.labels = torch.from_numpy(train.labels).to(self.device)

    def __call__(
        self,
        index: NDArray[np.int64],
        warps: Warps | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[Tensor, Tensor]:
        where = torch.from_numpy(index).to(self.device)
        images, labels = self.images[where], self.labels[where]
        if warps is not None:
            images = warp(images, warps)
        scores = self.model(self.model.prepare(images))
        taught = None if targets is None else torch.from_numpy(targets).to(self.device)
        loss = self.criterion(scores, labels, taught)
        self.model.zero_grad()
        loss.backward()
        return loss.detach(), (scores.argmax(dim=1) == labels).sum()

    def scores(self, model: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return scores_by_autograd(model, images)


class FusedStep:
    """Steps by the fused CPU kernels; weights and gradients are the network's own memory."""

    def __init__(self, model: Network, train: Split, plan: fused.Plan, threads: int | None) -> None:
        self.images, self.labels = train.images, train.labels
        self.kernels = fused.Kernels(plan, threads)
        weights = fused.flatten(weights_of(model))
        gradients = np.zeros_like(weights)
        for parameter, *views in zip(
            model.parameters(),
            fused.views(weights, plan.shapes),
            fused.views(gradients, plan.shapes),
            strict=True,
        ):
            parameter.data, parameter.grad = map(torch.from_numpy, views)
        self.parameters = self.kernels.parameters(weights, gradients)

    def __call__(
        self,
        index: NDArray[np.int64],
        warps: Warps | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[float, int]:
        return self.kernels.step(
            *(self.images, self.labels, index, self.parameters),
            maps=None if warps is None else warps.maps,
            knots=None if warps is None else warps.knots,
            shades=None if warps is None else warps.shades,
            noise=None if warps is None else warps.noise,
            targets=targets,
        )

    def scores(self, model: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.kernels.scores(images, fused.flatten(weights_of(model)))


def weights_of(model: Network) -> list[NDArray[np.float32]]:
    """A network's parameters as arrays in the same memory."""
    return [parameter.detach().numpy() for parameter in model.parameters()]


def scores_by_autograd(model: Network, images: NDArray[np.uint8] | Tensor) -> NDArray[np.float32]:
    """Scores (N, classes) of uint8 images (N, 28, 28), in evaluation mode on the model's device."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.no_grad():
        parts = [
            model(model.prepare(torch.as_tensor(images[i : i + SCORE_BATCH], device=device)))
            for i in range(0, len(images), SCORE_BATCH)
        ]
    model.train(training)
    return torch.cat(parts).cpu().numpy()


def distort(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    warps: Warps,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """`warp` of the chosen images (N, 28, 28) on the CPU, by the compiled kernel if it is there.

    Args:
        images: uint8 (N, 28, 28).
        index: int64 (B,), which images.
        warps: B distortions.
        threads: CPU threads of the kernel; None for as many as this process may use.
    """
    if fused.instruction_sets():
        return fused.warp(images, index, **vars(warps), threads=threads)
    return warp(torch.from_numpy(images[index]), warps).numpy()


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """PyTorch uses so many CPU threads inside; None leaves its own choice."""
    before = torch.get_num_threads()
    if count is not None:
        if count < 1:
            raise LenetError(f"threads must be at least 1, not {count}")
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
