"""Reads the numbers in a picture: boxes, digits, how sure it is, and why not where it is not.

Two readers read every line: the segmentation graph (`lattice`) and the same network replicated over
the line (`replicated`). Each scores what the other proposes; the best sum wins.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures.decoding import Source, load_picture
from lenet.errors import LenetError
from lenet.reading.confidence import Confidence, Evidence, features
from lenet.reading.formats import Expected
from lenet.reading.lattice import Lattice
from lenet.reading.lines import HEIGHT, MARGIN, Line, locate_lines, row_of
from lenet.reading.network import Network
from lenet.reading.replicated import (
    Frames,
    log_probabilities,
    prefix_beam,
    softmax,
    windows,
    without_gaps,
)
from lenet.reading.segments import find_segments

EMPTY = "empty"
NOT_A_NUMBER = "not a number"
NOT_SURE = "not sure"
UNEXPECTED = "not as expected"
REASONS = {
    EMPTY: "nothing stands out from the paper",
    NOT_A_NUMBER: "what stands out are no digits",
    NOT_SURE: "the confidence is below the threshold",
    UNEXPECTED: "no likely reading has the expected format, length, range or check digit",
}
BEAM = 8  # strings that each reader proposes ...
EXPECTED_BEAM = 100  # ... where few of them may be what is expected
REPLICATED = 0.75  # weight of the replicated network's score in the sum
ALTERNATIVES = 4
THRESHOLD = 0.6  # of confidence
LEAST = 0.3  # probability that ink is a number
THICKEST = 0.36  # of the digits' height: thicker strokes are no writing
WEIGHTS = Path(__file__).parents[1] / "pretrained" / "numbers"


@dataclass(frozen=True)
class Digit:
    """A digit: its box in the picture, its probabilities by class, and the second guess."""

    digit: int
    box: list[int]
    probabilities: list[float]
    second: int


@dataclass(frozen=True)
class Separator:
    """What stands between or beside digits: one of ".,-/", or "?" for currency and other marks."""

    symbol: str
    box: list[int]


@dataclass(frozen=True)
class Number:
    """A number in a picture.

    Attributes:
        text: its digits; "" where nothing could be read.
        written: the digits with their separators.
        box: [left, top, right, bottom] in the picture, right and bottom excluded.
        confidence: probability that the whole text is right.
        rejected: whether the answer should not be used, for the reason among `REASONS`.
        alternatives: other texts and their confidences, likeliest first.
    """

    text: str
    written: str
    box: list[int]
    confidence: float
    rejected: bool
    reason: str | None
    digits: tuple[Digit, ...] = ()
    separators: tuple[Separator, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Reading:
    """The answer for a picture: its numbers in reading order; `reason` where there is none; and
    how each was read, `steps`."""

    numbers: tuple[Number, ...]
    reason: str | None = None
    steps: tuple[Evidence, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The numbers that are not rejected, separated by spaces."""
        return " ".join(number.text for number in self.numbers if not number.rejected)

    def as_dict(self) -> dict[str, Any]:
        """What JSON has of it: all but the steps."""
        return {"numbers": [asdict(number) for number in self.numbers], "reason": self.reason}


class Reader:
    """Reads numbers.

    >>> import lenet
    >>> from PIL import Image, ImageDraw
    >>> picture = Image.new("L", (300, 100), "white")
    >>> ImageDraw.Draw(picture).text((40, 10), "305", font_size=70)
    >>> [number.text for number in lenet.Reader().read(picture).numbers]
    ['305']

    Args:
        weights: folder of segments.safetensors, replicated.safetensors and confidence.safetensors,
            by default those that come with the package.
        expected: what is known of the numbers.
        threshold: numbers of less confidence are rejected as not sure.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        expected: Expected | None = None,
        threshold: float = THRESHOLD,
    ) -> None:
        self.folder = folder = Path(weights) if weights else WEIGHTS
        self.expected, self.threshold = expected or Expected(), threshold
        self.classifier = Network.load(folder / "segments.safetensors")
        self.replicated = Network.load(folder / "replicated.safetensors")

    @cached_property  # training fits it on what the networks say
    def confidence(self) -> Confidence:
        return Confidence.load(self.folder / "confidence.safetensors")

    def read(self, picture: Source) -> Reading:
        """The numbers in a picture.

        Raises:
            LenetError: the picture cannot be read.
        """
        loaded = load_picture(picture)
        lines, are_rests = locate_lines(loaded.gray.astype(np.float32) / 255)
        width, height = loaded.size
        lines = [line.in_size(height, width) for line in lines]  # large pictures are shrunk
        steps = [evidence for line in lines if (evidence := self.evidence(line))]
        numbers = tuple(self.judge(evidence) for evidence in steps)
        if are_rests and all(number.rejected or set(number.text) == {"1"} for number in numbers):
            numbers = ()  # what is left of lines looks like ones
        return Reading(numbers, None if numbers else EMPTY, tuple(steps))

    def read_many(
        self, pictures: Iterable[Source], jobs: int = 1
    ) -> Iterator[Reading | LenetError]:
        """A reading for each picture, in order, by `jobs` processes; a LenetError for a picture
        that cannot be read. Not more than a few pictures a process are under way at a time."""
        if jobs == 1:
            yield from map(self.attempt, pictures)
            return
        # Not forked: a fork of a process with threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, start, (self,)) as pool:
            waiting = deque()
            for picture in pictures:
                waiting.append(pool.submit(work, picture))
                if len(waiting) > 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def attempt(self, picture: Source) -> Reading | LenetError:
        try:
            return self.read(picture)
        except LenetError as error:
            return error

    def evidence(self, line: Line, expected: Expected | None = None) -> Evidence | None:
        """What both readers say of a line; None for one without ink. `expected`: by default what
        the reader expects."""
        segments = find_segments(line)
        if segments is None:
            return None
        logs = self.classifier.logs(segments.images).astype(np.float64)
        lattice = Lattice.of(segments.pieces, segments.ends, logs)
        frames = without_gaps(softmax(self.replicated.scores(windows(row_of(line)))))
        texts, scores, parts = candidates(lattice, frames, expected or self.expected)
        path = lattice.path(texts[0]) if texts else []
        return Evidence(line, segments, logs, lattice, texts, scores, parts, path)

    def judge(self, evidence: Evidence) -> Number:
        """The answer for a line."""
        texts, scores = evidence.texts, evidence.scores
        if not texts:
            box = evidence.line.box(*whole(evidence.segments.boxes))
            return Number("", "", box, 0.0, True, self.no_reason(evidence.line))
        right, is_number = self.confidence(features(evidence))
        confidence = right * is_number
        digits, separators, written = describe(evidence)
        box = whole(np.array([part.box for part in digits + separators])).tolist()
        if is_number < LEAST or evidence.segments.thickness > THICKEST * HEIGHT:
            return Number("", "", box, confidence, True, self.no_reason(evidence.line))
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        rest = (1 - confidence) / max(1 - shares[0], 1e-9)
        alternatives = tuple(
            (text, float(rest * share))
            for text, share in zip(texts[1 : ALTERNATIVES + 1], shares[1:], strict=False)
        )
        if self.expected.format:
            written = self.expected.written(texts[0])
        reason = NOT_SURE if confidence < self.threshold else None
        return Number(
            *(texts[0], written, box, confidence, reason is not None, reason),
            *(digits, separators, alternatives),
        )

    def no_reason(self, line: Line) -> str:
        """Why a line has no number that is expected: it has another one, or none."""
        if not self.expected.anything:
            free = self.evidence(line, Expected())
            if free and free.texts and self.confidence(features(free))[1] >= LEAST:
                return UNEXPECTED
        return NOT_A_NUMBER


def candidates(
    lattice: Lattice, frames: Frames, expected: Expected
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Strings that either reader proposes and that are expected, best first, their scores, and the
    scores (N, 2) of both readers."""
    width = BEAM if expected.anything else EXPECTED_BEAM
    begins = None if expected.anything else expected.begins
    proposed = set(lattice.strings(width, begins))
    proposed |= {text for text, _ in prefix_beam(frames, width, begins)}
    texts = sorted(text for text in proposed if text and expected.accepts(text))
    if not texts:
        return [], np.empty(0), np.empty((0, 2))
    parts = np.stack([lattice.score(texts), log_probabilities(frames, texts)], 1)
    scores = parts @ (1.0, REPLICATED)
    order = np.argsort(-scores)
    order = order[scores[order] > -1e6]  # what either reader cannot read at all is left out
    return [texts[n] for n in order], scores[order], parts[order]


def describe(evidence: Evidence) -> tuple[tuple[Digit, ...], tuple[Separator, ...], str]:
    """Digits and separators along the path, and the text with separators."""
    digits, separators, written = [], [], ""
    segments = evidence.segments
    for arc, digit in evidence.path:
        first, after = segments.bounds[arc]
        left, top, right, bottom = segments.boxes[arc]
        part = segments.regions[top:bottom, left:right]
        y, x = np.nonzero((part >= first) & (part < after))
        box = evidence.line.box_of(x + left, y + top)
        if digit:
            logs = evidence.logs[arc, :10]
            shares = np.exp(logs - np.logaddexp.reduce(logs))
            probabilities = [round(float(share), 6) for share in shares]
            second = int(np.argsort(-shares)[1])
            digits.append(Digit(int(digit), box, probabilities, second))
            written += digit
        elif symbol := separator(segments.boxes[arc]):
            separators.append(Separator(symbol, box))
            written += symbol if symbol != "?" else ""
    return tuple(digits), tuple(separators), written


def whole(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The box about boxes (N, 4)."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def separator(box: NDArray[np.int64]) -> str | None:
    """Which separator has this box in a line; None for specks and rests of rules."""
    left, top, right, bottom = box
    width, height = (right - left) / HEIGHT, (bottom - top) / HEIGHT
    middle = ((top + bottom) / 2 - MARGIN) / HEIGHT  # 0 at the top of the digits, 1 at their foot
    if max(width, height) < 0.08 or width > 3 or (middle < 0.15 and height < 0.5):
        return None
    if height > 0.6:
        return "/" if width < 0.8 else "?"
    if width > 1.5 * height and width > 0.2:
        return "-" if middle < 0.9 else None
    if middle < 0.6:
        return "?"
    return "," if (bottom - MARGIN) / HEIGHT > 1.12 or height > 1.6 * width else "."


WORKER: list[Reader] = []  # of a process that reads


def start(reader: Reader) -> None:
    cv2.setNumThreads(1)
    WORKER.append(reader)


def work(picture: Source) -> Reading | LenetError:
    return WORKER[0].attempt(picture)
