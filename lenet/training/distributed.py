"""One run of many processes, started by torchrun; each computes its rows of every batch.

All processes hold the same weights and draw the same random numbers, so each knows the whole batch.
They sum the gradients, the loss and the number right of their rows as one flat vector, and so make
the step that one process would have made. docs/machines.md has the cost of this.
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

START = timedelta(minutes=30)  # for which others wait for a process to begin: it may download
PATIENCE = timedelta(minutes=5)  # for which they wait during training


@dataclass(frozen=True)
class Group(World):
    """Processes that communicate.

    Attributes:
        group: how they communicate once all have begun.
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
        if in_main_thread:  # torchrun will repeat it; the message must not be cut off
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    if in_main_thread:
        signal.signal(signal.SIGTERM, before)


def ended(signal_number: int, frame: Any) -> None:
    raise LostProcessError("torchrun ends this process: another one ended, or torchrun itself")


@contextmanager
def lost_processes() -> Iterator[None]:
    """Reports a failure of communication as a lost process."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].split("] ", 1)[-1].split(". ")[0]  # in gloo's words
        raise LostProcessError(f"another process of this run ended or hangs ({reason})") from None
