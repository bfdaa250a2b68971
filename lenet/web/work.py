"""Work off the event loop: bounded thread pools, and batches for the engine."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from lenet.web.problems import busy

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class Pool:
    """As many threads as `workers`, with a queue for `waiting` pieces of work."""

    def __init__(self, name: str, workers: int, waiting: int) -> None:
        self.most = workers + waiting
        self.present = 0
        self.threads = ThreadPoolExecutor(workers, name)

    async def run(self, work: Callable[[*Given], Result], *given: *Given) -> Result:
        """Does the work in one of the threads. Raises Problem 503 if the queue is full."""
        if self.present >= self.most:
            raise busy("too many pictures are waiting")
        self.present += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, work, *given)
        finally:
            self.present -= 1


@dataclass(eq=False)
class Waiting:
    """An image that waits for its scores or an error."""

    image: NDArray[np.uint8]
    answer: NDArray[np.float32] | Exception | None = None


class Batcher:
    """Calls the engine once for all images that wait, whichever threads they come from.

    One thread calls at a time, and others queue their images meanwhile; the next of them calls for
    all, and the rest find their answers ready. No thread waits for a batch to fill up.

    Args:
        scores: uint8 (N, 28, 28) -> float32 (N, classes).
        most: largest N.
    """

    def __init__(
        self, scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]], most: int
    ) -> None:
        self.scores, self.most = scores, most
        self.turn = Lock()
        self.waiting: deque[Waiting] = deque()

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (classes,) of one image uint8 (28, 28)."""
        mine = Waiting(image)
        self.waiting.append(mine)
        with self.turn:
            while mine.answer is None:
                self.call()
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return mine.answer

    def call(self) -> None:
        count = min(self.most, len(self.waiting))
        batch = [self.waiting.popleft() for _ in range(count)]
        try:
            answers = list(self.scores(np.stack([waiting.image for waiting in batch])))
        except Exception as error:  # for every thread that waits
            answers = [error] * count
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer = answer
