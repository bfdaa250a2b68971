"""A network that answers requests: pictures in, answers, traces and explanations out."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import checkpoint, data, pictures
from lenet.errors import LenetError
from lenet.evaluation import Tracer, class_names, scorer, tracer
from lenet.prediction import Predictor
from lenet.preprocess import Preprocessed, preprocess, preprocess_none, preprocess_plain
from lenet.web import anatomy, schemas
from lenet.web.examples import Examples
from lenet.web.limits import Limits
from lenet.web.problems import Problem
from lenet.web.schemas import Preprocessing
from lenet.web.work import Batcher, Pool

STEP_SIDE = 112  # pixels; the steps of a trace are not sent larger
MANNERS = {
    Preprocessing.DIGIT: preprocess,
    Preprocessing.PLAIN: preprocess_plain,
    Preprocessing.NONE: preprocess_none,
}


class Workers:
    """The threads of one server: some for small pictures, one for large ones, one engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.small = Pool("pictures", limits.workers, limits.waiting)
        self.large = Pool("large pictures", 1, limits.large_waiting)
        self.engine = ThreadPoolExecutor(1, "engine")

    async def preprocess(self, file: bytes, manner: Preprocessing) -> Preprocessed:
        """Preprocesses one file. Raises Problem: too large, no picture, or too busy."""
        found = await self.small.run(self.unless_large, file, manner)
        return found or await self.large.run(in_manner, file, manner)

    def unless_large(self, file: bytes, manner: Preprocessing) -> Preprocessed | None:
        try:
            width, height = pictures.open_image(file).size
        except LenetError as error:
            raise unreadable(error) from None
        if width * height > self.limits.pixels:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a picture may have {self.limits.pixels:,} pixels, not {width}x{height}",
            )
        return None if width * height > self.limits.large_pixels else in_manner(file, manner)


def in_manner(file: bytes, manner: Preprocessing) -> Preprocessed:
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
        scores = scorer(self.predictor.checkpoint, threads=1)
        self.scores = Batcher(scores, workers.engine, workers.limits.batch)
        self.model = self.describe()
        self.examples = Examples(self.model.data, scores, self.model.classes)

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
            classes=class_names(model, layers[-1].shape[0]),
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
        found = await self.workers.preprocess(file, self.manner(asked))
        scores = None if found.image is None else await self.scores(found.image)
        return schemas.Answer.of(self.predictor.answer(found, scores))

    async def trace(self, file: bytes, asked: Preprocessing) -> schemas.Trace:
        """Reads one picture and tells what every layer answers."""
        found = await self.workers.preprocess(file, self.manner(asked))
        layers: dict[str, NDArray[np.float32]] = {}
        if found.image is not None:
            image, loop = found.image, asyncio.get_running_loop()
            layers = await loop.run_in_executor(self.workers.engine, lambda: self.layers_of(image))
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
    small = pictures.shrink(picture.astype(np.float32) / np.float32(255), STEP_SIDE)
    return schemas.Step(name=name, **schemas.Pixels.of(pictures.to_uint8(small)).model_dump())
