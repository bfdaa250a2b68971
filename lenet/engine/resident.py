"""Epochs that stay on the device: data, steps and results, the whole step as one CUDA graph.

A LeNet step is dozens of kernels of a few microseconds each; started one by one they would wait
for Python. Here a step reads all it needs from tensors on the device (its own number in the epoch
among them), so that it can be captured once and replayed without arguments, and the host waits
for the device once an epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet.data import Split
from lenet.engine.steps import scores_by_autograd
from lenet.networks.models import Network
from lenet.training.augment import Warps, spline_basis, warp_on_device

Criterion = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# Takes a step that works on fixed memory; gives what repeats it.
Capture = Callable[[Callable[[], None]], Callable[[], None]]

WARM_UP = 3  # first steps, before one is captured: libraries choose and load their kernels


def capture_graph(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph of the current stream; it is recorded, not executed."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step()
    return graph.replay


@dataclass(frozen=True)
class Epoch:
    """What the steps of an epoch read and write, on the device.

    Attributes:
        order: int64 (N,), the images in the order of the epoch.
        warps: the arrays of the N images' `lenet.training.augment.Warps`; empty for none.
        targets: float32 (N, classes), what teachers say, or None.
        rates: float32 (steps,), learning rates.
        losses: float32 (steps,), results.
        rights: int64 (steps,), results.
    """

    order: Tensor
    warps: dict[str, Tensor]
    targets: Tensor | None
    rates: Tensor
    losses: Tensor
    rights: Tensor


class ResidentSteps:
    """Training steps of a network and its optimizer on the device where the network is.

    Args:
        model: changed in place.
        optimizer: a fused one of PyTorch, of the model's parameters.
        train: copied to the device as uint8.
        criterion: mean loss of scores, labels and, where there are teachers, their targets.
        batch_size: images in a step; the last of an epoch may have fewer.
        capture: makes a step repeatable.
    """

    def __init__(
        self,
        model: Network,
        optimizer: torch.optim.Optimizer,
        train: Split,
        criterion: Criterion,
        batch_size: int,
        capture: Capture = capture_graph,
    ) -> None:
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.batch_size, self.capture = batch_size, capture
        self.device = next(model.parameters()).device
        self.images = torch.from_numpy(train.images).to(self.device)
        self.labels = torch.from_numpy(train.labels).to(self.device)
        self.basis = torch.from_numpy(spline_basis(train.images.shape[1])).to(self.device)
        self.places = torch.arange(batch_size, device=self.device)
        self.number = torch.zeros(1, dtype=torch.int64, device=self.device)  # of the next step
        self.rate = torch.zeros((), device=self.device)
        self.measured: tuple[NDArray[np.uint8], Tensor] | None = None  # images, and on the device
        self.now: Epoch | None = None
        self.warm_steps = 0
        self.replay: Callable[[], None] | None = None
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def run(
        self,
        order: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rates: Sequence[float],
        after_step: Callable[[], None],
        progress: Callable[[int], None] | None = None,
    ) -> list[tuple[float, int]]:
        """Trains once on all images.

        Args:
            order: (N,), all images.
            warps: their distortions, by number of the image; None for none.
            targets: (N, classes), what teachers say, by number of the image; None for none.
            rates: the learning rate of each step.
            after_step: what else belongs to a step, once the weights have changed.
            progress: is told the number of images of each step when the device has been told to
                do it, which may be long before it is done.

        Returns:
            Mean loss and number right of each step.
        """
        self.upload(order, warps, targets, rates)
        count = len(order)
        with self.own_stream():
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
            for start in range(0, count, self.batch_size):
                size = min(self.batch_size, count - start)
                self.advance(size, after_step)
                if progress:
                    progress(size)
            for group in self.optimizer.param_groups:
                group["lr"] = rates[-1]  # a plain number, for checkpoints
        assert self.now
        losses, rights = self.now.losses.tolist(), self.now.rights.tolist()  # waits for the device
        return list(zip(losses, rights, strict=True))

    def scores(self, model: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, 28, 28) by a network of the same kind.

        The images stay on the device until others come: after each epoch the same are asked about.
        """
        if self.measured is None or self.measured[0] is not images:
            self.measured = images, self.on_device(images)
        return scores_by_autograd(model, self.measured[1])

    @contextmanager
    def own_stream(self) -> Iterator[None]:
        """A CUDA stream for the steps, as graphs are not captured on the default one."""
        if not self.stream:
            yield
            return
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    def upload(
        self,
        order: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rates: Sequence[float],
    ) -> None:
        """Puts an epoch into the memory that the captured step reads."""
        now = self.now
        if now is None:
            distortions = vars(warps) if warps else {}
            self.now = Epoch(
                self.on_device(order),
                {n: self.on_device(a) for n, a in distortions.items() if a is not None},
                None if targets is None else self.on_device(targets),
                self.on_device(np.array(rates, np.float32)),
                torch.zeros(len(rates), device=self.device),
                torch.zeros(len(rates), dtype=torch.int64, device=self.device),
            )
        else:
            now.order.copy_(torch.from_numpy(order))
            for name, tensor in now.warps.items():
                tensor.copy_(torch.from_numpy(getattr(warps, name)))
            if targets is not None and now.targets is not None:
                now.targets.copy_(torch.from_numpy(targets))
            now.rates.copy_(torch.tensor(rates))
        self.number.zero_()

    def on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)

    def advance(self, size: int, after_step: Callable[[], None]) -> None:
        """The next step: as it stands, or as the graph that it became."""
        if size < self.batch_size:
            self.step(size, after_step)
        elif self.replay:
            self.replay()
        elif self.warm_steps < WARM_UP:
            self.warm_steps += 1
            self.step(size, after_step)
        else:
            # Gradients that the graph makes itself are in memory of its own.
            self.model.zero_grad(set_to_none=True)
            self.replay = self.captured(lambda: self.step(size, after_step))
            self.replay()

    def captured(self, step: Callable[[], None]) -> Callable[[], None]:
        """The step made repeatable. Adam asks for a promise that it may be captured."""
        promising = [g for g in self.optimizer.param_groups if "capturable" in g]
        for group in promising:
            group["capturable"] = True
        try:
            return self.capture(step)
        finally:
            for group in promising:
                group["capturable"] = False

    def step(self, size: int, after_step: Callable[[], None]) -> None:
        """The next step, of so many images. Nothing in here may wait for the device."""
        now = self.now
        assert now
        which = now.order[self.number * self.batch_size + self.places[:size]]
        images, labels = self.images[which], self.labels[which]
        if now.warps:
            given = {name: tensor[which] for name, tensor in now.warps.items()}
            images = warp_on_device(images, basis=self.basis, **given)
        scores = self.model(self.model.prepare(images))
        targets = None if now.targets is None else now.targets[which]
        loss = self.criterion(scores, labels, targets)
        self.model.zero_grad()
        loss.backward()
        self.rate.copy_(now.rates[self.number][0])
        self.optimizer.step()
        after_step()
        right = (scores.argmax(dim=1) == labels).sum()
        now.losses.index_copy_(0, self.number, loss.detach()[None])
        now.rights.index_copy_(0, self.number, right[None])
        self.number += 1
