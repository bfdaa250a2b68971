"""Training of the networks that read numbers: a folder for `lenet read --weights` out."""

import time
from dataclasses import dataclass
from pathlib import Path

from lenet.commands import parse
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError
from lenet.reading.training import NumbersRecipe, train_reader


@dataclass(frozen=True)
class NumbersFlags:
    """Trains the two networks that `lenet read` reads with, and how sure it may be.

    They learn from MNIST, drawn strokes and handwriting fonts alone, put together to numbers on
    synthetic paper; about an hour on two cores. `lenet read --weights FOLDER` reads with them.
    """

    recipe: NumbersRecipe = NumbersRecipe()
    out: Path | None = None
    """The folder; runs/numbers-TIME by default."""
    jobs: int = usable_cores()
    """Processes that make pictures."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""


def run(flags: list[str]) -> int:
    arguments = parse(NumbersFlags, "train numbers", flags, NumbersFlags())
    if arguments.jobs < 1:
        raise LenetError(f"--jobs must be 1 or more, not {arguments.jobs}")
    out = arguments.out or Path("runs", time.strftime("numbers-%Y%m%d-%H%M%S"))
    right = train_reader(arguments.recipe, out, arguments.jobs, arguments.data_dir)
    print(f"{right:.1%} of the synthetic numbers in the hand of others are read right")
    print(f"The networks are in {out}: lenet read --weights {out} IMAGE...")
    return 0
