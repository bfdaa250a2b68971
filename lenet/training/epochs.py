"""Epochs of minibatches in random order."""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data import Split
from lenet.data.distortion import Warps
from lenet.engine import fused
from lenet.errors import LenetError
from lenet.progress import Progress
from lenet.training.engines import Batch, Engine
from lenet.training.recipe import Recipe
from lenet.training.schedule import learning_rate
from lenet.training.teachers import Teachers

NOTE_INTERVAL = 0.25  # seconds between changes of the progress line
TAUGHT_AT_ONCE = 2000  # images that teachers see between two notes

Record = dict[str, Any]  # a line of metrics.jsonl


class Watch:
    """Updates the progress line without waiting for the device at every step."""

    def __init__(self, bar: Progress, recipe: Recipe, epoch: int) -> None:
        self.bar, self.every = bar, recipe.print_every
        self.epoch, self.words = epoch, f"epoch {epoch}/{recipe.optimisation.epochs}"
        self.started = self.shown = time.perf_counter()
        self.steps = self.examples = 0
        self.loss: Any = 0.0  # sum over the steps since the last printed line

    def __call__(self, examples: int, loss: Any, right: Any) -> None:
        """Notes a step: its images, mean loss and number right."""
        self.examples += examples
        self.steps += 1
        if self.every:
            self.loss = self.loss + loss
            if self.steps % self.every == 0:
                mean = float(self.loss) / self.every
                self.bar.say(f"[{self.epoch}, {self.steps:5d}] loss: {mean:.3f}")
                self.loss = 0.0
        note = None
        if self.due():
            rate = self.examples / (time.perf_counter() - self.started)
            note = (
                f"{self.words}  loss {float(loss):.3f}, acc {float(right) / examples:.3f}, "
                f"{rate:,.0f} examples/s"
            )
        self.bar.advance(examples, note)

    def teaching(self, done: int, count: int) -> None:
        """Notes how many of the images the teachers have seen before the steps begin."""
        if self.due():
            self.bar.advance(0, f"{self.words}  teachers: {done / count:.0%}")

    def due(self) -> bool:
        """Whether it is time for a new note."""
        now = time.perf_counter()
        if now - self.shown <= NOTE_INTERVAL:
            return False
        self.shown = now
        return True


class Minibatches:
    """Epochs of minibatches in a new random order each.

    Attributes:
        engine: name of what executes the steps.
        architecture: the network.
        scores: as that of `Engine`, by what the epochs so far have made.
        state, restore: the same; all that the next epoch depends on.
    """

    def __init__(
        self, recipe: Recipe, engine: Engine, train: Split, teachers: Teachers | None
    ) -> None:
        self.recipe, self.train, self.teachers = recipe, train, teachers
        self.engine, self.architecture, self.step = engine.name, engine.architecture, engine.step
        self.scores, self.state, self.restore = engine.scores, engine.state, engine.restore
        self.taught: dict[int, NDArray[np.float32]] = {}  # by copy of the training set
        self.steps_per_epoch = math.ceil(len(train) / recipe.optimisation.batch_size)

    def run(self, epoch: int, watch: Watch | None = None) -> list[Record]:
        """Trains for one epoch (numbered from 1); returns a record of each step."""
        recipe, how, count = self.recipe, self.recipe.optimisation, len(self.train)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(count)
        number, warps = self.distortions(epoch)
        targets = self.targets(number, warps, watch)
        first = (epoch - 1) * self.steps_per_epoch
        results = []
        for step in range(self.steps_per_epoch):
            index = order[step * how.batch_size : (step + 1) * how.batch_size]
            rate = learning_rate(how, first + step, how.epochs * self.steps_per_epoch)
            moved = None if warps is None else warps[index]
            taught = None if targets is None else targets[index]
            loss, right = self.step(Batch(index, moved, taught, rate, first + step + 1))
            results.append((loss, right, len(index), rate))
            if watch:
                watch(len(index), loss, right)
        return [
            step_record(first + n + 1, epoch - 1 + (n + 1) / self.steps_per_epoch, *result)
            for n, result in enumerate(results)
        ]

    def distortions(self, epoch: int) -> tuple[int, Warps | None]:
        """Which distorted copy of the training set an epoch has, and each image's distortion."""
        if not self.recipe.distortion:
            return 0, None
        number = (epoch - 1) % (self.recipe.copies or self.recipe.optimisation.epochs)
        random = np.random.default_rng([self.recipe.seed, number, 1])
        side = self.train.images.shape[-1]
        return number, self.recipe.distortion.draw(len(self.train), side, random)

    def targets(
        self, number: int, warps: Warps | None, watch: Watch | None
    ) -> NDArray[np.float32] | None:
        """What the teachers say of a copy of the training set (N, classes), computed once.

        Always in the same order and parts, so that a resumed run gets the same bits.
        """
        if not self.teachers:
            return None
        if number not in self.taught:
            if not self.recipe.copies:
                self.taught.clear()  # an earlier copy is not used again
            images, parts = self.train.images, []
            for start in range(0, len(images), TAUGHT_AT_ONCE):
                part = np.arange(start, min(start + TAUGHT_AT_ONCE, len(images)))
                shown = images[part] if warps is None else fused.warp(images, part, warps[part])
                parts.append(self.teachers.targets(shown))
                if watch:
                    watch.teaching(part[-1] + 1, len(images))
            self.taught[number] = np.concatenate(parts)
        return self.taught[number]


def step_record(
    step: int, position: float, loss: Any, right: Any, examples: int, lr: float
) -> Record:
    loss = float(loss)
    if not math.isfinite(loss):
        raise LenetError(f"the loss is {loss} at step {step}: lower lr, or check the data")
    return {
        "step": step,
        "position": round(position, 6),
        "loss": loss,
        "accuracy": float(right) / examples,
        "examples": examples,
        "lr": lr,
    }
