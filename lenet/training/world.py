"""The processes that share a run: one here, those of torchrun in `distributed`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet.engine.processor import usable_cores
from lenet.errors import LenetError, extra

Value = TypeVar("Value")


class LostProcessError(LenetError):
    """Another process of the run ended, hangs or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The processes of a run, and the number of this one; by default it is alone.

    Attributes:
        rank: number of this process, from 0; the first one writes and prints.
        size: number of processes on all machines.
        local_rank, local_size: the same among those of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def threads(self) -> int:
        """CPU threads of this process if those of this machine share them equally."""
        return max(1, usable_cores() // self.local_size)

    def rows(self, count: int) -> slice:
        """The rows of `count` that are this process's."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """Calls `compute` in the first process only; returns its result in all of them."""
        return compute()

    def meet(self) -> None:
        """Waits until all processes have called this."""

    def add_up(self, values: NDArray[np.float32]) -> None:
        """Replaces an array by its sum over all processes."""

    def gather(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        """The arrays (n, ...) of all processes, one after the other."""
        return part

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Lets one process of each machine go first, so that the others find its downloads."""
        if self.local_rank:
            self.meet()
        yield
        if not self.local_rank:
            self.meet()


ALONE = World()


def find_world() -> World:
    """Reads torchrun's environment variables; alone if there are none.

    Raises:
        LenetError: they are incomplete or no numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        return World(*(int(os.environ[name]) for name in names))
    except (KeyError, ValueError):
        raise LenetError(
            "WORLD_SIZE is set, but not RANK, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun would: "
            "start with torchrun --nproc-per-node=N -m lenet train ..., or unset WORLD_SIZE"
        ) from None


@contextmanager
def connected() -> Iterator[World]:
    """The processes that torchrun started, connected for as long as the context lasts.

    Raises:
        LostProcessError: others did not start, or torchrun ends this process.
    """
    world: Any = find_world()
    if world.size == 1:
        yield world
        return
    with extra("torch"):
        from lenet.training import distributed
    with distributed.connected(world) as group:
        yield group
