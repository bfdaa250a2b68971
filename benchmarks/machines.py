"""What sharing a run among processes brings and costs.

    torchrun --nproc-per-node=2 benchmarks/machines.py [--rounds 7] [--data-dir DIR]

Trains the d2l network by the product's own loop: in one process with one thread, in one process
with as many threads as there are processes, and in all processes with one thread each. They take
turns, epoch by epoch of 15,360 images; the table has medians over the rounds. The all-reduce of a
step's gradients is also timed alone.
"""

import argparse
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from lenet.engine.steps import cpu_threads
from lenet.training.runs import processor_name
from lenet.training.training import initial_network, make_optimizer

from lenet import data
from lenet.commands import print_rows
from lenet.data import Split
from lenet.training.distributed import ALONE, World, connected
from lenet.training.epochs import make_epochs
from lenet.training.recipes import RECIPES

IMAGES = 15_360  # in an epoch
BATCHES = (64, 256, 1024)
REDUCTIONS = 100  # all-reduces that are timed together


def loop(batch_size: int, train: Split, threads: int, world: World) -> Callable[[], object]:
    """A function that trains for one epoch."""
    recipe = dataclasses.replace(RECIPES["d2l"], batch_size=batch_size)
    model = initial_network(recipe, 10)
    optimizer = make_optimizer(recipe, model)
    cpu = torch.device("cpu")
    epochs, _ = make_epochs(
        recipe, cpu, "auto", threads, model, optimizer, train, teachers=None, world=world
    )
    numbers = itertools.count(1)

    def epoch() -> None:
        with cpu_threads(threads):
            epochs.run(next(numbers))

    return epoch


def reductions(size: int, world: World) -> Callable[[], object]:
    numbers = torch.zeros(size)

    def reduce() -> None:
        for _ in range(REDUCTIONS):
            dist.all_reduce(numbers, group=world.group)

    return reduce


def seconds(work: Callable[[], object], world: World, alone: bool) -> float:
    """Time from everybody's start to everybody's end; with `alone`, only the first one works."""
    world.meet()
    started = time.perf_counter()
    if world.first or not alone:
        work()
    world.meet()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data-dir")
    asked = parser.parse_args()
    with connected() as world:
        with world.in_turn():
            train = data.load("fashion-mnist", asked.data_dir).train[:IMAGES]
        gradients = sum(p.numel() for p in initial_network(RECIPES["d2l"], 10).parameters())
        size = gradients + 2
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
        rounds = [
            {name: seconds(work, world, alone) for name, (work, alone) in works.items()}
            for _ in range(asked.rounds)
        ]
        if world.first:
            report(world.size, size, rounds)


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
    print_rows(
        f"sharing the d2l network among {processes} processes, medians of {len(rounds)} rounds",
        ["batch", "examples/s", "ratio", "ms a step", "all-reduce alone"],
        rows,
    )
    print(
        f"all-reduce of {4 * size:,} bytes: {1e6 * reduction:.0f} us; {processor_name()}, "
        f"PyTorch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
