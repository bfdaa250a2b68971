"""Speed, measured beside others in one process: rounds are interleaved, results are medians."""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lenet import data
from lenet.engine.steps import cpu_threads
from lenet.epochs import make_epochs
from lenet.errors import LenetError
from lenet.inspection import summary
from lenet.models import LeNet, Network
from lenet.progress import Progress
from lenet.recipes import RECIPES
from lenet.runs import processor_name
from lenet.training import initial_network, make_optimizer

EXAMPLES = 15_360  # about so many are trained on by each contender in each round
MATRIX = 2048  # side of the square float32 matrices of the reference product

Epoch = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        name: what it is.
        rate: examples per second, median over the rounds.
        spread: (lowest, highest) of the rounds.
        ratio: median over the rounds of its rate divided by the first contender's.
        share: its rate of multiply-adds as a share of the matrix product's, 0..1.
    """

    name: str
    rate: float
    spread: tuple[float, float]
    ratio: float
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


def bench_train(
    rounds: int = 7,
    batch_size: int = 256,
    threads: int | None = None,
    data_dir: str | Path | None = None,
) -> Bench:
    """Training speed of the d2l network: the articles' loop, PyTorch otherwise used, and ours.

    Every contender shuffles, gathers, prepares, steps and keeps loss and accuracy.

    Raises:
        LenetError: no data, or numbers below 1.
    """
    if rounds < 1 or batch_size < 1:
        raise LenetError("rounds and batch_size must be at least 1")
    count = max(1, EXAMPLES // batch_size) * batch_size
    train = data.load("fashion-mnist", data_dir).train[:count]
    contenders: dict[str, Callable[[], Epoch]] = {
        "the articles' loop (DataLoader, PyTorch eager)": lambda: article_loop(train, batch_size),
        "plain tensor loop (PyTorch eager)": lambda: tensor_loop(train, batch_size),
        "plain tensor loop (torch.compile)": lambda: compiled_loop(train, batch_size),
        "lenet train": lambda: own_loop(train, batch_size, threads),
    }
    epochs: dict[str, Epoch] = {}
    left_out: dict[str, str] = {}
    products = []
    with (
        cpu_threads(threads),
        Progress("bench train", len(contenders) + rounds * (len(contenders) + 1)) as bar,
    ):
        for name, start in contenders.items():
            try:
                epoch = start()
                epoch()  # caches, threads, compilation
                epochs[name] = epoch
            except (RuntimeError, LenetError) as error:  # torch.compile needs a C++ compiler
                left_out[name] = str(error).strip().split("\n")[0]
            bar.advance(1, f"warmed up: {name}")
        rates: dict[str, list[float]] = {name: [] for name in epochs}
        for number in range(rounds):
            for name, epoch in epochs.items():
                rates[name].append(count / seconds(epoch))
                bar.advance(1, f"round {number + 1} of {rounds}: {name}")
            products.append(matrix_rate())
            bar.advance()
        cores = torch.get_num_threads()
    rate_of_products = statistics.median(products)
    work = training_multiply_adds(LeNet())
    first = next(iter(rates.values()))
    rows = tuple(
        Row(
            name,
            statistics.median(values),
            (min(values), max(values)),
            statistics.median(v / f for v, f in zip(values, first, strict=True)),
            statistics.median(values) * 2 * work / rate_of_products,
        )
        for name, values in rates.items()
    )
    title = f"training the d2l network, batch {batch_size}, medians of {rounds} rounds"
    machine = f"{processor_name()}, {threads or cores} threads, PyTorch {torch.__version__}"
    return Bench(title, rows, rate_of_products / 1e9, machine, left_out)


def seconds(epoch: Epoch) -> float:
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started


def matrix_rate() -> float:
    """Floating point operations per second of a large float32 matrix product."""
    a = torch.rand(MATRIX, MATRIX)
    torch.mm(a, a)
    return 2 * MATRIX**3 / min(seconds(lambda: torch.mm(a, a)) for _ in range(3))


def training_multiply_adds(model: Network) -> int:
    """Multiply-adds of one training step of one image, pooling left out.

    Forward, as much again for the gradients of the weights, and for those of the inputs of all
    layers but the first.
    """
    rows = [row for row in summary(model) if row.parameters]
    return 3 * sum(row.multiply_adds for row in rows) - rows[0].multiply_adds


# The contenders: each gives a function that trains for one epoch.


class ArticleData(Dataset[tuple[Tensor, int]]):
    """One image at a time, as a float tensor (1, 28, 28) in 0..1: what torchvision's gives."""

    def __init__(self, split: data.Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.split.images[index]).float().div(255).unsqueeze(0)
        return image, int(self.split.labels[index])


def article_network() -> nn.Sequential:
    """The network as the articles write it, with nothing of this package."""
    network = nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return network


def article_loop(train: data.Split, batch_size: int) -> Epoch:
    """`train_ch6` of "Dive into Deep Learning", section 7.6, its data loading counted in."""
    network = article_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.9)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(ArticleData(train), batch_size, shuffle=True)

    def epoch() -> None:
        totals = [0.0, 0.0, 0.0]
        for x, y in loader:
            optimizer.zero_grad()
            scores = network(x)
            loss = criterion(scores, y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                totals[0] += float(loss * len(x))
                totals[1] += float((scores.argmax(dim=1) == y).sum())
                totals[2] += len(x)

    return epoch


def tensor_loop(
    train: data.Split,
    batch_size: int,
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda forward: forward,
) -> Epoch:
    """PyTorch on resident uint8 tensors, with no DataLoader in the way."""
    network = article_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.9, fused=True)
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)

    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = network(x.unsqueeze(1).float() / 255)
        return nn.functional.cross_entropy(scores, y), (scores.argmax(dim=1) == y).sum()

    wrapped = wrap(forward)

    def epoch() -> None:
        losses, right = [], []
        for batch in torch.randperm(len(images)).split(batch_size):
            loss, correct = wrapped(images[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            right.append(correct)

    return epoch


def compiled_loop(train: data.Split, batch_size: int) -> Epoch:
    """The same with preparation, network, loss and their gradients compiled."""
    return tensor_loop(train, batch_size, torch.compile)


def own_loop(train: data.Split, batch_size: int, threads: int | None) -> Epoch:
    """What `lenet train d2l` does between two evaluations."""
    recipe = replace(RECIPES["d2l"], batch_size=batch_size)
    model = initial_network(recipe, 10)
    optimizer = make_optimizer(recipe, model)
    epochs, _ = make_epochs(recipe, torch.device("cpu"), "auto", threads, model, optimizer, train)
    numbers = itertools.count(1)

    return lambda: epochs.run(next(numbers))
