"""Epochs: minibatches in random order, or one pattern at a time as in 1998."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lenet import engine as engines
from lenet.data import Split
from lenet.engine import fused, sequential
from lenet.engine.resident import ResidentSteps
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
from lenet.networks.models import LeNet5, Network
from lenet.progress import Progress
from lenet.training import losses
from lenet.training.augment import Distortion, Warps
from lenet.training.distillation import Teachers
from lenet.training.distributed import ALONE, SharedStep, World
from lenet.training.optim import StochasticDiagonalLM
from lenet.training.recipes import Recipe

NOTE_INTERVAL = 0.25  # seconds between changes of the progress line
STAGES_1998 = {1: 1.0, 3: 0.4, 6: 0.2, 9: 0.1, 13: 0.02}  # from pass -> share of eta (appendix C)
TAUGHT_AT_ONCE = 2000  # images that teachers look at between two notes
CURVATURE_PATTERNS = 500  # patterns that second derivatives are averaged over (appendix C)


class Watch:
    """Keeps the progress line up to date, without waiting for the device at every step."""

    def __init__(self, bar: Progress, recipe: Recipe, epoch: int) -> None:
        self.bar, self.recipe, self.epoch = bar, recipe, epoch
        self.started = self.shown = time.perf_counter()
        self.steps = self.examples = 0
        self.loss: Any = 0.0  # sum over the steps since the last printed line

    def __call__(self, examples: int, loss: Any = None, right: Any = None) -> None:
        """Is told of a step: its images, and mean loss and number right if they are known yet."""
        self.examples += examples
        if loss is not None:
            self.heard(loss)
        note = None
        if self.due():
            rate = self.examples / (time.perf_counter() - self.started)
            found = ""
            if loss is not None:
                found = f"loss {float(loss):.3f}, acc {float(right) / examples:.3f}, "
            note = f"epoch {self.epoch}/{self.recipe.epochs}  {found}{rate:,.0f} examples/s"
        self.bar.advance(examples, note)

    def heard(self, loss: Any) -> None:
        """Prints the mean loss of every so many steps, where the recipe says so."""
        self.steps += 1
        if every := self.recipe.print_every:
            self.loss = self.loss + loss
            if self.steps % every == 0:
                mean = float(self.loss) / every
                self.bar.say(f"[{self.epoch}, {self.steps:5d}] loss: {mean:.3f}")
                self.loss = 0.0

    def teaching(self, done: int, count: int) -> None:
        """Is told how many of the images the teachers have looked at before the steps begin."""
        if self.due():
            self.bar.advance(
                0, f"epoch {self.epoch}/{self.recipe.epochs}  teachers: {done / count:.0%}"
            )

    def due(self) -> bool:
        """Whether it is time for a new note."""
        now = time.perf_counter()
        if now - self.shown <= NOTE_INTERVAL:
            return False
        self.shown = now
        return True


class Epochs(Protocol):
    """What trains a network for one epoch after the other."""

    engine: str

    @property
    def network(self) -> Network:
        """What the epochs so far have made, to be measured and kept."""
        ...

    def run(self, epoch: int, watch: Watch | None = None) -> list[dict[str, Any]]:
        """Trains for one epoch (numbered from 1); returns a record of each step."""
        ...

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (N, classes) of images (N, 28, 28) by `network`."""
        ...


def make_epochs(
    recipe: Recipe,
    device: torch.device,
    engine: str,
    threads: int | None,
    model: Network,
    optimizer: torch.optim.Optimizer,
    train: Split,
    teachers: Teachers | None = None,
    world: World = ALONE,
) -> tuple[Epochs, str]:
    """What runs the epochs, and why it was chosen."""
    if isinstance(optimizer, StochasticDiagonalLM):
        assert isinstance(model, LeNet5)
        if world.size > 1:
            raise LenetError(
                "the optimizer sdlm takes one pattern after the other and cannot be shared among "
                f"{world.size} processes: start it without torchrun"
            )
        if device.type != "cpu":
            raise LenetError("the optimizer sdlm runs on the CPU: use --device cpu")
        passes = Passes(recipe, model, optimizer, train)
        if engine not in ("auto", passes.engine):
            raise LenetError(
                f"the optimizer sdlm runs by the engine {passes.engine} here, not by {engine}"
            )
        return passes, "one pattern at a time"
    found = engines.plan(
        recipe.model,
        model.options,
        loss=recipe.loss,
        label_smoothing=recipe.label_smoothing,
        j=recipe.j,
        distillation=recipe.distillation,
        temperature=recipe.temperature,
    )
    name, reason = engines.choose(engine, device.type, found)
    if name == "graph" and world.size > 1:
        if engine == "graph":
            raise LenetError("the engine graph is for one process: use --engine autograd")
        name, reason = "autograd", "the processes add up gradients within a step"
    if name == "graph":
        criterion = make_criterion(recipe)
        steps = ResidentSteps(model, optimizer, train, criterion, recipe.batch_size)
        return Minibatches(recipe, model, optimizer, steps, name, train, teachers), reason
    if name == "fused":
        assert isinstance(found, fused.Plan)
        step: Step = FusedStep(model, train, found, threads)
    else:
        step = AutogradStep(model, train, make_criterion(recipe))
    if world.size > 1:
        step = SharedStep(step, model, world)
    return Minibatches(recipe, model, optimizer, step, name, train, teachers), reason


def make_criterion(recipe: Recipe) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The recipe's loss of scores, labels and, where there are teachers, their targets."""

    def of_labels(scores: Tensor, labels: Tensor) -> Tensor:
        match recipe.loss:
            case "cross-entropy":
                return losses.cross_entropy(scores, labels, recipe.label_smoothing)
            case "mse":
                return losses.one_hot_mse(scores, labels)
            case "penalty":
                return losses.penalty(scores, labels)
            case "map":
                return losses.map_criterion(scores, labels, recipe.j)

    def criterion(scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        loss = of_labels(scores, labels)
        if targets is None:
            return loss
        taught = losses.distillation(scores, targets, recipe.temperature)
        return (1 - recipe.distillation) * loss + recipe.distillation * taught

    return criterion


class Minibatches:
    """Epochs of minibatches in a new random order each, by any engine and torch optimizer."""

    def __init__(
        self,
        recipe: Recipe,
        model: Network,
        optimizer: torch.optim.Optimizer,
        step: Step | ResidentSteps,
        engine_name: str,
        train: Split,
        teachers: Teachers | None = None,
    ) -> None:
        self.recipe, self.model, self.optimizer, self.step = recipe, model, optimizer, step
        self.train, self.teachers = train, teachers
        self.engine = engine_name
        self.network = copy.deepcopy(model) if recipe.averaging else model
        self.update_average = get_ema_multi_avg_fn(recipe.averaging)
        self.distortion = distortion_of(recipe)
        self.taught: dict[int, NDArray[np.float32]] = {}  # by copy of the training set
        self.steps_per_epoch = math.ceil(len(self.train) / recipe.batch_size)

    def run(self, epoch: int, watch: Watch | None = None) -> list[dict[str, Any]]:
        recipe, count = self.recipe, len(self.train)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(count)
        number, warps = self.distortions(epoch)
        targets = self.targets(number, warps, watch) if self.teachers else None
        first = (epoch - 1) * self.steps_per_epoch
        rates = [
            learning_rate(recipe, first + step, recipe.epochs * self.steps_per_epoch)
            for step in range(self.steps_per_epoch)
        ]
        if isinstance(self.step, ResidentSteps):
            results = self.step.run(order, warps, targets, rates, self.average, watch)
            if watch:
                for loss, _ in results:
                    watch.heard(loss)
        else:
            # PyTorch's threads would only wait for each other between two calls of the fused
            # kernels.
            with cpu_threads(1 if self.engine == "fused" else None):
                results = self.one_by_one(order, warps, targets, rates, watch)
        sizes = [len(part) for part in self.batches(order)]
        return [
            step_record(
                first + number + 1,
                epoch - 1 + (number + 1) / self.steps_per_epoch,
                *(loss, right, sizes[number], rates[number]),
            )
            for number, (loss, right) in enumerate(results)
        ]

    def one_by_one(
        self,
        order: NDArray[np.int64],
        warps: Warps | None,
        targets: NDArray[np.float32] | None,
        rates: Sequence[float],
        watch: Watch | None,
    ) -> list[tuple[Any, Any]]:
        """The steps of an epoch; mean loss and number right of each."""
        assert not isinstance(self.step, ResidentSteps)
        results = []
        for batch, rate in zip(self.batches(order), rates, strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, right = self.step(
                batch,
                None if warps is None else warps[batch],
                None if targets is None else targets[batch],
            )
            self.optimizer.step()
            self.average()
            results.append((loss, right))
            if watch:
                watch(len(batch), loss, right)
        return results

    def batches(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        size = self.recipe.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def average(self) -> None:
        """Takes the weights after a step into their average, where the recipe has one."""
        if self.recipe.averaging:
            parameters = tuple(self.network.parameters()), tuple(self.model.parameters())
            self.update_average(*parameters, 0)

    def distortions(self, epoch: int) -> tuple[int, Warps | None]:
        """Which distorted copy of the training set an epoch has, and each image's distortion."""
        if not self.distortion:
            return 0, None
        number = (epoch - 1) % (self.recipe.copies or self.recipe.epochs)
        random = np.random.default_rng([self.recipe.seed, number, 1])
        return number, self.distortion.draw(len(self.train), self.train.images.shape[1], random)

    def targets(self, number: int, warps: Warps | None, watch: Watch | None) -> NDArray[np.float32]:
        """What the teachers say of a copy of the training set (N, classes), asked once.

        Always in the same order and parts, so that a run that was stopped gets the same bits.
        """
        assert self.teachers
        if number not in self.taught:
            if not self.recipe.copies:
                self.taught.clear()  # it will not come again
            images, parts = self.train.images, []
            for start in range(0, len(images), TAUGHT_AT_ONCE):
                part = np.arange(start, min(start + TAUGHT_AT_ONCE, len(images)))
                shown = images[part]
                if warps is not None:
                    shown = distort(images, part, warps[part], self.teachers.threads)
                parts.append(self.teachers.targets(shown))
                if watch:
                    watch.teaching(part[-1] + 1, len(images))
            self.taught[number] = np.concatenate(parts)
        return self.taught[number]

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.step.scores(self.network, images)


class Passes:
    """Epochs of the 1998 paper: one pattern at a time, always in the same random order."""

    SLICES = 100  # records and progress a pass

    def __init__(
        self, recipe: Recipe, network: LeNet5, optimizer: StochasticDiagonalLM, train: Split
    ) -> None:
        self.recipe, self.network, self.optimizer, self.train = recipe, network, optimizer, train
        self.engine = "fused" if sequential.is_native(network) else "autograd"
        self.order = np.random.default_rng(recipe.seed).permutation(len(train))
        self.distortion = distortion_of(recipe)
        self.options = sequential.Options(
            criterion="penalty" if recipe.loss == "penalty" else "map",
            j=recipe.j,
            exact=recipe.curvature == "exact",
        )

    def run(self, epoch: int, watch: Watch | None = None) -> list[dict[str, Any]]:
        """Trains for one pass (numbered from 1); returns a record of each slice of it."""
        random = np.random.default_rng([self.recipe.seed, epoch])
        lr = self.recipe.lr * stage(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sample = self.presented(self.order[:CURVATURE_PATTERNS], random)
        h = sequential.curvature(self.network, *sample, self.options)
        self.optimizer.set_curvature(h.values())
        sizes = self.optimizer.step_sizes()
        records, done, count = [], 0, len(self.order)
        for part in np.array_split(self.order, min(self.SLICES, count)):
            patterns = self.presented(part, random)
            result = sequential.train_pass(self.network, *patterns, sizes, self.options)
            done += len(part)
            right = round((1 - result.error) * len(part))
            if watch:
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
        warps = self.distortion.draw(len(part), images.shape[1], random)
        return distort(images, part, warps, threads=1), labels[part], np.arange(len(part))

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.engine == "autograd":
            return scores_by_autograd(self.network, images)
        weights = {name: p.detach().numpy() for name, p in self.network.named_parameters()}
        return SingleImage("LeNet5", self.network.options, weights).batch_scores(images)


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
    return Distortion(
        shift=recipe.shift,
        rotation=recipe.rotation,
        scale=recipe.scale,
        squeeze=recipe.squeeze,
        shear=recipe.shear,
        flip=recipe.flip,
        elastic=recipe.elastic,
        paper=recipe.paper,
        fade=recipe.fade,
        noise=recipe.noise,
    )


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
