"""Further public data sets in archives of several formats, which are kept as they are.

The sums are those that torchvision (QMNIST, EMNIST, KMNIST) and TensorFlow Datasets (MNIST-C) have
recorded, and for USPS those of a copy of the files of "The Elements of Statistical Learning". None
of these files has been downloaded by this code yet.
"""

import gzip
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.corruptions import CORRUPTIONS
from lenet.data.idx import FILES, parse_idx, read_content, read_idx
from lenet.data.sources import Source
from lenet.data.splits import Split
from lenet.errors import LenetError

DIGITS = tuple("0123456789")
ZIPPED = tuple(f"{file}.gz" for file in FILES)
QMNIST_KNOWN = 10_000  # QMNIST's first test digits are MNIST's
BLANK = -1.0  # USPS: paper; ink is 1


def split(images: NDArray[np.uint8], labels: NDArray[Any]) -> Split:
    return Split(images, labels.astype(np.int64))


def read_four(folder: Path) -> tuple[Split, Split]:
    """MNIST's four files as .gz: KMNIST."""
    arrays = [read_idx(folder / file) for file in ZIPPED]
    return split(*arrays[:2]), split(*arrays[2:])


def read_qmnist(folder: Path) -> tuple[Split, Split]:
    """MNIST's training digits again; as test digits the 50,000 that MNIST's test set lacks."""
    splits = []
    for part in ("train", "test"):
        images = read_idx(folder / f"qmnist-{part}-images-idx3-ubyte.gz")
        file = folder / f"qmnist-{part}-labels-idx2-int.gz"
        content = read_content(file)
        header = content[:12].view(">i4").tolist()
        if header != [0x0C02, len(images), 8] or len(content) != 12 + 32 * len(images):
            raise LenetError(f"{file} does not hold eight numbers for each of {len(images)} images")
        splits.append(split(images, content[12:].view(">i4").reshape(-1, 8)[:, 0]))
    return splits[0], splits[1][QMNIST_KNOWN:]


def read_emnist(part: str, first: int, folder: Path) -> tuple[Split, Split]:
    """A part of EMNIST; its images lie on their side in the file. Labels begin with `first`."""
    splits = []
    for half in ("train", "test"):
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            name = f"gzip/emnist-{part}-{half}-{kind}-ubyte.gz"
            with member(folder / "gzip.zip", name) as packed, gzip.open(packed) as stream:
                content = np.frombuffer(stream.read(), np.uint8)
            arrays.append(parse_idx(content, folder / name))
        upright = np.ascontiguousarray(arrays[0].swapaxes(1, 2))
        splits.append(split(upright, arrays[1].astype(np.int64) - first))
    return splits[0], splits[1]


def read_usps(folder: Path) -> tuple[Split, Split]:
    """A row a digit: its label, and 16x16 values from -1, paper, to 1, ink."""
    splits = []
    for part in ("train", "test"):
        file = folder / f"zip.{part}.gz"
        rows = np.loadtxt(file, np.float32, ndmin=2)
        if rows.shape[1] != 257:
            raise LenetError(f"{file} has rows of {rows.shape[1]} numbers, expected 257")
        images = ((rows[:, 1:] - BLANK) * 127.5).round().clip(0, 255).astype(np.uint8)
        splits.append(split(images.reshape(-1, 16, 16), rows[:, 0]))
    return splits[0], splits[1]


def read_corrupted(names: tuple[str, ...], folder: Path) -> tuple[Split, Split]:
    """MNIST's training digits, and its test digits under each of the corruptions."""
    archive = folder / "mnist_c.zip"

    def arrays(name: str, part: str) -> Iterator[NDArray[Any]]:
        for kind in ("images", "labels"):
            with member(archive, f"mnist_c/{name}/{part}_{kind}.npy") as stream:
                yield np.lib.format.read_array(stream, allow_pickle=False)

    def read(name: str, part: str) -> Split:
        images, labels = arrays(name, part)
        return split(images.reshape(-1, 28, 28), labels)

    tests = [read(name, "test") for name in names]
    images = np.concatenate([test.images for test in tests])
    return read("identity", "train"), split(images, np.concatenate([t.labels for t in tests]))


def member(archive: Path, name: str) -> IO[bytes]:
    """A file in a .zip, open for reading."""
    try:
        return zipfile.ZipFile(archive).open(name)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise LenetError(f"{archive} has no {name}: {error}") from None


def corrupted(*names: str) -> Source:
    read: Callable[[Path], tuple[Split, Split]] = partial(read_corrupted, names)
    return Source(
        title="MNIST-C",
        classes=DIGITS,
        sums=("af9ee8c6a815870c7fdde5af84c7bf8db0bcfa1f41056db83871037fba70e493",),
        mirrors=("https://zenodo.org/record/3239543/files/",),
        files=("mnist_c.zip",),
        read=read,
        folder="mnist-c",
    )


def emnist(title: str, classes: tuple[str, ...], part: str, first: int) -> Source:
    return Source(
        title=title,
        classes=classes,
        sums=("md5:58c8d27c78d21e728a6bc7b3cc06412e",),
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        files=("gzip.zip",),
        read=partial(read_emnist, part, first),
        folder="emnist",
    )


OTHERS = {
    "qmnist": Source(
        title="QMNIST",
        classes=DIGITS,
        sums=(
            "md5:ed72d4157d28c017586c42bc6afe6370",
            "md5:0058f8dd561b90ffdd0f734c6a30e5e4",
            "md5:1394631089c404de565df7b7aeaf9412",
            "md5:5b5b05890a5e13444e108efe57b788aa",
        ),
        mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
        files=(
            "qmnist-train-images-idx3-ubyte.gz",
            "qmnist-train-labels-idx2-int.gz",
            "qmnist-test-images-idx3-ubyte.gz",
            "qmnist-test-labels-idx2-int.gz",
        ),
        read=read_qmnist,
    ),
    "emnist-digits": emnist("EMNIST digits", DIGITS, "digits", 0),
    "emnist-letters": emnist("EMNIST letters", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "letters", 1),
    "kmnist": Source(
        title="KMNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        sums=(
            "md5:bdb82020997e1d708af4cf47b453dcf7",
            "md5:e144d726b3acfaa3e44228e80efcd344",
            "md5:5c965bf0a639b31b8f53240b1b52f4d7",
            "md5:7320c461ea6c1c855c0b718fb2a4b134",
        ),
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        files=ZIPPED,
        read=read_four,
    ),
    "usps": Source(
        title="USPS",
        classes=DIGITS,
        sums=(
            "unpacked:abc9f5c75b997cabe66b5d01727d5a681c69298e1641a8d37b55433a52129dc0",
            "unpacked:6bde17b4f1cd68e0630cd2751d6495b5795d9165ab2dc4a0be8b7002b732f4cc",
        ),
        mirrors=(
            "https://hastie.su.domains/ElemStatLearn/datasets/",
            "https://web.stanford.edu/~hastie/ElemStatLearn/datasets/",
        ),
        files=("zip.train.gz", "zip.test.gz"),
        read=read_usps,
    ),
    "mnist-c": corrupted(*CORRUPTIONS),
    **{f"mnist-c-{name.replace('_', '-')}": corrupted(name) for name in CORRUPTIONS},
}
