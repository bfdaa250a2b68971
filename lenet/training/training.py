"""Training: a recipe in, a run folder out."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lenet import data
from lenet.engine.steps import cpu_threads
from lenet.errors import LenetError, extra
from lenet.evaluation import evaluation, metrics
from lenet.networks import checkpoint
from lenet.networks.models import Network, build
from lenet.progress import Progress
from lenet.training import runs
from lenet.training.distillation import Teachers
from lenet.training.distributed import LostProcessError, World, connected
from lenet.training.epochs import Epochs, Watch, make_epochs
from lenet.training.optim import SGD, StochasticDiagonalLM
from lenet.training.recipes import Recipe, find
from lenet.training.runs import Run, Settings

REDRAW_INTERVAL = 10.0  # seconds between drawings of the curves while training runs


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
        recipe: a name in `lenet.RECIPES`, the path of a .json file, or a `lenet.Recipe`.
        out: the run folder, new or empty; runs/NAME-TIME by default.
        device: "auto" (CUDA, else MPS, else CPU), or a device as PyTorch names it.
        engine: "auto", "fused" (our CPU kernels), "autograd" (PyTorch) or "graph" (PyTorch's step
            as one CUDA graph).
        threads: CPU threads; None for as many as this process may use.
        data_dir: folder of the public data sets; None for the usual one.
        tensorboard: also write TensorBoard logs into the run folder.

    Raises:
        LenetError: the recipe, the data, the device or the folder cannot be used; the loss became
            infinite.
    """
    if isinstance(recipe, str):
        recipe = find(recipe)
    folder = Path(out) if out else None
    if recipe.optimizer == "sdlm" and device == "auto":
        device = "cpu"  # one pattern at a time is no work for a GPU
    recipe = with_full_path(recipe)
    with connected() as world:
        if folder and world.first and is_run(folder):
            raise LenetError(f"{folder} already holds a run; go on with it by --resume {folder}")
        settings = Settings(
            str(choose_device(device)),
            engine,
            world.threads if threads is None else threads,
            str(Path(data_dir).expanduser().resolve()) if data_dir else None,
            tensorboard,
            str(Path.cwd()),
            world.size,
        )
        return proceed(world, folder, recipe, settings)


def with_full_path(recipe: Recipe) -> Recipe:
    """The recipe with a path to data of one's own that holds from anywhere."""
    own = Path(recipe.data).expanduser()
    if recipe.data not in data.SOURCES and own.is_dir():
        recipe = dataclasses.replace(recipe, data=str(own.resolve()))
    return recipe


def is_run(folder: Path) -> bool:
    return any((folder / file).exists() for file in (runs.RECIPE, checkpoint.STATE))


def resume(folder: str | Path) -> Run:
    """Goes on with a run that was stopped, and ends with the weights it would have had.

    Bit for bit on one machine with as many processes: each epoch depends on the state after the
    one before, on the recipe's seed and on nothing else. With another number of processes, up to
    rounding.

    Raises:
        LenetError: the folder holds no run, or it cannot be gone on with here.
    """
    folder = Path(folder)

    def begun() -> tuple[Recipe, Settings]:
        if not (folder / runs.RECIPE).is_file():
            raise LenetError(f"{folder} holds no run: there is no {runs.RECIPE}")
        settings, _ = runs.read_environment(folder)
        return Recipe.from_file(folder / runs.RECIPE), settings

    with connected() as world:
        recipe, settings = world.from_first(begun)
        if settings.processes != world.size:
            engine = "auto" if settings.engine == "graph" else settings.engine  # for one process
            settings = dataclasses.replace(
                settings, processes=world.size, threads=world.threads, engine=engine
            )
        return proceed(world, folder, recipe, settings)


@dataclass(frozen=True)
class Session:
    """A run that is under way.

    Attributes:
        world: the processes that share it; the first one writes and prints.
        part: what is measured after each epoch, "test" or "validation".
        networks: what the state holds: the "model" that is trained and, where the recipe averages
            its weights, the "average".
        progress: epochs, seconds and examples so far, and the length of metrics.jsonl.
    """

    world: World
    folder: Path
    recipe: Recipe
    dataset: data.Dataset
    part: str
    networks: dict[str, Network]
    optimizer: torch.optim.Optimizer
    epochs: Epochs
    progress: dict[str, Any]
    board: Any


def proceed(world: World, folder: Path | None, recipe: Recipe, settings: Settings) -> Run:
    """Trains from the folder's state, or from the start in a new folder, to the end."""
    with world.in_turn():
        dataset = data.load(recipe.data, settings.data_dir)
    if recipe.validation:
        dataset = dataset.hold_out(recipe.validation)
    device = world.device(choose_device(settings.device))
    model = initial_network(recipe, len(dataset.classes)).to(device)
    optimizer = make_optimizer(recipe, model)
    with cpu_threads(settings.threads):
        epochs, reason = make_epochs(
            *(recipe, device, settings.engine, settings.threads, model, optimizer, dataset.train),
            make_teachers(recipe, dataset.classes, settings),
            world,
        )
        settings = dataclasses.replace(settings, engine=epochs.engine)
        record = runs.environment(settings, reason, dataset)
        networks = {"model": model}
        if epochs.network is not model:
            networks["average"] = epochs.network
        # Only now: nothing is wrong with the rest.
        folder = world.from_first(lambda: folder or runs.new_folder(recipe.name))
        with runs.held(folder) if world.first else nullcontext():
            progress = {}
            if world.first:
                progress = runs.begin(folder, recipe, record, networks, optimizer)
                processes = f", {world.size} processes" if world.size > 1 else ""
                print(
                    f"{recipe.name}: {recipe.model} on {recipe.data}, {device}{processes}, "
                    f"engine {epochs.engine} ({reason}); into {folder}",
                    file=sys.stderr,
                )
            session = Session(
                world=world,
                folder=folder,
                recipe=recipe,
                dataset=dataset,
                part="validation" if recipe.validation else "test",
                networks=networks,
                optimizer=optimizer,
                epochs=epochs,
                board=tensorboard_writer(folder) if settings.tensorboard and world.first else None,
                progress=world.share_state(networks, optimizer, progress),
            )
            run_to_the_end(session)
            return finish(session, settings.device)


def run_to_the_end(session: Session) -> None:
    folder = session.folder
    try:
        run_epochs(session)
    except KeyboardInterrupt:
        if session.world.first:
            print(
                f"\nStopped. Epochs up to {session.progress['epoch']} of {session.recipe.epochs} "
                f"are kept; go on with: lenet train --resume {folder}",
                file=sys.stderr,
            )
        raise
    except LostProcessError as error:
        raise LenetError(
            f"{error}. The run is kept as it was after its last whole epoch; go on, alone or "
            f"under torchrun with any number of processes, with: lenet train --resume {folder}"
        ) from None


def run_epochs(session: Session) -> None:
    """Runs the epochs that are left; after each, its metrics and the state are on disk."""
    recipe, test, progress = session.recipe, session.dataset.test, session.progress
    drawn = time.perf_counter()
    left = range(progress["epoch"] + 1, recipe.epochs + 1)
    total = len(left) * len(session.dataset.train)
    with Progress(recipe.name, total, quiet=not session.world.first) as bar:
        for epoch in left:
            started = time.perf_counter()
            steps = session.epochs.run(epoch, Watch(bar, recipe, epoch))
            seconds = time.perf_counter() - started
            scores = session.epochs.scores(test.images)
            if not np.isfinite(scores).all():
                raise LenetError(f"scores are not finite after epoch {epoch}: lower lr")
            report = metrics.report(scores, test.labels, session.dataset.classes)
            save_epoch(session, epoch, steps, seconds, report)
            bar.say(f"epoch {epoch}/{recipe.epochs}  {result_words(session)}")
            if session.world.first and time.perf_counter() - drawn > REDRAW_INTERVAL:
                runs.draw_curves(session.folder, recipe)
                drawn = time.perf_counter()
    if session.board:
        session.board.close()


def save_epoch(
    session: Session,
    epoch: int,
    steps: list[dict[str, Any]],
    seconds: float,
    report: metrics.Report,
) -> None:
    """Writes an epoch's metrics, then the state that says that they are there."""
    examples = sum(step["examples"] for step in steps)
    record = {
        "epoch": epoch,
        "train_loss": sum(s["loss"] * s["examples"] for s in steps) / examples,
        "train_accuracy": sum(s["accuracy"] * s["examples"] for s in steps) / examples,
        f"{session.part}_loss": report.loss,
        f"{session.part}_accuracy": report.accuracy,
        "lr": steps[-1]["lr"],
        "seconds": seconds,
    }
    progress = session.progress
    progress["epoch"], progress["last"] = epoch, record
    progress["seconds"] += seconds
    progress["examples"] += examples
    if not session.world.first:
        return
    progress["metrics_bytes"] = runs.append_metrics(session.folder, [*steps, record])
    state = session.folder / checkpoint.STATE
    checkpoint.save_state(state, session.networks, session.optimizer, progress)
    if session.board:
        for name, value in record.items():
            session.board.add_scalar(name, value, epoch)


def result_words(session: Session) -> str:
    """Loss and accuracies after the last epoch, as the articles print them."""
    last, part = session.progress["last"], session.part
    return (
        f"loss {last['train_loss']:.3f}, train acc {last['train_accuracy']:.3f}, "
        f"{part} acc {last[f'{part}_accuracy']:.3f}"
    )


def finish(session: Session, device: str) -> Run:
    """Evaluates the trained network and writes weights, report and figures."""
    dataset, recipe, progress = session.dataset, session.recipe, session.progress
    network, scores = session.epochs.network, session.epochs.scores(dataset.test.images)
    report = metrics.report(scores, dataset.test.labels, dataset.classes)
    network.card = {
        "classes": list(dataset.classes),
        "recipe": recipe.as_dict(),
        "preprocessing": "digit" if dataset.name != "fashion-mnist" else "plain",
        "data": {"name": dataset.name, "sha256": dataset.checksums},
        "measured_on": session.part,
        "error": report.error,
        "rejection_threshold": report.trust_threshold,
    }
    if session.world.first:
        runs.draw_curves(session.folder, recipe)
        evaluation.write(session.folder, report, scores, dataset.test)
        # Last: weights mark a run as finished.
        checkpoint.save(network, session.folder / checkpoint.WEIGHTS)
    rate = progress["examples"] / max(progress["seconds"], 1e-9)
    return Run(session.folder, recipe, network.eval(), report, result_words(session), rate, device)


# What a run consists of


def initial_network(recipe: Recipe, classes: int) -> Network:
    """The recipe's network with the initial weights of its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            return build(recipe.model, recipe.network_options(classes))
        except RuntimeError as error:  # PyTorch's word for too little memory
            reason = str(error).splitlines()[0]
            raise LenetError(f"this {recipe.model} cannot be built: {reason}") from None


def make_optimizer(recipe: Recipe, model: Network) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    match recipe.optimizer:
        case "sgd":
            return SGD(
                parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=True
            )
        case "sdlm":
            return StochasticDiagonalLM(parameters, recipe.lr, recipe.mu)


def make_teachers(recipe: Recipe, classes: Sequence[str], settings: Settings) -> Teachers | None:
    if not recipe.teachers:
        return None
    began = Path(settings.working_dir)  # where relative paths of a resumed run start, too
    names = [str(began / name) if (began / name).exists() else name for name in recipe.teachers]
    return Teachers(names, classes, recipe.temperature, settings.threads)


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
        torch.ones(1, device=device).item()  # some names that PyTorch knows hold no numbers
    except (RuntimeError, AssertionError) as error:
        raise LenetError(f"no device {name!r} here: {str(error).splitlines()[0]}") from None
    return device


def tensorboard_writer(folder: Path) -> Any:
    with extra("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter(folder / "tensorboard")
