"""One run, many processes: torchrun starts them, each does its rows of every batch.

All processes hold the same weights and draw the same random numbers, so all know the whole batch;
each steps on its own rows, and one sum over all processes, of a flat vector with the gradients, the
loss and the number right, makes the step that one process would have made. docs/machines.md says
what this costs.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from lenet.training.world import LostProcessError, Value, World

START = timedelta(minutes=30)  # how long others wait for a process that begins: it may download
PATIENCE = timedelta(minutes=5)  # and for one that trains


@dataclass(frozen=True)
class Group(World):
    """Processes that talk to each other.

    Attributes:
        group: what they talk by once all have begun.
    """

    group: Any = None

    def from_first(self, compute: Callable[[], Value]) -> Value:
        values: list[Any] = [compute() if self.first else None]
        with lost_processes():
            dist.broadcast_object_list(values, 0)
        return values[0]

    def meet(self) -> None:
        with lost_processes():
            dist.monitored_barrier(timeout=START)

    def add_up(self, values: NDArray[np.float32]) -> None:
        with lost_processes():
            dist.all_reduce(torch.from_numpy(values), group=self.group)

    def gather(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        parts: list[Any] = [None] * self.size
        with lost_processes():
            dist.all_gather_object(parts, part, self.group)
        return np.concatenate(parts)


@contextmanager
def connected(world: World) -> Iterator[Group]:
    """Connects the processes of a world, for as long as the context lasts."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ended) if in_main_thread else None
    try:
        with lost_processes():
            dist.init_process_group("gloo", timeout=START)
            group = dist.new_group(timeout=PATIENCE)
        yield Group(**vars(world), group=group)
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
