"""Sweeps: many trainings of one recipe with other values, and the best of them as a recipe.

A trial trains on all but the held-out part of the training images and is measured on that part
after each epoch; the test set is not used. The folder of a sweep has sweep.json (what it varies),
study.db (the trials, unless they are in a shared database), and at the end trials.csv, best.json
and parallel.png.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet import data
from lenet.errors import LenetError
from lenet.figures import style, sweeps
from lenet.files import write_text
from lenet.progress import Progress
from lenet.sweep import studies
from lenet.sweep.search_space import Dimension, recipe_at, search_space, spelled
from lenet.sweep.studies import FrozenTrial, Trial, TrialPruned, TrialState
from lenet.training.epochs import Watch
from lenet.training.recipe import Recipe
from lenet.training.run import Settings
from lenet.training.train import assemble, settings_for, with_full_path
from lenet.training.world import find_world

SWEEP, TRIALS, BEST = "sweep.json", "trials.csv", "best.json"
PARALLEL = "parallel.png"
VALIDATION = 10_000  # training images held out if the recipe does not say
DEFAULT_TRIALS = 50
HEARTBEAT = 20  # seconds


@dataclass(frozen=True)
class Result:
    """One trial.

    Attributes:
        number: from 0.
        state: "complete"; "pruned", stopped early; "impossible" if there is no such network or
            its loss became infinite; or "failed" if its process ended.
        error: share of wrong answers on the validation part after the last epoch.
        epochs: how many were run.
        seconds: wall time.
        values: field -> the recipe's value.
        reason: why it is impossible or failed.
    """

    number: int
    state: str
    error: float | None
    epochs: int
    seconds: float
    values: dict[str, Any]
    reason: str

    @property
    def words(self) -> str:
        what = f"{self.state}: {self.reason}" if self.error is None else f"{self.error:.2%} error"
        early = f" after epoch {self.epochs}, pruned" if self.state == "pruned" else ""
        values = ", ".join(f"{field} {shown(value)}" for field, value in self.values.items())
        return f"trial {self.number}: {what}{early}; {values}"


def shown(value: Any) -> str:
    """A recipe's value as it is printed: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else spelled(value)


@dataclass(frozen=True)
class Outcome:
    """A finished sweep.

    Attributes:
        folder: where its files are.
        name: of the study.
        best: the winning recipe, to be trained on all training images.
        results: all trials, the best first.
        importances: as `studies.importances` returns them.
    """

    folder: Path
    name: str
    best: Recipe
    results: tuple[Result, ...]
    importances: dict[str, float]


def sweep(
    recipe: Recipe,
    vary: Sequence[str],
    *,
    trials: int = DEFAULT_TRIALS,
    out: str | Path | None = None,
    storage: str | None = None,
    heartbeat: int = HEARTBEAT,
    device: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
    data_dir: str | Path | None = None,
) -> Outcome:
    """Runs trials until `trials` of them are finished, counting those of other processes.

    The same call again continues the same sweep, also beside this one and on other machines.

    Args:
        recipe: what is varied; its `validation` images, or 10,000, are held out.
        vary: the search space, as `lenet.sweep.search_space` spells them.
        out: the folder; sweeps/NAME by default, where NAME depends on recipe, search space and
            data.
        storage: URL of a database; a SQLite file in the folder by default.
        heartbeat: seconds between heartbeats in the database; a process that misses three is
            considered dead, and its trial is run again.
        device, engine, threads, data_dir: as for `lenet.train`.

    Raises:
        LenetError: a value, the data, the database or the folder cannot be used; no trial was
            possible.
    """
    if trials < 1 or heartbeat < 1:
        raise LenetError("trials and heartbeat must be at least 1")
    recipe = with_full_path(recipe)
    recipe = recipe.changed(validation=recipe.validation or VALIDATION)
    space = search_space(vary, recipe)
    dataset = data.load(recipe.data, data_dir, recipe.pictures, recipe.side).hold_out(
        recipe.validation
    )
    settings = settings_for(recipe, device, engine, threads, data_dir, find_world())
    name = study_name(recipe, vary, dataset.checksums)
    folder = Path(out) if out else Path("sweeps") / name
    url = studies.checked_url(storage) if storage else studies.sqlite_url(folder / "study.db")
    begin(folder, Plan(recipe, tuple(vary), trials, storage and studies.without_password(url)))
    with studies.database(url, heartbeat) as database:
        study = studies.open_study(
            database, name, recipe.seed, max(1, recipe.optimisation.epochs // 4)
        )
        with Progress(f"sweep {name}", trials) as bar:
            trainer = Trainer(recipe, space, dataset, settings, bar)
            try:
                studies.work(study, database, trials, trainer.train, trainer.tell)
            except KeyboardInterrupt:
                bar.say(f"\nStopped. Trials are kept; resume with: lenet sweep --resume {folder}")
                raise
        results = tuple(sorted((result(trial, space) for trial in study.trials), key=rank))
        importances = studies.importances(study)
    outcome = Outcome(folder, name, winner(recipe, results), results, importances)
    write(outcome, space)
    return outcome


@dataclass(frozen=True)
class Plan:
    """What sweep.json holds: the arguments of `sweep` with which it is resumed.

    `storage` has no password.
    """

    recipe: Recipe
    vary: tuple[str, ...]
    trials: int
    storage: str | None


def read(folder: Path) -> Plan:
    """The plan of the sweep in this folder.

    Raises:
        LenetError: the folder holds no sweep, or its sweep.json is damaged.
    """
    file = folder / SWEEP
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        recipe = Recipe.from_dict(kept["recipe"], str(file))
        return Plan(recipe, tuple(kept["vary"]), int(kept["trials"]), kept["storage"])
    except FileNotFoundError:
        raise LenetError(f"{folder} holds no sweep: there is no {SWEEP}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LenetError(f"{file} cannot be used: {error}") from None


def study_name(recipe: Recipe, vary: Sequence[str], checksums: dict[str, str]) -> str:
    """A name that depends only on the recipe, the search space and the contents of the data."""
    definition = [{**recipe.as_dict(), "data": checksums}, sorted(vary)]
    text = json.dumps(definition, sort_keys=True)
    return f"{recipe.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def begin(folder: Path, plan: Plan) -> None:
    """Writes sweep.json, from which the sweep can be resumed.

    Raises:
        LenetError: the folder holds another sweep, or cannot be written to.
    """
    if (folder / SWEEP).exists():
        kept = read(folder)
        if (kept.recipe, set(kept.vary)) != (plan.recipe, set(plan.vary)):
            raise LenetError(f"{folder} holds another sweep: name a folder for this one by --out")
    content = {**dataclasses.asdict(plan), "recipe": plan.recipe.as_dict()}
    write_text(folder / SWEEP, json.dumps(content, indent=2) + "\n")


class TrialWatch(Watch):
    """Advances the bar, on which a trial is one unit, by a step's share of it."""

    def __init__(self, bar: Progress, recipe: Recipe, epoch: int, images: int) -> None:
        super().__init__(bar, recipe.changed(print_every=0), epoch)
        self.images_of_trial = recipe.optimisation.epochs * images

    def __call__(self, examples: int, loss: Any, right: Any) -> None:
        self.bar.advance(examples / self.images_of_trial)


class Trainer:
    """Trains trials, and shows the progress of all processes together."""

    def __init__(
        self,
        base: Recipe,
        space: Sequence[Dimension],
        dataset: data.Dataset,
        settings: Settings,
        bar: Progress,
    ) -> None:
        self.base, self.space, self.dataset = base, space, dataset
        self.settings, self.bar = settings, bar
        self.best = "none complete yet"

    def train(self, trial: Trial) -> float:
        """Trains, and reports the error on the validation part after each epoch; returns the last.

        Raises:
            LenetError: there is no such recipe or network, or its loss became infinite.
            TrialPruned: other trials were better at that epoch.
        """
        recipe = recipe_at(
            self.base, self.space, [studies.draw(dimension, trial) for dimension in self.space]
        )
        train, validation = self.dataset.train, self.dataset.test
        training, _ = assemble(recipe, self.dataset, self.settings)
        error, epochs = math.nan, recipe.optimisation.epochs
        for epoch in range(1, epochs + 1):
            note = f"trial {trial.number}, epoch {epoch}/{epochs}; {self.best}"
            self.bar.advance(0, note)
            training.run(epoch, TrialWatch(self.bar, recipe, epoch, len(train)))
            scores = training.scores(validation.images)
            if not np.isfinite(scores).all():
                raise LenetError(f"scores are not finite after epoch {epoch}")
            error = float(np.mean(scores.argmax(axis=1) != validation.labels))
            trial.report(error, epoch)
            if epoch < epochs and trial.should_prune():
                raise TrialPruned
        return error

    def tell(self, finished: FrozenTrial | None, trials: Sequence[FrozenTrial]) -> None:
        """Updates the bar; prints the trial that this process has just finished."""
        errors = [t.value for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
        if errors:
            self.best = f"best {min(errors):.2%}"
        if finished:
            self.bar.say(result(finished, self.space).words)
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        done = sum(trial.state in studies.FINISHED for trial in trials)
        note = f"{running} running elsewhere; {self.best}" if running else self.best
        self.bar.advance(done - self.bar.done, note)


def result(trial: FrozenTrial, space: Sequence[Dimension]) -> Result:
    errors = trial.intermediate_values
    reason = trial.user_attrs.get(studies.REASON, "")
    state = trial.state.name.lower()
    if state not in ("complete", "pruned"):
        state, reason = "failed", reason or "its process ended"
    elif state == "pruned" and reason:
        state = "impossible"
    return Result(
        number=trial.number,
        state=state,
        error=errors[max(errors)] if errors else None,
        epochs=len(errors),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        values={k.field: k.value(trial.params[k.field]) for k in space if k.field in trial.params},
        reason=reason,
    )


def rank(each: Result) -> tuple[Any, ...]:
    """Complete trials first, then pruned ones, then the others, each by error and number."""
    order = ("complete", "pruned", "impossible", "failed").index(each.state)
    return order, each.error or 0.0, each.number


def winner(base: Recipe, results: Sequence[Result]) -> Recipe:
    """The best complete trial's recipe, under its own name, with nothing held out.

    Raises:
        LenetError: no trial is complete.
    """
    best = results[0]
    if best.state != "complete":
        reasons = [each.reason for each in results if each.state == "impossible"] or ["all failed"]
        raise LenetError(f"no trial was completed; the first reason: {reasons[0]}")
    return base.changed(**best.values, name=f"{base.name}-swept", validation=0)


def write(outcome: Outcome, space: Sequence[Dimension]) -> None:
    """Writes the winning recipe, the table of trials and the figures."""
    folder, results = outcome.folder, outcome.results
    write_text(folder / BEST, json.dumps(outcome.best.as_dict(), indent=2) + "\n")
    fields = [dimension.field for dimension in space]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["trial", "state", "validation_error", "epochs", "seconds", *fields, "reason"])
    for each in results:
        values = [spelled(each.values[field]) if field in each.values else "" for field in fields]
        seconds = f"{each.seconds:.1f}"
        row = [each.number, each.state, each.error, each.epochs, seconds, *values, each.reason]
        rows.writerow(row)  # None becomes an empty cell
    write_text(folder / TRIALS, table.getvalue())
    complete = [each for each in results if each.state == "complete"]
    pruned = [each for each in results if each.state == "pruned"]
    trials = [each.values for each in complete + pruned]
    axes = [coordinate(dimension, trials) for dimension in space]
    errors = [each.error for each in complete] + [None] * len(pruned)
    title = f"{outcome.name}: {len(complete)} complete trials, {len(pruned)} pruned"
    style.save(sweeps.parallel_coordinates(axes, errors, title), folder / PARALLEL)


def coordinate(dimension: Dimension, trials: Sequence[Mapping[str, Any]]) -> sweeps.Coordinate:
    field, choices = dimension.field, dimension.choices
    values = [values[field] for values in trials]
    if choices:
        order = [dimension.value(choice) for choice in choices]
        return sweeps.Coordinate(field, list(map(order.index, values)), labels=choices)
    return sweeps.Coordinate(field, values, log=dimension.log)
