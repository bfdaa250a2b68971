"""Training: a recipe in, a run folder out.

A run folder holds recipe.json, environment.json, metrics.jsonl, state.safetensors (all that the
next epoch depends on) and, once training is through, weights.safetensors, report.json and figures.
"""

import dataclasses
import datetime
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet import checkpoint, data, evaluation, losses, metrics, plots
from lenet import engine as engines
from lenet.augment import Distortion
from lenet.engine import fused, sequential
from lenet.engine.steps import AutogradStep, FusedStep, Step
from lenet.errors import LenetError
from lenet.files import write_text
from lenet.models import LeNet5, Network, build
from lenet.optim import StochasticDiagonalLM
from lenet.progress import Progress
from lenet.recipes import RECIPES, Recipe

RECIPE, ENVIRONMENT, METRICS = "recipe.json", "environment.json", "metrics.jsonl"
CURVES = "curves.png"
REDRAW_INTERVAL = 10.0  # seconds between drawings of the curves while training runs
NOTE_INTERVAL = 0.25  # seconds between changes of the progress line
STAGES_1998 = {1: 1.0, 3: 0.4, 6: 0.2, 9: 0.1, 13: 0.02}  # from pass -> share of eta (appendix C)
CURVATURE_PATTERNS = 500  # patterns that second derivatives are averaged over (appendix C)


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        path: the run folder.
        recipe: what was trained.
        model: the trained network, in evaluation mode.
        report: its evaluation on the test (or validation) split.
        examples_per_second: images trained on in a second, evaluation not counted.
        device: where it was trained.
    """

    path: Path
    recipe: Recipe
    model: Network
    report: metrics.Report
    examples_per_second: float
    device: str

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds: one dict a step (key "step") or epoch (key "epoch")."""
        return read_metrics(self.path)


@dataclass(frozen=True)
class Settings:
    """Where and how a run is executed, as `train` takes it; the device is a definite one."""

    device: str
    engine: str
    threads: int | None
    data_dir: str | None
    tensorboard: bool


def train(
    recipe: str | Recipe = "mnist",
    *,
    out: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
    data_dir: str | Path | None = None,
    tensorboard: bool = False,
) -> Run:
    """Trains a network and writes a run folder.

    Args:
        recipe: a name in `lenet.RECIPES`, or a `lenet.Recipe`.
        out: the run folder, new or empty; runs/NAME-TIME by default.
        device: "auto" (CUDA, else MPS, else CPU), or a device as PyTorch names it.
        engine: "auto", "fused" (our CPU kernels) or "autograd" (PyTorch).
        threads: CPU threads; None for as many as this process may use.
        data_dir: folder of the public data sets; None for the usual one.
        tensorboard: also write TensorBoard logs into the run folder.

    Raises:
        LenetError: the recipe, the data, the device or the folder cannot be used; the loss became
            infinite.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise LenetError(f"no recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    folder = Path(out) if out else new_folder(recipe.name)
    if (folder / RECIPE).exists():
        raise LenetError(f"{folder} already holds a run; go on with it by --resume {folder}")
    settings = Settings(
        str(choose_device(device)),
        engine,
        threads,
        str(data_dir) if data_dir else None,
        tensorboard,
    )
    return proceed(folder, recipe, settings)


def resume(folder: str | Path) -> Run:
    """Goes on with a run that was stopped, and ends with the weights it would have had.

    Bit for bit on one machine: each epoch depends on the state after the one before, on the
    recipe's seed and on nothing else.

    Raises:
        LenetError: the folder holds no run, or it cannot be gone on with here.
    """
    folder = Path(folder)
    if not (folder / RECIPE).is_file():
        raise LenetError(f"{folder} holds no run: there is no {RECIPE}")
    try:
        settings = Settings(**json.loads((folder / ENVIRONMENT).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LenetError(f"{folder / ENVIRONMENT} cannot be used: {error}") from None
    return proceed(folder, Recipe.from_file(folder / RECIPE), settings)


def proceed(folder: Path, recipe: Recipe, settings: Settings) -> Run:
    """Trains from the folder's state, or from the start, to the end."""
    dataset = data.load(recipe.data, settings.data_dir)
    if recipe.validation:
        dataset = dataset.hold_out(recipe.validation)
    device = choose_device(settings.device)
    model = initial_network(recipe, len(dataset.classes)).to(device)
    optimizer = make_optimizer(recipe, model)
    with cpu_threads(settings.threads):
        epochs, reason = make_epochs(recipe, settings, device, model, optimizer, dataset.train)
        settings = dataclasses.replace(settings, engine=epochs.engine)
        progress = begin(folder, recipe, environment(settings, reason, dataset), model, optimizer)
        try:
            run_epochs(folder, recipe, dataset, model, optimizer, epochs, progress, settings)
        except KeyboardInterrupt:
            print(
                f"\nStopped. Epochs up to {progress['epoch']} of {recipe.epochs} are kept; "
                f"go on with: lenet train --resume {folder}",
                file=sys.stderr,
            )
            raise
        return finish(folder, recipe, dataset, model, epochs, progress, str(device))


def run_epochs(
    folder: Path,
    recipe: Recipe,
    dataset: data.Dataset,
    model: Network,
    optimizer: torch.optim.Optimizer,
    epochs: "Epochs",
    progress: dict[str, Any],
    settings: Settings,
) -> None:
    """Runs the epochs that are left; after each, its metrics and the state are on disk."""
    part = "validation" if recipe.validation else "test"
    board = tensorboard_writer(folder) if settings.tensorboard else None
    drawn = time.perf_counter()
    total = (recipe.epochs - progress["epoch"]) * len(dataset.train)
    with Progress(recipe.name, total) as bar:
        for epoch in range(progress["epoch"] + 1, recipe.epochs + 1):
            words = f"epoch {epoch}/{recipe.epochs}"
            watch = Watch(bar, words)
            started = time.perf_counter()
            steps = epochs.run(epoch, watch)
            seconds = time.perf_counter() - started
            scores = epochs.scores(dataset.test.images)
            report = metrics.report(scores, dataset.test.labels, dataset.classes)
            examples = sum(step["examples"] for step in steps)
            summary: dict[str, Any] = {
                "epoch": epoch,
                "train_loss": sum(s["loss"] * s["examples"] for s in steps) / examples,
                "train_accuracy": sum(s["accuracy"] * s["examples"] for s in steps) / examples,
                f"{part}_loss": report.loss,
                f"{part}_accuracy": report.accuracy,
                "lr": steps[-1]["lr"],
                "seconds": seconds,
            }
            append_metrics(folder, [*steps, summary])
            progress["epoch"] = epoch
            progress["seconds"] += seconds
            progress["examples"] += examples
            progress["metrics_bytes"] = (folder / METRICS).stat().st_size
            checkpoint.save_state(folder / checkpoint.STATE, model, optimizer, progress)
            bar.say(
                f"{words}  loss {summary['train_loss']:.3f}, "
                f"train acc {summary['train_accuracy']:.3f}, {part} acc {report.accuracy:.4f}"
            )
            if board:
                for name, value in summary.items():
                    board.add_scalar(name, value, epoch)
            if time.perf_counter() - drawn > REDRAW_INTERVAL:
                draw_curves(folder, recipe)
                drawn = time.perf_counter()
    if board:
        board.close()


def finish(
    folder: Path,
    recipe: Recipe,
    dataset: data.Dataset,
    model: Network,
    epochs: "Epochs",
    progress: dict[str, Any],
    device: str,
) -> Run:
    """Evaluates the trained network and writes weights, report and figures."""
    scores = epochs.scores(dataset.test.images)
    report = metrics.report(scores, dataset.test.labels, dataset.classes)
    model.card = {
        "classes": list(dataset.classes),
        "recipe": recipe.as_dict(),
        "preprocessing": "digit" if dataset.name != "fashion-mnist" else "plain",
        "data": {"name": dataset.name, "sha256": dataset.checksums},
        "measured_on": "validation" if recipe.validation else "test",
        "error": report.error,
        "rejection_threshold": report.rejections[0].threshold,
    }
    draw_curves(folder, recipe)
    evaluation.write(folder, report, scores, dataset.test)
    checkpoint.save(model, folder / checkpoint.WEIGHTS)  # last: it marks the run as finished
    rate = progress["examples"] / max(progress["seconds"], 1e-9)
    return Run(folder, recipe, model.eval(), report, rate, device)


# One epoch


class Watch:
    """Keeps the progress line up to date, without waiting for the device at every step."""

    def __init__(self, bar: Progress, words: str) -> None:
        self.bar, self.words = bar, words
        self.started = self.shown = time.perf_counter()
        self.examples = 0

    def __call__(self, examples: int, loss: Any, right: Any) -> None:
        """Counts one step: images in it, its mean loss, and how many were right."""
        self.examples += examples
        now = time.perf_counter()
        note = None
        if now - self.shown > NOTE_INTERVAL:
            self.shown = now
            rate = self.examples / (now - self.started)
            note = (
                f"{self.words}  loss {float(loss):.3f}, acc {float(right) / examples:.3f}, "
                f"{rate:,.0f} examples/s"
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
        self.distortion = Distortion(
            recipe.shift, recipe.rotation, recipe.scale, recipe.squeeze, recipe.shear
        )
        self.steps_per_epoch = math.ceil(count / recipe.batch_size)
        self.scores = step.scores

    def run(self, epoch: int, watch: Watch) -> list[dict[str, Any]]:
        """Trains for one epoch (numbered from 1); returns a record of each step."""
        recipe = self.recipe
        random = np.random.default_rng([recipe.seed, epoch])
        order = random.permutation(self.count)
        maps = self.distortion.draw(self.count, random) if self.distortion else None
        first = (epoch - 1) * self.steps_per_epoch
        results = []
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


class Passes:
    """Epochs of the 1998 paper: one pattern at a time, always in the same random order."""

    SLICES = 100  # records and progress a pass

    def __init__(
        self, recipe: Recipe, model: LeNet5, optimizer: StochasticDiagonalLM, train: data.Split
    ) -> None:
        self.recipe, self.model, self.optimizer, self.train = recipe, model, optimizer, train
        self.engine = "fused" if sequential.is_native(model) else "autograd"
        self.order = np.random.default_rng(recipe.seed).permutation(len(train))
        distortion = sequential.Distortion(recipe.shift, recipe.scale, recipe.squeeze, recipe.shear)
        self.options = sequential.Options(
            criterion="penalty" if recipe.loss == "penalty" else "map",
            j=recipe.j,
            exact=recipe.curvature == "exact",
            distortion=distortion if any(vars(distortion).values()) else None,
            seed=recipe.seed,
        )

    def run(self, epoch: int, watch: Watch) -> list[dict[str, Any]]:
        """Trains for one pass (numbered from 1); returns a record of each slice of it."""
        images, labels, count = self.train.images, self.train.labels, len(self.order)
        first = (epoch - 1) * count
        lr = self.recipe.lr * stage(epoch, self.recipe.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sample = self.order[:CURVATURE_PATTERNS]
        h = sequential.curvature(self.model, images, labels, sample, self.options, first=first)
        self.optimizer.set_curvature(h.values())
        sizes = self.optimizer.step_sizes()
        records, done = [], 0
        for part in np.array_split(self.order, min(self.SLICES, count)):
            result = sequential.train_pass(
                self.model, images, labels, part, sizes, self.options, first=first + done
            )
            done += len(part)
            right = round((1 - result.error) * len(part))
            watch(len(part), result.loss, right)
            position = epoch - 1 + done / count
            records.append(step_record(first + done, position, result.loss, right, len(part), lr))
        return records

    def scores(self, images: np.ndarray) -> np.ndarray:
        return sequential.scores(self.model, images)


Epochs = Minibatches | Passes


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


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of a step, numbered from 0, of `steps` in all."""
    warm = recipe.warmup * steps
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    if recipe.schedule == "1998":
        return recipe.lr * stage(1 + step * recipe.epochs // steps, recipe.schedule)
    return recipe.lr


def stage(epoch: int, schedule: str) -> float:
    """Share of the learning rate in that pass of the 1998 paper's schedule; 1 in the constant."""
    if schedule != "1998":
        return 1.0
    return next(share for first, share in reversed(STAGES_1998.items()) if epoch >= first)


# What a run consists of


def initial_network(recipe: Recipe, classes: int) -> Network:
    """The recipe's network with the initial weights of its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build(recipe.model, recipe.network_options(classes))


def make_optimizer(recipe: Recipe, model: Network) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=True
            )
        case "sdlm":
            return StochasticDiagonalLM(parameters, recipe.lr, recipe.mu)


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


def make_epochs(
    recipe: Recipe,
    settings: Settings,
    device: torch.device,
    model: Network,
    optimizer: torch.optim.Optimizer,
    train: data.Split,
) -> tuple[Epochs, str]:
    """What runs the epochs, and why it was chosen."""
    if isinstance(optimizer, StochasticDiagonalLM):
        assert isinstance(model, LeNet5)
        if device.type != "cpu":
            raise LenetError("the optimizer sdlm runs on the CPU: use --device cpu")
        return Passes(recipe, model, optimizer, train), "one pattern at a time"
    found = engines.plan(recipe.model, model.options, recipe.loss, recipe.label_smoothing)
    name, reason = engines.choose(settings.engine, device.type, found)
    if name == "fused":
        assert isinstance(found, fused.Plan)
        step: Step = FusedStep(model, train, found, settings.threads)
    else:
        step = AutogradStep(model, train, make_criterion(recipe))
    return Minibatches(recipe, optimizer, step, name, len(train)), reason


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        LenetError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda:0"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            name = "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LenetError(f"no device {name!r} here: {str(error).splitlines()[0]}") from None
    return device


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """PyTorch uses so many CPU threads inside; None leaves its own choice."""
    before = torch.get_num_threads()
    if count is not None:
        if count < 1:
            raise LenetError(f"threads must be at least 1, not {count}")
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment(settings: Settings, reason: str, dataset: data.Dataset) -> dict[str, Any]:
    """What a reader needs to judge or repeat the run."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": dataclasses.asdict(settings),
        "engine_reason": reason,
        "data": {"name": dataset.name, "sha256": dataset.checksums},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# The run folder


def new_folder(name: str) -> Path:
    """A run folder that is not there yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        folder = Path("runs") / f"{name}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise LenetError(f"cannot make {folder}: {error.strerror}") from None
        return folder
    raise LenetError("cannot find a free name for the run folder; name one with --out")


def begin(
    folder: Path,
    recipe: Recipe,
    record: dict[str, Any],
    model: Network,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Takes up the folder's state, or writes recipe, environment and the state to start from."""
    state = folder / checkpoint.STATE
    if not state.exists():
        progress = {"epoch": 0, "seconds": 0.0, "examples": 0, "metrics_bytes": 0}
        write_text(folder / ENVIRONMENT, json.dumps(record, indent=2) + "\n")
        checkpoint.save_state(state, model, optimizer, progress)
        write_text(folder / RECIPE, json.dumps(recipe.as_dict(), indent=2) + "\n")
    else:
        progress = checkpoint.load_state(state, model, optimizer)
        before = json.loads((folder / ENVIRONMENT).read_text())
        if before["data"]["sha256"] != record["data"]["sha256"]:
            raise LenetError(f"the data have changed since {folder} was begun")
    # Metrics of an epoch whose state was not reached are written again.
    with (folder / METRICS).open("ab") as file:
        file.truncate(progress["metrics_bytes"])
    return progress


def append_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    try:
        with (folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(lines)
    except OSError as error:
        raise LenetError(
            f"cannot write {folder / METRICS}: {error.strerror}; when there is room again, go on "
            f"with: lenet train --resume {folder}"
        ) from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run folder's metrics.jsonl."""
    text = (folder / METRICS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def draw_curves(folder: Path, recipe: Recipe) -> None:
    title = f"{recipe.name}: {recipe.model} on {recipe.data}"
    plots.save(plots.training_curves(read_metrics(folder), title), folder / CURVES)


def tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise LenetError("TensorBoard is not installed: pip install 'lenet[tensorboard]'") from None
    return SummaryWriter(folder / "tensorboard")
