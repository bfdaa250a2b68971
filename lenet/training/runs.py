"""Run folders: what a training run leaves on disk, and what was known when it began.

recipe.json, environment.json, metrics.jsonl and state.safetensors (all that the next epoch
depends on) are there from the first epoch on; weights.safetensors, report.json and the figures
come when training is through.
"""

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lenet.data import Dataset
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError
from lenet.evaluation.metrics import Report
from lenet.figures import plots
from lenet.files import write_text
from lenet.networks import checkpoint
from lenet.networks.models import Network
from lenet.training.recipes import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RECIPE, ENVIRONMENT, METRICS = "recipe.json", "environment.json", "metrics.jsonl"
CURVES = "curves.png"


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        path: the run folder.
        recipe: what was trained.
        model: the trained network, in evaluation mode.
        report: its evaluation on the test (or validation) split.
        words: loss, training and test accuracy after the last epoch, as the articles print them.
        examples_per_second: images trained on in a second, evaluation not counted.
        device: where it was trained.
    """

    path: Path
    recipe: Recipe
    model: Network
    report: Report
    words: str
    examples_per_second: float
    device: str

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds: one dict a step (key "step") or epoch (key "epoch")."""
        return read_metrics(self.path)


@dataclass(frozen=True)
class Settings:
    """Where and how a run is executed, as `train` takes it; device and threads are definite.

    threads are those of each of the processes. Relative paths of teachers start in `working_dir`.
    """

    device: str
    engine: str
    threads: int
    data_dir: str | None
    tensorboard: bool
    working_dir: str
    processes: int = 1


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


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes of this machine out of a run folder, which is made where it is missing.

    Raises:
        LenetError: another process trains there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LenetError(f"cannot make {folder}: {error.strerror}") from None
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


def begin(
    folder: Path,
    recipe: Recipe,
    record: dict[str, Any],
    networks: dict[str, Network],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Takes up the folder's state, or writes recipe, environment and the state to start from."""
    state = folder / checkpoint.STATE
    if not state.exists():
        progress = {"epoch": 0, "seconds": 0.0, "examples": 0, "metrics_bytes": 0}
        write_text(folder / ENVIRONMENT, json.dumps(record, indent=2) + "\n")
        write_text(folder / RECIPE, json.dumps(recipe.as_dict(), indent=2) + "\n")
        checkpoint.save_state(state, networks, optimizer, progress)
    else:
        progress = checkpoint.load_state(state, networks, optimizer)
        _, checksums = read_environment(folder)
        if checksums != record["data"]["sha256"]:
            raise LenetError(f"the data have changed since {folder} was begun")
    # Metrics of an epoch whose state was not reached are written again.
    with (folder / METRICS).open("ab") as file:
        if file.tell() < progress["metrics_bytes"]:
            raise LenetError(f"{folder / METRICS} is shorter than when the run was stopped")
        file.truncate(progress["metrics_bytes"])
    return progress


def read_environment(folder: Path) -> tuple[Settings, dict[str, str]]:
    """The settings and the data's checksums that a run was begun with.

    Raises:
        LenetError: the run's environment.json is missing or damaged.
    """
    file = folder / ENVIRONMENT
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Settings(**record["settings"]), record["data"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LenetError(f"{file} cannot be used: {error}") from None


def append_metrics(folder: Path, records: list[dict[str, Any]]) -> int:
    """Appends lines to metrics.jsonl; returns its new length in bytes."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    try:
        with (folder / METRICS).open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())  # before the state that counts on them
            return file.tell()
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


def environment(settings: Settings, reason: str, dataset: Dataset) -> dict[str, Any]:
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
        "cores": usable_cores(),
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
