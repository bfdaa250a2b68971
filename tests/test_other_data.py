"""Further public data sets: small files of the same formats, over loopback and by hand."""

import gzip
import hashlib
import io
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet import data
from lenet.data import others
from lenet.data.corruptions import CORRUPTIONS
from lenet.errors import LenetError

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (9, 28, 28), dtype=np.uint8)
TEST = RANDOM.integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS, TEST_LABELS = np.arange(9, dtype=np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array: NDArray[Any]) -> bytes:
    """The IDX format, of unsigned bytes or 32-bit integers."""
    kind = 8 if array.dtype == np.uint8 else 0x0C
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + (array if kind == 8 else array.astype(">i4")).tobytes()


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def extended(labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """QMNIST's eight columns; the second is a writer's series that no class has."""
    return np.stack([labels, *(np.full(len(labels), 70_000),) * 7], 1).astype(np.int32)


def rows(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """USPS's text: label, then 256 values from -1 to 1."""
    values = images[:, :16, :16].reshape(len(images), -1) / 127.5 - 1
    lines = [
        " ".join([f"{y:.4f}", *(f"{v:.3f}" for v in x)])
        for x, y in zip(values, labels, strict=True)
    ]
    return "\n".join(lines).encode()


def emnist(part: str, first: int) -> dict[str, bytes]:
    """EMNIST's files: images transposed, labels from `first`."""
    return {
        f"gzip/emnist-{part}-{half}-{kind}-ubyte.gz": gzip.compress(idx(array))
        for half, images, labels in (("train", TRAIN, LABELS), ("test", TEST, TEST_LABELS))
        for kind, array in (
            ("images-idx3", np.ascontiguousarray(images.swapaxes(1, 2))),
            ("labels-idx1", labels + np.uint8(first)),
        )
    }


def corrupted() -> dict[str, bytes]:
    """MNIST-C's files; under the n-th corruption all test pixels are n."""
    members = {}
    for number, name in enumerate(("identity", *CORRUPTIONS)):
        for part, images, labels in (
            ("train", TRAIN, LABELS),
            ("test", np.full_like(TEST, number), TEST_LABELS),
        ):
            members[f"mnist_c/{name}/{part}_images.npy"] = npy(images[..., None])
            members[f"mnist_c/{name}/{part}_labels.npy"] = npy(labels.astype(np.int64))
    return members


FILES: dict[str, dict[str, bytes]] = {
    "qmnist": {
        f"qmnist-{part}-{kind}.gz": gzip.compress(idx(array))
        for part, images, labels in (("train", TRAIN, LABELS), ("test", TEST, TEST_LABELS))
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx2-int", extended(labels)))
    },
    "emnist-digits": {"gzip.zip": zipped(emnist("digits", 0) | emnist("letters", 1))},
    "emnist-letters": {"gzip.zip": zipped(emnist("digits", 0) | emnist("letters", 1))},
    "kmnist": {
        f"{file}.gz": gzip.compress(idx(array))
        for file, array in zip(data.FILES, (TRAIN, LABELS, TEST, TEST_LABELS), strict=True)
    },
    "usps": {
        "zip.train.gz": gzip.compress(rows(TRAIN, LABELS)),
        "zip.test.gz": gzip.compress(rows(TEST, TEST_LABELS)),
    },
    "mnist-c": {"mnist_c.zip": zipped(corrupted())},
    "mnist-c-fog": {"mnist_c.zip": zipped(corrupted())},
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Gives a data set the small files' sums and one mirror."""
    monkeypatch.setattr(others, "QMNIST_KNOWN", 2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)

    def shrink(name: str, mirror: str) -> None:
        source = data.SOURCES[name]
        sums = []
        for file, known in zip(source.files, source.sums, strict=True):
            content = FILES[name][file]
            kind, _, digits = known.rpartition(":")
            assert len(digits) == (32 if kind == "md5" else 64)
            if kind == "unpacked":
                content = gzip.decompress(content)
            digest = hashlib.new("md5" if kind == "md5" else "sha256", content).hexdigest()
            sums.append(f"{kind}:{digest}" if kind else digest)
        monkeypatch.setitem(
            data.SOURCES, name, replace(source, sums=tuple(sums), mirrors=(mirror,))
        )

    return shrink


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of a web server on this machine, and the folder that it serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/", folder
    http.shutdown()
    thread.join()
    http.server_close()


def require_small(name: str, loaded: data.Dataset) -> None:
    train, test, labels = TRAIN, TEST, TEST_LABELS
    if name == "usps":
        train, test = train[:, :16, :16], test[:, :16, :16]
    if name == "qmnist":
        test, labels = test[2:], labels[2:]
    if name.startswith("mnist-c"):
        numbers = [1 + [*CORRUPTIONS].index("fog")] if name == "mnist-c-fog" else range(1, 16)
        test = np.concatenate([np.full_like(TEST, number) for number in numbers])
        labels = np.tile(TEST_LABELS, len(numbers))
    np.testing.assert_array_equal(loaded.train.images, train)
    np.testing.assert_array_equal(loaded.train.labels, LABELS)
    np.testing.assert_array_equal(loaded.test.images, test)
    np.testing.assert_array_equal(loaded.test.labels, labels)


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_same_formats_from_a_mirror_and_by_hand(
    name: str,
    small: Callable[[str, str], None],
    server: tuple[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address, served = server
    for file, content in FILES[name].items():
        (served / file).write_bytes(content)
    small(name, address)
    require_small(name, data.load(name, tmp_path / "data"))
    assert data.is_here(name, tmp_path / "data")
    assert capfd.readouterr() == ("", "")
    by_hand = data.public_folder(name, tmp_path / "own")
    by_hand.mkdir(parents=True)
    small(name, "http://127.0.0.1:9/")
    assert not data.is_here(name, tmp_path / "own")
    for file, content in FILES[name].items():
        (by_hand / file).write_bytes(content)
    require_small(name, data.load(name, tmp_path / "own"))


@pytest.mark.parametrize("name", ["kmnist", "usps", "mnist-c"])
def test_wrong_files_are_refused(
    name: str, small: Callable[[str, str], None], server: tuple[str, Path], tmp_path: Path
) -> None:
    address, served = server
    small(name, address)
    for file, content in FILES[name].items():
        (served / file).write_bytes(gzip.compress(b"1 2") if file.endswith(".gz") else content[:-1])
    with pytest.raises(LenetError, match=r"expected (MD5|SHA-256) sum") as caught:
        data.load(name, tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("could not be obtained:")
    assert [line.split()[0] for line in lines[-len(FILES[name]) :]] == list(FILES[name])


def test_the_corruptions_are_the_published_ones() -> None:
    """The folders of mnist_c.zip but for "identity" (Mu and Gilmer 2019, figure 1)."""
    published = (
        "shot_noise impulse_noise glass_blur motion_blur shear scale rotate brightness translate "
        "stripe fog spatter dotted_line zigzag canny_edges"
    )
    assert set(CORRUPTIONS) == set(published.split())
    assert len([name for name in data.SOURCES if name.startswith("mnist-c")]) == 16
    with pytest.raises(LenetError, match="mnist, fashion-mnist, qmnist"):
        data.load("nothing")
