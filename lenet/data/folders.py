"""Folders of pictures, a sub-folder per class."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lenet.data.idx import FILES
from lenet.data.splits import Dataset, Split, checksums, divided
from lenet.errors import LenetError
from lenet.progress import Progress

PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp"}


Pictures = Literal["digit", "plain", "color"]


def load_picture_folder(folder: Path, pictures: Pictures = "digit", side: int = 28) -> Dataset:
    """Reads a folder; the arguments are those of `lenet.data.load`."""
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
    for part, items in zip(("training", "test"), labelled, strict=False):
        if not items:
            raise LenetError(f"{folder} has no {part} pictures")
    with Progress("reading pictures", sum(map(len, labelled))) as progress:
        splits = [read_pictures(items, pictures, side, progress) for items in labelled]
    if len(splits) == 1:
        return divided(str(folder), splits[0], tuple(classes))
    train, test = splits
    return Dataset(str(folder), train, test, tuple(classes), checksums(train, test))


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


def read_pictures(
    labelled: list[tuple[Path, int]], pictures: Pictures, side: int, progress: Progress
) -> Split:
    images = []
    for file, _ in labelled:
        images.append(read_digit(file) if pictures == "digit" else read_plain(file, pictures, side))
        progress.advance()
    return Split(np.stack(images), np.array([label for _, label in labelled], np.int64))


def read_digit(file: Path) -> NDArray[np.uint8]:
    """A picture as uint8 (28, 28): unchanged if it has that size, else the digit in it."""
    # Imported here, as other data need no image processing.
    from lenet.data.pictures.decoding import load_picture
    from lenet.data.pictures.preprocess import FIELD, preprocess

    gray = load_picture(file).gray
    if gray.shape == (FIELD, FIELD):
        return gray
    made = preprocess(gray)
    if made.image is None:
        raise LenetError(
            f"{file}: no digit found ({made.reason}); remove it from the data, or use --pictures "
            "plain for pictures that are no digits"
        )
    return made.image


def read_plain(file: Path, pictures: Pictures, side: int) -> NDArray[np.uint8]:
    """A whole picture as uint8 (side, side), or in colour (3, side, side)."""
    from lenet.data.pictures.preprocess import preprocess_plain

    image = preprocess_plain(file, side, pictures == "color").image
    assert image is not None
    return image
