"""Epochs: minibatches in random order, or one pattern at a time as in 1998."""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lenet import engine as engines
from lenet import losses
from lenet.augment import Distortion
from lenet.data import Split
from lenet.engine import fused, sequential
from lenet.engine.single import SingleImage
from lenet.engine.steps import (
    AutogradStep,
    FusedStep,
    Step,
    cpu_threads,
    distort,
    scores_by_autograd,
)
from lenet.errors import LenetError
from lenet.models import LeNet5, Network
from lenet.optim import StochasticDiagonalLM
from lenet.progress import Progress
from lenet.recipes import Recipe

NOTE_INTERVAL = 0.25  # seconds between changes of the progress line
STAGES_1998 = {1: 1.0, 3: 0.4, 6: 0.2, 9: 0.1, 13: 0.02}  # from pass -> share of eta (appendix C)
CURVATURE_PATTERNS = 500  # patterns that second derivatives are averaged over (appendix C)


# Is told of every step: images in it, its mean loss, and how many were right.
StepWatcher = Callable[[int, Any, Any], None]


class Epochs(Protocol):
    """What trains a network for one epoch after the other."""

    engine: str

    def run(self, epoch: int, watch: StepWatcher) -> list[dict[str, Any]]:
        """Trains for one epoch (numbered from 1); returns a record of each step."""
        ...

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images (N, 28, 28) by the network as it is now."""
        ...


def make_epochs(
    recipe: Recipe,
    device: torch.device,
    engine: str,
    threads: int | None,
    model: Network,
    optimizer: torch.optim.Optimizer,
    train: Split,
) -> tuple[Epochs, str]:
    """What runs the epochs, and why it was chosen."""
    if isinstance(optimizer, StochasticDiagonalLM):
        assert isinstance(model, LeNet5)
        if device.type != "cpu":
            raise LenetError("the optimizer sdlm runs on the CPU: use --device cpu")
        passes = Passes(recipe, model, optimizer, train)
        if engine not in ("auto", passes.engine):
            raise LenetError(
                f"the optimizer sdlm runs by the engine {passes.engine} here, not by {engine}"
            )
        return passes, "one pattern at a time"
    found = engines.plan(recipe.model, model.options, recipe.loss, recipe.label_smoothing)
    name, reason = engines.choose(engine, device.type, found)
    if name == "fused":
        assert isinstance(found, fused.Plan)
        step: Step = FusedStep(model, train, found, threads)
    else:
        step = AutogradStep(model, train, make_criterion(recipe))
    return Minibatches(recipe, optimizer, step, name, len(train)), reason


def make_criterion(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    match recipe.loss:
        case "cross-entropy":
            return lambda scores, labels: losses.cross_entropy(
                scores, labels, recipe.label_smoothing
            )
        case "mse":
            return losses.one_hot_mse
        case "penalty":
            return losses.penalty
        case "map":
            return lambda scores, labels: losses.map_criterion(scores, labels, recipe.j)


class Watch:
    """Keeps the progress line up to date, without waiting for the device at every step."""

    def __init__(self, bar: Progress, recipe: Recipe, epoch: int) -> None:
        self.bar, self.recipe, self.epoch = bar, recipe, epoch
        self.started = self.shown = time.perf_counter()
        self.steps = self.examples = 0
        self.loss: Any = 0.0  # sum over the steps since the last printed line

    def __call__(self, examples: int, loss: Any, right: Any) -> None:
        self.steps += 1
        self.examples += examples
        if every := self.recipe.print_every:
            self.loss = self.loss + loss
            if self.steps % every == 0:
                mean = float(self.loss) / every
                self.bar.say(f"[{self.epoch}, {self.steps:5d}] loss: {mean:.3f}")
                self.loss = 0.0
        now = time.perf_counter()
        note = None
        if now - self.shown > NOTE_INTERVAL:
            self.shown = now
            rate = self.examples / (now - self.started)
            note = (
                f"epoch {self.epoch}/{self.recipe.epochs}  loss {float(loss):.3f}, "
                f"acc {float(right) / examples:.3f}, {rate:,.0f} examples/s"
            )
        self.bar.advance(examples, note)


class Minibatches:
    """Epochs of minibatches in a new random order each, by any engine and torch optimizer."""

    def __init__(
        self,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        step: Step,
        engine_name: str,
        count: int,
    ) -> None:
        self.recipe, self.optimizer, self.step, self.count = recipe, optimizer, step, count
        self.engine = engine_name
        self.distortion = distortion_of(recipe)
        self.steps_per_epoch = math.ceil(count / recipe.batch_size)

    def run(self, epoch: int, watch: StepWatcher) -> list[dict[str, Any]]:
        recipe = self.recipe
        random = np.random.default_rng([recipe.seed, epoch])
        order = random.permutation(self.count)
        maps = self.distortion.draw(self.count, random) if self.distortion else None
        first = (epoch - 1) * self.steps_per_epoch
        results = []
        # PyTorch's threads would only wait for each other between two calls of the fused kernels.
        with cpu_threads(1 if self.engine == "fused" else None):
            for number in range(self.steps_per_epoch):
                batch = slice(number * recipe.batch_size, (number + 1) * recipe.batch_size)
                lr = learning_rate(recipe, first + number, recipe.epochs * self.steps_per_epoch)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                loss, right = self.step(order[batch], maps[batch] if maps is not None else None)
                self.optimizer.step()
                examples = len(order[batch])
                results.append((loss, right, examples, lr))
                watch(examples, loss, right)
        return [
            step_record(first + number + 1, epoch - 1 + (number + 1) / self.steps_per_epoch, *r)
            for number, r in enumerate(results)
        ]

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.step.scores(images)


class Passes:
    """Epochs of the 1998 paper: one pattern at a time, always in the same random order."""

    SLICES = 100  # records and progress a pass

    def __init__(
        self, recipe: Recipe, model: LeNet5, optimizer: StochasticDiagonalLM, train: Split
    ) -> None:
        self.recipe, self.model, self.optimizer, self.train = recipe, model, optimizer, train
        self.engine = "fused" if sequential.is_native(model) else "autograd"
        self.order = np.random.default_rng(recipe.seed).permutation(len(train))
        self.distortion = distortion_of(recipe)
        self.options = sequential.Options(
            criterion="penalty" if recipe.loss == "penalty" else "map",
            j=recipe.j,
            exact=recipe.curvature == "exact",
        )

    def run(self, epoch: int, watch: StepWatcher) -> list[dict[str, Any]]:
        """Trains for one pass (numbered from 1); returns a record of each slice of it."""
        random = np.random.default_rng([self.recipe.seed, epoch])
        lr = self.recipe.lr * stage(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sample = self.presented(self.order[:CURVATURE_PATTERNS], random)
        h = sequential.curvature(self.model, *sample, self.options)
        self.optimizer.set_curvature(h.values())
        sizes = self.optimizer.step_sizes()
        records, done, count = [], 0, len(self.order)
        for part in np.array_split(self.order, min(self.SLICES, count)):
            patterns = self.presented(part, random)
            result = sequential.train_pass(self.model, *patterns, sizes, self.options)
            done += len(part)
            right = round((1 - result.error) * len(part))
            watch(len(part), result.loss, right)
            step, position = (epoch - 1) * count + done, epoch - 1 + done / count
            records.append(step_record(step, position, result.loss, right, len(part), lr))
        return records

    def presented(
        self, part: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Images, labels and the order to show them in, distorted anew where the recipe says so."""
        images, labels = self.train.images, self.train.labels
        if not self.distortion:
            return images, labels, part
        maps = self.distortion.draw(len(part), random)
        return distort(images, part, maps, threads=1), labels[part], np.arange(len(part))

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.engine == "autograd":
            return scores_by_autograd(self.model, images)
        weights = {name: p.detach().numpy() for name, p in self.model.named_parameters()}
        return SingleImage("LeNet5", self.model.options, weights).batch_scores(images)


def step_record(
    step: int, position: float, loss: Any, right: Any, examples: int, lr: float
) -> dict[str, Any]:
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


def distortion_of(recipe: Recipe) -> Distortion:
    return Distortion(recipe.shift, recipe.rotation, recipe.scale, recipe.squeeze, recipe.shear)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of a step, numbered from 0, of `steps` in all."""
    warm = recipe.warmup * steps
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    return recipe.lr * stage(recipe, 1 + step * recipe.epochs // steps)


def stage(recipe: Recipe, epoch: int) -> float:
    """Share of the learning rate in an epoch, numbered from 1, where it is constant within one."""
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - 1) / recipe.epochs)) / 2
    if recipe.schedule == "1998":
        return next(share for first, share in reversed(STAGES_1998.items()) if epoch >= first)
    return 1.0
