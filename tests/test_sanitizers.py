"""The engine built to watch itself: no memory error, no undefined behaviour, no race."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lenet.engine import fused

ROOT = Path(__file__).parents[1]
COMPILER = os.environ.get("CXX", "g++")


def tool(name: str) -> str | None:
    """A program installed with this Python, as by `make test`, or else one of the system's."""
    return shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)


CMAKE, NINJA = tool("cmake"), tool("ninja")
TOOLS = CMAKE and NINJA and shutil.which(COMPILER)
SETS = fused.instruction_sets()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="GCC's sanitizers are used on Linux"),
    pytest.mark.skipif(not (TOOLS and SETS), reason="needs a C++ compiler, cmake and ninja"),
]


def runtime(name: str) -> str:
    """GCC's library of that sanitizer, which must be loaded before Python itself."""
    path = subprocess.run(
        [COMPILER, f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"{COMPILER} has no lib{name}")
    return path


def build(folder: Path, sanitizers: str, sets: list[str]) -> None:
    pytest.importorskip("nanobind", reason="the Python package nanobind is needed to build")
    assert CMAKE
    configure = [
        *(CMAKE, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja"),
        *(f"-DCMAKE_MAKE_PROGRAM={NINJA}", f"-DCMAKE_CXX_COMPILER={COMPILER}"),
        *("-DCMAKE_BUILD_TYPE=None", f"-DLENET_SANITIZE={sanitizers}"),
        *(f"-DLENET_INSTRUCTION_SETS={';'.join(sets)}", f"-DPython_EXECUTABLE={sys.executable}"),
    ]
    for line in (configure, [CMAKE, "--build", str(folder)]):
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def use(folder: Path, library: str, sets: list[str], **options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "hard_use.py"), str(folder), *sets],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": library, **options},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "used\n"
    assert "Sanitizer" not in done.stderr
    assert "runtime error" not in done.stderr


def test_no_memory_error_and_no_undefined_behaviour(tmp_path: Path) -> None:
    build(tmp_path, "address,undefined", [*SETS])
    # No search for leaks: Python itself does not free all it has when it ends.
    use(
        tmp_path,
        runtime("asan"),
        [*SETS],
        ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1",
    )


def test_no_race(tmp_path: Path) -> None:
    build(tmp_path, "thread", ["portable"])  # threads are the same with every instruction set
    use(tmp_path, runtime("tsan"), ["portable"], TSAN_OPTIONS="die_after_fork=0:halt_on_error=1")
