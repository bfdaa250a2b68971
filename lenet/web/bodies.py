"""Picture files in the bodies of requests.

Nothing is built that is larger than the body: a body is searched, not parsed value by value.
"""

import base64
import json
import re
from http import HTTPStatus

from lenet.web.problems import Problem

MOST_MARKS = 1000  # commas and opening brackets in JSON; base64 has none
MOST_HEAD = 4096  # bytes of the headers of a part of a form
BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
NAME = re.compile(
    rb'^content-disposition:[^\r\n]*?;[ \t]*name=(?:"([^"\r\n]{0,99})"|([^\s;"]{1,99}))',
    re.IGNORECASE | re.MULTILINE,
)


def files_in_json(body: bytes, most: int) -> list[bytes]:
    """The files in {"images": [base64 ...]}. Raises Problem unless there are 1 to `most`."""
    if sum(body.count(mark) for mark in b",[{") > MOST_MARKS:
        raise unprocessable(f"send an object with 1 to {most} pictures, not so many values")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise unprocessable(f"this is not JSON: {error!s:.100}") from None
    if not isinstance(sent, dict):
        raise unprocessable('send an object: {"images": ["base64 of a file", ...]}')
    if unknown := sent.keys() - {"images"}:
        raise unprocessable(f"{min(unknown):.50}: there is no such field; send images alone")
    images = sent.get("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise unprocessable("images: send a list of strings, the base64 of each file")
    check_number(len(images), most)
    try:
        return [base64.b64decode(image, validate=True) for image in images]
    except ValueError:
        raise unprocessable("images must be base64") from None


def files_in_form(body: bytes, kind: str, most: int) -> list[bytes]:
    """The files in the parts named images of multipart/form-data (RFC 7578).

    Args:
        body: of the request.
        kind: its Content-Type, which has the boundary.
        most: parts.

    Raises:
        Problem: the form is malformed or has other parts, or there are not 1 to `most`.
    """
    match = BOUNDARY.search(kind)
    if match is None:
        raise malformed("the Content-Type has no boundary")
    line = b"\r\n--" + (match[1] or match[2]).encode("latin-1")
    first = 0 if body.startswith(line[2:]) else body.find(line)
    if first < 0:
        raise malformed("its boundary is not in it")
    files = []
    at = first + len(line) - (2 if first == 0 else 0)
    while not body.startswith(b"--", at):
        end, blank = body.find(line, at), body.find(b"\r\n\r\n", at, at + MOST_HEAD)
        if end < 0 or not at <= blank < end:
            raise malformed("a part has no end, or its headers have none")
        name = NAME.search(body, at, blank)
        if name is None:
            raise malformed("a part has no name")
        if (name := name[1] or name[2] or b"") != b"images":
            raise unprocessable(f"unknown part {name.decode(errors='replace')!r}; name it images")
        check_number(len(files) + 1, most)
        files.append(body[blank + 4 : end])
        at = end + len(line)
    check_number(len(files), most)
    return files


def check_number(count: int, most: int) -> None:
    if not 1 <= count <= most:
        many = f"{count} or more" if count > most else "0"
        raise unprocessable(f"send 1 to {most} pictures, not {many}")


def unprocessable(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def malformed(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, f"the form is malformed: {detail}")
