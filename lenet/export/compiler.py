"""The C compiler of this machine, if it has one: runs the exported C and measures its size."""

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError

FLAGS = ("-std=c99", "-Os")
PATIENCE = 300  # seconds


@dataclass(frozen=True)
class Built:
    """What a compiled program gave."""

    scores: NDArray[np.float64]  # (N, classes)
    code_bytes: int | None  # machine code of lenet.c, without constants; None if unknown


def find() -> list[str] | None:
    """The compiler command: $CC, cc, gcc or clang; None if there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        command = shlex.split(name) if name else []
        if command and shutil.which(command[0]):
            return command
    return None


def tried(files: Mapping[str, str], images: NDArray[np.uint8]) -> tuple[Built | None, str]:
    """Compiles the program, runs it on the images, and says how, or why not."""
    command = find()
    if command is None:
        return None, "not compiled: this machine has no C compiler"
    command += FLAGS
    try:
        with tempfile.TemporaryDirectory(prefix="lenet-") as name:
            folder = Path(name)
            for file, text in files.items():
                (folder / file).write_text(text, encoding="utf-8")
            run([*command, "-c", "lenet.c"], folder)
            run([*command, "main.c", "lenet.o", "-lm", "-o", "lenet"], folder)
            (folder / "images").write_bytes(images.tobytes())
            lines = run([str(folder / "lenet"), "images"], folder).strip("\n").split("\n")[1:]
            scores = np.array([[float(word) for word in line.split("\t")[1:]] for line in lines])
            built = Built(scores, code_bytes(folder / "lenet.o"))
    except LenetError as error:
        return None, f"not compiled: {error}"
    return built, f"with {' '.join(command)} for {platform.machine()}"


def run(command: list[str], folder: Path) -> str:
    """Runs a command and returns its standard output. Raises LenetError if it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LenetError(f"{command[0]} failed: {error}") from None
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise LenetError(f"{' '.join(command)} failed: {reason[:500]}")
    return done.stdout.decode(errors="replace")


def code_bytes(file: Path) -> int | None:
    """The size of the machine code in an object file, according to binutils' `size -A`."""
    try:
        table = [line.split() for line in run(["size", "-A", file.name], file.parent).splitlines()]
    except LenetError:  # no such command
        return None
    return sum(int(row[1]) for row in table if row and row[0].startswith(".text")) or None
