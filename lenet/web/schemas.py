"""What programs send and receive, as OpenAPI shows it."""

import base64
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lenet.data.pictures.preprocess import Preprocessed
from lenet.web.problems import Details


class Preprocessing(StrEnum):
    """What is done to a picture before the network sees it."""

    AUTO = "auto"
    DIGIT = "digit"
    PLAIN = "plain"
    NONE = "none"


class Array(BaseModel):
    """An array of numbers."""

    shape: list[int]
    data: str = Field(
        description="base64 of the numbers as little-endian float32, the last axis fastest."
    )

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "Array":
        data = np.ascontiguousarray(values, "<f4").tobytes()
        return cls(shape=list(values.shape), data=base64.b64encode(data).decode())


class Pixels(BaseModel):
    """A grey picture."""

    width: int
    height: int
    data: str = Field(description="base64 of the rows, one byte per pixel, 0 black to 255 white.")

    @classmethod
    def of(cls, picture: NDArray[np.uint8]) -> "Pixels":
        height, width = picture.shape
        return cls(width=width, height=height, data=base64.b64encode(picture.tobytes()).decode())


Box = tuple[int, int, int, int]
Shares = tuple[float, float, float, float]


class Answer(BaseModel):
    """What one picture shows."""

    label: str | None = Field(description="Class name; null if there is nothing to read.")
    probabilities: dict[str, float] = Field(description="Class -> 0..1; empty without a label.")
    rejected: bool = Field(description="Whether the answer should not be trusted.")
    reason: str | None = Field(
        description='Why it is rejected: "not sure", "empty", "several digits", "not a digit".'
    )
    box: Box | None = Field(
        description="Left, top, right and bottom of what was read, in the picture's pixels."
    )


class Unreadable(BaseModel):
    """What stands in the place of an answer for one of several pictures that cannot be read."""

    error: Details


class Predictions(BaseModel):
    """The answers to a request, in the order of its pictures."""

    model: str
    answers: list[Answer | Unreadable]


class Step(Pixels):
    """One step of the preprocessor, as a small picture."""

    name: str


class Placement(BaseModel):
    """Which part of the picture went to which part of the 28x28 pixels."""

    box: Shares = Field(
        description="Left, top, right and bottom in the picture, as shares of its width and height."
    )
    field: Shares = Field(description="Left, top, right and bottom in the 28x28 pixels.")


class Activation(Array):
    """The output of a layer."""

    name: str = Field(description="As in `lenet.trace`; first comes the prepared input.")


class Trace(BaseModel):
    """One picture on its way through the preprocessor and every layer of the network."""

    model: str
    answer: Answer
    image: Pixels | None = Field(
        description="What the network sees; null if there is nothing to read."
    )
    steps: list[Step] = Field(description="The preprocessor's steps, at most 112 pixels a side.")
    placement: Placement | None
    layers: list[Activation] = Field(description="Every layer; empty if there is nothing to read.")


class ModelCard(BaseModel):
    """A network that answers here."""

    name: str
    network: str
    classes: list[str]
    parameters: int
    preprocessing: Preprocessing
    data: str | None = Field(description="The data set it was trained on.")
    recipe: str | None
    test_error: float | None = Field(description="Share of wrong answers on the test set, 0..1.")
    rejection_threshold: float | None = Field(
        description="Smallest lead of the best score over the second of an answer that is sure."
    )
    trusted_error: float | None = Field(
        description="Share of wrong answers among the sure ones on the test set, 0..1."
    )
    examples: bool = Field(description="Whether its test set is on this machine.")
    segments: bool = Field(
        description="Whether its pictures are segments of numbers: `/v1/read` takes whole ones."
    )


class Models(BaseModel):
    """The networks that answer here; the first one by default."""

    models: list[ModelCard]


class Example(BaseModel):
    """An image of the test set."""

    index: int
    label: str
    image: Pixels


class Mistake(Example):
    """An image of the test set that the network gets wrong."""

    answer: str
    margin: float = Field(description="Score of the answer minus score of the right class.")


class Mistakes(BaseModel):
    """The hardest mistakes, the largest margin first."""

    errors: int
    images: int
    mistakes: list[Mistake]


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


def encode(answer: BaseModel) -> bytes:
    """The answer as JSON."""
    return answer.model_dump_json().encode()


def placement_of(prepared: Preprocessed) -> Placement | None:
    """Where the part of a picture that was read lies in the 28x28 pixels."""
    if prepared.image is None or prepared.box is None or prepared.shift is None:
        return None
    (left, top, right, bottom), (x, y) = prepared.box, prepared.shift
    columns, rows = prepared.size
    fitted = prepared.steps.get("20x20")
    if fitted is None:  # the whole picture fills the 28x28 pixels
        width, height = (side * 28 / max(prepared.size) for side in prepared.size)
    else:
        height, width = fitted.shape
    return Placement(
        box=(left / columns, top / rows, right / columns, bottom / rows),
        field=(x, y, x + width, y + height),
    )
