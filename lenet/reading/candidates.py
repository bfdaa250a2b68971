"""What the segmentation network learns from: the cutter's own segments of synthetic pictures.

Classes 0 to 9 are digits, PART is a part of a digit or more than one, JUNK is what is no digit:
separators, rests of lines, letters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data import Split
from lenet.data.paper import OTHER, Sample
from lenet.reading.confidence import features
from lenet.reading.lattice import JUNK, PART
from lenet.reading.lines import Line, locate_lines, row_of
from lenet.reading.reader import Reader
from lenet.reading.segments import Segments, find_segments

WHOLE, PURE = 0.9, 0.8  # a digit: of its ink, and of the segment's
PIECE, MIXED, IMPURE = 0.72, 0.35, 0.5  # a part or a union; between these limits neither is sure
TRACE = 0.12  # less of a digit's ink is none
FOREIGN = 0.15  # of another digit's ink, at most, in a digit
SEEN = 0.5  # of a digit's pixels that must be ink, for it to be readable
INK = 0.45  # of a line's pixel
PARTS = 1.3  # parts and unions for each digit or junk; the cutter makes twice as many
RAW, NONE = 0.18, 0.06  # of the training images: single digits, and what is none, without a line


@dataclass(frozen=True)
class Example:
    """A line of a synthetic picture, as the reader found it.

    Attributes:
        images, labels: its segments, uint8 (N, 28, 28), whose class is sure, int64 (N,).
        row: the line as the replicated network has it, uint8 (28, width).
        number: the digits in it; None where some are there in part.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    row: NDArray[np.uint8]
    number: str | None


def make_examples(samples: Iterable[Sample]) -> Iterator[Example]:
    """What the reader's own foreground, lines and cuts make of pictures."""
    for sample in samples:
        for line in locate_lines(sample.picture)[0]:
            segments = find_segments(line)
            if segments is None:
                continue
            owner = owners_in_line(line, sample.owners)
            labels = label_segments(segments, line, owner, sample.number)
            sure = labels >= 0
            number = number_in_line(line, owner, sample.number)
            yield Example(segments.images[sure], labels[sure], row_of(line), number)


def training_split(
    examples: Iterable[Example],
    digits: Split,
    junk: NDArray[np.uint8],
    several: NDArray[np.uint8],
    seed: int,
) -> Split:
    """What the network learns from: the examples' segments, PARTS of them for each other one that
    are parts; and beside them pictures of single digits, of what is no digit, and of several
    digits, uint8 (N, 28, 28), in the shares RAW and NONE of the whole."""
    generator = np.random.default_rng(seed)
    chosen = list(examples)
    images = np.concatenate([example.images for example in chosen])
    labels = np.concatenate([example.labels for example in chosen])
    other, part = np.flatnonzero(labels != PART), np.flatnonzero(labels == PART)
    kept = generator.permutation(part)[: round(PARTS * len(other))]
    total = (len(other) + len(kept)) / (1 - RAW - NONE)
    raw = generator.integers(0, len(digits.labels), round(RAW * total))
    none = np.concatenate([junk, several])
    classes = np.repeat([JUNK, PART], [len(junk), len(several)])
    drawn = generator.integers(0, len(none), round(NONE * total))
    index = np.concatenate([other, kept])
    return Split(
        np.concatenate([images[index], digits.images[raw], none[drawn]]),
        np.concatenate([labels[index], digits.labels[raw], classes[drawn]]),
    )


def judged(
    reader: Reader, samples: Iterable[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """How a reader does on pictures of digits that its networks have not seen, among them some
    without a number: for every line the features, whether it is read right, and whether it shows a
    number."""
    values, right, number = [], [], []
    for sample in samples:
        for line in locate_lines(sample.picture)[0]:
            evidence = reader.evidence(line)
            owner = owners_in_line(line, sample.owners)
            truth = number_in_line(line, owner, sample.number)
            if evidence is None or not evidence.texts or truth is None:
                continue
            values.append(features(evidence))
            right.append(evidence.texts[0] == truth)
            number.append(bool(truth))
    return np.array(values), np.array(right), np.array(number)


def owners_in_line(line: Line, owners: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The owner of every pixel of a line, given those of the picture's pixels."""
    height, width = line.ink.shape
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    owner = cv2.warpAffine(owners, line.matrix, (width, height), flags=flags)
    # Ink just outside its owner's belongs to the nearest.
    near = cv2.dilate(np.where(owner < OTHER, owner, 0), np.ones((5, 5), np.uint8))
    return np.where((owner == 0) & (line.ink > INK), near, owner)


def number_in_line(line: Line, owner: NDArray[np.uint8], number: str) -> str | None:
    """The digits of which at least SEEN is ink in the line; None if some others show a TRACE."""
    every = np.bincount(owner.ravel(), minlength=256)[1 : len(number) + 1]
    seen = np.bincount(owner[line.ink > INK], minlength=256)[1 : len(number) + 1]
    shares = seen / np.maximum(1, every)
    if ((shares >= TRACE) & (shares < SEEN)).any():
        return None
    return "".join(digit for digit, share in zip(number, shares, strict=True) if share >= SEEN)


def label_segments(
    segments: Segments, line: Line, owner: NDArray[np.uint8], number: str
) -> NDArray[np.int64]:
    """Class of every segment, or -1 where it is not sure, given the owner of the line's pixels."""
    if not number:
        return np.full(len(segments.bounds), JUNK)
    inked = line.ink > INK
    every = np.maximum(1, np.bincount(owner.ravel(), minlength=256))
    seen = np.maximum(1, np.bincount(owner[inked], minlength=256))
    regions, bounds = segments.regions, segments.bounds
    per_piece = np.zeros((regions.max() + 1, 256), np.int64)
    chosen = inked & (regions >= 0)
    np.add.at(per_piece, (regions[chosen], owner[chosen]), 1)
    total = np.concatenate([np.zeros((1, 256), np.int64), np.cumsum(per_piece, 0)])
    counts = total[bounds[:, 1]] - total[bounds[:, 0]]
    ink = np.maximum(1, counts.sum(1))
    digits = counts[:, 1 : len(number) + 1]
    shares = digits / seen[1 : len(number) + 1]
    main = digits.argmax(1)
    rows = np.arange(len(counts))
    whole, pure = shares[rows, main], digits[rows, main] / ink
    visible = (seen / every)[1:][main]
    shares[rows, main] = 0
    others = shares.max(1)
    labels = np.full(len(counts), -1)
    labels[(whole < PIECE) | (others > MIXED) | (pure < IMPURE)] = PART
    labels[(digits.sum(1) < TRACE * ink) & (whole < TRACE)] = JUNK
    right = (whole > WHOLE) & (pure > PURE) & (visible > SEEN) & (others < FOREIGN)
    labels[right] = np.array([int(c) for c in number])[main[right]]
    return labels
