"""Run folders: what a training run writes, and what it needs to be resumed.

recipe.json, environment.json, metrics.jsonl and state.safetensors (all that the next epoch
depends on) exist from the first epoch on; report.json and weights.safetensors are written last.
"""

import datetime
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet import fields, notebook
from lenet.data import Dataset
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError, extra
from lenet.evaluation.metrics import Report
from lenet.files import remove_partial, replacing, write_text
from lenet.networks.checkpoint import Checkpoint, read_tensors, save_tensors
from lenet.training.engines import Flat
from lenet.training.recipe import Recipe

if TYPE_CHECKING:
    from lenet.networks.torch import Network

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RECIPE, ENVIRONMENT, METRICS = "recipe.json", "environment.json", "metrics.jsonl"
STATE = "state.safetensors"
MOST_THREADS = 256
POINTS = 5  # of a training curve in an epoch


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training run.

    Attributes:
        path: the run folder.
        recipe: what was trained.
        network: the trained network as it lies on disk.
        report: its evaluation on the test (or validation) split.
        words: loss, training and test accuracy after the last epoch, as the articles print them.
        examples_per_second: images trained on in a second, evaluation not counted.
        device: where it was trained.
    """

    path: Path
    recipe: Recipe
    network: Checkpoint
    report: Report
    words: str
    examples_per_second: float
    device: str

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, recipe {self.recipe.name}: {self.words})"

    def _repr_html_(self) -> str:
        """The curves of training beside what was measured."""
        measured = [
            ("recipe", self.recipe.name),
            ("error", f"{self.report.error:.2%}"),
            ("mean cross-entropy", f"{self.report.loss:.4f}"),
            ("examples/sec", f"{self.examples_per_second:,.0f} on {self.device}"),
            ("folder", self.path),
        ]
        return notebook.beside(
            notebook.chart(curves(self.metrics), "epoch"), notebook.table(measured)
        )

    @cached_property
    def model(self) -> "Network":
        """The trained network as a PyTorch module, in evaluation mode.

        Raises:
            LenetError: PyTorch is not installed.
        """
        with extra("torch"):
            from lenet.networks import torch
        return torch.restore(self.network)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds: one dict a step (key "step") or epoch (key "epoch")."""
        return read_metrics(self.path)


@dataclass(frozen=True)
class Settings:
    """Where and how a run is executed, as `train` takes it; device and threads are definite.

    `threads` are those of each process. Relative paths of teachers start in `working_dir`.
    """

    device: str
    engine: str
    threads: int
    data_dir: str | None
    tensorboard: bool
    working_dir: str
    processes: int = 1

    def __post_init__(self) -> None:
        fields.check(self)
        fields.require(
            self, threads=1 <= self.threads <= MOST_THREADS, processes=self.processes >= 1
        )


@dataclass
class Progress:
    """The progress of a run, kept with its state.

    Attributes:
        epoch: the last whole one, 0 before the first.
        seconds: of training so far, evaluation not counted.
        examples: trained on so far.
        metrics_bytes: length of metrics.jsonl.
        last: its record of the last epoch.
    """

    epoch: int = 0
    seconds: float = 0.0
    examples: int = 0
    metrics_bytes: int = 0
    last: dict[str, Any] | None = None

    def check(self, epochs: int) -> None:
        """Refuses what no run writes.

        Raises:
            LenetError: it names the value.
        """
        fields.check(self)
        fields.require(
            self,
            epoch=0 <= self.epoch <= epochs,
            seconds=self.seconds >= 0,
            examples=self.examples >= 0,
            metrics_bytes=self.metrics_bytes >= 0,
            last=self.last is None if self.epoch == 0 else isinstance(self.last, dict),
        )


def new_folder(name: str) -> Path:
    """Creates a new run folder."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        folder = Path("runs") / f"{name}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise LenetError(f"cannot create {folder}: {error.strerror}") from None
        return folder
    raise LenetError("cannot find a free name for the run folder; name one with --out")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Creates a run folder if it is missing, and keeps other processes of this machine out of it.

    Raises:
        LenetError: another process trains there, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LenetError(f"cannot create {folder}: {error.strerror}") from None
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LenetError(f"another process is training into {folder}") from None
    except OSError:  # the file system has no locks
        pass
    try:
        yield
    finally:
        os.close(handle)


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return any((folder / file).exists() for file in (RECIPE, STATE))


def begin(
    folder: Path, recipe: Recipe, record: dict[str, Any], state: dict[str, Flat]
) -> tuple[dict[str, Flat], Progress]:
    """Reads the folder's state, or writes recipe, environment and the state to start from.

    Args:
        record: what `environment` says of this run.
        state: what it starts from if it is new.

    Raises:
        LenetError: the folder's files are damaged, do not belong together, or not to the recipe.
    """
    remove_partial(folder)
    file = folder / STATE
    progress = Progress()
    if file.exists():
        state, progress = load_state(file, recipe)
        _, checksums = read_environment(folder)
        if checksums != record["data"]["sha256"]:
            raise LenetError(f"the data have changed since {folder} was begun")
    elif (folder / METRICS).exists() and (folder / METRICS).stat().st_size:
        raise LenetError(f"{file} is missing: the run in {folder} cannot be resumed")
    else:
        write_text(folder / ENVIRONMENT, json.dumps(record, indent=2) + "\n")
        write_text(folder / RECIPE, json.dumps(recipe.as_dict(), indent=2) + "\n")
        save_state(file, recipe, state, progress)
    # The metrics of an epoch whose state was not saved are written again.
    with (folder / METRICS).open("ab+") as metrics:
        length = progress.metrics_bytes
        if metrics.tell() < length:
            raise LenetError(f"{folder / METRICS} is shorter than when the run was stopped")
        if length:
            metrics.seek(length - 1)
            if metrics.read(1) != b"\n":
                raise LenetError(f"{folder / METRICS} has changed since the run was stopped")
        metrics.truncate(length)
    return state, progress


def save_state(file: Path, recipe: Recipe, state: dict[str, Flat], progress: Progress) -> None:
    """Writes all that the next epoch depends on, in one piece."""
    content = {"recipe": recipe.as_dict(), "progress": asdict(progress)}
    metadata = {name: json.dumps(value) for name, value in content.items()}
    with replacing(file) as temporary:
        save_tensors(dict(state), temporary, metadata)


def load_state(file: Path, recipe: Recipe) -> tuple[dict[str, Flat], Progress]:
    """What `save_state` wrote.

    Raises:
        LenetError: the file is missing, damaged, or of another recipe.
    """
    metadata, state = read_tensors(file)
    if "recipe" not in metadata:
        raise LenetError(
            f"{file} was not written by this version: start another run with the run's {RECIPE}"
        )
    try:
        begun = Recipe.from_dict(json.loads(metadata["recipe"]), "its recipe").as_dict()
        progress = Progress(**json.loads(metadata["progress"]))
        progress.check(recipe.optimisation.epochs)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise LenetError(f"{file} is not a training state: {error}") from None
    if changed := sorted(k for k, v in recipe.as_dict().items() if begun.get(k) != v):
        raise LenetError(
            f"{', '.join(changed)} in {file.parent / RECIPE} changed since the run was begun; "
            "restore it, or start another run with --out"
        )
    for name, array in state.items():
        if array.dtype != np.float32:
            raise LenetError(f"{file}: {name} is {array.dtype}, expected float32")
    return state, progress


def read_environment(folder: Path) -> tuple[Settings, dict[str, str]]:
    """Reads the settings and the checksums of the data that a run was begun with.

    Raises:
        LenetError: the run's environment.json is missing or damaged.
    """
    file = folder / ENVIRONMENT
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Settings(**record["settings"]), record["data"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LenetError(f"{file} cannot be used: {error}") from None


def append_metrics(folder: Path, records: list[dict[str, Any]]) -> int:
    """Appends lines to metrics.jsonl; returns its new length in bytes."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    try:
        with (folder / METRICS).open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())  # before the state that refers to them
            return file.tell()
    except OSError as error:
        raise LenetError(
            f"cannot write {folder / METRICS}: {error.strerror}; when there is room again, resume "
            f"with: lenet train --resume {folder}"
        ) from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Reads all records of a run folder's metrics.jsonl."""
    text = (folder / METRICS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def curves(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points (epoch, value) of the curves that the articles plot, from lines of metrics.jsonl.

    Train loss and train accuracy have five points an epoch, which are means over its fifths.
    """
    fifths: dict[int, list[dict[str, Any]]] = {}
    measured: list[tuple[str, tuple[float, float]]] = []
    for record in records:
        if "step" in record:
            fifths.setdefault(math.ceil(POINTS * record["position"] - 1e-6), []).append(record)
        else:
            name = next(n for n in ("test_accuracy", "validation_accuracy") if n in record)
            measured.append((name, (record["epoch"], record[name])))
    points = {
        f"train {name}": [
            (
                fifth / POINTS,
                sum(s[name] * s["examples"] for s in steps) / sum(s["examples"] for s in steps),
            )
            for fifth, steps in fifths.items()
        ]
        for name in ("loss", "accuracy")
    }
    for name, point in measured:
        points.setdefault(name.replace("_", " "), []).append(point)
    return points


def environment(settings: Settings, reason: str, dataset: Dataset) -> dict[str, Any]:
    """What one needs to judge or repeat the run."""
    torch = sys.modules.get("torch")
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "engine_reason": reason,
        "data": {"name": dataset.name, "sha256": dataset.checksums},
        "python": platform.python_version(),
        "torch": torch.__version__ if torch else None,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": usable_cores(),
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
