"""The application: the routes of the page and of the REST interface."""

from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from lenet import __version__
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.reading.formats import Expected
from lenet.reading.reader import THRESHOLD
from lenet.web import bodies, problems, schemas
from lenet.web.guard import Guard
from lenet.web.limits import Limits
from lenet.web.model import Model, ServedModel, Workers
from lenet.web.problems import Problem
from lenet.web.reading import Readings, ReadingTrace, ServedReader, Threshold, expected
from lenet.web.schemas import Preprocessing

STATIC = Path(__file__).parent / "static"
FIRST = "digits"  # the pretrained network that answers if none is named
DESCRIPTION = """\
Reads handwritten digits, other small pictures, and numbers with LeNet.

Pictures are PNG, JPEG, GIF, WebP, TIFF, BMP or PPM files, sent as multipart parts named `images`
or as base64 in JSON. Every error has the content type `application/problem+json`. One of several
pictures that cannot be read has its error in its place; the others are answered.
"""
MANNERS = """\
What is done to a picture first. `digit`: find one digit, crop and centre it as MNIST's makers did.
`plain`: fit the whole picture into 28x28. `none`: it has 28x28 pixels already, bright on black.
`auto`: what the model was trained for."""

Manner = Annotated[Preprocessing, Query(description=MANNERS)]
Result = TypeVar("Result")


def app(
    models: Sequence[str | Path] | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The page and the REST interface as an ASGI application.

    Args:
        models: run folders, weights files or pretrained names; the first answers if a request
            names none. By default all pretrained networks.
        limits: of size, time and number.
        hosts: the host names that the server answers to; None allows all. Give them for a server
            on the loopback interface.

    Raises:
        LenetError: there is no such model, or two have the same name.
    """
    limits = limits or Limits()
    workers = Workers(limits)
    served: dict[str, ServedModel] = {}
    pretrained = sorted(checkpoint.pretrained_names(), key=lambda name: (name != FIRST, name))
    for name in models or pretrained:
        model = ServedModel(name, workers)
        if model.name in served:
            raise LenetError(f"two models are called {model.name}; rename the file or folder")
        served[model.name] = model
    first = next(iter(served))
    reader = ServedReader(workers)
    served.setdefault(reader.segments.name, reader.segments)

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
        declared = request.headers.get("content-type", "")
        kind = declared.split(";")[0].strip().lower()
        # Not request.body(), which would keep the body until the answer.
        body = b"".join([chunk async for chunk in request.stream()])
        if kind == "application/json":
            return await workers.small.run(bodies.files_in_json, body, most)
        if kind == "multipart/form-data":
            return await workers.small.run(bodies.files_in_form, body, declared, most)
        detail = (
            f"send pictures as multipart/form-data or application/json, not {kind or 'nothing'}"
        )
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)

    @service.post(
        "/v1/predict",
        summary="Read one or many pictures of a digit",
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
        return json(schemas.encode(schemas.Predictions(model=model.name, answers=answers)))

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

    @service.post(
        "/v1/read",
        summary="Read the numbers in one or many pictures",
        response_model=Readings,
        responses=errors(400, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(limits.images),
    )
    async def read(
        request: Request,
        expected: Annotated[Expected, Depends(expected)],
        threshold: Threshold = THRESHOLD,
    ) -> Response:
        files = await files_of(request, limits.images)
        return json(await reader.read(files, expected, threshold))

    @service.post(
        "/v1/read/trace",
        summary="Follow one picture through the reader of numbers",
        response_model=ReadingTrace,
        responses=errors(400, 408, 413, 415, 422, 503),
        openapi_extra=pictures_body(1),
    )
    async def read_trace(
        request: Request,
        expected: Annotated[Expected, Depends(expected)],
        threshold: Threshold = THRESHOLD,
    ) -> Response:
        [file] = await files_of(request, 1)
        return json(await reader.trace(file, expected, threshold))

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
        return json(named(name).described)

    @service.get(
        "/v1/examples/random",
        summary="A random image of the model's test set",
        responses=errors(404, 422, 503),
    )
    async def random_example(model: Annotated[ServedModel, Depends(chosen)]) -> schemas.Example:
        return await test_set(model.examples.random)

    @service.get(
        "/v1/examples/mistakes",
        summary="The worst mistakes of the model on its test set",
        responses=errors(404, 422, 503),
    )
    async def mistakes(model: Annotated[ServedModel, Depends(chosen)]) -> schemas.Mistakes:
        return await test_set(model.examples.mistakes)

    async def test_set(question: Callable[[], Result]) -> Result:
        try:
            # In the large pictures' only thread, so that a data set is read once.
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
        answer.headers["Cache-Control"] = "no-cache"  # the browser asks whether it has changed
        return answer

    service.add_route("/", page)
    service.add_route("/{file}", page)
    return service


def json(answer: bytes) -> Response:
    return Response(answer, media_type="application/json")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Details"}}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in statuses}


def pictures_body(most: int) -> dict[str, Any]:
    """The body of a request with pictures, for OpenAPI."""

    def schema(item: dict[str, str]) -> dict[str, Any]:
        images = {"type": "array", "minItems": 1, "maxItems": most, "items": item}
        body = {"type": "object", "required": ["images"], "properties": {"images": images}}
        return {"schema": {**body, "additionalProperties": False}}

    content = {
        "multipart/form-data": schema({"type": "string", "format": "binary"}),
        "application/json": schema({"type": "string", "format": "byte"}),
    }
    return {"requestBody": {"required": True, "content": content}}
