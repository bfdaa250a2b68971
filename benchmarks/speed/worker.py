"""A contender in its own process, and the parent's end of the connection.

The parent sends a number: 0 for an epoch, or the images of a call that is repeated for
`CALL_SECONDS`. The worker answers with the images that it processed in a second, or with an error.
Between turns it is stopped, as the threads of some libraries keep spinning for a while and would
disturb the next contender.
"""

import multiprocessing
import os
import signal
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from lenet import data
from lenet.data import Split
from lenet.errors import LenetError
from lenet.networks import arithmetic
from lenet.training.recipes import RECIPES

CALL_SECONDS = 0.3  # for which calls of one batch size are repeated in a round
CHECKED = 8  # images whose scores every contender must share
CLOSE = 1e-3  # largest difference of scores that the order of sums may cause
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
D2L = RECIPES["d2l"].architecture()
WEIGHTS = D2L.initial_weights(seed=0)  # what all contenders start from


@dataclass(frozen=True)
class Task:
    """What all contenders are given.

    Attributes:
        data: name of the data set, as `lenet train` takes it.
        images: how many of its training images.
        batch_size: images in a step.
        threads: CPU threads.
        device: of PyTorch and of `lenet train`: "cpu" or "cuda".
    """

    data: str
    images: int
    batch_size: int
    threads: int
    device: str = "cpu"


class Worker:
    """The parent's handle of a contender. Use as a context manager."""

    def __init__(self, name: str, task: Task) -> None:
        """Starts one of `contenders.CONTENDERS`.

        Raises:
            LenetError: it cannot take part; the message says why.
        """
        os.environ |= dict.fromkeys(THREADS, str(task.threads))  # libraries read them at import
        spawn = multiprocessing.get_context("spawn")
        self.line, end = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(end, name, task), daemon=True)
        self.process.start()
        end.close()
        try:
            self.answer()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def answer(self) -> float:
        try:
            answer = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise LenetError(f"its process ended with status {self.process.exitcode}") from None
        self.signal("SIGSTOP")
        if isinstance(answer, str):
            raise LenetError(answer)
        return answer

    def signal(self, name: str) -> None:
        """Stops or continues the process, if the system can."""
        if hasattr(signal, name) and self.process.pid:
            os.kill(self.process.pid, getattr(signal, name))

    def rate(self, call: int = 0) -> float:
        """Images a second: of an epoch, or of calls with that many images."""
        self.signal("SIGCONT")
        with suppress(BrokenPipeError):  # `answer` reports it
            self.line.send(call)
        return self.answer()


def serve(line: Connection, name: str, task: Task) -> None:
    """Runs in the worker."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(quiet, output)
    if hasattr(os, "sched_setaffinity"):  # as many cores as threads, whatever libraries start
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    try:
        from benchmarks.speed.contenders import CONTENDERS

        split = data.load(task.data).train[: task.images]
        contender = CONTENDERS[name](task, split)
        check(contender, split)
        line.send(0)
        while True:
            line.send(measure(contender, split, line.recv()))
    except Exception as error:  # the parent leaves this contender out and says why
        line.send((str(error).strip() or type(error).__name__).split("\n")[0])


def check(contender: Any, split: Split) -> None:
    """Refuses a contender that computes other scores than the network.

    Raises:
        LenetError: its scores differ.
    """
    if hasattr(contender, "scores"):
        images = split.images[:CHECKED]
        scores = contender.scores(contender.prepare(images))
        if not np.allclose(scores, arithmetic.scores(D2L, WEIGHTS, images), rtol=0, atol=CLOSE):
            raise LenetError("it computes other scores")


def measure(contender: Any, split: Split, call: int) -> float:
    """Images a second, as the parent asked."""
    if not call:
        contender.epoch()  # it was stopped: caches are cold and threads asleep
        started = time.perf_counter()
        count = contender.epoch()
        return count / (time.perf_counter() - started)
    prepared = contender.prepare(split.images[:call])
    times: list[float] = []
    end = time.perf_counter() + CALL_SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        contender.scores(prepared)
        times.append(time.perf_counter() - started)
    return call / statistics.median(times)
