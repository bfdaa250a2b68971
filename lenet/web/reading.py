"""Reading numbers for those who ask: what they expect in, answers and the reader's steps out."""

import asyncio
import copy
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import Query
from pydantic import BaseModel, Field

from lenet.data.pictures.decoding import Picture
from lenet.networks.checkpoint import Checkpoint
from lenet.reading.confidence import Evidence
from lenet.reading.formats import CHECKS, SEPARATORS, Expected
from lenet.reading.reader import Number, Reader, Reading
from lenet.web.model import ServedModel, Workers, in_turn
from lenet.web.schemas import Pixels, Unreadable, encode

NAME = "numbers"  # of the network that classifies segments, among those that are served
CLASSES = [*"0123456789", "part", "junk"]
MOST_LINES = 16  # whose steps are sent


class Numbers(BaseModel):
    """What one picture shows."""

    numbers: list[Number] = Field(description="In reading order.")
    reason: str | None = Field(description='Why there is none: "empty".')


class Readings(BaseModel):
    """The answers to a request, in the order of its pictures."""

    answers: list[Numbers | Unreadable]


class Segment(BaseModel):
    """What could be a digit: one to four neighbouring pieces of a line; an arc of its graph."""

    ends: tuple[int, int] = Field(description="The nodes that it lies between.")
    box: list[int] = Field(description="In the picture.")
    image: Pixels = Field(description="As the network sees it, 28x28, ink bright.")
    probabilities: dict[str, float] = Field(
        description='Of the digits, "part" (of a digit, or more than one) and "junk".'
    )
    read: str | None = Field(
        description='On the best path: its digit, "" if it is left out. null: not on the path.'
    )


class ReadLine(BaseModel):
    """A line of the picture, and the graph of all ways to read it."""

    ink: Pixels = Field(description="Brought to one height and upright; ink bright.")
    cuts: list[list[int]] = Field(description="For each cut its column in every row of `ink`.")
    nodes: list[float] = Field(description="Where the graph's nodes are, in columns of `ink`.")
    segments: list[Segment]


class ReadingTrace(BaseModel):
    """One picture on its way through the reader."""

    answer: Numbers
    size: tuple[int, int] | None = Field(
        description="Width and height that boxes refer to; null if there is nothing to read."
    )
    lines: list[ReadLine] = Field(description=f"The first {MOST_LINES} lines.")


def expected(
    format: Annotated[
        str | None,
        Query(
            pattern=rf"^[{SEPARATORS}]*[#0-9][#0-9{SEPARATORS}]*$",
            max_length=100,
            description="What numbers look like: # for a digit, digits, and separators among "
            f'"{SEPARATORS}". `#####`, `#,###.##`',
        ),
    ] = None,
    length: Annotated[
        str | None,
        Query(
            pattern=r"^[1-9][0-9]{0,2}(-[1-9][0-9]{0,2})?$",
            description="How many digits: `5`, or `2-4`.",
        ),
    ] = None,
    range: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$", description="Least and largest value: `1-31`."),
    ] = None,
    check: Annotated[
        str | None,
        Query(
            pattern=rf"^({'|'.join(CHECKS)})$",
            description=f"Check digit that numbers have: {', '.join(CHECKS)}.",
        ),
    ] = None,
) -> Expected:
    """What the query says of the numbers."""
    return Expected(format, limits_of(length), limits_of(range), check)


def limits_of(text: str | None) -> tuple[int, int] | None:
    """ "2-4", "4-2" or "3" as least and most."""
    values = sorted(map(int, text.split("-"))) if text else None
    return (values[0], values[-1]) if values else None


Threshold = Annotated[
    float, Query(ge=0, le=1, description="Numbers of less confidence are rejected as not sure.")
]


class ServedReader:
    """The reader of numbers, ready to answer; `segments` is its network, as the page shows it."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.reader = Reader()
        _ = self.reader.confidence  # read now, for all
        network = self.reader.classifier
        card = {"classes": CLASSES, "preprocessing": "none"}
        self.segments = ServedModel(
            Checkpoint(Path(NAME), network.architecture, card, network.named), workers
        )

    def expecting(self, expected: Expected, threshold: float) -> Reader:
        reader = copy.copy(self.reader)  # with the same networks
        reader.expected, reader.threshold = expected, threshold
        return reader

    async def read(self, files: list[bytes], expected: Expected, threshold: float) -> bytes:
        """Reads pictures: JSON of `Readings`. Raises Problem if the only one cannot be read."""
        reader = self.expecting(expected, threshold)

        def work(picture: Picture) -> Numbers:
            return answer_of(reader.read(picture))

        answers = await in_turn(files, self.workers.read, work)
        return await asyncio.to_thread(encode, Readings(answers=answers))

    async def trace(self, file: bytes, expected: Expected, threshold: float) -> bytes:
        """Reads one picture and tells how: JSON of `ReadingTrace`."""
        reader = self.expecting(expected, threshold)

        def trace(picture: Picture) -> bytes:
            reading = reader.read(picture)
            sizes = [step.line.picture_size for step in reading.steps]
            return encode(
                ReadingTrace(
                    answer=answer_of(reading),
                    size=(sizes[0][1], sizes[0][0]) if sizes else None,
                    lines=[line_of(step) for step in reading.steps[:MOST_LINES]],
                )
            )

        return await self.workers.read(file, trace, asyncio.Semaphore())


def answer_of(reading: Reading) -> Numbers:
    return Numbers(numbers=list(reading.numbers), reason=reading.reason)


def line_of(step: Evidence) -> ReadLine:
    """A line with its cuts and its graph."""
    segments, read = step.segments, dict(step.path)
    ends, boxes = segments.ends.tolist(), segments.boxes.tolist()
    pieces = [box for (first, after), box in zip(ends, boxes, strict=True) if after - first == 1]
    between = [(one[2] + other[0]) / 2 for one, other in pairwise(pieces)]
    return ReadLine(
        ink=Pixels.of((255 * step.line.ink).astype(np.uint8)),
        cuts=segments.seams.tolist(),
        nodes=[pieces[0][0], *between, pieces[-1][2]],
        segments=[
            Segment(
                ends=(first, after),
                box=step.line.box(*box),
                image=Pixels.of(image),
                probabilities=dict(zip(CLASSES, np.exp(logs).round(4).tolist(), strict=True)),
                read=read.get(arc),
            )
            for arc, ((first, after), box, image, logs) in enumerate(
                zip(ends, boxes, segments.images, step.logs, strict=True)
            )
        ],
    )
