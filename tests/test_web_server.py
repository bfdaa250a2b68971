"""The server on a real port: slow senders, floods of connections, a graceful stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import TRAIN, interruptible
from test_web import Digits, parts, picture

from lenet.errors import LenetError
from lenet.web.server import listen

HOST = "127.0.0.1"
QUICK = "send_seconds=0.6, connections=40"


class Server:
    """`lenet serve` in a process of its own, with shorter limits, after running `first`."""

    def __init__(self, models: Sequence[str | Path], limits: str, first: str = "") -> None:
        program = (
            f"{first}\nfrom lenet.web import Limits, serve; "
            f"serve({[str(model) for model in models]}, port=0, limits=Limits({limits}))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible if os.name == "posix" else None,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("lenet: http://127.0.0.1:"), line
        self.url = line.split()[1]
        self.port = int(self.url.rpartition(":")[2])
        assert httpx.get(f"{self.url}/healthz", timeout=30).status_code == 200

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection((HOST, self.port), timeout=20)
        connection.sendall(sent)
        return connection

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        _, self.errors = self.process.communicate(timeout=30)
        return self.process.returncode


@contextmanager
def serving(model: Path, limits: str = QUICK) -> Iterator[Server]:
    server = Server([model], limits)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def server(reader: Path) -> Iterator[Server]:
    with serving(reader) as started:
        yield started


def whole_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what comes until the connection is closed."""
    received = b""
    with connection:
        while block := connection.recv(65536):
            received += block
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def upload(digit: np.ndarray) -> tuple[bytes, bytes]:
    """Head and body of a request that asks what the digit is, and then closes."""
    sent = httpx.Request("POST", f"http://{HOST}/v1/predict", files=parts(picture(digit)))
    body = sent.read()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
        f"Content-Type: {sent.headers['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no request arrived"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", "no request arrived"),
        (
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc",
            "took longer than 0.6 s to arrive",
        ),
    ],
    ids=["silence", "half a head", "half a body"],
)
def test_slow_senders_are_cut_off(sent: bytes, words: str, server: Server) -> None:
    status, headers, body = whole_answer(server.connect(sent))
    assert status == 408
    assert headers["content-type"] == "application/problem+json"
    assert words in json.loads(body)["detail"]


def test_slow_senders_hold_nobody_up(server: Server, digits: Digits) -> None:
    slow = [
        server.connect(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
        for _ in range(25)
    ]
    answer = httpx.post(f"{server.url}/v1/predict", files=parts(picture(digits[0][0])), timeout=20)
    assert answer.status_code == 200
    for connection in slow:
        assert whole_answer(connection)[0] == 408


def test_a_sender_may_drip_if_it_ends_in_time(server: Server, digits: Digits) -> None:
    head, body = upload(digits[0][TRAIN])
    connection = server.connect(head[:20])
    time.sleep(0.1)
    connection.sendall(head[20:])
    for start in range(0, len(body), len(body) // 4):
        connection.sendall(body[start : start + len(body) // 4])
        time.sleep(0.05)
    assert whole_answer(connection)[0] == 200


def test_a_flood_of_connections_is_refused_and_over_soon(server: Server) -> None:
    connections = [server.connect() for _ in range(60)]
    statuses = [whole_answer(connection)[0] for connection in connections]
    assert set(statuses) == {408, 503}
    assert statuses.count(503) >= 20
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_idle_connections_lock_nobody_out(server: Server) -> None:
    idle = [server.connect() for _ in range(40)]
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert whole_answer(idle[0])[0] == 503  # the oldest had to go
    for connection in idle[1:]:
        connection.close()


def send_for_ever(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def test_slow_readers_are_cut_off(server: Server, reader: Path) -> None:
    request = f"GET /v1/models/{reader.name} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    slow = [server.connect(request * 40) for _ in range(10)]
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for connection in slow:
        with pytest.raises(ConnectionError):
            send_for_ever(connection)
        connection.close()


def test_tiny_chunks_are_refused(server: Server) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, body = whole_answer(server.connect(head + b"1\r\nx\r\n" * 100))
    assert status == 400
    assert "chunks" in json.loads(body)["detail"]


def test_a_body_in_chunks(server: Server, digits: Digits) -> None:
    sent = httpx.Request("POST", server.url, files=parts(picture(digits[0][TRAIN])))
    body = sent.read()
    answer = httpx.post(
        f"{server.url}/v1/predict",
        content=(body[at : at + 500] for at in range(0, len(body), 500)),
        headers={"content-type": sent.headers["content-type"]},
    )
    assert answer.status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="no limits of descriptors")
def test_file_descriptors_do_not_run_out(reader: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    server = Server([reader], "", few)
    idle = [server.connect() for _ in range(100)]
    assert httpx.get(f"{server.url}/healthz", timeout=5).status_code == 200
    server.stop()
    assert server.errors == ""
    for connection in idle:
        connection.close()


def test_no_request_is_lost_at_a_stop(reader: Path) -> None:
    """Clients that ask again and again over one connection are told before it closes."""
    with serving(reader, "") as server:
        connections = [server.connect() for _ in range(8)]
        statuses, lost = [], []

        def ask(connection: socket.socket) -> None:
            request = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
            answer = b""
            while b"connection: close" not in answer.lower():
                answer = b""
                try:
                    connection.sendall(request)
                    while not answer.endswith(b"}"):
                        block = connection.recv(65536)
                        if not block:
                            raise ConnectionError
                        answer += block
                except ConnectionError:
                    lost.append(connection)
                    break
                statuses.append(answer.split()[1])
            connection.close()

        threads = [threading.Thread(target=ask, args=(one,)) for one in connections]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(20)
        assert not lost
        assert set(statuses) == {b"200"}
        server.process.communicate(timeout=30)


def test_a_port_that_is_none() -> None:
    with pytest.raises(LenetError, match="0 to 65535, not 73564"):
        listen(HOST, 73564, 1)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 TLS\r\n\r\n", b"GET /\x00 HTTP/9\r\n\r\n"])
def test_what_is_not_http(sent: bytes, server: Server) -> None:
    status, headers, body = whole_answer(server.connect(sent))
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["status"] == 400


def test_a_request_that_is_far_too_large_does_not_have_to_arrive(server: Server) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n"
    status, headers, _ = whole_answer(server.connect(head))
    assert (status, headers["connection"]) == (413, "close")


def test_answers_are_sent_without_delay() -> None:
    """asyncio sets TCP_NODELAY only on sockets that say that they are TCP."""
    with listen(HOST, 0, 1) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_another_host_name_is_refused(server: Server) -> None:
    answer = httpx.get(f"{server.url}/", headers={"Host": "evil.example"})
    assert answer.status_code == 421


def test_a_stop_finishes_what_it_began(reader: Path, digits: Digits) -> None:
    with serving(reader, "") as server:
        head, body = upload(digits[0][TRAIN])
        connection = server.connect(head + body[:100])
        idle = server.connect()
        time.sleep(0.3)  # the server has begun to read
        server.process.send_signal(signal.SIGTERM)
        while True:  # it takes no new requests
            try:
                server.connect().close()
                time.sleep(0.05)
            except ConnectionRefusedError:
                break
        assert server.process.poll() is None
        connection.sendall(body[100:])
        status, _, answer = whole_answer(connection)
        assert status == 200
        assert len(json.loads(answer)["answers"]) == 1
        server.process.communicate(timeout=30)
        assert server.process.returncode == -signal.SIGTERM
        idle.close()


def test_ctrl_c_is_no_failure(reader: Path) -> None:
    with serving(reader) as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.errors == ""


def test_a_port_that_is_taken(
    command: Callable[..., subprocess.CompletedProcess[bytes]], server: Server
) -> None:
    done = command("serve", "--port", server.port)
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert str(server.port) in line
    assert "--port" in line


def test_a_model_that_is_not_there(
    command: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    done = command("serve", "nowhere", "--port", 0)
    assert done.returncode == 2
    assert "no model 'nowhere'" in done.stderr.decode()
