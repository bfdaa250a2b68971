"""Training: a recipe in, a run folder out."""

import dataclasses
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet import data
from lenet.data import Dataset, from_arrays
from lenet.engine.fused import flatten
from lenet.errors import LenetError, extra
from lenet.evaluation import metrics
from lenet.evaluation.evaluate import write_report
from lenet.files import checked_path
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.notebook import Display, chart, is_notebook
from lenet.progress import Progress as Bar
from lenet.training import run as folders
from lenet.training.engines import Job, by_name, choose_device, make_engine
from lenet.training.epochs import Minibatches, Record, Watch
from lenet.training.recipe import Recipe
from lenet.training.recipes import find
from lenet.training.run import Progress, Run, Settings, curves, read_metrics
from lenet.training.teachers import Teachers
from lenet.training.world import ALONE, LostProcessError, World, connected

if TYPE_CHECKING:
    from lenet.training.passes import Passes

OnEpoch = Callable[[dict[str, Any]], object]
# What is not a cross-entropy, as that of a report always is, is named.
LOSSES = {
    "cross-entropy": "loss",
    "mse": "squared error",
    "penalty": "penalty",
    "map": "criterion 9",
}
PLAIN = ("fashion-mnist", "kmnist")  # data sets whose pictures are taken whole


def train(
    recipe: str | Recipe = "mnist",
    *,
    data: str | Dataset | tuple[ArrayLike, ArrayLike] | None = None,
    on_epoch: OnEpoch | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
    data_dir: str | Path | None = None,
    tensorboard: bool = False,
    **changes: Any,
) -> Run:
    """Trains a network and writes a run folder.

    Shows a bar and a line for each epoch on a terminal; in a notebook a live plot of train loss,
    train accuracy and test accuracy.

    Args:
        recipe: a name in `lenet.RECIPES`, the path of a .json file, or a `lenet.Recipe`.
        data: instead of the recipe's: the name of a data set or the path of a folder, a
            `lenet.data.Dataset`, or images and labels as `lenet.data.from_arrays` takes them.
        on_epoch: is called with the metrics of each epoch (its line of metrics.jsonl: epoch,
            train_loss, train_accuracy, test_accuracy ...); what it returns, if true, ends training.
        out: the run folder, new or empty; runs/NAME-TIME by default.
        device: "auto" (CUDA if available, else CPU), or a device as PyTorch names it.
        engine: "auto", "fused" (our CPU kernels), "autograd" (PyTorch) or "graph" (PyTorch's step
            as one CUDA graph, never measured).
        threads: CPU threads; None for as many as this process may use.
        data_dir: folder of the public data sets; None for the default one.
        tensorboard: also write TensorBoard logs into the run folder.
        changes: other values for fields of the recipe, as in `train("mnist", epochs=3)`.

    Raises:
        LenetError: the recipe, the data, the device or the folder cannot be used; the loss became
            infinite.
    """
    if isinstance(recipe, str):
        recipe = find(recipe)
    if not isinstance(recipe, Recipe):
        raise LenetError(
            f"a {type(recipe).__name__} is no recipe: training takes a name, a .json file or a "
            "lenet.Recipe, and makes the network itself; train other modules in a loop of your own "
            "with lenet.data.Split in a DataLoader"
        )
    dataset = None
    if isinstance(data, str):
        changes["data"] = data
    elif data is not None:
        dataset = data if isinstance(data, Dataset) else from_arrays(*data)
        changes["data"] = dataset.name
    recipe = recipe.changed(**changes)
    if dataset is None:
        recipe = with_full_path(recipe)
    folder = checked_path(out) if out else None
    with connected() as world:
        if folder and world.first:
            folders.require_new(folder)  # before anything takes long; `begin` looks again
        settings = settings_for(recipe, device, engine, threads, data_dir, world, tensorboard)
        return proceed(world, folder, recipe, settings, True, dataset, on_epoch)


def settings_for(
    recipe: Recipe,
    device: str,
    engine: str,
    threads: int | None,
    data_dir: str | Path | None,
    world: World,
    tensorboard: bool = False,
) -> Settings:
    """The arguments of `train` with a definite device and number of threads, and full paths."""
    if recipe.optimisation.optimizer == "sdlm" and device == "auto":
        device = "cpu"  # a GPU would be slower, one pattern at a time
    return Settings(
        choose_device(device, world),
        engine,
        world.threads if threads is None else threads,
        str(checked_path(data_dir).resolve()) if data_dir else None,
        tensorboard,
        str(Path.cwd()),
        world.size,
    )


def with_full_path(recipe: Recipe) -> Recipe:
    """The recipe with an absolute path if its data are a folder."""
    own = checked_path(recipe.data)
    if recipe.data not in data.SOURCES and own.is_dir():
        recipe = recipe.changed(data=str(own.resolve()))
    return recipe


def resume(
    folder: str | Path,
    data: Dataset | tuple[ArrayLike, ArrayLike] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Continues a run that was stopped, and ends with the weights it would have had.

    Bit for bit on one machine with as many processes: each epoch depends only on the state after
    the one before and on the recipe's seed. With another number of processes, up to rounding.

    Args:
        folder: the run folder.
        data: what the run was begun with, if it was no name or folder.
        on_epoch: as for `train`.

    Raises:
        LenetError: the folder holds no run, or it cannot be resumed here.
    """
    folder = checked_path(folder)

    def begun() -> tuple[Recipe, Settings]:
        if not (folder / folders.RECIPE).is_file():
            raise LenetError(f"{folder} holds no run: there is no {folders.RECIPE}")
        settings, _ = folders.read_environment(folder)
        return Recipe.from_file(folder / folders.RECIPE), settings

    with connected() as world:
        recipe, settings = world.from_first(begun)
        if settings.processes != world.size:
            engine = "auto" if settings.engine == "graph" else settings.engine  # for one process
            settings = dataclasses.replace(
                settings, processes=world.size, threads=world.threads, engine=engine
            )
        dataset = data if isinstance(data, Dataset) or data is None else from_arrays(*data)
        return proceed(world, folder, recipe, settings, False, dataset, on_epoch)


def assemble(
    recipe: Recipe, dataset: Dataset, settings: Settings, world: World = ALONE
) -> "tuple[Minibatches | Passes, str]":
    """Prepares the training of a recipe on data, from its seed; also says why this engine.

    Raises:
        LenetError: recipe, data, device and engine do not go together.
    """
    shape = dataset.train.images.shape
    if recipe.distortion and shape[-1] != shape[-2]:
        raise LenetError(
            f"only square images can be distorted, not {shape[-2]}x{shape[-1]}: set shift, "
            "rotation and the like to 0"
        )
    architecture = recipe.architecture(dataset.train.channels, len(dataset.classes))
    weights = flatten(architecture.initial_weights(recipe.seed).values())
    device = choose_device(settings.device, world)
    job = Job(recipe, architecture, dataset.train, weights, device, settings.threads, world)
    if recipe.optimisation.optimizer == "sdlm":
        from lenet.training.passes import Passes  # and its kernels, which other recipes do not need

        passes = Passes(job)
        if settings.engine not in ("auto", passes.engine):
            raise LenetError(
                f"the optimizer sdlm runs by the engine {passes.engine} here, "
                f"not by {settings.engine}"
            )
        return passes, "one pattern at a time"
    engine, reason = make_engine(job, settings.engine)
    teachers = None
    if recipe.objective.teachers:
        began = Path(settings.working_dir)  # where relative paths of a resumed run start, too
        teachers = Teachers(recipe.objective, dataset.classes, settings.threads, began)
    return Minibatches(recipe, engine, dataset.train, teachers), reason


@dataclass(frozen=True)
class Session:
    """A run in progress.

    Attributes:
        world: the processes that share it; the first one writes and prints.
        part: what is measured after each epoch, "test" or "validation".
        board: writes TensorBoard logs; None without.
        on_epoch: see `train`.
    """

    world: World
    folder: Path
    recipe: Recipe
    dataset: Dataset
    part: str
    epochs: "Minibatches | Passes"
    progress: Progress
    board: Any
    on_epoch: OnEpoch | None


def proceed(
    world: World,
    folder: Path | None,
    recipe: Recipe,
    settings: Settings,
    new: bool,
    dataset: Dataset | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Trains from the folder's state, or from the start in a new folder, to the end."""
    board = tensorboard_writer() if settings.tensorboard else None
    if dataset is None:
        with world.in_turn():
            dataset = data.load(recipe.data, settings.data_dir, recipe.pictures, recipe.side)
    if recipe.validation:
        dataset = dataset.hold_out(recipe.validation)
    epochs, reason = assemble(recipe, dataset, settings, world)
    settings = dataclasses.replace(settings, engine=epochs.engine)
    record = folders.environment(settings, reason, dataset)
    # Created only now that everything else has been checked.
    folder = world.from_first(lambda: folder or folders.new_folder(recipe.name))
    with folders.held(folder) if world.first else nullcontext():
        state, progress = world.from_first(
            lambda: folders.begin(folder, recipe, record, epochs.state(), new)
        )
        try:
            epochs.restore(state)
        except LenetError as error:
            raise LenetError(f"{folder / folders.STATE}: {error}") from None
        if world.first:
            processes = f", {world.size} processes" if world.size > 1 else ""
            print(
                f"{recipe.name}: {recipe.model} on {recipe.data}, {settings.device}{processes}, "
                f"engine {epochs.engine} ({reason}); into {folder}",
                file=sys.stderr,
            )
        session = Session(
            world=world,
            folder=folder,
            recipe=recipe,
            dataset=dataset,
            part=folders.measured_part(recipe),
            epochs=epochs,
            progress=progress,
            board=board(str(folder / "tensorboard")) if board and world.first else None,
            on_epoch=on_epoch,
        )
        scores = run_to_the_end(session)
        return finish(session, scores, settings.device)


def run_to_the_end(session: Session) -> NDArray[np.float32]:
    """Runs the remaining epochs; says how to resume if it is stopped."""
    folder, epochs = session.folder, session.recipe.optimisation.epochs
    try:
        return run_epochs(session)
    except KeyboardInterrupt:
        if session.world.first:
            print(
                f"\nStopped. Epochs up to {session.progress.epoch} of {epochs} are kept; resume "
                f"with: lenet train --resume {folder}",
                file=sys.stderr,
            )
        raise
    except LostProcessError as error:
        raise LenetError(
            f"{error}. The run is kept up to its last whole epoch; resume it, alone or under "
            f"torchrun with any number of processes, with: lenet train --resume {folder}"
        ) from None


def run_epochs(session: Session) -> NDArray[np.float32]:
    """Runs the remaining epochs, and saves metrics and state after each."""
    recipe, test, progress = session.recipe, session.dataset.test, session.progress
    plot = Display() if is_notebook() and session.world.first else None
    epochs = recipe.optimisation.epochs
    left = range(progress.epoch + 1, epochs + 1)
    scores = None
    with Bar(
        recipe.name, len(left) * len(session.dataset.train), quiet=not session.world.first
    ) as bar:
        for epoch in left:
            started = time.perf_counter()
            steps = session.epochs.run(epoch, Watch(bar, recipe, epoch))
            seconds = time.perf_counter() - started
            scores = session.epochs.scores(test.images)
            if not np.isfinite(scores).all():
                raise LenetError(f"scores are not finite after epoch {epoch}: lower lr")
            save_epoch(session, epoch, steps, seconds, scores)
            words = f"epoch {epoch}/{epochs}  {result_words(session)}"
            if plot:
                plot.show(chart(curves(read_metrics(session.folder)), "epoch"), words)
            else:
                bar.say(words)
            if is_stopped(session):
                break
    if session.board:
        session.board.close()
    return session.epochs.scores(test.images) if scores is None else scores


def is_stopped(session: Session) -> bool:
    """Whether the caller's function ends training after the last epoch."""
    on_epoch, last = session.on_epoch, session.progress.last
    if on_epoch is None or last is None:
        return False
    return session.world.from_first(lambda: bool(on_epoch(dict(last))))


def save_epoch(
    session: Session,
    epoch: int,
    steps: list[Record],
    seconds: float,
    scores: NDArray[np.float32],
) -> None:
    """Writes an epoch's metrics, then the state that records their length."""
    test, progress = session.dataset.test, session.progress
    examples = sum(step["examples"] for step in steps)
    record = {
        "epoch": epoch,
        "train_loss": sum(s["loss"] * s["examples"] for s in steps) / examples,
        "train_accuracy": sum(s["accuracy"] * s["examples"] for s in steps) / examples,
        f"{session.part}_loss": metrics.cross_entropy(scores.astype(np.float64), test.labels),
        f"{session.part}_accuracy": float(np.mean(scores.argmax(1) == test.labels)),
        "lr": steps[-1]["lr"],
        "seconds": seconds,
    }
    progress.epoch, progress.last = epoch, record
    progress.seconds += seconds
    progress.examples += examples
    if not session.world.first:
        return
    progress.metrics_bytes = folders.append_metrics(session.folder, [*steps, record])
    state = session.epochs.state()
    folders.save_state(session.folder / folders.STATE, session.recipe, state, progress)
    if session.board:
        for name, value in record.items():
            session.board.add_scalar(name, value, epoch)


def result_words(session: Session) -> str:
    """Loss and accuracies after the last epoch, as the articles print them."""
    last, part = session.progress.last, session.part
    assert last
    return (
        f"{LOSSES[session.recipe.objective.loss]} {last['train_loss']:.3f}, "
        f"train acc {last['train_accuracy']:.3f}, {part} acc {last[f'{part}_accuracy']:.3f}"
    )


def finish(session: Session, scores: NDArray[np.float32], device: str) -> Run:
    """Evaluates the trained network and writes its report and weights."""
    dataset, recipe, progress = session.dataset, session.recipe, session.progress
    report = metrics.report(scores, dataset.test.labels, dataset.classes)
    card = {
        "classes": list(dataset.classes),
        "recipe": recipe.as_dict(),
        **preprocessing(recipe, dataset),
        "data": {"name": dataset.name, "sha256": dataset.checksums},
        "measured_on": session.part,
        "error": report.error,
        "rejection_threshold": report.trust_threshold,
    }
    file = session.folder / checkpoint.WEIGHTS
    architecture, state = session.epochs.architecture, session.epochs.state()
    weights = by_name(architecture, state.get("average", state["weights"]).copy())
    network = Checkpoint(file, architecture, card, weights)
    if session.world.first:
        checkpoint.write(file, architecture, weights, card)  # first: it is what took the time
        write_report(session.folder, report)
        warn_of_chance(recipe, report)
    rate = progress.examples / max(progress.seconds, 1e-9)
    return Run(session.folder, recipe, network, report, result_words(session), rate, device)


def preprocessing(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What a card says of how pictures become images like those that were trained on."""
    how, side = recipe.pictures, max(dataset.train.images.shape[-2:])
    if dataset.train.channels > 1:
        how = "color"
    elif side != 28 or dataset.name in PLAIN:
        how = "plain"
    return {"preprocessing": how} | ({} if side == 28 else {"image_size": side})


def warn_of_chance(recipe: Recipe, report: metrics.Report) -> None:
    """Warns if a network has learned nothing, and names the usual cause."""
    if report.accuracy > 1.5 / len(report.classes):
        return
    values = recipe.as_dict()
    advice = f"try a lower lr than {values['lr']:g}"
    if values.get("activation") == "sigmoid":
        advice = f"sigmoid units learn slowly at first: try a higher lr than {values['lr']:g}"
        advice += ", more epochs or --activation relu with a lower one"
    print(
        f"lenet: the network answers no better than chance ({report.accuracy:.1%} right): {advice}",
        file=sys.stderr,
    )


def tensorboard_writer() -> Any:
    with extra("tensorboard"):
        from tensorboard.summary import Writer
    return Writer
