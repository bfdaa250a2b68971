"""Folders of pictures, a sub-folder per class."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import FILES
from lenet.data.splits import Dataset, Split
from lenet.errors import LenetError, is_printable
from lenet.files import require_regular
from lenet.progress import Progress

PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp"}


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
    for name in classes:
        if not is_printable(name):
            raise LenetError(
                f"{folder / name}: the name of a class must be UTF-8 without control "
                "characters; rename the folder"
            )
    labelled = [list(labelled_pictures(root, classes)) for root in roots]
    if len(labelled) == 1:
        train, test = [], []
        for label in range(len(classes)):
            own = [item for item in labelled[0] if item[1] == label]
            test += own[5::6]
            train += [item for number, item in enumerate(own) if number % 6 != 5]
        labelled = [train, test]
    for part, items in zip(("training", "test"), labelled, strict=True):
        if not items:
            raise LenetError(f"{folder} has no {part} pictures")
    with Progress("reading pictures", sum(map(len, labelled))) as progress:
        train, test = (read_pictures(items, progress) for items in labelled)
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
    """A folder's entries without hidden ones: thumbnails, version control, macOS's files."""
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise LenetError(f"{folder} cannot be read: {error.strerror}") from None


def read_pictures(labelled: list[tuple[Path, int]], progress: Progress) -> Split:
    images = np.empty((len(labelled), 28, 28), np.uint8)
    for number, (file, _) in enumerate(labelled):
        images[number] = read_picture(file)
        progress.advance()
    return Split(images, np.array([label for _, label in labelled], np.int64))


def read_picture(file: Path) -> NDArray[np.uint8]:
    """A picture as uint8 (28, 28): unchanged if it has that size, else the digit in it."""
    # Imported here, as other data need no image processing.
    from lenet.data.pictures.decoding import load_picture
    from lenet.data.pictures.preprocess import FIELD, preprocess

    require_regular(file)
    gray = load_picture(file).gray
    if gray.shape == (FIELD, FIELD):
        return gray
    made = preprocess(gray)
    if made.image is None:
        raise LenetError(f"{file}: no digit found ({made.reason}); remove it from the data")
    return made.image
