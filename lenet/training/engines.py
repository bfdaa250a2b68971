"""Engines: what executes the steps of a training. The fused kernels here; PyTorch in `autograd`."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data import Split
from lenet.data.distortion import Warps
from lenet.engine import fused
from lenet.engine.optimizers import SGD, AdamW, update_average
from lenet.errors import LenetError, extra
from lenet.networks.architecture import Architecture
from lenet.training.recipe import Recipe
from lenet.training.world import ALONE, World

ENGINES = ("auto", "fused", "autograd", "graph")
Flat = NDArray[np.float32]  # all parameters in their order


@dataclass(frozen=True)
class Job:
    """What is to be trained, and where.

    Attributes:
        architecture: the recipe's network for the images.
        train: the images and labels.
        weights: what training starts from.
        device: as PyTorch names it.
        threads: CPU threads; None for as many as this process may use.
        world: the processes that share the job.
    """

    recipe: Recipe
    architecture: Architecture
    train: Split
    weights: Flat
    device: str = "cpu"
    threads: int | None = None
    world: World = ALONE


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step trains on.

    Attributes:
        index: int64 (B,), which images.
        warps: how each of them is distorted; None for not at all.
        targets: float32 (B, classes), what teachers say of them; None without teachers.
        rate: learning rate.
        number: of the step in the run, from 1.
    """

    index: NDArray[np.int64]
    warps: Warps | None
    targets: NDArray[np.float32] | None
    rate: float
    number: int

    def rows(self, rows: slice) -> "Batch":
        warps = None if self.warps is None else self.warps[rows]
        targets = None if self.targets is None else self.targets[rows]
        return Batch(self.index[rows], warps, targets, self.rate, self.number)


class Engine:
    """Executes the steps of a job.

    If processes share it, each computes its rows of a batch, and all apply the sum of the
    gradients.

    Attributes:
        name: one of `ENGINES`.
    """

    name: str

    def __init__(self, job: Job) -> None:
        self.job, self.architecture, self.world = job, job.architecture, job.world
        self.how = job.recipe.optimisation

    def step(self, batch: Batch) -> tuple[Any, Any]:
        """Changes the weights by one batch.

        Returns:
            Mean loss and number right before the change: numbers, or tensors of one number that
            may not be known yet.
        """
        if self.world.size == 1:
            return self.step_alone(batch)
        mine = batch.rows(self.world.rows(len(batch.index)))
        sums = np.zeros(len(self.job.weights) + 2, np.float32)  # gradients, loss, number right
        if len(mine.index):
            sums[:-2], sums[-2], right = self.gradients(mine)
            sums *= len(mine.index) / len(batch.index)
            sums[-1] = right
        self.world.add_up(sums)
        self.update(sums[:-2], batch.rate, batch.number)
        return float(sums[-2]), int(sums[-1])

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images (N, 28, 28) by the weights that are kept."""
        return self.world.gather(self.scores_alone(images[self.world.rows(len(images))]))

    def step_alone(self, batch: Batch) -> tuple[Any, Any]:
        """`step` by this process alone."""
        raise NotImplementedError

    def gradients(self, batch: Batch) -> tuple[Flat, float, float]:
        """Gradients of the mean loss, that loss, and the number right."""
        raise NotImplementedError

    def update(self, gradients: Flat, rate: float, number: int) -> None:
        """Changes the weights by these gradients."""
        raise NotImplementedError

    def scores_alone(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`scores` by this process alone."""
        raise NotImplementedError

    def state(self) -> dict[str, Flat]:
        """All that the next step depends on: "weights" and, if there are any, "average" and
        "moments", the optimizer's state. The same for all engines."""
        raise NotImplementedError

    def restore(self, state: Mapping[str, Flat]) -> None:
        """Continues from what `state` returned.

        Raises:
            LenetError: it is of another network or optimizer.
        """
        raise NotImplementedError


class FusedEngine(Engine):
    """Steps by the fused CPU kernels: forward, backward and update in one call."""

    name = "fused"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        how, images = self.how, job.train.images
        self.optimizer = (
            AdamW(how.weight_decay, (0.9, how.beta2))
            if how.optimizer == "adamw"
            else SGD(how.momentum, how.weight_decay)
        )
        self.weights, self.gradient = job.weights.copy(), np.zeros_like(job.weights)
        self.average = job.weights.copy() if how.averaging else None
        self.moments = np.zeros((self.optimizer.states, len(job.weights)), np.float32)
        objective, threads = job.recipe.objective, job.threads
        self.kernels = fused.Kernels(job.architecture, objective, images.shape[1], threads)
        self.parameters = self.kernels.parameters(
            *(self.weights, self.gradient, self.optimizer),
            *(self.moments if self.optimizer.states else None, self.average, how.averaging),
        )

    def step_alone(self, batch: Batch) -> tuple[float, int]:
        return self.call(batch, self.optimizer.coefficients(batch.rate, batch.number))

    def gradients(self, batch: Batch) -> tuple[Flat, float, float]:
        loss, right = self.call(batch, None)
        return self.gradient, loss, right

    def call(self, batch: Batch, update: tuple[float, ...] | None) -> tuple[float, int]:
        images, labels = self.job.train.images, self.job.train.labels
        return self.kernels.step(
            images, labels, batch.index, self.parameters, batch.warps, batch.targets, update
        )

    def update(self, gradients: Flat, rate: float, number: int) -> None:
        self.optimizer.update(self.weights, gradients, self.moments, rate, number)
        if self.average is not None:
            update_average(self.average, self.weights, self.how.averaging)

    def scores_alone(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.kernels.scores(images, self.weights if self.average is None else self.average)

    def state(self) -> dict[str, Flat]:
        state = {"weights": self.weights, "average": self.average, "moments": self.moments}
        return {name: array for name, array in state.items() if array is not None and array.size}

    def restore(self, state: Mapping[str, Flat]) -> None:
        own = self.state()
        require_fit(state, own)
        for name, array in own.items():
            array[...] = state[name]


def by_name(architecture: Architecture, flat: Flat) -> dict[str, NDArray[np.float32]]:
    """The parameters by name, as views of the flat array."""
    parameters = architecture.parameters
    arrays = fused.views(flat, [parameter.shape for parameter in parameters])
    return {p.name: array for p, array in zip(parameters, arrays, strict=True)}


def require_fit(state: Mapping[str, Flat], own: Mapping[str, Flat]) -> None:
    """Refuses a state unless its arrays are finite and have the shapes of `own`.

    Raises:
        LenetError: it names the first array that differs.
    """
    for name in sorted(state.keys() | own):
        shapes = [arrays[name].shape if name in arrays else None for arrays in (state, own)]
        if shapes[0] != shapes[1]:
            raise LenetError(f"{name} has shape {shapes[0]} where {shapes[1]} is expected")
        if not np.isfinite(state[name]).all():
            raise LenetError(f"{name} has values that are not finite")


def make_engine(job: Job, engine: str = "auto") -> tuple[Engine, str]:
    """What executes the steps of a job with minibatches, and why it was chosen.

    Raises:
        LenetError: the requested engine cannot serve, or PyTorch is missing.
    """
    if engine not in ENGINES:
        raise LenetError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    obstacle = fused.unsupported_images(job.architecture, job.train.images.shape[1:])
    if job.device != "cpu":
        obstacle = f"the fused kernels run on the CPU, not on {job.device}"
    if engine == "fused" and obstacle:
        raise LenetError(f"the fused engine cannot serve here: {obstacle}")
    if engine in ("auto", "fused") and not obstacle:
        reason = "asked for" if engine == "fused" else "it serves this network and is faster"
        return FusedEngine(job), reason
    if obstacle == fused.NOT_INSTALLED and not torch_is_installed():
        raise LenetError(
            f"{obstacle}, and neither is PyTorch: pip install 'lenet[torch]', or install lenet "
            "where there is a C++ compiler"
        )
    with extra("torch"):
        from lenet.training import autograd
    reason = "asked for" if engine != "auto" else str(obstacle)
    return (autograd.GraphEngine if engine == "graph" else autograd.AutogradEngine)(job), reason


def torch_is_installed() -> bool:
    """Whether PyTorch could be imported, without doing so."""
    return importlib.util.find_spec("torch") is not None


def choose_device(name: str, world: World = ALONE) -> str:
    """The device of that name for this process; "auto" is CUDA if available, else the CPU.

    PyTorch is imported only where a device other than the CPU may be used.

    Raises:
        LenetError: there is no such device here.
    """
    has_nvidia = Path("/proc/driver/nvidia/version").exists()
    if name == "auto" and not (has_nvidia and torch_is_installed()):
        name = "cpu"
    if name == "cpu":
        return name
    with extra("torch"):
        from lenet.training import autograd
    return autograd.check_device(name, world)
