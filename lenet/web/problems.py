"""Errors in one format: problem details for HTTP (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1  # after 503


class Details(BaseModel):
    """What went wrong with a request."""

    type: str = Field(default="about:blank", description="Always this: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status code.", ge=400, le=599)
    detail: str = Field(description="What was wrong, and what to do about it.")


class Problem(HTTPException):
    """Ends a request with `status` and a sentence that says what was wrong."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        too_busy = status == HTTPStatus.SERVICE_UNAVAILABLE
        super().__init__(status, detail, {"Retry-After": str(RETRY_SECONDS)} if too_busy else {})


def busy(what: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{what}; try again in a moment")


def details(status: int, detail: str) -> Details:
    return Details(title=HTTPStatus(status).phrase, status=status, detail=detail)


def body(status: int, detail: str) -> bytes:
    """The JSON of a problem."""
    return json.dumps(details(status, detail).model_dump()).encode()


def response(problem: HTTPException) -> Response:
    """The HTTP response for a problem."""
    content = body(problem.status_code, problem.detail)
    return Response(content, problem.status_code, problem.headers, media_type=MEDIA_TYPE)


def faults(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first few of pydantic's errors, in one sentence."""
    first = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}".lstrip(": ") for error in errors[:3]
    ]
    return "; ".join(f"{fault:.200}" for fault in first)


def install(app: FastAPI) -> None:
    """Makes the application use this format where the framework has its own."""

    async def of_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return response(error)

    async def of_values(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, faults(error.errors())))

    app.add_exception_handler(HTTPException, of_status)
    app.add_exception_handler(RequestValidationError, of_values)
