"""Engines: what executes the steps of a training. The fused kernels here; PyTorch in `autograd`."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lenet.data import Split
from lenet.data.distortion import Warps
from lenet.engine import fused
from lenet.engine.objective import Objective
from lenet.engine.optimizers import SGD, AdamW, Optimizer, update_average
from lenet.errors import LenetError, extra
from lenet.networks.architecture import Architecture
from lenet.training.recipe import Optimisation, Recipe
from lenet.training.world import ALONE, World

ENGINES = ("auto", "fused", "autograd", "graph")
Flat = NDArray[np.float32]  # all parameters in their order


class Engine(Protocol):
    """Executes steps on a training split.

    Attributes:
        name: one of `ENGINES`.
        architecture: the network that is trained.
    """

    name: str
    architecture: Architecture

    def step(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rate: float,
        number: int,
    ) -> tuple[float, int]:
        """Changes the weights by one batch.

        Args:
            index: (B,), which images.
            warps: how each of them is distorted; None for not at all.
            targets: (B, classes), what teachers say of them; None without.
            rate: learning rate.
            number: of the step in the run, from 1.

        Returns:
            Mean loss and number right before the change: numbers, or tensors of one number that
            may not be known yet.
        """
        ...

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images (N, 28, 28) by the weights that are kept."""
        ...

    def state(self) -> dict[str, Flat]:
        """All that the next step depends on: "weights" and, where there are such, "average" and
        "moments", the optimizer's state. The same for all engines."""
        ...

    def restore(self, state: Mapping[str, Flat]) -> None:
        """Takes up what `state` gave.

        Raises:
            LenetError: it is of another network or optimizer.
        """
        ...


def make_optimizer(how: Optimisation) -> Optimizer:
    """The optimizer of minibatches."""
    if how.optimizer == "adamw":
        return AdamW(how.weight_decay, (0.9, how.beta2))
    return SGD(how.momentum, how.weight_decay)


class FusedEngine:
    """Steps by the fused CPU kernels: forward, backward and update in one call.

    Where processes share a run, each does its rows, and the sum of their gradients is applied.
    """

    name = "fused"

    def __init__(
        self,
        architecture: Architecture,
        objective: Objective,
        how: Optimisation,
        train: Split,
        weights: Flat,
        threads: int | None,
        world: World = ALONE,
    ) -> None:
        self.architecture, self.train, self.how, self.world = architecture, train, how, world
        self.optimizer = make_optimizer(how)
        self.weights, self.gradients = weights.copy(), np.zeros_like(weights)
        self.average = weights.copy() if how.averaging else None
        self.moments = np.zeros((self.optimizer.states, len(weights)), np.float32)
        self.kernels = fused.Kernels(architecture, objective, train.images.shape[1], threads)
        self.parameters = self.kernels.parameters(
            *(self.weights, self.gradients, self.optimizer),
            *(self.moments if self.optimizer.states else None, self.average, how.averaging),
        )

    def step(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rate: float,
        number: int,
    ) -> tuple[float, int]:
        if self.world.size == 1:
            update = self.optimizer.coefficients(rate, number)
            return self.call(index, warps, targets, update)
        rows = self.world.rows(len(index))
        mine = index[rows]
        sums = np.zeros(len(self.gradients) + 2, np.float32)
        if len(mine):
            loss, right = self.call(
                mine,
                None if warps is None else warps[rows],
                None if targets is None else targets[rows],
                None,
            )
            sums[:-2], sums[-2] = self.gradients, loss
            sums *= len(mine) / len(index)
            sums[-1] = right
        self.world.add_up(sums)
        self.optimizer.update(self.weights, sums[:-2], self.moments, rate, number)
        if self.average is not None:
            update_average(self.average, self.weights, self.how.averaging)
        return float(sums[-2]), int(sums[-1])

    def call(
        self,
        index: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        update: tuple[float, ...] | None,
    ) -> tuple[float, int]:
        images, labels = self.train.images, self.train.labels
        return self.kernels.step(images, labels, index, self.parameters, warps, targets, update)

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        kept = self.weights if self.average is None else self.average
        mine = self.world.rows(len(images))
        return self.world.gather(self.kernels.scores(images[mine], kept))

    def state(self) -> dict[str, Flat]:
        state = {"weights": self.weights, "average": self.average, "moments": self.moments}
        return {name: array for name, array in state.items() if array is not None and array.size}

    def restore(self, state: Mapping[str, Flat]) -> None:
        own = self.state()
        require_fit(state, own)
        for name, array in own.items():
            array[...] = state[name]


def require_fit(state: Mapping[str, Flat], own: Mapping[str, Flat]) -> None:
    """Refuses a state that is not made of finite arrays like one's own.

    Raises:
        LenetError: it names the first array that differs.
    """
    for name in sorted(state.keys() | own):
        shapes = [arrays[name].shape if name in arrays else None for arrays in (state, own)]
        if shapes[0] != shapes[1]:
            raise LenetError(f"{name} has shape {shapes[0]} where {shapes[1]} is expected")
        if not np.isfinite(state[name]).all():
            raise LenetError(f"{name} has values that are not finite")


def make_engine(
    recipe: Recipe,
    architecture: Architecture,
    train: Split,
    weights: Flat,
    device: str,
    engine: str = "auto",
    threads: int | None = None,
    world: World = ALONE,
) -> tuple[Engine, str]:
    """What executes the steps of a recipe with minibatches, and why it was chosen.

    Raises:
        LenetError: the engine that was asked for cannot serve, or PyTorch is missing.
    """
    if engine not in ENGINES:
        raise LenetError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    obstacle = fused.unsupported(architecture, train.images.shape[1])
    if device != "cpu":
        obstacle = f"the fused kernels run on the CPU, not on {device}"
    if engine == "fused" and obstacle:
        raise LenetError(f"the fused engine cannot serve here: {obstacle}")
    if engine in ("auto", "fused") and not obstacle:
        how = recipe.optimisation
        reason = "asked for" if engine == "fused" else "it serves this network and is faster"
        fast = FusedEngine(architecture, recipe.objective, how, train, weights, threads, world)
        return fast, reason
    if obstacle == fused.NOT_INSTALLED and not torch_is_installed():
        raise LenetError(
            f"{obstacle}, and neither is PyTorch: pip install 'lenet[torch]', or install lenet "
            "where there is a C++ compiler"
        )
    with extra("torch"):
        from lenet.training import autograd
    reason = "asked for" if engine != "auto" else str(obstacle)
    kind = autograd.GraphEngine if engine == "graph" else autograd.AutogradEngine
    return kind(recipe, architecture, train, weights, device, world), reason


def torch_is_installed() -> bool:
    """Whether PyTorch could be imported, without doing so."""
    return importlib.util.find_spec("torch") is not None


def choose_device(name: str, world: World = ALONE) -> str:
    """The device of that name for this process; "auto" is CUDA where there is such, else the CPU.

    PyTorch is imported only where a device other than the CPU may be used.

    Raises:
        LenetError: there is no such device here.
    """
    if name == "auto":
        has_nvidia = Path("/proc/driver/nvidia/version").exists()
        name = "cuda" if has_nvidia and torch_is_installed() else "cpu"
        if name == "cuda":
            from lenet.training import autograd

            name = "cuda" if autograd.has_cuda() else "cpu"
    if name == "cpu":
        return name
    with extra("torch"):
        from lenet.training import autograd
    return autograd.check_device(name, world)
