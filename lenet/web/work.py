"""Work off the event loop: a bounded pool for preprocessing, and batches for the engine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from lenet.web.problems import busy

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class Pool:
    """A few threads and a line of bounded length before them.

    Args:
        name: of the threads.
        workers: number of threads.
        waiting: how many pieces of work may wait; one more is refused as too busy.
    """

    def __init__(self, name: str, workers: int, waiting: int) -> None:
        self.most = workers + waiting
        self.present = 0
        self.threads = ThreadPoolExecutor(workers, name)

    async def run(self, work: Callable[[*Given], Result], *given: *Given) -> Result:
        """Does the work in one of the threads. Raises Problem 503 if the line is full."""
        if self.present >= self.most:
            raise busy("too many pictures are waiting")
        self.present += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, work, *given)
        finally:
            self.present -= 1


class Batcher:
    """Calls the engine for all images that wait at one time, however many asked.

    While one call runs, the images that arrive are collected for the next. Nobody waits for
    others to come: a single image is a batch of one.

    Args:
        scores: uint8 (N, 28, 28) -> float32 (N, classes).
        thread: where to call it; one thread, so that calls follow each other.
        most: largest N.
    """

    def __init__(
        self,
        scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        thread: Executor,
        most: int,
    ) -> None:
        self.scores, self.thread, self.most = scores, thread, most
        self.waiting: list[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.float32]]]] = []
        self.calls: asyncio.Task[None] | None = None

    async def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (classes,) of one image uint8 (28, 28)."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((image, future))
        if self.calls is None or self.calls.done():
            self.calls = asyncio.create_task(self.call())
        return await future

    async def call(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            batch, self.waiting = self.waiting[: self.most], self.waiting[self.most :]
            images = np.stack([image for image, _ in batch])
            try:
                answers = list(await loop.run_in_executor(self.thread, self.scores, images))
            except Exception as error:  # each who waits is told
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():  # who asked has left
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
