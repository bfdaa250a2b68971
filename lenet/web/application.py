"""The application: which question goes where."""

import base64
import binascii
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
from lenet.web.problems import Problem
from lenet.web.reader import Reader, Workers
from lenet.web.schemas import Preprocessing

STATIC = Path(__file__).parent / "static"
FIRST = "mnist"  # the pretrained network that answers if none is named
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
Found = TypeVar("Found")


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
    readers: dict[str, Reader] = {}
    for model in models or pretrained_first():
        reader = Reader(model, workers)
        if reader.name in readers:
            raise LenetError(f"two models are called {reader.name}; rename the file or folder")
        readers[reader.name] = reader
    first = next(iter(readers))

    service = FastAPI(
        title="lenet",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; /docs.html is our own
        redoc_url=None,
    )
    problems.install(service)
    service.add_middleware(Guard, limits=limits, hosts=hosts)

    def named(name: str) -> Reader:
        if name not in readers:
            raise Problem(
                HTTPStatus.NOT_FOUND, f"no model {name!r}; there are {', '.join(readers)}"
            )
        return readers[name]

    def chosen(
        model: Annotated[str, Query(description="One of `GET /v1/models`.")] = first,
    ) -> Reader:
        return named(model)

    @service.post(
        "/v1/predict",
        summary="Read one or many pictures",
        response_model=schemas.Predictions,
        responses=errors(400, 404, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(limits.images),
    )
    async def predict(
        request: Request,
        reader: Annotated[Reader, Depends(chosen)],
        preprocessing: Manner = Preprocessing.AUTO,
    ) -> Response:
        files = await files_of(request, limits.images)
        answers = await reader.predict(files, preprocessing)
        return json(schemas.Predictions(model=reader.name, answers=answers))

    @service.post(
        "/v1/trace",
        summary="Follow one picture through every layer",
        response_model=schemas.Trace,
        responses=errors(400, 404, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(1),
    )
    async def trace(
        request: Request,
        reader: Annotated[Reader, Depends(chosen)],
        preprocessing: Manner = Preprocessing.AUTO,
    ) -> Response:
        [file] = await files_of(request, 1)
        return json(await reader.trace(file, preprocessing))

    @service.get("/v1/models", summary="The networks that answer here")
    async def models_here() -> schemas.Models:
        return schemas.Models(
            models=[schemas.ModelCard(**reader.model.model_dump()) for reader in readers.values()]
        )

    @service.get(
        "/v1/models/{name}",
        summary="One network with its layers and weights",
        response_model=schemas.Model,
        responses=errors(404, 422),
    )
    async def one_model(name: str) -> Response:
        return json(named(name).model)

    @service.get(
        "/v1/examples/random",
        summary="An image of the model's test set by chance",
        responses=errors(404, 422, 503),
    )
    async def random_example(reader: Annotated[Reader, Depends(chosen)]) -> schemas.Example:
        return await test_set(reader.examples.random)

    @service.get(
        "/v1/examples/mistakes",
        summary="The images of its test set that the model gets most wrong",
        responses=errors(404, 422, 503),
    )
    async def mistakes(reader: Annotated[Reader, Depends(chosen)]) -> schemas.Mistakes:
        return await test_set(reader.examples.mistakes)

    async def test_set(question: Callable[[], Found]) -> Found:
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


async def files_of(request: Request, most: int) -> list[bytes]:
    """The picture files in the body of a request, multipart or JSON.

    Raises:
        Problem: it is neither, is malformed, or has no picture or more than `most`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        files = files_in_json(await request.body())
    elif kind == "multipart/form-data":
        files = await files_in_form(request, most)
    else:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send pictures as multipart/form-data or application/json, not {kind or 'nothing'}",
        )
    if not 1 <= len(files) <= most:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"send 1 to {most} pictures, not {len(files)}"
        )
    return files


def files_in_json(body: bytes) -> list[bytes]:
    try:
        images = schemas.Images.model_validate_json(body).images
        return [base64.b64decode(image, validate=True) for image in images]
    except ValidationError as error:
        wrong = "; ".join(
            ".".join(map(str, fault["loc"])) + ": " + fault["msg"] for fault in error.errors()
        )
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, wrong.lstrip(": ")) from None
    except (binascii.Error, ValueError):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "images must be base64") from None


async def files_in_form(request: Request, most: int) -> list[bytes]:
    try:
        async with request.form(max_files=most, max_fields=0) as form:
            parts = form.multi_items()
            if unknown := [name for name, _ in parts if name != "images"]:
                raise Problem(
                    HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown part {unknown[0]!r}; name it images"
                )
            return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    except MultiPartException as error:
        raise Problem(HTTPStatus.BAD_REQUEST, error.message) from None
