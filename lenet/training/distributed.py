"""One run, many processes: torchrun starts them, each does its rows of every batch.

All processes hold the same weights and draw the same random numbers, so all know the whole batch;
each steps on its own rows, and one sum over all processes, of a flat vector with the gradients, the
loss and the number right, makes the step that one process would have made. docs/machines.md says
what this costs.
"""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from lenet.engine.processor import usable_cores
from lenet.engine.steps import Step
from lenet.errors import LenetError
from lenet.networks.models import Network
from lenet.training.augment import Warps

START = timedelta(minutes=30)  # how long others wait for a process that begins: it may download
PATIENCE = timedelta(minutes=5)  # and for one that trains

Value = TypeVar("Value")


class LostProcessError(LenetError):
    """Another process of the run ended, hangs, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The processes of a run, and this one among them.

    Attributes:
        rank: number of this process, from 0; the first one writes and prints.
        size: number of processes on all machines.
        local_rank, local_size: the same among those of this machine.
        group: what they talk by; None where there is but one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    group: Any = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def threads(self) -> int:
        """CPU threads of this process if all of this machine have equally many."""
        return max(1, usable_cores() // self.local_size)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process where `device` is that of the first one.

        Raises:
            LenetError: it is of a kind that cannot be shared.
        """
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise LenetError(f"processes share CPUs or CUDA devices, not {device}: use --device")
        return torch.device("cuda", self.local_rank)

    def rows(self, count: int) -> slice:
        """Those of `count` rows that this process works on."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """What `compute` gives the first process, which alone calls it, for all of them."""
        if self.size == 1:
            return compute()
        values: list[Any] = [compute() if self.first else None]
        with lost_processes():
            dist.broadcast_object_list(values, 0)
        return values[0]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """One process of each machine goes first: what it downloads, the others find."""
        if self.local_rank:
            self.meet()
        yield
        if not self.local_rank:
            self.meet()

    def meet(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            with lost_processes():
                dist.monitored_barrier(timeout=START)

    def share_state(
        self,
        networks: Mapping[str, Network],
        optimizer: torch.optim.Optimizer,
        progress: dict[str, Any],
    ) -> dict[str, Any]:
        """Gives all processes the first one's weights, optimizer state and `progress`."""
        if self.size == 1:
            return progress

        def state() -> bytes:
            buffer = io.BytesIO()
            weights = {role: network.state_dict() for role, network in networks.items()}
            torch.save((weights, optimizer.state_dict(), progress), buffer)
            return buffer.getvalue()

        content = io.BytesIO(self.from_first(state))
        weights, moments, progress = torch.load(content, map_location="cpu", weights_only=True)
        for role, network in networks.items():
            network.load_state_dict(weights[role])
        optimizer.load_state_dict(moments)
        return progress

    def gather(self, part: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The arrays (n, ...) of all processes, one after the other; None is one of no rows."""
        parts: list[Any] = [None] * self.size
        with lost_processes():
            dist.all_gather_object(parts, part, self.group)
        return np.concatenate([part for part in parts if part is not None])


ALONE = World()


def find_world() -> World:
    """What torchrun says in the environment; alone if it says nothing.

    Raises:
        LenetError: it says something impossible.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError):
        raise LenetError(
            "WORLD_SIZE is set, but not RANK, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun would: "
            "start with torchrun --nproc-per-node=N -m lenet train ..., or unset WORLD_SIZE"
        ) from None
    return World(rank, size, local_rank, local_size)


@contextmanager
def connected() -> Iterator[World]:
    """Connects the processes that torchrun started, for as long as the context lasts.

    Raises:
        LostProcessError: others did not come, or torchrun ends this process.
    """
    world = find_world()
    if world.size == 1:
        yield world
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ended) if in_main_thread else None
    try:
        with lost_processes():
            dist.init_process_group("gloo", timeout=START)
            group = dist.new_group(timeout=PATIENCE)
        yield replace(world, group=group)
        dist.destroy_process_group()
    except BaseException:
        if in_main_thread:  # torchrun will ask again; what is being said must not be cut off
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    if in_main_thread:
        signal.signal(signal.SIGTERM, before)


def ended(signal_number: int, frame: Any) -> None:
    raise LostProcessError("torchrun ends this process: another one ended, or torchrun itself")


@contextmanager
def lost_processes() -> Iterator[None]:
    """A failure to talk to the others becomes an error that says what it means."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].split("] ", 1)[-1].split(". ")[0]  # of gloo's words
        raise LostProcessError(f"another process of this run ended or hangs ({reason})") from None


class SharedStep:
    """Steps on this process's rows of each batch; the gradients are those of the whole batch.

    The loss must be a mean over examples: each process's gradients count by its share of the rows.
    """

    def __init__(self, step: Step, model: Network, world: World) -> None:
        self.step, self.world = step, world
        self.parameters = list(model.parameters())
        self.sizes = [parameter.numel() for parameter in self.parameters]
        device = self.parameters[0].device
        self.group = world.group
        if device.type == "cuda":
            torch.cuda.set_device(device)
            self.group = dist.new_group(timeout=PATIENCE, backend="nccl")

    def __call__(
        self,
        index: NDArray[np.int64],
        warps: Warps | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[Tensor, Tensor]:
        rows = self.world.rows(len(index))
        mine = index[rows]
        flat = self.parameters[0].new_zeros(sum(self.sizes) + 2)
        with torch.no_grad():
            if len(mine):
                with torch.enable_grad():
                    loss, right = self.step(
                        mine,
                        None if warps is None else warps[rows],
                        None if targets is None else targets[rows],
                    )
                gradients = [p.grad.flatten() for p in self.parameters if p.grad is not None]
                torch.cat(gradients, out=flat[:-2])
                flat[-2] = loss
                flat *= len(mine) / len(index)
                flat[-1] = right
            with lost_processes():
                dist.all_reduce(flat, group=self.group)
            for parameter, part in zip(self.parameters, flat[:-2].split(self.sizes), strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(part.view_as(parameter))
        return flat[-2], flat[-1]

    def scores(self, model: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        mine = images[self.world.rows(len(images))]
        return self.world.gather(self.step.scores(model, mine) if len(mine) else None)
