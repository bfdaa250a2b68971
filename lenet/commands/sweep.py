"""Many trainings of one recipe with different values."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tyro.conf import UseAppendAction

from lenet.commands import Machine, leading_recipe, parse
from lenet.errors import LenetError
from lenet.tables import table
from lenet.training.recipe import Recipe

SHOWN = 10  # trials in the printed table


@dataclass(frozen=True)
class SweepFlags:
    """Trains a recipe many times with different values of its fields and finds the best.

    RECIPE comes first: a name (default: mnist) or a .json file. Every field of a recipe is a flag
    that fixes its value; --vary names the fields to vary, each once:

      --vary lr=1e-4..1e-2:log         numbers from 1e-4 to 1e-2, evenly over the logarithm
      --vary momentum=0..0.9           numbers, evenly
      --vary epochs=5..30              whole numbers, for a field of whole numbers
      --vary activation=relu,tanh      one of a list, of words, numbers, or true,false
      --vary channels=6+16,12+32       for fields of several numbers, joined by +
      --vary hidden=none,84,120+84     none means no number

    Values are drawn by Optuna (tree-structured Parzen estimator, by --seed); trials that are worse
    than the median of the others are stopped early. The last 10,000 training images (or
    --validation) are held out to measure errors on; the test set is not used. trials.csv, a figure
    and best.json, which `lenet train` takes, are written to the folder sweeps/NAME, or --out.

    The same command again continues a sweep that was stopped, or adds a worker to one that is
    running: processes of one machine share the default SQLite file, several machines --storage. A
    trial whose process dies is run again. Example:

      lenet sweep mnist --epochs 10 --vary lr=1e-3..2e-2:log --vary activation=relu,gelu
    """

    recipe: Recipe
    vary: UseAppendAction[tuple[str, ...]] = ()
    """FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=A,B,C; once for each field to vary."""
    trials: int | None = None
    """Trials to finish, by all processes together; by default 50, or as before with --resume."""
    out: Path | None = None
    """The folder of the sweep; by default sweeps/NAME, the same for the same command."""
    resume: Path | None = None
    """Continue the sweep in this folder; give no recipe and no --vary."""
    storage: str | None = None
    """Database for the trials, to use many machines: postgresql://user:password@host/name."""
    heartbeat: int = 20
    """Seconds between heartbeats; a process that misses three is considered dead."""
    machine: Machine = Machine()
    json: bool = False
    """Print the result as one JSON object."""


def run(flags: list[str]) -> int:
    is_named = bool(flags) and not flags[0].startswith("-")
    recipe, flags = leading_recipe(flags, "mnist")
    arguments = parse(SweepFlags, "sweep [RECIPE]", flags, SweepFlags(recipe))
    if arguments.resume and (
        is_named or arguments.vary or arguments.out or arguments.recipe != recipe
    ):
        raise LenetError(
            "--resume continues a sweep as it was begun: give no recipe, --vary or --out"
        )

    from lenet.sweep import sweep

    if arguments.resume:
        plan = sweep.read(arguments.resume)
    else:
        plan = sweep.Plan(arguments.recipe, arguments.vary, sweep.DEFAULT_TRIALS, None)
    outcome = sweep.sweep(
        plan.recipe,
        plan.vary,
        trials=plan.trials if arguments.trials is None else arguments.trials,
        out=arguments.resume or arguments.out,
        storage=arguments.storage or plan.storage,
        heartbeat=arguments.heartbeat,
        **asdict(arguments.machine),
    )
    if arguments.json:
        trials = [asdict(each) for each in outcome.results]
        best = outcome.best.as_dict()
        content = {"folder": str(outcome.folder), "best": best, "importances": outcome.importances}
        print(json.dumps({**content, "trials": trials}))
        return 0
    fields = list(outcome.results[0].values)
    rows = []
    for each in outcome.results[:SHOWN]:
        error = "" if each.error is None else f"{each.error:.2%}"
        values = [sweep.shown(each.values.get(field, "")) for field in fields]
        numbers = [error, str(each.epochs), f"{each.seconds:.1f}", *values]
        rows.append([str(each.number), each.state, *numbers])
    print(
        table(
            f"{outcome.name}: the best of {len(outcome.results)} trials, by validation error",
            ["trial", "state", "error", "epochs", "seconds", *fields],
            rows,
        )
    )
    for field, share in outcome.importances.items():
        print(f"{share:6.0%} of the differences are explained by {field}")
    print(
        f"The results are in {outcome.folder}: trials.csv, parallel.png.\n"
        f"Train the winner on all training images: lenet train {outcome.folder}/best.json"
    )
    return 0
