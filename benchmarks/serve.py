"""Requests a second and latency of `lenet serve` beside plain FastAPI + PyTorch.

    python benchmarks/serve.py [--model mnist] [--connections 16] [--requests 400] [--rounds 5]

Each server is a process with the same network; this process sends both the same requests over
loopback, `connections` at a time. The plain server is what one writes in an afternoon: an endpoint
that opens the picture with Pillow, calls the network without gradients, and returns label and
probabilities. Two kinds of work:

- 28x28: pictures that need no preprocessing;
- drawing: pictures of 196x196 pixels, which both servers preprocess alike.

Rounds alternate between the servers; the table has the medians. Answers are compared first.
"""

import asyncio
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import httpx
import numpy as np
import tyro
from PIL import Image, ImageDraw

PLAIN = "plain FastAPI + PyTorch"
OURS = "lenet serve"
DIFFERENCE = 1e-3  # largest allowed difference of their probabilities


def plain_server(model: str, port: int) -> None:
    """The server to compare with."""
    import fastapi
    import torch
    import uvicorn

    from lenet.data.pictures.preprocess import preprocess
    from lenet.networks import torch as networks

    network = networks.load(model)
    temperature = network.card.get("temperature") or 1.0
    app = fastapi.FastAPI()

    @app.post("/v1/predict")
    def predict(images: list[fastapi.UploadFile], preprocessing: str) -> dict:
        answers = []
        for image in images:
            content = image.file.read()
            if preprocessing == "none":
                pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
            else:
                pixels = preprocess(content).image
                assert pixels is not None
            with torch.inference_mode():
                scores = network(network.prepare(pixels[None]))[0]
            shares = torch.softmax(scores.double() / temperature, 0).tolist()
            names = network.card["classes"]
            label = names[int(scores.argmax())]
            answers.append({"label": label, "probabilities": dict(zip(names, shares, strict=True))})
        return {"answers": answers}

    @app.get("/healthz")
    def health() -> dict:
        return {}

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


@contextmanager
def server(command: list[str], port: int) -> Iterator[int]:
    """Starts a server and waits until it responds."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def picture(number: int, side: int) -> bytes:
    """A drawn seven or one, each slightly different, as a PNG file."""
    random = np.random.default_rng(number)
    inverted = side == 28  # bright on black, as the network takes it
    image = Image.new("L", (side, side), 0 if inverted else 255)
    points = np.array([(0.3, 0.22), (0.68, 0.22), (0.45, 0.8)]) + random.normal(0, 0.03, (3, 2))
    line = [tuple(point) for point in side * points[number % 2 :]]
    ImageDraw.Draw(image).line(line, 255 if inverted else 0, max(2, side // 13), "curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def requests_of(kind: str, count: int) -> list[bytes]:
    """Requests as bytes for the connection."""
    side, manner = (28, "none") if kind == "28x28" else (196, "digit")
    requests = []
    for number in range(count):
        files = [("images", ("x.png", picture(number, side), "image/png"))]
        url = f"http://127.0.0.1/v1/predict?preprocessing={manner}"
        request = httpx.Request("POST", url, files=files)
        body = request.read()
        lines = [b"POST %b HTTP/1.1" % request.url.raw_path]
        lines += [b": ".join(header) for header in request.headers.raw]
        requests.append(b"\r\n".join([*lines, b"", body]))
    return requests


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[float, bytes]:
    """Seconds of one request, and the body of its answer."""
    start = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return time.perf_counter() - start, body


async def load(port: int, requests: list[bytes], connections: int) -> tuple[float, list[float]]:
    """(requests a second, seconds of each) with that many concurrent requests."""
    waiting, took = iter(requests), []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            took.append((await ask(reader, writer, request))[0])
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return len(requests) / (time.perf_counter() - start), took


async def answers(port: int, requests: list[bytes]) -> list[dict[str, float]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bodies = [json.loads((await ask(reader, writer, request))[1]) for request in requests]
    writer.close()
    return [body["answers"][0]["probabilities"] for body in bodies]


def compare(ports: dict[str, int], requests: list[bytes]) -> None:
    """Stops if the two servers give different answers."""
    ours, plain = (asyncio.run(answers(port, requests)) for port in ports.values())
    for mine, other in zip(ours, plain, strict=True):
        worst = max(abs(mine[name] - other[name]) for name in mine)
        if worst > DIFFERENCE:
            raise SystemExit(f"the servers differ by {worst:.2g}: {mine} and {other}")


def measure(
    ports: dict[str, int], kind: str, requests: list[bytes], connections: int, rounds: int
) -> None:
    compare(ports, requests[:10])
    rates: dict[str, list[float]] = {name: [] for name in ports}
    times: dict[str, list[float]] = {name: [] for name in ports}
    for turn in range(rounds + 1):
        for name, port in ports.items():
            rate, took = asyncio.run(load(port, requests, connections))
            if turn:  # the first round warms up
                rates[name].append(rate)
                times[name] += took
    base = statistics.median(rates[PLAIN])
    for name in ports:
        rate = statistics.median(rates[name])
        p50, p99 = (1000 * np.quantile(times[name], q) for q in (0.5, 0.99))
        print(
            f"{kind:8}  {connections:4}  {name:24}  {rate:8.0f}  {rate / base:6.2f}  "
            f"{p50:7.1f}  {p99:7.1f}  ({min(rates[name]):.0f} to {max(rates[name]):.0f})",
            flush=True,
        )


def main(
    model: str = "mnist",
    connections: tuple[int, ...] = (1, 16, 64),
    requests: int = 400,
    rounds: int = 5,
    port: int = 8130,
    plain: Annotated[bool, tyro.conf.Suppress] = False,
) -> None:
    """
    Args:
        model: a pretrained name or a weights file.
        connections: requests at a time.
        requests: in a round.
        port: the first of two.
        plain: be the server to compare with.
    """
    if plain:
        return plain_server(model, port)
    ours = ["-m", "lenet", "serve", model, "--port", str(port)]
    others = [__file__, "--plain", "--model", model, "--port", str(port + 1)]
    with server(ours, port), server(others, port + 1):
        ports = {OURS: port, PLAIN: port + 1}
        print("work      conn  server                      req/s   ratio   p50 ms   p99 ms")
        for kind in ("28x28", "drawing"):
            for count in connections:
                measure(ports, kind, requests_of(kind, requests), count, rounds)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
