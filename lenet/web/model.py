"""A network that answers requests: pictures in, answers and traces out."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet import data
from lenet.data.pictures import decoding
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
    """The threads of one server: some for small pictures, one for large ones."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.small = Pool("pictures", limits.workers, limits.waiting)
        self.large = Pool("large pictures", 1, limits.large_waiting)

    async def read(self, file: bytes, work: Callable[[bytes], Result]) -> Result:
        """Does the work on one file, in one thread.

        Raises:
            Problem: it is too large or no picture, or too much is waiting.
        """

        def small() -> Result | None:
            return (
                None
                if pixels_of(file, self.limits.pixels) > self.limits.large_pixels
                else attempt()
            )

        def attempt() -> Result:
            try:
                return work(file)
            except LenetError as error:
                raise unreadable(error) from None

        return await self.small.run(small) or await self.large.run(attempt)

    async def read_all(
        self, files: list[bytes], work: Callable[[bytes], Result]
    ) -> list[Result | schemas.Unreadable]:
        """The same for several files. One that cannot be read fails alone, in its place.

        Raises:
            Problem: too much is waiting, or the only file cannot be read.
        """

        async def answer(file: bytes) -> Result | schemas.Unreadable:
            try:
                return await self.read(file, work)
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


def pixels_of(file: bytes, most: int) -> int:
    """The number of pixels of a picture. Raises Problem if it is none, or too large."""
    try:
        width, height = decoding.open_image(file).size
    except LenetError as error:
        raise unreadable(error) from None
    if width * height > most:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a picture may have {most:,} pixels, not {width}x{height}",
        )
    return width * height


def unreadable(error: LenetError) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))


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
        known = self.description.data and self.predictor.checkpoint.data
        self.examples = Examples(known, self.predictor.scores, self.description.classes)

    async def predict(
        self, files: list[bytes], manner: Preprocessing
    ) -> list[schemas.Answer | schemas.Unreadable]:
        """Reads pictures. Raises Problem if the only one cannot be read."""
        return await self.workers.read_all(files, self.work(manner, self.answer))

    async def trace(self, file: bytes, manner: Preprocessing) -> schemas.Trace:
        """Reads one picture and tells what every layer answers."""
        return await self.workers.read(file, self.work(manner, self.trace_of))

    def work(
        self, manner: Preprocessing, then: Callable[[Preprocessed], Result]
    ) -> Callable[[bytes], Result]:
        """Preprocesses a file and goes on with `then`."""
        if manner is Preprocessing.AUTO:
            manner = self.description.preprocessing
        prepare = MANNERS[manner]
        return lambda file: then(prepare(file))

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
