"""A network that answers requests: pictures in, answers, traces and explanations out."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.data.pictures.decoding import open_image, shrink
from lenet.data.pictures.preprocess import (
    Preprocessed,
    preprocess,
    preprocess_none,
    preprocess_plain,
)
from lenet.engine.scores import Tracer, tracer
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.reading.prediction import Predictor
from lenet.web import anatomy, schemas
from lenet.web.examples import Examples
from lenet.web.limits import Limits
from lenet.web.problems import Problem
from lenet.web.schemas import Preprocessing
from lenet.web.work import Batcher, Pool

Result = TypeVar("Result")

STEP_SIDE = 112  # pixels; the steps of a trace are not sent larger
MANNERS = {
    Preprocessing.DIGIT: preprocess,
    Preprocessing.PLAIN: preprocess_plain,
    Preprocessing.NONE: preprocess_none,
}


class Workers:
    """The threads of one server: some for small pictures, one for large ones."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.small = Pool("pictures", limits.workers, limits.waiting)
        self.large = Pool("large pictures", 1, limits.large_waiting)

    async def read(
        self, file: bytes, manner: Preprocessing, then: Callable[[Preprocessed], Result]
    ) -> Result:
        """Preprocesses one file and goes on with `then`, in one thread.

        Raises:
            Problem: it is too large or no picture, or too much is waiting.
        """

        def small() -> Result | None:
            width, height = size_of(file, self.limits.pixels)
            large = width * height > self.limits.large_pixels
            return None if large else then(prepared(file, manner))

        def large() -> Result:
            return then(prepared(file, manner))

        return await self.small.run(small) or await self.large.run(large)


def size_of(file: bytes, pixels: int) -> tuple[int, int]:
    """Width and height of the picture in a file. Raises Problem: it is none, or too large."""
    try:
        width, height = open_image(file).size
    except LenetError as error:
        raise unreadable(error) from None
    if width * height > pixels:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a picture may have {pixels:,} pixels, not {width}x{height}",
        )
    return width, height


def prepared(file: bytes, manner: Preprocessing) -> Preprocessed:
    """The preprocessed picture. Raises Problem: it is damaged."""
    try:
        return MANNERS[manner](file)
    except LenetError as error:
        raise unreadable(error) from None


def unreadable(error: LenetError) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))


class Reader:
    """One trained network, ready to answer.

    Args:
        model: a run folder, a weights file, a pretrained name, or "latest".
        workers: where the work is done.

    Raises:
        LenetError: there is no such model.
    """

    def __init__(self, model: str | Path, workers: Workers) -> None:
        self.name = name_of(model)
        self.workers = workers
        self.predictor = Predictor(model)
        self.scores = Batcher(self.predictor.scores, workers.limits.batch)
        self.model = self.describe()
        self.examples = Examples(self.model.data, self.predictor.scores, self.model.classes)

    @cached_property
    def layers_of(self) -> Tracer:
        """Gives every layer's answer to one image; made when it is first asked for."""
        return tracer(self.predictor.checkpoint)

    def describe(self) -> schemas.Model:
        model = self.predictor.checkpoint
        card, recipe = model.card, model.card.get("recipe")
        data_name = (card.get("data") or {}).get("name")
        layers = anatomy.layers_of(model)
        return schemas.Model(
            name=self.name,
            network=model.network,
            classes=list(model.classes),
            parameters=sum(weight.size for weight in model.weights.values()),
            preprocessing=Preprocessing.PLAIN
            if self.predictor.preprocess is preprocess_plain
            else Preprocessing.DIGIT,
            data=data_name,
            examples=data_name is not None and data.is_here(data_name),
            recipe=recipe["name"] if isinstance(recipe, dict) and "name" in recipe else None,
            test_error=card.get("error") if card.get("measured_on") == "test" else None,
            rejection_threshold=card.get("rejection_threshold"),
            trusted_error=trusted_error(card),
            input=anatomy.input_of(model),
            layers=layers,
        )

    def manner(self, asked: Preprocessing) -> Preprocessing:
        return self.model.preprocessing if asked is Preprocessing.AUTO else asked

    async def predict(self, files: list[bytes], asked: Preprocessing) -> list[schemas.Answer]:
        """Reads pictures. Raises Problem for the first that cannot be read."""
        tasks = [
            asyncio.create_task(self.numbered_answer(number, len(files), file, asked))
            for number, file in enumerate(files, 1)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def numbered_answer(
        self, number: int, count: int, file: bytes, asked: Preprocessing
    ) -> schemas.Answer:
        try:
            return await self.answer(file, asked)
        except Problem as problem:
            if count == 1:
                raise
            which = f"picture {number} of {count}: {problem.detail}"
            raise Problem(HTTPStatus(problem.status_code), which) from None

    async def answer(self, file: bytes, asked: Preprocessing) -> schemas.Answer:
        return await self.workers.read(file, self.manner(asked), self.answer_to)

    async def trace(self, file: bytes, asked: Preprocessing) -> schemas.Trace:
        """Reads one picture and tells what every layer answers."""
        return await self.workers.read(file, self.manner(asked), self.trace_of)

    def answer_to(self, found: Preprocessed) -> schemas.Answer:
        scores = None if found.image is None else self.scores(found.image)
        return schemas.Answer.of(self.predictor.answer(found, scores))

    def trace_of(self, found: Preprocessed) -> schemas.Trace:
        layers: dict[str, NDArray[np.float32]] = {}
        if found.image is not None:
            with self.scores.turn:
                layers = self.layers_of(found.image)
        return schemas.Trace(
            model=self.name,
            answer=schemas.Answer.of(self.predictor.answer(found, layers.get("output"))),
            image=None if found.image is None else schemas.Pixels.of(found.image),
            steps=[step(name, picture) for name, picture in found.steps.items()],
            placement=schemas.placement_of(found),
            layers=[
                schemas.Activation(name=name, **schemas.Array.of(values).model_dump())
                for name, values in layers.items()
            ],
        )


def name_of(model: str | Path) -> str:
    """A run folder's name, a file's without its ending, or the pretrained name itself."""
    file = checkpoint.locate(model)
    return file.parent.name if file.name == checkpoint.WEIGHTS else file.stem


def trusted_error(card: dict[str, Any]) -> float | None:
    """The error that was measured on the answers that are not rejected, if the card knows."""
    for point in card.get("rejections") or []:
        if point["threshold"] == card.get("rejection_threshold"):
            return point["error"]
    return None


def step(name: str, picture: NDArray[np.uint8]) -> schemas.Step:
    pixels = schemas.Pixels.of(shrink(picture, STEP_SIDE))
    return schemas.Step(name=name, **pixels.model_dump())
