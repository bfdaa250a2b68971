"""Limits that keep one client from taking the whole server."""

from dataclasses import dataclass, field

from lenet.engine.processor import usable_cores


@dataclass(frozen=True)
class Limits:
    """Limits of a server. Requests beyond them get 400, 408, 413, 422 or 503.

    Attributes:
        body_bytes: size of one request.
        buffered_bytes: total size of all requests being received or answered.
        images: pictures in one request.
        pixels: of one picture, checked before it is decoded. Pictures that may take long, most of
            them those over a million pixels, are decoded in a process of their own, which is
            stopped after 2 s, and wait in a queue of their own.
        waiting: small pictures in the queue; the same number of pictures of numbers in theirs.
        large_waiting: such pictures in their queue.
        requests: with pictures, being answered at the same time.
        connections: open at the same time, where there are file descriptors for so many.
        workers: threads for small pictures, and as many for numbers; such pictures have one.
        batch: images in one call of the engine.
        send_seconds: time to send a request, from the connection or its first byte; and to take
            the answer.
        seconds: time to answer a request.
        stop_seconds: time to finish the requests under way when the server stops.
    """

    body_bytes: int = 16 << 20
    buffered_bytes: int = 128 << 20
    images: int = 64
    pixels: int = 30_000_000
    waiting: int = 256
    large_waiting: int = 8
    requests: int = 64
    connections: int = 512
    workers: int = field(default_factory=usable_cores)
    batch: int = 256
    send_seconds: float = 10.0
    seconds: float = 30.0
    stop_seconds: float = 30.0
