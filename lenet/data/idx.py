"""IDX files, the format of MNIST's four files, and folders of them."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.data.splits import Dataset, Split
from lenet.errors import LenetError

FILES: tuple[str, ...] = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Reads the uint8 array in an IDX file, plain or .gz.

    Raises:
        LenetError: the file is not an IDX file, or it is truncated.
    """
    return parse_idx(read_content(file), file)


def read_content(file: Path) -> NDArray[np.uint8]:
    """The bytes of a file, uncompressed if it is a .gz."""
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as stream:
                return np.frombuffer(bytearray(stream.read()), np.uint8)
        return np.fromfile(file, np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise LenetError(f"{file} cannot be read: {error}") from None


def parse_idx(content: NDArray[np.uint8], file: Path) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file, without a copy."""
    header = content[:4].tobytes()
    if len(header) < 4 or header[:3] != b"\x00\x00\x08" or not 1 <= header[3] <= 3:
        raise LenetError(f"{file} is not an IDX file of unsigned bytes")
    axes = header[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise LenetError(f"{file} is truncated: {len(content)} bytes")
    shape = struct.unpack(f">{axes}I", content[4:start].tobytes())
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise LenetError(
            f"{file} has {len(content):,} bytes, but its header says {expected:,}; get a new copy"
        )
    return content[start:].reshape(shape)


def has_idx_files(folder: Path) -> bool:
    """Whether the folder has the four files, uncompressed."""
    return all((folder / file).exists() for file in FILES)


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
        if images.ndim != 3 or images.size == 0 or images.shape[1:] != arrays[0].shape[1:]:
            raise LenetError(
                f"{folder / name}: shape {images.shape}, expected (N >= 1, height, width), "
                "alike for training and test images"
            )
        if labels.shape != images.shape[:1]:
            raise LenetError(
                f"{folder / name} has {len(images)} images, but labels of shape {labels.shape}"
            )
        splits.append(Split(images, labels.astype(np.int64)))
    count = 1 + max(int(split.labels.max()) for split in splits)
    classes = tuple(str(label) for label in range(max(count, 2)))
    return Dataset(str(folder), splits[0], splits[1], classes, checksums)


def write_idx(file: Path, array: NDArray[np.uint8]) -> None:
    """Writes integers 0..255 as an IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(header + np.ascontiguousarray(array, np.uint8).tobytes())
