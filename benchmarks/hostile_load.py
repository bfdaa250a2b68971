"""Ordinary clients of `lenet serve` beside hostile ones.

    python benchmarks/hostile_load.py [--seconds 120] [--model mnist]

The server is a process of its own with its default limits. Ordinary clients send small drawings,
photographs of 12 megapixels, and ask /healthz, each over and over. For the first quarter of the
time they are alone; then hostile ones join them, each kind over and over: JSON of millions of
numbers, forms of thousands of parts, heads of thousands of lines, bodies in tiny chunks, pictures
that take for ever (tests/hostile.py), pictures of noise to be read as numbers, answers that are
never taken, and connections that say nothing.

Printed are the ordinary clients' latencies and refusals, alone and in that company, what became of
the hostile requests, and the largest memory of the server and of its decoder.
"""

import asyncio
import base64
import io
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from serve import picture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import hostile  # pyright: ignore[reportMissingImports]

MEBI = 1 << 20
ORDINARY = {"small picture": 4, "12 megapixels": 1, "/healthz": 1}  # clients of each kind
SILENT, SLOW_READERS = 300, 70  # connections that say nothing, or take no answer
KEPT = 15.0  # seconds
PAUSE = 0.2  # seconds between the requests of a hostile client


def post(path: str, body: bytes, kind: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(file: bytes, path: str = "/v1/predict") -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return post(path, part + file + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")


def ordinary_requests() -> dict[str, bytes]:
    photo = Image.open(io.BytesIO(picture(0, 196))).resize((4000, 3000))
    return {
        "small picture": form(picture(0, 196)),
        "12 megapixels": form(hostile.encoded(photo, "JPEG")),
        "/healthz": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    }


def hostile_requests() -> dict[str, bytes]:
    noise = np.random.default_rng(0).random((125, 125)) < 0.8
    dots = Image.fromarray(np.kron(noise, np.full((8, 8), 255, np.uint8)))
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    base64_of_nothing = b'{"images": ["' + base64.b64encode(bytes(11 * MEBI)) + b'"]}'
    return {
        "JSON numbers": post(
            "/v1/predict", b'{"images": [' + b"0," * 8_000_000 + b"0]}", "application/json"
        ),
        "JSON brackets": post("/v1/predict", b"[" * 15 * MEBI, "application/json"),
        "JSON base64": post("/v1/predict", base64_of_nothing, "application/json"),
        "form of parts": post(
            "/v1/predict",
            b"--b\r\nContent-Disposition: form-data; name=images\r\n\r\n\r\n" * 250_000,
            "multipart/form-data; boundary=b",
        ),
        "head of lines": head + b"a: b\r\n" * 10_000 + b"\r\n",
        "tiny chunks": head.replace(b"GET", b"POST")
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 100_000,
        "read noise": form(hostile.encoded(dots, "PNG"), "/v1/read"),
        **{name: form(maker(4 * MEBI)) for name, maker in hostile.MAKERS.items()},
    }


async def ask(port: int, request: bytes) -> str:
    """The status of the answer, or what went wrong."""
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                return head.split()[1].decode()
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError) as error:
        return type(error).__name__


async def hold(port: int, request: bytes) -> None:
    """Sends a request, takes no answer, and keeps the connection."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
    writer.write(request)
    await asyncio.sleep(KEPT)
    writer.close()


async def attack(port: int, model: str, seconds: float) -> None:
    """All hostile clients, for so long; prints what became of them."""
    end = time.perf_counter() + seconds
    became: dict[str, Counter[str]] = {}

    async def repeat(name: str, request: bytes) -> None:
        became[name] = Counter()
        while time.perf_counter() < end:
            became[name][await ask(port, request)] += 1
            await asyncio.sleep(PAUSE)

    async def keep(request: bytes, count: int) -> None:
        while time.perf_counter() < end:
            await asyncio.gather(*(hold(port, request) for _ in range(count)))

    untaken = f"GET /v1/models/{model} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 30
    kinds = [repeat(*kind) for kind in hostile_requests().items()]
    await asyncio.gather(*kinds, keep(b"", SILENT), keep(untaken, SLOW_READERS))
    for name, counts in became.items():
        print(f"{name:18} {dict(counts)}", flush=True)


async def load(process: int, port: int, model: str, seconds: float) -> None:
    """The ordinary clients, for the last three quarters of the time beside hostile ones."""
    requests = ordinary_requests()
    start = time.perf_counter()
    join, end = start + seconds / 4, start + seconds
    took: dict[tuple[str, bool], list[float]] = defaultdict(list)
    statuses: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    memory: Counter[str] = Counter()

    async def ordinary(name: str) -> None:
        while (began := time.perf_counter()) < end:
            status = await ask(port, requests[name])
            key = (name, began > join)
            statuses[key][status] += 1
            took[key].append(time.perf_counter() - began)
            await asyncio.sleep(0.05)

    async def watch() -> None:
        while time.perf_counter() < end:
            memory["server"] = max(memory["server"], largest_memory(process))
            for child in children(process):
                memory["decoder"] = max(memory["decoder"], largest_memory(child))
            await asyncio.sleep(0.2)

    async def hostile_process() -> None:
        await asyncio.sleep(join - time.perf_counter())
        command = [__file__, "--victim", str(port), "--seconds", str(end - time.perf_counter())]
        await (
            await asyncio.create_subprocess_exec(sys.executable, *command, "--model", model)
        ).wait()

    clients = [ordinary(name) for name, count in ORDINARY.items() for _ in range(count)]
    await asyncio.gather(*clients, watch(), hostile_process())
    print("client            company    requests  p50 ms   p99 ms   max ms  answers")
    for (name, hostile_too), seconds_of in sorted(took.items(), key=lambda item: item[0][1]):
        p50, p99, most = 1000 * np.percentile(seconds_of, (50, 99, 100))
        company = "hostile" if hostile_too else "alone"
        answers = dict(statuses[name, hostile_too])
        print(
            f"{name:16}  {company:8} {len(seconds_of):10} {p50:7.0f} {p99:8.0f} {most:8.0f}  "
            f"{answers}"
        )
    print(f"most memory, MiB: {dict(memory)}")


def children(process: int) -> list[int]:
    """The processes that the threads of a process have started (Linux)."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def largest_memory(process: int) -> int:
    """MiB that a process has used at most (Linux); 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10
    except (OSError, IndexError):
        return 0


def main(
    seconds: float = 120,
    model: str = "mnist",
    victim: int = 0,
) -> None:
    """
    Args:
        seconds: for all; the first quarter is without hostile clients.
        model: a pretrained name.
        victim: be the hostile clients of the server at that port.
    """
    if victim:
        return asyncio.run(attack(victim, model, seconds))
    command = [sys.executable, "-m", "lenet", "serve", model, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().split()[1].rpartition(":")[2])
    try:
        asyncio.run(load(process.pid, port, model, seconds))
    finally:
        process.terminate()
        began = time.perf_counter()
        _, log = process.communicate()
        print(
            f"stopped after {time.perf_counter() - began:.1f} s; its log has {len(log)} characters"
        )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
