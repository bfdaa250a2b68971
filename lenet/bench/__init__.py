"""Speed, measured beside others: contenders in processes of their own take turns.

Results are medians over the rounds; ratios are medians of the rounds' ratios, so that what slows
the whole machine for a while cancels.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet import data
from lenet.bench.worker import Worker, save_task
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError
from lenet.networks.inspection import summary
from lenet.networks.models import LeNet, Network
from lenet.progress import Progress
from lenet.training.recipes import RECIPES, find
from lenet.training.runs import processor_name
from lenet.training.training import initial_network

EXAMPLES = 15_360  # about so many images in an epoch of the benchmark
PASS = 60_000  # and in our pass at batch size 1, which begins with second derivatives
MATRIX = 2048  # side of the square float32 matrices of the reference product
CALL_SECONDS = 0.3  # how long calls of one batch size are repeated in each round
CLOSE = 1e-3  # largest difference of scores that may come of another order of sums

TRAINERS = {
    "articles": "the articles' loop (DataLoader, PyTorch eager)",
    "eager": "plain tensor loop (PyTorch eager)",
    "compiled": "plain tensor loop (torch.compile)",
    "jax": "JAX, Flax",
    "keras": "Keras on JAX (fit)",
    "tinygrad": "tinygrad (TinyJit)",
    "lenet": "lenet train",
}
READERS = {
    "eager": "PyTorch eager",
    "compiled": "torch.compile",
    "jax": "JAX, Flax",
    "keras": "Keras on JAX",
    "tinygrad": "tinygrad (TinyJit)",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "lenet": "lenet",
}
PATTERN_TRAINERS = {
    "eager-lenet5": "PyTorch eager, plain SGD",
    "lenet-lenet5": "lenet train lenet5-1998",
}
ON_GPU = ("articles", "eager", "compiled", "lenet")


@dataclass(frozen=True)
class Row:
    """One contender in one column of a table.

    Attributes:
        name: what it is.
        batch_size: images in a step or a call.
        rate: images per second, median over the rounds.
        spread: (lowest, highest) of the rounds.
        ratio: median over the rounds of its rate divided by the first contender's.
        behind: the same of the last contender's rate, which is ours, divided by its own.
        share: its rate of multiply-adds as a share of the matrix product's, 0..1.
    """

    name: str
    batch_size: int
    rate: float
    spread: tuple[float, float]
    ratio: float
    behind: float
    share: float


@dataclass(frozen=True)
class Bench:
    """A table of contenders, and what the machine did with a large matrix product meanwhile."""

    title: str
    rows: tuple[Row, ...]
    gflops: float
    machine: str
    left_out: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def train(
    rounds: int = 7,
    batch_size: int = 256,
    threads: int | None = None,
    device: str = "cpu",
    data_dir: str | Path | None = None,
) -> Bench:
    """Training speed of the d2l network: the articles' loop, others, and ours.

    Every contender shuffles, gathers, prepares, steps and keeps loss and accuracy.

    Raises:
        LenetError: no data, or numbers below 1.
    """
    wanted = {n: w for n, w in TRAINERS.items() if device == "cpu" or n in ON_GPU}
    count = max(1, EXAMPLES // max(batch_size, 1)) * batch_size
    title = f"training the d2l network on {device}, batch {batch_size}, medians of {rounds} rounds"
    with field(title, wanted, rounds, count, batch_size, threads, device, data_dir) as found:
        return found.compare([batch_size], lambda worker, _: worker.epoch(), training_work(LeNet()))


def infer(
    rounds: int = 7,
    batch_sizes: Sequence[int] = (1, 64, 1024),
    threads: int | None = None,
    data_dir: str | Path | None = None,
) -> Bench:
    """Speed of the d2l network's answers to one image and to many.

    The others are given prepared floats; ours takes uint8 images and prepares them itself.

    Raises:
        LenetError: no data, or numbers below 1.
    """
    title = f"answers of the d2l network, medians of {rounds} rounds"
    work = sum(row.multiply_adds for row in summary(LeNet()) if row.parameters)
    if not batch_sizes or min(batch_sizes) < 1:
        raise LenetError("batch sizes must be at least 1")
    with field(
        title, READERS, rounds, max(batch_sizes), 256, threads, "cpu", data_dir, len(batch_sizes)
    ) as found:
        return found.compare(
            batch_sizes, lambda worker, batch: batch / worker.latency(batch, CALL_SECONDS), work
        )


def lenet5(
    rounds: int = 5, threads: int | None = None, data_dir: str | Path | None = None
) -> Bench:
    """Speed of a pass of LeNet-5 of 1998 at batch size 1: PyTorch's and ours.

    Raises:
        LenetError: no data, or numbers below 1.
    """
    title = f"one pattern at a time: LeNet-5 of 1998, medians of {rounds} rounds"
    network = initial_network(RECIPES["lenet5-1998"], 10)
    with field(title, PATTERN_TRAINERS, rounds, PASS, 1, threads, "cpu", data_dir) as found:
        return found.compare([1], lambda worker, _: worker.epoch(), training_work(network))


@dataclass
class Field:
    """Contenders that are ready to start."""

    title: str
    workers: dict[str, Worker]
    product: Worker
    left_out: dict[str, str]
    rounds: int
    threads: int
    bar: Progress

    def compare(
        self, batch_sizes: Sequence[int], rate: Callable[[Worker, int], float], work: int
    ) -> Bench:
        """All contenders in turn, round by round.

        Args:
            rate: images per second of a worker at a batch size.
            work: multiply-adds of one image.
        """
        entries = [(name, batch) for batch in batch_sizes for name in self.workers]
        rates: dict[tuple[str, int], list[float]] = {entry: [] for entry in entries}
        products = []
        for number in range(self.rounds):
            for name, batch in entries:
                rates[name, batch].append(rate(self.workers[name], batch))
                self.bar.advance(1, f"round {number + 1} of {self.rounds}: {name}")
            products.append(max(self.product.epoch() for _ in range(3)) * 2 * MATRIX**3)
        flops = statistics.median(products)
        first, last = entries[0][0], entries[-1][0]
        rows = tuple(
            Row(
                name,
                batch,
                statistics.median(values),
                (min(values), max(values)),
                median_ratio(values, rates[first, batch]),
                median_ratio(rates[last, batch], values),
                statistics.median(values) * 2 * work / flops,
            )
            for (name, batch), values in rates.items()
        )
        machine = f"{processor_name()}, {self.threads} threads"
        return Bench(self.title, rows, flops / 1e9, machine, self.left_out)


@contextmanager
def field(
    title: str,
    contenders: dict[str, str],
    rounds: int,
    count: int,
    batch_size: int,
    threads: int | None,
    device: str,
    data_dir: str | Path | None,
    columns: int = 1,
) -> Iterator[Field]:
    """Starts all contenders on `count` images, checks that they compute the same, warms them up.

    `columns` is the number of batch sizes that will be compared.
    """
    if rounds < 1 or batch_size < 1:
        raise LenetError("rounds and batch_size must be at least 1")
    threads = threads or usable_cores()
    split = data.load("fashion-mnist", data_dir).train[:count]
    model = initial_network(RECIPES["d2l"], 10)
    weights = tuple(parameter.detach().numpy() for parameter in model.parameters())
    workers: dict[str, Worker] = {}
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_task(folder / "task.npz", split, weights)
        turns = len(contenders) * (1 + rounds * columns)
        bar = stack.enter_context(Progress("bench", turns))
        expected = model(model.prepare(split.images[:8])).detach().numpy()
        for name, words in contenders.items():
            try:
                worker = Worker(name, folder / "task.npz", batch_size, threads, device)
                stack.callback(worker.close)
                if name not in PATTERN_TRAINERS:
                    found = worker.scores(len(expected), folder / "scores.npy")
                    if not np.allclose(found, expected, rtol=0, atol=CLOSE):
                        raise LenetError("it computes other scores")
                if contenders is not READERS:
                    worker.epoch()  # caches, threads, compilation
                workers[words] = worker
            except LenetError as error:
                left_out[words] = str(error)
            bar.advance(1, f"ready: {name}")
        product = stack.enter_context(Worker("product", folder / "task.npz", MATRIX, threads))
        if not workers:
            raise LenetError(f"no contender can take part: {left_out}")
        yield Field(title, workers, product, left_out, rounds, threads, bar)


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(v / o for v, o in zip(values, others, strict=True))


def training_work(model: Network) -> int:
    """Multiply-adds of one training step of one image, pooling left out.

    Forward, as much again for the gradients of the weights, and for those of the inputs of all
    layers but the first.
    """
    rows = [row for row in summary(model) if row.parameters]
    return 3 * sum(row.multiply_adds for row in rows) - rows[0].multiply_adds


@dataclass(frozen=True)
class WholeRun:
    """A recipe from the start of the process to its end, beside the articles' loop.

    Attributes:
        recipe: name.
        epochs: of both.
        seconds: wall time of `lenet train`: data, training, evaluations, figures, files.
        ratio: wall time of the articles' loop on the same images, with its own evaluations of the
            test set after every epoch, divided by that.
    """

    recipe: str
    epochs: int
    seconds: float
    ratio: float


def whole_runs(
    names: Sequence[str] = ("d2l", "mnist"), data_dir: str | Path | None = None
) -> tuple[WholeRun, ...]:
    """Recipes (names or .json files) end to end, in processes of their own, as the articles'."""
    results = []
    with tempfile.TemporaryDirectory() as folder, Progress("bench", 2 * len(names)) as bar:
        for name in names:
            recipe = find(name)
            places = () if data_dir is None else ("--data-dir", str(data_dir))
            ours = process_seconds(
                ("lenet", "train", name, "--out", str(Path(folder) / recipe.name), *places)
            )
            bar.advance(1, f"lenet train {name}")
            theirs = process_seconds(
                ("lenet.bench.articles", recipe.data, str(recipe.epochs), str(data_dir or ""))
            )
            bar.advance(1, f"articles' loop, {recipe.epochs} epochs")
            results.append(WholeRun(recipe.name, recipe.epochs, ours, theirs / ours))
    return tuple(results)


def process_seconds(line: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *line], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").split("\n")[-1]
        raise LenetError(f"{' '.join(line)} failed: {last}")
    return time.perf_counter() - started


@dataclass(frozen=True)
class Scaling:
    """How the cost of training grows: (what was varied, images per second) for each contender.

    Attributes:
        batch_size, threads, images: points by contender's name; the others stay at 256 images a
            step, all threads, and `EXAMPLES` images.
    """

    batch_size: dict[str, list[tuple[int, float]]]
    threads: dict[str, list[tuple[int, float]]]
    images: dict[str, list[tuple[int, float]]]
    machine: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


SCALED = {"eager": "PyTorch eager", "lenet": "lenet train"}
BATCH_SIZES = (1, 4, 16, 64, 256, 1024, 4096)
IMAGE_COUNTS = (1_000, 4_000, 16_000, 60_000)


def scaling(rounds: int = 3, data_dir: str | Path | None = None) -> Scaling:
    """Images per second against batch size, threads and number of images; best of the rounds.

    Raises:
        LenetError: no data, or rounds below 1.
    """
    if rounds < 1:
        raise LenetError("rounds must be at least 1")
    cores = usable_cores()
    split = data.load("fashion-mnist", data_dir).train
    weights = tuple(p.detach().numpy() for p in initial_network(RECIPES["d2l"], 10).parameters())
    thread_counts = sorted({1, *(2**i for i in range(cores.bit_length())), cores})
    settings = [
        *(("batch_size", b, (min(EXAMPLES, 64 * b), b, cores)) for b in BATCH_SIZES),
        *(("threads", t, (EXAMPLES, 256, t)) for t in thread_counts if t <= cores),
        *(("images", n, (n, 256, cores)) for n in IMAGE_COUNTS if n <= len(split)),
    ]
    points: dict[str, dict[str, list[tuple[int, float]]]] = {
        axis: {words: [] for words in SCALED.values()}
        for axis in ("batch_size", "threads", "images")
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress("bench", len(settings) * len(SCALED)) as bar,
    ):
        for axis, value, (count, batch_size, threads) in settings:
            file = Path(folder) / "task.npz"
            save_task(file, split[:count], weights)
            for name, words in SCALED.items():
                with Worker(name, file, batch_size, threads) as worker:
                    rate = max(worker.epoch() for _ in range(rounds))
                points[axis][words].append((value, rate))
                bar.advance(1, f"{name}, {axis} {value}")
    return Scaling(**points, machine=f"{processor_name()}, {os.cpu_count()} cores")
