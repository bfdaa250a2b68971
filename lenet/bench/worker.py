"""A contender in a process of its own, and the other end of the line.

The parent writes one JSON object a line, {"epoch": true} or {"calls": batch, "seconds": s} or
{"scores": count, "file": path}; the worker answers each with one line. Meanwhile it is stopped, as
the threads of some libraries go on spinning for a while, on cores that are another's then.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data import Split
from lenet.errors import LenetError


class Worker:
    """A contender, seen from the benchmark. Use as a context manager."""

    def __init__(
        self, contender: str, task: Path, batch_size: int, threads: int, device: str = "cpu"
    ) -> None:
        """
        Args:
            contender: one of `contenders.CONTENDERS`.
            task: what `save_task` wrote.
            batch_size, threads, device: as in `contenders.Task`.

        Raises:
            LenetError: it cannot take part; the message says why.
        """
        line = (contender, str(task), str(batch_size), str(threads), device)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lenet.bench.worker", *line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **dict.fromkeys(names, str(threads))},
        )
        try:
            self.answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise LenetError(f"its process ended with status {self.process.wait()}")
        self.signal("SIGSTOP")
        found = json.loads(line)
        if "error" in found:
            raise LenetError(found["error"])
        return found

    def signal(self, name: str) -> None:
        """Stops the process or lets it go on, where systems can."""
        if hasattr(signal, name):
            self.process.send_signal(getattr(signal, name))

    def ask(self, **what: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` tells
        return self.answer()

    def epoch(self) -> float:
        """Images a second of one epoch, after one that is not timed."""
        found = self.ask(epoch=True)
        return found["images"] / found["seconds"]

    def latency(self, batch: int, seconds: float) -> float:
        """Median seconds of one call with `batch` images, over calls of that many seconds."""
        return self.ask(calls=batch, seconds=seconds)["median"]

    def scores(self, count: int, file: Path) -> NDArray[np.float32]:
        """Scores of the first `count` images, before any training."""
        self.ask(scores=count, file=str(file))
        return np.load(file)


def save_task(file: Path, train: Split, weights: tuple[NDArray[np.float32], ...]) -> None:
    """What all workers read: images, labels and initial weights."""
    arrays: dict[str, NDArray[Any]] = {f"weight{i}": array for i, array in enumerate(weights)}
    arrays.update(images=train.images, labels=train.labels)
    np.savez(file, allow_pickle=False, **arrays)


def main(contender: str, file: str, batch_size: str, threads: str, device: str) -> None:
    line = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "sched_setaffinity"):  # as many cores as threads, whatever a library thinks
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    try:
        import torch

        from lenet.bench.contenders import CONTENDERS, Task

        torch.set_num_threads(int(threads))
        with np.load(file) as arrays:
            train = Split(arrays["images"], arrays["labels"])
            weights = tuple(arrays[f"weight{i}"] for i in range(len(arrays.files) - 2))
        task = Task(train, weights, int(batch_size), int(threads), device)
        runner = CONTENDERS[contender](task)
        line.write("{}\n")
        for order in sys.stdin:
            line.write(json.dumps(obey(runner, train.images, json.loads(order))) + "\n")
    except Exception as error:  # the parent leaves this contender out and says why
        first = (str(error).strip() or type(error).__name__).split("\n")[0]
        line.write(json.dumps({"error": first}) + "\n")
        raise


def obey(runner: Any, images: NDArray[np.uint8], order: dict[str, Any]) -> dict[str, Any]:
    if "epoch" in order:
        runner.epoch()  # it was stopped: caches are cold and threads asleep
        started = time.perf_counter()
        count = runner.epoch()
        return {"images": count, "seconds": time.perf_counter() - started}
    if "scores" in order:
        np.save(order["file"], runner.scores(runner.prepare(images[: order["scores"]])))
        return {}
    prepared = runner.prepare(images[: order["calls"]])
    times: list[float] = []
    end = time.perf_counter() + order["seconds"]
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        runner.scores(prepared)
        times.append(time.perf_counter() - started)
    return {"median": statistics.median(times)}


if __name__ == "__main__":
    main(*sys.argv[1:])
