"""Gain and cost of sharing a run among processes.

    torchrun --nproc-per-node=2 benchmarks/machines.py [--rounds 7] [--data-dir DIR]

Trains the d2l network as `lenet train` does: in one process with one thread, in one process with
as many threads as there are processes, and in all processes with one thread each. They take turns
after every epoch of 15,360 images; the table has medians over the rounds. The all-reduce of a
step's gradients is also timed alone.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import tyro

from lenet import data
from lenet.tables import table
from lenet.training.recipes import RECIPES
from lenet.training.run import Settings, processor_name
from lenet.training.train import assemble
from lenet.training.world import ALONE, World, connected

IMAGES = 15_360  # in an epoch
BATCHES = (64, 256, 1024)
REDUCTIONS = 100  # all-reduces that are timed together


def loop(
    batch_size: int, dataset: data.Dataset, threads: int, world: World
) -> Callable[[], object]:
    """Returns a function that trains for one epoch."""
    recipe = RECIPES["d2l"].changed(batch_size=batch_size)
    settings = Settings("cpu", "auto", threads, None, False, ".", world.size)
    epochs, _ = assemble(recipe, dataset, settings, world)
    numbers = itertools.count()
    return lambda: epochs.run(1 + next(numbers) % recipe.optimisation.epochs)


def reductions(size: int, world: World) -> Callable[[], object]:
    numbers = np.zeros(size, np.float32)

    def reduce() -> None:
        for _ in range(REDUCTIONS):
            world.add_up(numbers)

    return reduce


def seconds(work: Callable[[], object], world: World, alone: bool) -> float:
    """Wall time of work by all processes; with `alone`, by the first one."""
    world.meet()
    started = time.perf_counter()
    if world.first or not alone:
        work()
    world.meet()
    return time.perf_counter() - started


def main(rounds: int = 7, data_dir: str | None = None) -> None:
    with connected() as world:
        with world.in_turn():
            whole = data.load("fashion-mnist", data_dir)
        train = dataclasses.replace(whole, train=whole.train[:IMAGES])
        size = sum(p.size for p in RECIPES["d2l"].architecture().parameters) + 2
        works: dict[str, tuple[Callable[[], object], bool]] = {
            "all-reduce": (reductions(size, world), False)
        }
        for batch in BATCHES:
            works[f"{batch}, one process, 1 thread"] = loop(batch, train, 1, ALONE), True
            many = f"{batch}, one process, {world.size} threads"
            works[many] = loop(batch, train, world.size, ALONE), True
            works[f"{batch}, {world.size} processes"] = loop(batch, train, 1, world), False
        for work, alone in works.values():
            seconds(work, world, alone)
        times = [
            {name: seconds(work, world, alone) for name, (work, alone) in works.items()}
            for _ in range(rounds)
        ]
        if world.first:
            report(world.size, size, times)


def report(processes: int, size: int, rounds: list[dict[str, float]]) -> None:
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    reduction = medians.pop("all-reduce") / REDUCTIONS
    rows = []
    for name, time_ in medians.items():
        batch = int(name.split(",")[0])
        first = f"{batch}, one process, 1 thread"
        ratio = statistics.median(each[first] / each[name] for each in rounds)
        step = time_ * batch / IMAGES
        share = f"{reduction / step:.1%}" if "processes" in name else ""
        rows.append([name, f"{IMAGES / time_:,.0f}", f"{ratio:.2f}x", f"{1e3 * step:.2f}", share])
    print(
        table(
            f"sharing the d2l network among {processes} processes, medians of {len(rounds)} rounds",
            ["batch", "examples/s", "ratio", "ms a step", "all-reduce alone"],
            rows,
        )
    )
    print(f"all-reduce of {4 * size:,} bytes: {1e6 * reduction:.0f} us; {processor_name()}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
