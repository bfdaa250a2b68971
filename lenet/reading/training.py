"""Trains the reader's networks from MNIST, drawn strokes and handwriting fonts: recipe `numbers`.

Synthetic pictures of numbers go through the reader's own foreground, lines and cuts. One network
learns the class of every segment, the other spells the lines; then the reader reads pictures of
digits that neither has seen, which tells how sure it may be.
"""

import itertools
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet import fields
from lenet.data import Split, data_folder, fonts, nondigits, strokes
from lenet.data.digits import HELD_OUT
from lenet.data.distortion import Warps
from lenet.data.lines import Line, Lines
from lenet.data.paper import Paper
from lenet.data.sources import load_public
from lenet.engine.fused import Kernels, flatten, views
from lenet.engine.objective import Objective
from lenet.engine.optimizers import AdamW, update_average
from lenet.files import replacing, write_text
from lenet.progress import Progress
from lenet.reading import replicated
from lenet.reading.candidates import (
    Example,
    judged,
    make_examples,
    training_split,
)
from lenet.reading.confidence import fit_confidence
from lenet.reading.ctc import changed, train_lines
from lenet.reading.lattice import CLASSES
from lenet.reading.network import Network, architecture
from lenet.reading.reader import Reader

STROKES, FONT_COPIES = 80_000, 16
SHARES = (0.5, 0.44, 0.06)  # of lines in the hand of MNIST, of strokes, of fonts
LETTERS = 6_000
NONE = {"letters": 14_000, "words": 2_000, "scribbles": 4_000, "textures": 4_000}
SEVERAL = 8_000
FAINT = 60  # darkest pixel of a picture that shows nothing
CHUNK = 250  # pictures that a process makes at a time
BATCH = 64  # lines in a step
DRAWN = 0.25  # of the lines are drawn as lines; the others are the reader's, of pictures
LONGEST = 500  # columns of a line that is learnt from
PLACED = 300  # first steps, that follow the digits' boxes
RATE = 3e-3
WITHOUT = 3  # one picture in so many that confidence is fitted on shows no number


@dataclass(frozen=True)
class NumbersRecipe:
    """What fixes a training of the networks that read numbers."""

    seed: int = 0
    """Of everything that is drawn at random."""
    pictures: int = 100_000
    """Synthetic pictures of numbers that the lines and their segments come from."""
    segments: int = 16_000_000
    """Segments that the first network learns from, each many times, distorted anew."""
    lines: int = 640_000
    """Lines that the second network learns from."""
    calibration: int = 8_000
    """Pictures of held-out digits that the confidence is fitted on."""

    def __post_init__(self) -> None:
        fields.check(self)
        fields.require(
            self,
            seed=0 <= self.seed < 2**31,
            pictures=self.pictures >= CHUNK,
            segments=self.segments >= 100 * BATCH,
            lines=self.lines >= BATCH,
            calibration=self.calibration >= CHUNK,
        )


def train_reader(recipe: NumbersRecipe, out: Path, jobs: int, data_dir: str | None = None) -> float:
    """Writes segments.safetensors, replicated.safetensors, confidence.safetensors and recipe.json
    into a folder that `Reader` reads from. The same recipe gives the same networks.

    Args:
        recipe: what fixes the training.
        out: the folder; files of these names in it are replaced, each when it is ready.
        jobs: processes that make and read pictures; the networks train on one thread.
        data_dir: where public data sets are kept.

    Returns:
        The share of synthetic numbers, written with held-out digits, that are read right.

    Raises:
        LenetError: MNIST or the fonts cannot be had, or the folder cannot be written.
    """
    write_text(out / "recipe.json", json.dumps(asdict(recipe), indent=2) + "\n")
    folder = data_folder(data_dir)
    mnist, files = load_public("mnist", folder / "mnist"), fonts.fetch(folder / "fonts")
    hands = draw_hands(mnist.train[:-HELD_OUT], files, recipe.seed)
    examples = list(
        itertools.chain.from_iterable(
            over_chunks("making pictures", examples_of, recipe.pictures, hands, recipe.seed, jobs)
        )
    )
    for name, train in (("segments", train_segments), ("replicated", train_replicated)):
        network = train(recipe, hands, examples)
        with replacing(out / f"{name}.safetensors") as file:
            network.save(file)
    others = draw_hands(mnist.train[-HELD_OUT:], files, recipe.seed + 1)
    judge = partial(judged_of, Reader(out))
    parts = over_chunks("reading", judge, recipe.calibration, others, recipe.seed + 1, jobs)
    values, right, number = map(np.concatenate, zip(*parts, strict=True))
    with replacing(out / "confidence.safetensors") as file:
        fit_confidence(values, right, number).save(file)
    return float(right[number].mean())


def draw_hands(mnist: Split, files: list[Path], seed: int) -> list[tuple[Split, float]]:
    """Single digits in the hand of MNIST, of strokes, and of fonts, each with its share."""
    drawn = Split(*fonts.make(files, list("0123456789"), FONT_COPIES, seed))
    return list(zip((mnist, strokes.make(STROKES, seed), drawn), SHARES, strict=True))


# What many processes do

Hands = list[tuple[Split, float]]
PAPERS: list[Paper] = []  # of a process that makes pictures


def start(hands: Hands) -> None:
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    letters = Split(nondigits.letters(LETTERS, generator), generator.integers(0, 10, LETTERS))
    PAPERS.append(Paper(Lines(hands, 0), Lines([(letters, 1.0)], 0)))


def over_chunks(
    title: str,
    function: Callable[[Paper], Any],
    pictures: int,
    hands: Hands,
    seed: int,
    jobs: int,
) -> Iterator[Any]:
    """What a function makes of each CHUNK of pictures; the seeds are those of the chunks."""
    context = multiprocessing.get_context("spawn")
    seeds = range(seed << 20, (seed << 20) + pictures // CHUNK)
    with (
        Progress(title, len(seeds)) as bar,
        ProcessPoolExecutor(jobs, context, start, (hands,)) as pool,
    ):
        for result in pool.map(partial(of_chunk, function), seeds):
            yield result
            bar.advance()


def of_chunk(function: Callable[[Paper], Any], seed: int) -> Any:
    PAPERS[0].reseed(seed)
    return function(PAPERS[0])


def examples_of(paper: Paper) -> list[Example]:
    return list(make_examples(itertools.islice(paper, CHUNK)))


def judged_of(reader: Reader, paper: Paper) -> tuple[NDArray[Any], ...]:
    numbers = ("" if n % WITHOUT == 0 else paper.lines.number() for n in range(CHUNK))
    return judged(reader, map(paper.sample, numbers))


# The two networks


def train_segments(recipe: NumbersRecipe, hands: Hands, examples: list[Example]) -> Network:
    generator = np.random.default_rng(recipe.seed)
    images = np.concatenate([split.images for split, _ in hands])
    labels = np.concatenate([split.labels for split, _ in hands])
    junk = np.concatenate(
        [getattr(nondigits, kind)(count, generator) for kind, count in NONE.items()]
    )
    junk = junk[junk.max((1, 2)) > FAINT]
    several = nondigits.several(SEVERAL, generator, images)
    split = training_split(examples, Split(images, labels), junk, several, recipe.seed)
    with Progress("learning segments", recipe.segments) as bar:
        return Network(train_network(split, recipe.segments, recipe.seed, report=bar.advance))


def train_network(
    split: Split,
    images: int,
    seed: int,
    batch: int = 128,
    rate: float = 3e-3,
    smoothing: float = 0.02,
    report: Callable[[int, str], None] = lambda images, words: None,
) -> list[NDArray[np.float32]]:
    """Trains LeNet on so many images: AdamW, rate rising and falling linearly, images distorted.

    Returns the weights, in the order of `network.NAMES`: their running mean over the last steps.
    `report` is told now and then of how many more images it has learnt, and of the loss.
    """
    generator = np.random.default_rng(seed)
    objective = Objective(label_smoothing=smoothing)
    kernels = Kernels(architecture(CLASSES), objective, threads=1)
    flat = flatten(architecture(CLASSES).initial_weights(seed).values())
    gradient, average = np.zeros_like(flat), np.zeros_like(flat)
    optimizer = AdamW(1e-2, (0.9, 0.99))
    moments = np.zeros((2, len(flat)), np.float32)
    parameters = kernels.parameters(flat, gradient, optimizer, moments)
    labels = split.labels.astype(np.int64)
    steps = images // batch
    order = np.empty(0, np.int64)
    mean = 0.0
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = generator.permutation(len(labels))
        index, order = order[:batch], order[batch:]
        share = step / steps
        update = optimizer.coefficients(rate * min(share / 0.05, (1 - share) / 0.95), step)
        warps = Warps(distort(batch, generator))
        loss, _ = kernels.step(split.images, labels, index, parameters, warps, update=update)
        update_average(average, flat, 1 - max(1 / step, 1e-3))
        mean += max(1 / step, 0.005) * (loss - mean)
        if step % 100 == 0:
            report(100 * batch, f"loss of a segment {mean:.3f}")
    return views(average, kernels.shapes)


def distort(count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Small random affine maps (count, 2, 3) for the kernels: turn, shear, stretch, shift."""
    maps = np.zeros((count, 2, 3), np.float32)
    turn, shear, wide, high = generator.normal(0, (0.07, 0.1, 0.06, 0.06), (count, 4)).T
    maps[:, 0, 0], maps[:, 1, 1] = np.exp(wide), np.exp(high)
    maps[:, 0, 1], maps[:, 1, 0] = shear - turn, turn
    maps[:, :, 2] = generator.normal(0, 0.5, (count, 2))
    return maps


def train_replicated(recipe: NumbersRecipe, hands: Hands, examples: list[Example]) -> Network:
    """First steps follow the boxes of drawn lines; then come the reader's own lines as well."""
    network = architecture(replicated.CLASSES)
    kernels = Kernels(network, Objective(distillation=1.0), threads=1)
    weights = flatten(network.initial_weights(recipe.seed).values())
    gradients, average = np.zeros_like(weights), np.zeros_like(weights)
    moments = np.zeros((2, len(weights)), np.float32)
    optimizer = AdamW(1e-2, (0.9, 0.99))
    steps = recipe.lines // BATCH

    def update(step: int) -> None:
        rate = RATE * min((step + 1) / PLACED, 1 - step / steps)
        optimizer.update(weights, gradients, moments, rate, step + 1)
        update_average(average, weights, 1 - max(1 / (step + 1), 2e-3))

    def lines() -> Iterator[Line]:
        drawn = iter(Lines(hands, recipe.seed))
        yield from itertools.islice(drawn, PLACED * BATCH)
        generator = np.random.default_rng(recipe.seed)
        own = [
            Line(example.row, example.number, np.empty((0, 4), np.float32))
            for example in examples
            if example.number is not None and example.row.shape[1] <= LONGEST
        ]
        while True:
            if generator.random() < DRAWN:
                yield next(drawn)
            else:
                line = own[generator.integers(len(own))]
                yield replace(line, image=changed(line.image, *generator.normal(0, 1, 3)))

    training = train_lines(
        kernels, weights, gradients, lines(), update, steps, BATCH, placed_steps=PLACED
    )
    with Progress("learning lines", recipe.lines) as bar:
        for loss in training:
            bar.advance(BATCH, f"loss of a line {loss:.2f}")
    return Network(views(average, kernels.shapes))
