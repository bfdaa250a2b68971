"""What one server gives to those who ask, so that nobody gets it all."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server; what is beyond them is answered with 408, 413 or 503.

    Attributes:
        body_bytes: size of one request.
        buffered_bytes: size of all requests that are being received or answered.
        images: pictures in one request.
        pixels: of one picture, before it is decoded.
        large_pixels: pictures with more wait in a line of their own, so that the small ones of
            others need not wait for them.
        waiting: small pictures that may wait for a worker.
        large_waiting: large pictures that may wait for theirs.
        requests: requests that may be answered at one time.
        connections: connections that may be open at one time.
        workers: threads that read small pictures; large ones have one thread.
        batch: images in one call of the engine.
        send_seconds: time to send a request, from its first byte or from the connection on.
        seconds: time to answer it.
        stop_seconds: time to finish what has begun when the server is told to stop.
    """

    body_bytes: int = 16 << 20
    buffered_bytes: int = 256 << 20
    images: int = 64
    pixels: int = 30_000_000
    large_pixels: int = 1_000_000
    waiting: int = 256
    large_waiting: int = 8
    requests: int = 64
    connections: int = 512
    workers: int = 16
    batch: int = 256
    send_seconds: float = 10.0
    seconds: float = 30.0
    stop_seconds: float = 30.0
