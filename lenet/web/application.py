"""The application: which question goes where."""

import base64
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.responses import Response

from lenet import __version__
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.web import problems, schemas
from lenet.web.guard import Guard
from lenet.web.limits import Limits
from lenet.web.model import Model, ServedModel, Workers
from lenet.web.problems import Problem
from lenet.web.schemas import Preprocessing

STATIC = Path(__file__).parent / "static"
FIRST = "digits"  # the pretrained network that answers if none is named
MOST_MARKS = 1000  # commas and opening brackets in JSON; more would fill memory when it is parsed
DESCRIPTION = """\
Reads handwritten digits and other small pictures with LeNet.

Pictures are PNG, JPEG, GIF, WebP, TIFF, BMP or PPM files, sent as multipart parts named `images`
or as base64 in JSON. Every error has the content type `application/problem+json`.
"""
MANNERS = """\
What is done to a picture first. `digit`: find one digit, crop and centre it as MNIST's makers did.
`plain`: fit the whole picture into 28x28. `none`: it has 28x28 pixels already, bright on black.
`auto`: what the model was trained for."""

Manner = Annotated[Preprocessing, Query(description=MANNERS)]
Result = TypeVar("Result")


def pretrained_first() -> list[str]:
    """The networks that come with the package, the one to begin with first."""
    return sorted(checkpoint.pretrained_names(), key=lambda name: (name != FIRST, name))


def app(
    models: Sequence[str | Path] | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The page and the REST interface as an ASGI application.

    Args:
        models: run folders, weights files or pretrained names; the first answers if a request
            names none. By default all networks that come with the package.
        limits: of size, time and number.
        hosts: the names by which the server may be called; None allows all. Name them for a
            server on the loopback interface.

    Raises:
        LenetError: there is no such model, or two have the same name.
    """
    limits = limits or Limits()
    workers = Workers(limits)
    served: dict[str, ServedModel] = {}
    for name in models or pretrained_first():
        model = ServedModel(name, workers)
        if model.name in served:
            raise LenetError(f"two models are called {model.name}; rename the file or folder")
        served[model.name] = model
    first = next(iter(served))

    service = FastAPI(
        title="lenet",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; /docs.html is our own
        redoc_url=None,
    )
    problems.install(service)
    service.add_middleware(Guard, limits=limits, hosts=hosts)

    def named(name: str) -> ServedModel:
        if name not in served:
            raise Problem(HTTPStatus.NOT_FOUND, f"no model {name!r}; there are {', '.join(served)}")
        return served[name]

    def chosen(
        model: Annotated[str, Query(description="One of `GET /v1/models`.")] = first,
    ) -> ServedModel:
        return named(model)

    async def files_of(request: Request, most: int) -> list[bytes]:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "application/json":
            files = await workers.small.run(files_in_json, await request.body(), most)
        elif kind == "multipart/form-data":
            files = await files_in_form(request, most)
        else:
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send pictures as multipart/form-data or application/json, "
                f"not {kind or 'nothing'}",
            )
        return files

    @service.post(
        "/v1/predict",
        summary="Read one or many pictures",
        response_model=schemas.Predictions,
        responses=errors(400, 404, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(limits.images),
    )
    async def predict(
        request: Request,
        model: Annotated[ServedModel, Depends(chosen)],
        preprocessing: Manner = Preprocessing.AUTO,
    ) -> Response:
        files = await files_of(request, limits.images)
        answers = await model.predict(files, preprocessing)
        return json(schemas.Predictions(model=model.name, answers=answers))

    @service.post(
        "/v1/trace",
        summary="Follow one picture through every layer",
        response_model=schemas.Trace,
        responses=errors(400, 404, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(1),
    )
    async def trace(
        request: Request,
        model: Annotated[ServedModel, Depends(chosen)],
        preprocessing: Manner = Preprocessing.AUTO,
    ) -> Response:
        [file] = await files_of(request, 1)
        return json(await model.trace(file, preprocessing))

    @service.get("/v1/models", summary="The networks that answer here")
    async def models_here() -> schemas.Models:
        return schemas.Models(models=[model.description for model in served.values()])

    @service.get(
        "/v1/models/{name}",
        summary="One network with its layers and weights",
        response_model=Model,
        responses=errors(404, 422),
    )
    async def one_model(name: str) -> Response:
        return json(named(name).description)

    @service.get(
        "/v1/examples/random",
        summary="An image of the model's test set by chance",
        responses=errors(404, 422, 503),
    )
    async def random_example(model: Annotated[ServedModel, Depends(chosen)]) -> schemas.Example:
        return await test_set(model.examples.random)

    @service.get(
        "/v1/examples/mistakes",
        summary="The images of its test set that the model gets most wrong",
        responses=errors(404, 422, 503),
    )
    async def mistakes(model: Annotated[ServedModel, Depends(chosen)]) -> schemas.Mistakes:
        return await test_set(model.examples.mistakes)

    async def test_set(question: Callable[[], Result]) -> Result:
        try:
            # In the large pictures' thread: reading a data set takes a moment, and once is enough.
            return await workers.large.run(question)
        except LenetError as error:
            raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None

    @service.get("/healthz", summary="Whether the server answers")
    async def health() -> schemas.Health:
        return schemas.Health()

    files = StaticFiles(directory=STATIC)

    async def page(request: Request) -> Response:
        file = request.path_params.get("file", "index.html")
        answer = await files.get_response(file, request.scope)
        answer.headers["Cache-Control"] = "no-cache"  # asked for again, and sent if it has changed
        return answer

    service.add_route("/", page)
    service.add_route("/{file}", page)
    return service


def json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Details"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def pictures_body(most: int) -> dict[str, Any]:
    """The body of a request with pictures, for OpenAPI."""

    def schema(item: dict[str, str]) -> dict[str, Any]:
        images = {"type": "array", "minItems": 1, "maxItems": most, "items": item}
        return {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": images},
                "additionalProperties": False,
            }
        }

    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": schema({"type": "string", "format": "binary"}),
                "application/json": schema({"type": "string", "format": "byte"}),
            },
        }
    }


def files_in_json(body: bytes, most: int) -> list[bytes]:
    """The picture files in a JSON body.

    Raises:
        Problem: it is malformed, or has no picture or more than `most`.
    """
    # base64 has neither commas nor brackets: what has many of them is refused before it is parsed.
    if sum(body.count(mark) for mark in b",[{") > MOST_MARKS:
        raise unprocessable(f"send an object with 1 to {most} pictures, not so many values")
    try:
        images = schemas.Images.model_validate_json(body).images
    except ValidationError as error:
        raise unprocessable(problems.faults(error.errors(include_input=False))) from None
    if len(images) > most:
        raise unprocessable(f"send 1 to {most} pictures, not {len(images)}")
    try:
        return [base64.b64decode(image, validate=True) for image in images]
    except ValueError:
        raise unprocessable("images must be base64") from None


async def files_in_form(request: Request, most: int) -> list[bytes]:
    """The picture files in a multipart body; the errors are those of `files_in_json`."""
    try:
        async with request.form(max_files=most, max_fields=0) as form:
            parts = form.multi_items()
            if unknown := [name for name, _ in parts if name != "images"]:
                raise unprocessable(f"unknown part {unknown[0]!r}; name it images")
            files = [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    except MultiPartException as error:
        raise Problem(HTTPStatus.BAD_REQUEST, error.message) from None
    if not files:
        raise unprocessable(f"send 1 to {most} pictures, not 0")
    return files


def unprocessable(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
