"""The server: uvicorn, with the limits on connections that it lacks."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cv2
import h11
import uvicorn
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from lenet.errors import LenetError
from lenet.web import problems
from lenet.web.application import app
from lenet.web.limits import Limits

# How long a busy thread may keep the interpreter from the event loop. With Python's 5 ms, a request
# would wait that long at every change of thread.
SWITCH_SECONDS = 0.0005
MOST_HEAD = 16 << 10  # bytes of a request without its body
FEW_PIECES, SMALLEST_PIECE = 64, 256  # of a body; so many may be smaller than that on average
READ_BYTES = 32 << 10  # taken from a connection before it is another's turn
WATCH_SECONDS = 1.0
GRACE_SECONDS = 0.3
TOO_MANY = "there are too many connections; try again later"
RESERVED = 24  # file descriptors that are not for connections
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(
    models: Sequence[str | Path] | None = None,
    host: str = "127.0.0.1",
    port: int = 8028,
    limits: Limits | None = None,
    open_page: bool = False,
) -> None:
    """Serves the page and the REST interface until SIGINT or SIGTERM; finishes running requests.

    Args:
        models: as for `lenet.web.app`.
        host: the address to listen on; a loopback address is for this machine only.
        port: 0 picks a free one.
        limits: of size, time and number.
        open_page: whether to open the page in the user's browser.

    Raises:
        LenetError: there is no such model, or the address is not available.
    """
    limits = limits or Limits()
    listener = listen(host, port, limits.connections)
    local = is_loopback(host)
    application = app(models, limits, {*LOOPBACK, bracketed(host)} if local else None)
    config = uvicorn.Config(
        application,
        http=type("LimitedConnection", (Connection,), {"limits": limits, "listener": listener}),
        ws="none",
        loop="asyncio",
        log_level="error",  # not what clients do wrong
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(limits.stop_seconds),
    )
    address = f"http://{bracketed(host)}:{listener.getsockname()[1]}"
    print(f"lenet: {address}  (Ctrl-C to stop; docs at {address}/docs.html)", flush=True)
    if not local:
        print("lenet: anyone who can reach this machine can use the server", flush=True)
    if open_page:
        webbrowser.open(address)  # the listener exists already, so the browser waits for the server
    sys.setswitchinterval(SWITCH_SECONDS)
    cv2.setNumThreads(1)  # pictures come at the same time: more threads for one slow them down
    try:
        Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has shut down and raises the signal again
        print("lenet: stopped", flush=True)


class Server(uvicorn.Server):
    """Takes what has been sent to it before it stops."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(0.05)  # connections that wait are accepted
        for listener in sockets or []:
            assert isinstance(listener, Listener)
            listener.stopping = True
        await super().shutdown(sockets)


class Listener(socket.socket):
    """A listening socket that accepts a limited number of connections.

    Where all are taken, one that waits for a request has to go, the oldest first; if there is none,
    who comes is refused. So file descriptors never run out: asyncio would then log its failures
    without end.
    """

    most: int  # connections
    stopping = False

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.present = 0  # connections accepted and not yet closed
        self.held: dict[Connection, None] = {}  # in the order of their arrival

    def accept(self) -> tuple[socket.socket, Any]:
        if self.present < self.most:
            connection, address = super().accept()
            self.present += 1
            return connection, address
        idle = next((connection for connection in self.held if connection.is_idle()), None)
        if idle:
            idle.refuse(HTTPStatus.SERVICE_UNAVAILABLE, TOO_MANY)
        else:
            refuse(super().accept()[0])
        raise BlockingIOError  # nothing to accept before this is done


def refuse(connection: socket.socket) -> None:
    """Answers before anything is read, and closes the connection."""
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(refusal(HTTPStatus.SERVICE_UNAVAILABLE, TOO_MANY))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(READ_BYTES)  # closing with something unread would undo the answer


def listen(host: str, port: int, connections: int) -> Listener:
    """A listening socket for so many connections, or as many as there can be.

    Raises:
        LenetError: the address is not available, or there are too few file descriptors.
    """
    most = min(connections, descriptors() - RESERVED)
    if most < 1:
        raise LenetError(f"raise the limit of open files (ulimit -n) to {2 * RESERVED} or more")
    if not 0 <= port <= 65535:  # the system takes it modulo 65536
        raise LenetError(f"a port is a number from 0 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends answers without delay only if the socket says that its protocol is TCP.
        listener = Listener(family, kind, protocol)
        listener.most = most
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        return listener
    except OSError as error:
        raise LenetError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another --host or "
            "--port (0 picks a free one)"
        ) from None


def descriptors() -> int:
    """How many files this process may have open."""
    try:
        import resource  # not on all systems
    except ImportError:
        return 512
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bracketed(host: str) -> str:
    """The host as written in a URL."""
    return f"[{host}]" if ":" in host else host


class Connection(H11Protocol):
    """One of a limited number of connections, which may keep the server waiting for a limited time:
    for the head of each request, and while it does not take its answers.

    uvicorn would wait for ever. The guard limits the time for the body.
    """

    limits: Limits
    listener: Listener
    timer: asyncio.TimerHandle | None = None
    watch: asyncio.TimerHandle | None = None
    untaken = 0.0  # seconds since all answers were taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.conn = Parser(h11.SERVER, MOST_HEAD)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # asyncio's, not documented
        self.listener.held[self] = None
        self.watch_head()
        self.watch_answers()
        if self.listener.stopping:
            self.shutdown()

    def handle_events(self) -> None:
        super().handle_events()
        if self.listener.stopping:
            self.announce_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.held.pop(self, None)
        self.listener.present -= 1
        self.stop_watching()
        if self.watch:
            self.watch.cancel()
        super().connection_lost(exc)

    def watch_head(self) -> None:
        """Starts the timer while the head of a request is incomplete; stops it after that."""
        if self.conn.their_state is not h11.IDLE:
            self.stop_watching()
        elif self.timer is None:
            self.timer = self.loop.call_later(self.limits.send_seconds, self.too_slow)

    def stop_watching(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def too_slow(self) -> None:
        self.timer = None
        if self.conn.their_state is h11.IDLE:
            self.refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"no request arrived within {self.limits.send_seconds:g} s",
            )

    def watch_answers(self) -> None:
        """Ends the connection if answers lie untaken for too long. Called every second."""
        waiting = self.transport.get_write_buffer_size() > 0
        self.untaken = self.untaken + WATCH_SECONDS if waiting else 0.0
        if self.untaken > self.limits.send_seconds:
            self.transport.abort()
        else:
            self.watch = self.loop.call_later(WATCH_SECONDS, self.watch_answers)

    def is_idle(self) -> bool:
        """Whether it waits for a request and holds nothing up."""
        return self.conn.their_state is h11.IDLE and not self.transport.is_closing()

    def shutdown(self) -> None:
        """Closes the connection when it has been answered. A request that is on its way has a
        moment to arrive, as it would be lost otherwise."""
        self.announce_end()
        self.loop.call_later(GRACE_SECONDS, self.close_idle)

    def close_idle(self) -> None:
        if self.is_idle():
            super().shutdown()
        elif not self.transport.is_closing():
            self.loop.call_later(GRACE_SECONDS, self.close_idle)

    def announce_end(self) -> None:
        """Has the answer say that the connection ends with it."""
        if self.cycle and not self.cycle.response_started:
            self.cycle.scope["headers"] = [*self.cycle.scope["headers"], CLOSE_HEADER]

    def send_400_response(self, msg: str) -> None:
        detail = (
            f"send an HTTP request, with a head of at most {MOST_HEAD} bytes and no tiny chunks"
        )
        self.refuse(HTTPStatus.BAD_REQUEST, detail)

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answers without the application and closes the connection."""
        if self.transport.is_closing():
            return
        self.transport.write(refusal(status, detail))
        self.transport.close()


class Parser(h11.Connection):
    """Takes no bodies in chunks of a few bytes: each costs as much time as a long one."""

    pieces = size = 0  # of the body so far

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.pieces = self.size = 0
        elif isinstance(event, h11.Data):
            self.pieces, self.size = self.pieces + 1, self.size + len(event.data)
            if self.pieces > FEW_PIECES and self.size < SMALLEST_PIECE * self.pieces:
                raise h11.RemoteProtocolError("tiny chunks")
        return event


def refusal(status: HTTPStatus, detail: str) -> bytes:
    """A whole answer, after which the connection is closed."""
    body = problems.body(status, detail)
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {problems.MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
