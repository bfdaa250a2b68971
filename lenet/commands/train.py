"""Training: a recipe in, a run folder out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lenet.commands import Machine, leading_recipe, parse, print_report
from lenet.errors import LenetError
from lenet.training.recipe import Recipe


@dataclass(frozen=True)
class TrainFlags:
    """Trains a network and writes a run folder: weights, metrics, evaluation.

    RECIPE comes first: a name (default: mnist) or a .json file; `lenet train numbers --help` is
    about the networks that read numbers. Every field of a recipe is a flag; `--model NAME` chooses
    another network, and `--model NAME --help` shows its options. Examples: `lenet train d2l`,
    `lenet train mnist --epochs 3 --activation tanh`,
    `lenet train --resume runs/mnist-20260101-120000`. On many cores, GPUs or machines:
    `torchrun --nproc-per-node=N -m lenet train ...` shares every batch among N processes.
    """

    recipe: Recipe
    out: Path | None = None
    """The run folder; by default runs/NAME-TIME."""
    resume: Path | None = None
    """Continue the run in this folder; give no other flags."""
    machine: Machine = Machine()
    figures: bool = False
    """Draw the curves, confusions, rejection, calibration and mistakes into the run folder."""
    tensorboard: bool = False
    """Also write TensorBoard logs into the run folder."""
    json: bool = False
    """Print the result as one JSON object."""


def run(flags: list[str]) -> int:
    if flags[:1] == ["numbers"]:
        from lenet.commands import train_numbers

        return train_numbers.run(flags[1:])
    is_named = bool(flags) and not flags[0].startswith("-")
    recipe, flags = leading_recipe(flags, "mnist")
    arguments = parse(TrainFlags, "train [RECIPE]", flags, TrainFlags(recipe))
    alone = TrainFlags(recipe, resume=arguments.resume, json=arguments.json)
    if arguments.resume and (is_named or arguments != alone):
        raise LenetError(
            "--resume continues the run as it was begun: give no recipe and no flags but --json"
        )

    from lenet.training import train
    from lenet.training.world import find_world

    if arguments.resume:
        run = train.resume(arguments.resume)
    else:
        run = train.train(
            arguments.recipe,
            out=arguments.out,
            tensorboard=arguments.tensorboard,
            **asdict(arguments.machine),
        )
    if not find_world().first:
        return 0
    if arguments.figures:
        from lenet.figures.files import draw_run

        draw_run(run.path, arguments.machine.data_dir)
    if arguments.json:
        summary = {"accuracy": run.report.accuracy, "error": run.report.error}
        rate = run.examples_per_second
        print(json.dumps({"run": str(run.path), **summary, "examples_per_second": rate}))
        return 0
    print(run.words)
    print(f"{run.examples_per_second:.1f} examples/sec on {run.device}")
    part = "validation" if run.recipe.validation else "test"
    print_report(run.report, f"{run.recipe.name} on the {part} set of {run.recipe.data}")
    more = "" if arguments.figures else "; for figures: lenet evaluate latest --out figures/"
    print(f"The run is in {run.path}{more}")
    return 0
