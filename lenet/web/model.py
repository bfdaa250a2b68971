"""A network that answers requests: pictures in, answers and traces out."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet import data
from lenet.data.pictures import decoding
from lenet.data.pictures.decoding import Picture
from lenet.data.pictures.preprocess import (
    Preprocessed,
    preprocess,
    preprocess_none,
    preprocess_plain,
)
from lenet.engine.scores import tracer
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.reading.prediction import Predictor
from lenet.web import schemas
from lenet.web.examples import Examples
from lenet.web.layers import Input, Layer, input_of, layers_of
from lenet.web.limits import Limits
from lenet.web.problems import Problem, details
from lenet.web.schemas import Preprocessing
from lenet.web.work import Batcher, Pool

Result = TypeVar("Result")

PICTURE = "the picture"  # its name in messages
TURNS = 2  # large pictures, or pictures of numbers, of one request that are worked on at a time
STEP_SIDE = 112  # pixels, at most, of the steps of a trace
MANNERS = {
    Preprocessing.DIGIT: preprocess,
    Preprocessing.PLAIN: preprocess_plain,
    Preprocessing.NONE: preprocess_none,
}


class Model(schemas.ModelCard):
    """A network with all its layers and weights."""

    input: Input
    layers: list[Layer]


class Workers:
    """The threads of one server: for small pictures, for large ones, and for numbers."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.small = Pool("pictures", limits.workers, limits.waiting)
        self.large = Pool("large pictures", 1, limits.large_waiting)
        self.numbers = Pool("numbers", limits.workers, limits.waiting)

    async def predict(
        self, file: bytes, work: Callable[[Picture], Result], turns: asyncio.Semaphore
    ) -> Result:
        """Does the work on one file, in one thread.

        Args:
            file: of a picture.
            work: what is done with the picture.
            turns: how many large pictures of this request may wait, so that it does not fill the
                queue for all.

        Raises:
            Problem: it is too large or no picture, or too much is waiting.
        """
        most = self.limits.pixels

        def small() -> Result | None:
            if not decoding.is_ordinary(file):
                return None
            return work(decoding.decode_file(file, PICTURE, most))

        def large() -> Result:
            return work(decoding.decode_aside(file, PICTURE, most))

        if (result := await self.small.run(refusing, small)) is not None:
            return result
        async with turns:
            return await self.large.run(refusing, large)

    async def read(
        self, file: bytes, work: Callable[[Picture], Result], turns: asyncio.Semaphore
    ) -> Result:
        """The same for numbers, which take longer."""
        async with turns:
            return await self.numbers.run(
                refusing, lambda: work(decoding.load_picture(file, self.limits.pixels))
            )


async def in_turn(
    files: list[bytes],
    reading: Callable[[bytes, Callable[[Picture], Result], asyncio.Semaphore], Awaitable[Result]],
    work: Callable[[Picture], Result],
) -> list[Result | schemas.Unreadable]:
    """Does the work on several files. One that cannot be read fails alone, in its place.

    Args:
        files: of pictures.
        reading: `Workers.predict` or `Workers.read`.
        work: what is done with each picture.

    Raises:
        Problem: too much is waiting, or the only file cannot be read.
    """
    turns = asyncio.Semaphore(TURNS)

    async def answer(file: bytes) -> Result | schemas.Unreadable:
        try:
            return await reading(file, work, turns)
        except Problem as problem:
            status = problem.status_code
            if len(files) == 1 or status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return schemas.Unreadable(error=details(status, problem.detail))

    tasks = [asyncio.create_task(answer(file)) for file in files]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def refusing(work: Callable[[], Result]) -> Result:
    """Does the work. Raises Problem where it raises LenetError."""
    try:
        return work()
    except decoding.TooLargeError as error:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from None
    except LenetError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


class ServedModel:
    """One trained network, ready to answer.

    Args:
        model: a run folder, a weights file, a pretrained name, "latest", or a checkpoint.
        workers: where the work is done.

    Raises:
        LenetError: there is no such model, or it does not read pictures.
    """

    def __init__(self, model: str | Path | checkpoint.Checkpoint, workers: Workers) -> None:
        self.workers = workers
        self.predictor = Predictor(model)
        self.name = self.predictor.checkpoint.name
        self.scores = Batcher(self.predictor.scores, workers.limits.batch)
        self.trace_layers = tracer(self.predictor.checkpoint)
        self.description = describe(self.name, self.predictor.checkpoint)
        try:
            self.described = schemas.encode(self.description)
        except ValueError:
            raise LenetError(f"{model}: its card has characters that are not Unicode") from None
        known = self.description.data and self.predictor.checkpoint.data
        self.examples = Examples(known, self.predictor.scores, self.description.classes)

    async def predict(
        self, files: list[bytes], manner: Preprocessing
    ) -> list[schemas.Answer | schemas.Unreadable]:
        """Reads pictures. Raises Problem if the only one cannot be read."""
        return await in_turn(files, self.workers.predict, self.work(manner, self.answer))

    async def trace(self, file: bytes, manner: Preprocessing) -> bytes:
        """Reads one picture and tells what every layer answers, as JSON of `schemas.Trace`."""
        work = self.work(manner, lambda prepared: schemas.encode(self.trace_of(prepared)))
        return await self.workers.predict(file, work, asyncio.Semaphore())

    def work(
        self, manner: Preprocessing, then: Callable[[Preprocessed], Result]
    ) -> Callable[[Picture], Result]:
        """Preprocesses a picture and goes on with `then`."""
        if manner is Preprocessing.AUTO:
            manner = self.description.preprocessing
        prepare = MANNERS[manner]
        return lambda picture: then(prepare(picture))

    def answer(self, prepared: Preprocessed) -> schemas.Answer:
        scores = None if prepared.image is None else self.scores(prepared.image)
        return self.answer_with(prepared, scores)

    def answer_with(
        self, prepared: Preprocessed, scores: NDArray[np.float32] | None
    ) -> schemas.Answer:
        return schemas.Answer(**self.predictor.answer(prepared, scores).as_dict())

    def trace_of(self, prepared: Preprocessed) -> schemas.Trace:
        image = prepared.image
        layers = {} if image is None else self.trace_layers(image)
        scores = list(layers.values())[-1] if layers else None
        return schemas.Trace(
            model=self.name,
            answer=self.answer_with(prepared, scores),
            image=None if image is None else schemas.Pixels.of(image),
            steps=[step(name, picture) for name, picture in prepared.steps.items()],
            placement=schemas.placement_of(prepared),
            layers=[
                schemas.Activation(name=name, **schemas.Array.of(values).model_dump())
                for name, values in layers.items()
            ],
        )


def describe(name: str, model: checkpoint.Checkpoint) -> Model:
    """Describes a network under the name that it is served by."""
    card, recipe = model.card, model.card.get("recipe")
    trained_on = (card.get("data") or {}).get("name")
    manner = card.get("preprocessing")
    return Model(
        name=name,
        network=model.architecture.network,
        classes=model.classes,
        parameters=sum(parameter.size for parameter in model.architecture.parameters),
        preprocessing=Preprocessing(manner if manner in ("plain", "none") else "digit"),
        segments=manner == "none",
        data=trained_on,
        examples=trained_on is not None and data.is_here(model.data),
        recipe=recipe["name"] if isinstance(recipe, dict) and "name" in recipe else None,
        test_error=card.get("error") if card.get("measured_on") == "test" else None,
        rejection_threshold=card.get("rejection_threshold"),
        trusted_error=trusted_error(card),
        input=input_of(model.architecture.preparation),
        layers=layers_of(model.architecture, model.weights),
    )


def trusted_error(card: dict[str, Any]) -> float | None:
    """The error measured on the answers that are not rejected, if known."""
    for point in card.get("rejections") or []:
        if point["threshold"] == card.get("rejection_threshold"):
            return point["error"]
    return None


def step(name: str, picture: NDArray[np.uint8]) -> schemas.Step:
    small = Image.fromarray(picture)
    small.thumbnail((STEP_SIDE, STEP_SIDE), Image.Resampling.BOX)
    return schemas.Step(name=name, **schemas.Pixels.of(np.asarray(small)).model_dump())
