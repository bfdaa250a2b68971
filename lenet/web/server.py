"""The server: uvicorn, and what it leaves open about connections."""

import asyncio
import ipaddress
import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lenet.errors import LenetError
from lenet.web import problems
from lenet.web.application import app
from lenet.web.limits import Limits

# How long a busy thread keeps the interpreter from the one that talks to the network. Python's 5 ms
# would be spent at each change of thread that a request needs.
SWITCH_SECONDS = 0.0005
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(
    models: Sequence[str | Path] | None = None,
    host: str = "127.0.0.1",
    port: int = 8028,
    limits: Limits | None = None,
    open_page: bool = False,
) -> None:
    """Serves the page and the REST interface until SIGINT or SIGTERM; finishes what it began.

    Args:
        models: as `lenet.web.app` takes them.
        host: the address to listen at; on a loopback address only this machine can ask.
        port: 0 takes a free one.
        limits: of size, time and number.
        open_page: whether to open the page in the user's browser.

    Raises:
        LenetError: there is no such model, or the address cannot be had.
    """
    limits = limits or Limits()
    listener = listen(host, port)
    local = is_loopback(host)
    application = app(models, limits, {*LOOPBACK, bracketed(host)} if local else None)
    config = uvicorn.Config(
        application,
        http=type("LimitedConnection", (Connection,), {"limits": limits}),
        ws="none",
        loop="asyncio",
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(limits.stop_seconds),
    )
    address = f"http://{bracketed(host)}:{listener.getsockname()[1]}"
    print(f"lenet: {address}  (Ctrl-C stops; docs at {address}/docs.html)", flush=True)
    if not local:
        print("lenet: whoever can reach this machine can ask it", flush=True)
    if open_page:
        webbrowser.open(address)  # the listener is there: the browser waits for the server
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has finished and raises again what stopped it
        print("lenet: stopped", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises LenetError if the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named so that asyncio knows it for TCP and sends answers without delay.
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        return listener
    except OverflowError:
        raise LenetError(f"a port is a number from 0 to 65535, not {port}") from None
    except OSError as error:
        raise LenetError(
            f"cannot listen at {host} port {port} ({error.strerror}); choose another --host or "
            "--port (0 takes a free one)"
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


class Connection(H11Protocol):
    """A connection that must send the head of each request in time, one of a limited number.

    uvicorn waits for the head of a request for ever. The guard limits the time of the body.
    """

    limits: Limits
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")
        else:
            self.watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_watching()
        super().connection_lost(exc)

    def watch_head(self) -> None:
        """Starts the time for a head that is not whole; ends it when it is."""
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

    def send_400_response(self, msg: str) -> None:
        self.refuse(HTTPStatus.BAD_REQUEST, msg)

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answers without the application and ends the connection."""
        if self.transport.is_closing():
            return
        body = problems.body(status, detail)
        headers = [
            ("content-type", problems.MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        reply = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (reply, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
