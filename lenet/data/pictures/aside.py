"""Work in a process of its own, which is stopped where it takes too long or too much memory.

Decoders of pictures are C code that cannot be interrupted, and a small file can keep them busy for
minutes. A process that has ended its work waits for more, so that it starts once.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]  # JSON-able; what comes with it are plain bytes

MEMORY = 400 << 20  # bytes beyond what the process has at its start and beyond the file (Linux)
PATIENCE = 10  # seconds on the clock for each second of computing, and at least so many
PROGRAM = "from lenet.data.pictures import aside, decoding; aside.serve(decoding.answer)"


class StoppedError(Exception):
    """The process was stopped, or broke down; says why."""


class Process:
    """A process that answers one question at a time."""

    def __init__(self) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            self.child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError as error:
            raise StoppedError(f"no process for it could be started: {error.strerror}") from None

    def ask(self, question: Message, data: bytes, seconds: float) -> tuple[Message, bytes]:
        """The answer. Raises StoppedError if there is none; then the process has ended."""
        assert self.child.stdin and self.child.stdout
        guard = threading.Timer(max(PATIENCE, PATIENCE * seconds), self.child.kill)
        guard.daemon = True
        guard.start()
        try:
            send(self.child.stdin, {**question, "seconds": seconds}, data)
            return receive(self.child.stdout)
        except (OSError, EOFError, ValueError):
            self.child.kill()
            status = -self.child.wait()
            late = status in (signal.SIGKILL, getattr(signal, "SIGPROF", 0))
            reason = f"it takes more than {seconds:g} s" if late else "the decoder broke down"
            raise StoppedError(reason) from None
        finally:
            guard.cancel()

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()


idle: list[Process] = []
inherited: list[Process] = []  # by a fork: the parent's


def ask(question: Message, data: bytes, seconds: float) -> tuple[Message, bytes]:
    """Has a question answered by a process of its own.

    Raises:
        StoppedError: the answer takes more than `seconds` of computing, or the process broke down.
    """
    process = None
    while process is None or process.child.poll() is not None:
        try:
            process = idle.pop()
        except IndexError:
            process = Process()
    try:
        answer = process.ask(question, data, seconds)
    except BaseException:
        process.end()
        raise
    idle.append(process)
    return answer


@atexit.register
def end_all() -> None:
    while idle:
        idle.pop().end()


def forget_parents() -> None:
    inherited.extend(idle)
    idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_parents)


def serve(answer: Callable[[Message, bytes], tuple[Message, bytes]]) -> None:
    """Answers questions from standard input until it ends. The process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends this
    base = address_space()
    while True:
        try:
            question, data = receive(sys.stdin.buffer)
        except EOFError:
            return
        limit_memory(base and base + MEMORY + len(data))
        if hasattr(signal, "setitimer"):  # of computing, so that a busy machine refuses nothing
            signal.setitimer(signal.ITIMER_PROF, question["seconds"])
        reply = answer(question, data)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)
        send(sys.stdout.buffer, *reply)


def send(stream: Any, message: Message, data: bytes) -> None:
    stream.write(json.dumps({**message, "bytes": len(data)}).encode() + b"\n")
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> tuple[Message, bytes]:
    """Raises EOFError if the stream has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    message = json.loads(line)
    data = stream.read(message["bytes"])
    if len(data) < message["bytes"]:
        raise EOFError
    return message, data


def address_space() -> int | None:
    """Bytes that this process has reserved; None where that is not known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def limit_memory(most: int | None) -> None:
    if most is None:
        return
    import resource  # not on all systems

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
