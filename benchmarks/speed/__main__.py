"""Compares speed with other libraries, each in its own process, all taking turns.

Tables have medians over the rounds; ratios are medians of the rounds' ratios, so that a temporary
slowdown of the whole machine cancels. Run nothing else meanwhile. Libraries that are not installed
are left out: pip install -r benchmarks/requirements.txt.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from benchmarks.speed.worker import D2L, Task, Worker
from lenet import data
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError
from lenet.figures import style
from lenet.networks.architecture import Architecture
from lenet.networks.inspection import summary
from lenet.progress import Progress
from lenet.tables import table
from lenet.training.recipes import RECIPES
from lenet.training.run import processor_name
from lenet.training.train import train as train_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
DATA = "fashion-mnist"
EXAMPLES = 15_360  # approximate number of images in an epoch of the benchmark
PASS = 60_000  # and in our pass at batch size 1, which begins with second derivatives
MATRIX = 2048  # side of the square float32 matrices of the reference product

TRAINERS = (
    *("the articles' loop", "PyTorch eager", "torch.compile"),
    *("JAX, Flax", "Keras on JAX", "tinygrad", "lenet"),
)
READERS = (
    *("PyTorch eager", "torch.compile", "JAX, Flax", "Keras on JAX", "tinygrad"),
    *("ONNX Runtime", "OpenVINO", "lenet"),
)
PATTERN_TRAINERS = ("PyTorch eager, plain SGD", "lenet train lenet5-1998")
ON_GPU = ("the articles' loop", "PyTorch eager", "torch.compile", "lenet")
SCALED = ("PyTorch eager", "lenet")

Rates = dict[tuple[str, int], list[float]]  # (name, images in a call) -> of each round


def train(
    rounds: int = 7, batch_size: int = 256, threads: int = usable_cores(), device: str = "cpu"
) -> None:
    """Training speed of the d2l network: the articles' loop, other libraries, and ours.

    Every contender shuffles, gathers, prepares, steps and keeps loss and accuracy.

    Args:
        rounds: in each of which all take a turn.
        batch_size: images in a step.
        threads: CPU threads.
        device: cpu or cuda.
    """
    names = TRAINERS if device == "cpu" else ON_GPU
    images = max(1, EXAMPLES // max(batch_size, 1)) * batch_size
    title = f"training the d2l network on {device}, batch {batch_size}"
    task = Task(DATA, images, batch_size, threads, device)
    compare(title, names, task, rounds, training_work(D2L))


def infer(
    rounds: int = 7, batch_sizes: tuple[int, ...] = (1, 64, 1024), threads: int = usable_cores()
) -> None:
    """Speed of the d2l network's scores for one image and for many.

    The others get prepared floats; ours gets uint8 images and prepares them itself.

    Args:
        rounds: in each of which all take a turn.
        batch_sizes: images in a call.
        threads: CPU threads.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise LenetError("batch sizes must be at least 1")
    task = Task(DATA, max(batch_sizes), 256, threads)
    work = sum(row.multiply_adds for row in summary(D2L).rows if row.parameters)
    compare("answers of the d2l network", READERS, task, rounds, work, batch_sizes)


def lenet5(rounds: int = 5, threads: int = usable_cores()) -> None:
    """Speed of a pass of LeNet-5 of 1998 at batch size 1: PyTorch's and ours.

    Args:
        rounds: in each of which both take a turn.
        threads: CPU threads.
    """
    work = training_work(RECIPES["lenet5-1998"].architecture())
    task = Task(DATA, PASS, 1, threads)
    compare("one pattern at a time: LeNet-5 of 1998", PATTERN_TRAINERS, task, rounds, work)


def compare(
    title: str,
    contenders: Sequence[str],
    task: Task,
    rounds: int,
    work: int,
    calls: Sequence[int] = (0,),
) -> None:
    """Starts all contenders, runs the rounds, and prints the table.

    Args:
        contenders: names in `contenders.CONTENDERS`; ours comes last.
        work: multiply-adds of one image.
        calls: images in a call; 0 for an epoch of training.
    """
    require_at_least_one(rounds=rounds, batch_size=task.batch_size, threads=task.threads)
    left_out: dict[str, str] = {}
    turns = len(contenders) * (1 + rounds * len(calls))
    with ExitStack() as stack, Progress("speed", turns) as bar:
        workers: dict[str, Worker] = {}
        for name in contenders:
            try:
                worker = stack.enter_context(Worker(name, task))
                worker.rate(calls[0])  # caches, threads, compilation
                workers[name] = worker
            except LenetError as error:
                left_out[name] = str(error)
            bar.advance(1, f"ready: {name}")
        if not workers:
            raise LenetError(f"no contender can take part: {left_out}")
        product = stack.enter_context(Worker("matrix product", Task(DATA, 1, MATRIX, task.threads)))
        rates: Rates = {(name, call): [] for call in calls for name in workers}
        products = []
        for number in range(rounds):
            for name, call in rates:
                rates[name, call].append(workers[name].rate(call))
                bar.advance(1, f"round {number + 1} of {rounds}: {name}")
            products.append(max(product.rate() for _ in range(3)) * 2 * MATRIX**3)
    flops = statistics.median(products)
    print(
        table(
            f"{title}, medians of {rounds} rounds",
            [
                *("", "batch", "images/s", "lowest", "highest", "us a batch"),
                *("ratio to first", "ours is", "of matrix product"),
            ],
            speed_rows(rates, task.batch_size, 2 * work / flops),
        )
    )
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"matrix product: {flops / 1e9:.0f} GFLOP/s in the same run; {machine(task.threads)}")


def speed_rows(rates: Rates, batch_size: int, share: float) -> list[list[str]]:
    """The table's rows; one image a second takes `share` of the speed of the matrix product."""
    rows = []
    (first, _), (last, _) = next(iter(rates)), list(rates)[-1]
    for (name, call), values in rates.items():
        median, batch = statistics.median(values), call or batch_size
        rows.append(
            [
                name,
                f"{batch}",
                *(f"{rate:,.0f}" for rate in (median, min(values), max(values))),
                f"{batch / median * 1e6:,.0f}",
                f"{median_ratio(values, rates[first, call]):.2f}x",
                f"{median_ratio(rates[last, call], values):.2f}x as fast",
                f"{median * share:.1%}",
            ]
        )
    return rows


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(v / o for v, o in zip(values, others, strict=True))


def training_work(architecture: Architecture) -> int:
    """Multiply-adds of one training step of one image, pooling left out.

    Forward, the same again for the gradients of the weights, and for those of the inputs of all
    layers but the first.
    """
    rows = [row for row in summary(architecture).rows if row.parameters]
    return 3 * sum(row.multiply_adds for row in rows) - rows[0].multiply_adds


def machine(threads: int) -> str:
    return f"{processor_name()}, {threads} threads"


def require_at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise LenetError(f"{name} must be at least 1, not {value}")


# Whole processes


def recipes(names: tuple[str, ...] = ("d2l", "mnist"), rounds: int = 1) -> None:
    """Whole runs, from the start of the process to its end, beside the articles' loop.

    The loop trains on the same images for as many epochs, and evaluates after each.

    Args:
        names: recipes.
        rounds: in each of which both take a turn.
    """
    for name in names:
        recipe = RECIPES[name]
        loop = ["-m", "benchmarks.speed.articles", recipe.data, str(recipe.optimisation.epochs)]
        lines = {f"lenet train {name}": ["-m", "lenet", "train", name], "the articles' loop": loop}
        race(f"{name}: {recipe.optimisation.epochs} epochs, whole processes", lines, rounds)


def to99(rounds: int = 7, seeds: tuple[int, ...] = ()) -> None:
    """MNIST to 99%, from the start of the process to the end, beside `import torch` alone.

    The same recipe in plain PyTorch is benchmarks/speed/plain.py.

    Args:
        rounds: in each of which all three take a turn.
        seeds: also train with these seeds, and print the accuracies on the test set.
    """
    data.load("mnist")  # so that no process downloads it
    recipe = json.dumps(RECIPES["mnist-99"].as_dict())
    lines = {
        "python -c 'import torch'": ["-c", "import torch"],
        "lenet train mnist-99": ["-m", "lenet", "train", "mnist-99"],
        "the same in plain PyTorch": [
            str(ROOT / "benchmarks" / "speed" / "plain.py"),
            *(str(data.data_folder() / "mnist"), recipe),
        ],
    }
    race("MNIST to 99%, whole processes", lines, rounds)
    if seeds:
        with tempfile.TemporaryDirectory() as folder:
            runs = [train_recipe("mnist-99", seed=s, out=Path(folder, str(s))) for s in seeds]
        results = [100 * run.report.accuracy for run in runs]
        print("accuracies in %:", ", ".join(f"{result:.2f}" for result in results))
        spread = f", standard deviation {statistics.stdev(results):.3f}" if len(seeds) > 1 else ""
        print(f"mean {statistics.mean(results):.3f}{spread}, lowest {min(results):.2f}")


def race(title: str, lines: Mapping[str, Sequence[str]], rounds: int) -> None:
    """Runs Python with each line of arguments in turn, and prints the table."""
    require_at_least_one(rounds=rounds)
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    with Progress("speed", rounds * len(lines)) as bar:
        for number in range(rounds):
            for name, line in lines.items():
                bar.advance(0, f"round {number + 1} of {rounds}: {name}")
                seconds[name].append(process_seconds(line))
                bar.advance(1)
    first = next(iter(seconds.values()))
    rows = []
    for name, times in seconds.items():
        ratios = [time / other for time, other in zip(times, first, strict=True)]
        numbers = [f"{x:.2f}" for x in (statistics.median(times), min(times), max(times))]
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        rows.append([name, *numbers, f"{statistics.median(ratios):.2f}x", each])
    print(
        table(
            f"{title}, medians of {rounds} rounds; {machine(usable_cores())}",
            ["", "seconds", "lowest", "highest", "ratio to first", "in each round"],
            rows,
        )
    )


def process_seconds(line: Sequence[str]) -> float:
    """Wall time of a Python process, in an empty folder.

    Raises:
        LenetError: it fails, or leaves an unfinished run folder.
    """
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *line],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            last = (done.stderr.strip() or "no message").split("\n")[-1]
            raise LenetError(f"{' '.join(line)} failed: {last}")
        for run in Path(folder).glob("runs/*"):
            if not (run / "weights.safetensors").exists():
                raise LenetError(f"{' '.join(line)} left {run.name} without weights")
    return seconds


# Scaling

BATCH_SIZES = (1, 4, 16, 64, 256, 1024, 4096)
IMAGE_COUNTS = (1_000, 4_000, 16_000, 60_000)
AXES = ("images in a step", "threads", "images in an epoch")


def scaling(rounds: int = 3, out: Path | None = None) -> None:
    """Images a second against batch size, threads and number of images; best of the rounds.

    The other two stay at 256 images a step, all threads, and about 15,360 images.

    Args:
        rounds: epochs for each point.
        out: draw the figure into this .png or .svg.
    """
    require_at_least_one(rounds=rounds)
    cores = usable_cores()
    counts = sorted({1, *(2**i for i in range(cores.bit_length()) if 2**i <= cores), cores})
    tasks = {
        AXES[0]: {b: Task(DATA, min(EXAMPLES, 64 * b), b, cores) for b in BATCH_SIZES},
        AXES[1]: {t: Task(DATA, EXAMPLES, 256, t) for t in counts},
        AXES[2]: {n: Task(DATA, n, 256, cores) for n in IMAGE_COUNTS},
    }
    points: dict[str, dict[int, list[float]]] = {axis: {} for axis in AXES}
    with Progress("speed", len(SCALED) * sum(map(len, tasks.values()))) as bar:
        for axis, of_axis in tasks.items():
            for value, task in of_axis.items():
                best = points[axis][value] = []
                for name in SCALED:
                    with Worker(name, task) as worker:
                        best.append(max(worker.rate() for _ in range(rounds)))
                    bar.advance(1, f"{name}, {value:,} {axis}")
    if out:
        style.save(draw(points), out)
    for axis, of_axis in points.items():
        rows = [[f"{v:,}", *(f"{rate:,.0f}" for rate in rates)] for v, rates in of_axis.items()]
        print(table(f"images a second against {axis}", [axis, *SCALED], rows))
    print(machine(cores))


@style.styled
def draw(points: dict[str, dict[int, list[float]]]) -> "Figure":
    figure = style.canvas(8.4, 2.5, "Training speed of the d2l network", left=0.9)
    panels = figure.subplots(1, 3, sharey=True, gridspec_kw={"wspace": 0.08})
    for axes, (axis, of_axis) in zip(panels, points.items(), strict=True):
        for number, (name, color) in enumerate(zip(SCALED, (style.GREY, style.BLUE), strict=True)):
            rates = [each[number] for each in of_axis.values()]
            axes.plot(list(of_axis), rates, "o-", color=color, label=name)
        axes.grid()
        axes.set_xscale("log", base=10 if axis == AXES[2] else 2)
        style.logarithmic(axes.yaxis)
        axes.set_xlabel(axis)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    panels[1].set_xticks(list(points[AXES[1]]))
    panels[0].set_ylabel("images per second")
    panels[0].legend()
    return figure


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "infer": infer,
    "lenet5": lenet5,
    "recipes": recipes,
    "to99": to99,
    "scaling": scaling,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one benchmark; returns the exit status."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m benchmarks.speed", description=__doc__, args=arguments
        )
    except LenetError as error:
        print(f"benchmarks.speed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
