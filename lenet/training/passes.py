"""Epochs of the 1998 paper: one pattern at a time, always in the same random order."""

import numpy as np
from numpy.typing import NDArray

from lenet.engine import fused, patterns, sequential
from lenet.engine.scores import scorer
from lenet.engine.sequential import Criterion, Images, Numbers
from lenet.errors import LenetError, extra
from lenet.training.engines import Flat, Job, by_name, require_fit
from lenet.training.epochs import Record, Watch, step_record
from lenet.training.schedule import share

CURVATURE_PATTERNS = 500  # patterns that second derivatives are averaged over (appendix C)
SLICES = 100  # parts of a pass, each with a record


class Passes:
    """Trains by stochastic diagonal Levenberg-Marquardt; see `lenet.engine.sequential`.

    Raises:
        LenetError: the job has several processes, or a device other than the CPU.
    """

    def __init__(self, job: Job) -> None:
        if job.world.size > 1:
            raise LenetError(
                "the optimizer sdlm takes one pattern after the other and cannot be shared among "
                f"{job.world.size} processes: start it without torchrun"
            )
        if job.device != "cpu":
            raise LenetError("the optimizer sdlm runs on the CPU: use --device cpu")
        self.recipe, self.architecture, self.train = job.recipe, job.architecture, job.train
        self.flat = job.weights.copy()
        self.order = np.random.default_rng(self.recipe.seed).permutation(len(job.train))
        how, objective = self.recipe.optimisation, self.recipe.objective
        criterion = Criterion(objective.loss == "map", objective.j, how.curvature == "exact")
        if sequential.is_served(self.architecture, job.train.images.shape[1]):
            self.engine = "fused"
            self.patterns = sequential.Patterns(self.architecture, self.flat, criterion)
        elif patterns.is_served(self.architecture):
            self.engine = "fused"
            self.patterns = patterns.Patterns(self.architecture, self.flat)
        else:
            with extra("torch"):
                from lenet.training import autograd_passes
            self.engine = "autograd"
            self.patterns = autograd_passes.Patterns(self.architecture, self.flat, criterion)

    @property
    def weights(self) -> dict[str, Flat]:
        """The weights by name, in the memory that training changes."""
        return by_name(self.architecture, self.flat)

    def run(self, epoch: int, watch: Watch | None = None) -> list[Record]:
        """Trains for one pass (numbered from 1); returns a record of each slice of it."""
        how, count = self.recipe.optimisation, len(self.order)
        random = np.random.default_rng([self.recipe.seed, epoch])
        lr = how.lr * share(how, (epoch - 1) / how.epochs, epoch)
        sample = self.presented(self.order[:CURVATURE_PATTERNS], random)
        sizes = sequential.step_sizes(self.patterns.curvature(*sample), lr, how.mu)
        records, done = [], 0
        for part in np.array_split(self.order, min(SLICES, count)):
            loss, errors = self.patterns.train(*self.presented(part, random), sizes)
            done += len(part)
            right, loss = len(part) - errors, loss / len(part)
            if watch:
                watch(len(part), loss, right)
            step, position = (epoch - 1) * count + done, epoch - 1 + done / count
            records.append(step_record(step, position, loss, right, len(part), lr))
        return records

    def presented(
        self, part: Numbers, random: np.random.Generator
    ) -> tuple[Images, Numbers, Numbers]:
        """Images, labels and their order, with new distortions if the recipe has any."""
        images, labels = self.train.images, self.train.labels
        if not self.recipe.distortion:
            return images, labels, part
        warps = self.recipe.distortion.draw(len(part), images.shape[1], random)
        return fused.warp(images, part, warps, threads=1), labels[part], np.arange(len(part))

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return scorer(self)(images)

    def state(self) -> dict[str, Flat]:
        return {"weights": self.flat}

    def restore(self, state: dict[str, Flat]) -> None:
        require_fit(state, self.state())
        self.flat[...] = state["weights"]
