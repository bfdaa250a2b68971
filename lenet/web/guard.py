"""The guard before the application: who may ask, how much, and for how long."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lenet.web import problems
from lenet.web.limits import Limits
from lenet.web.problems import Problem, busy

PATIENCE = 4  # a body of up to this many times the limit is read to its end before it is refused
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")
log = logging.getLogger("lenet.web")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware that checks the host, limits requests in size, time and number, and sets the
    security headers on every answer.

    Args:
        app: the application to guard.
        limits: of size, time and number.
        hosts: the host names that the server answers to, without ports; None allows all. A server
            on the loopback interface needs them, or a web site could point its own name at it and
            read the answers (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Collection[str] | None) -> None:
        self.app, self.limits, self.hosts = app, limits, hosts
        self.requests = 0  # being answered
        self.buffered = 0  # bytes of bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            answer = await self.answer(scope, receive)
        except Exception as error:
            problem = as_problem(error, scope)
            # The rest of the request will not be read, so the connection must end.
            problem.headers = {**(problem.headers or {}), "Connection": "close"}
            answer = []
            await problems.response(problem)(scope, receive, keeper(answer))
        headers = MutableHeaders(scope=answer[0])
        headers.update(HEADERS)
        headers.setdefault("Cache-Control", "no-store")
        for message in answer:
            await send(message)

    async def answer(self, scope: Scope, receive: Receive) -> list[Message]:
        """The messages of the answer, complete: a slow reader of it takes up no place."""
        headers = Headers(scope=scope)
        self.check_origin(headers)
        answer: list[Message] = []
        async with self.body(headers, receive) as body, self.place(scope):
            try:
                async with asyncio.timeout(self.limits.seconds):
                    await self.app(scope, replay(body, receive), keeper(answer))
            except TimeoutError:
                raise busy(f"the answer took longer than {self.limits.seconds:g} s") from None
        return answer

    @asynccontextmanager
    async def place(self, scope: Scope) -> AsyncIterator[None]:
        """One of the places for requests with pictures. Raises Problem if they are all taken."""
        pictures = scope["method"] == "POST"
        if pictures and self.requests >= self.limits.requests:
            raise busy("there are too many requests")
        self.requests += pictures
        try:
            yield
        finally:
            self.requests -= pictures

    def check_origin(self, headers: Headers) -> None:
        host = host_name(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server does not answer to {host!r}, but to {', '.join(self.hosts)}",
            )
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is None and origin is not None:  # an older browser, which names the page alone
            same = origin.partition("://")[2].lower() == headers.get("host", "").lower()
            site = "same-origin" if same else "cross-site"
        if site == "cross-site":
            raise Problem(HTTPStatus.FORBIDDEN, "pages of other sites may not use this server")

    @asynccontextmanager
    async def body(self, headers: Headers, receive: Receive) -> AsyncIterator[list[bytes]]:
        """Receives a request's body, in pieces that may be taken out; it counts as held in memory
        until the block ends.

        Raises:
            Problem: it is too large, alone or together with others, or too slow.
        """
        most = self.limits.body_bytes
        too_large = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a request may have at most {most:,} bytes; send fewer or smaller pictures",
        )
        # A client that is still sending does not see an answer, so a body that is somewhat too
        # large is read to its end and dropped. One that expects "100 Continue" does wait.
        patience = most if "expect" in headers else PATIENCE * most
        if content_length(headers) > patience:
            raise too_large
        chunks, size, held, more = [], 0, 0, True
        try:
            try:
                async with asyncio.timeout(self.limits.send_seconds):
                    while more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ConnectionError("the client disconnected")
                        chunk = message.get("body", b"")
                        more = message.get("more_body", False)
                        size += len(chunk)
                        if size > patience:
                            raise too_large
                        if size <= most:
                            chunks.append(chunk)
                            held += len(chunk)
                            self.buffered += len(chunk)
                        if self.buffered > self.limits.buffered_bytes:
                            raise busy("too many large requests are being sent")
            except TimeoutError:
                raise Problem(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the request took longer than {self.limits.send_seconds:g} s to arrive",
                ) from None
            if size > most:
                raise too_large
            yield chunks
        finally:
            self.buffered -= held


def content_length(headers: Headers) -> int:
    """The declared size of a request; 0 if there is none or it is malformed."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def host_name(host: str) -> str:
    """The Host header without the port: "[::1]:80" -> "[::1]"; as it is if it is malformed."""
    match = HOST.fullmatch(host)
    return (match[1] if match else host).lower()


def replay(body: list[bytes], receive: Receive) -> Receive:
    """Gives the received body as one message, then whatever follows, such as a disconnection."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given, whole = True, b"".join(body)
        body.clear()
        return {"type": "http.request", "body": whole, "more_body": False}

    return receive_again


def keeper(messages: list[Message]) -> Send:
    """Keeps the messages of an answer."""

    async def keep(message: Message) -> None:
        messages.append(message)

    return keep


def as_problem(error: Exception, scope: Scope) -> HTTPException:
    """The problem to answer with; an unexpected exception is logged."""
    if isinstance(error, HTTPException):
        return error
    if isinstance(error, MemoryError):
        return busy("the server has no memory left")
    if not isinstance(error, ConnectionError):
        log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; see its log for details")
