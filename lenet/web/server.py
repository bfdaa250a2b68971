"""The server: uvicorn, with the limits on connections that it lacks."""

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

# How long a busy thread may keep the interpreter from the event loop. With Python's 5 ms, a request
# would wait that long at every change of thread.
SWITCH_SECONDS = 0.0005
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
    print(f"lenet: {address}  (Ctrl-C to stop; docs at {address}/docs.html)", flush=True)
    if not local:
        print("lenet: anyone who can reach this machine can use the server", flush=True)
    if open_page:
        webbrowser.open(address)  # the listener exists already, so the browser waits for the server
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has shut down and raises the signal again
        print("lenet: stopped", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises LenetError if the address is not available."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends answers without delay only if the socket says that its protocol is TCP.
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
            f"cannot listen on {host} port {port} ({error.strerror}); choose another --host or "
            "--port (0 picks a free one)"
        ) from None


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
    """One of a limited number of connections, with a time limit for the head of each request.

    uvicorn would wait for it for ever. The guard limits the time for the body.
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

    def send_400_response(self, msg: str) -> None:
        self.refuse(HTTPStatus.BAD_REQUEST, msg)

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answers without the application and closes the connection."""
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
