"""What several test files need: small real digits, a trained network, MNIST, the command."""

import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

import lenet
from lenet import data
from lenet.engine import fused
from lenet.networks import checkpoint
from lenet.training.run import Run

TRAIN, TEST = 640, 200  # images of the small data set

# For tests marked fuzz; `make fuzz` repeats them with it.
settings.register_profile("long", max_examples=5000, suppress_health_check=[*HealthCheck])

needs_kernels = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)


def interruptible() -> None:
    """For a child process: Ctrl-C reaches it even if the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_idx(file: Path, array: NDArray[np.uint8]) -> None:
    """The IDX format, written down a second time."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(header + array.tobytes())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """As on a full disk, this process cannot make a file larger than that."""
    resource = pytest.importorskip("resource", reason="no limits of file sizes on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """This process can take no more than that many bytes besides those it has."""
    resource = pytest.importorskip("resource", reason="no limits of memory on this system")
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("the size of a process is not known on this system")
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(pages.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Handwritten digits (840, 28, 28) and labels: scikit-learn's 8x8 ones, made MNIST's size."""
    rows, labels = load_digits(return_X_y=True)
    images = np.zeros((TRAIN + TEST, 28, 28), np.uint8)
    for image, row in zip(images, rows, strict=False):
        picture = Image.fromarray((row.reshape(8, 8) * 255 / 16).astype(np.uint8))
        image[4:24, 4:24] = np.asarray(picture.resize((20, 20), Image.Resampling.BICUBIC))
    return images, labels[: TRAIN + TEST].astype(np.uint8)


@pytest.fixture(scope="session")
def digit_folder(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of IDX files with the small digits; not to be changed."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = digits
    for file, array in zip(
        data.FILES, (images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]), strict=True
    ):
        write_idx(folder / file, array)
    return folder


@pytest.fixture(scope="session")
def quick_recipe(digit_folder: Path) -> lenet.Recipe:
    """Reads the small digits well after a second of training."""
    return lenet.Recipe(
        name="quick",
        data=str(digit_folder),
        activation="relu",
        pooling="max",
        init="torch",
        epochs=12,
        batch_size=32,
        optimizer="adamw",
        lr=3e-3,
        schedule="cosine",
        warmup=0.1,
    )


@pytest.fixture(scope="session")
def trained(quick_recipe: lenet.Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the small digits; its folder is not to be changed."""
    return lenet.train(quick_recipe, out=tmp_path_factory.mktemp("runs") / "quick", threads=1)


@pytest.fixture(scope="session")
def reader(digit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that reads the small digits, and says that they are its data."""
    mnist = checkpoint.read("mnist")
    folder = tmp_path_factory.mktemp("runs") / "reader"
    folder.mkdir()
    card = {**mnist.card, "data": {"name": str(digit_folder)}}
    checkpoint.write(folder / checkpoint.WEIGHTS, mnist.architecture, mnist.weights, card)
    return folder


@pytest.fixture(scope="session")
def mnist() -> data.Dataset:
    """The real MNIST, obtained if need be."""
    return data.load("mnist")


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs `lenet` with these arguments in a process of its own."""

    def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "lenet", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, check=False, timeout=120, **options)

    return run
