"""The data set "digits": MNIST, digits as the world writes them, and what is no digit.

MNIST has the writers of one country. This adds strokes (`lenet.data.strokes`), handwriting fonts
(`lenet.data.fonts`) and an eleventh class "none" (`lenet.data.nondigits`). The same seed gives the
same files; they are made once and kept in the data folder.
"""

import string
from pathlib import Path

import numpy as np

from lenet.data import fonts, nondigits, strokes
from lenet.data.idx import FILES, has_idx_files, load_idx_folder, write_idx
from lenet.data.sources import load_public
from lenet.data.splits import Dataset, Split
from lenet.files import partial_folder
from lenet.progress import Progress

SEED = 0
NONE = 10
CLASSES = (*"0123456789", "none")
# MNIST's last images come last, so that `validation` can hold them out.
HELD_OUT = 10_000
MNIST_COPIES = 5
STROKES = 150_000
FONT_COPIES = 16
NONES = 12_000
NONE_COPIES = 2  # of each letter and word in each font
# Letters that are not written like a digit, and signs.
LETTERS = (*"ABCDEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwx&@#?!%",)
WORDS = 12


def load_digits(data_dir: Path) -> Dataset:
    """Reads the files of the data set; makes them first where they are not there yet.

    Its training images end with the copies of MNIST's last 10,000; its test images are MNIST's.

    Args:
        data_dir: the folder of all public data sets.

    Raises:
        LenetError: MNIST or the fonts cannot be had, or the folder cannot be written.
    """
    folder = data_dir / "digits"
    if not has_idx_files(folder):
        make(folder, load_public("mnist", data_dir / "mnist"), fonts.fetch(data_dir / "fonts"))
    made = load_idx_folder(folder)
    return Dataset("digits", made.train, made.test, CLASSES, made.checksums, MNIST_COPIES)


def foreign(count: int) -> Split:
    """Strokes that are not in the data set, for measuring; every call gives the same."""
    return strokes.make(count, SEED + 1)


def make(folder: Path, mnist: Dataset, font_files: list[Path]) -> None:
    """Writes the IDX files into the folder; what is there counts when all of it is."""
    generator = np.random.default_rng(SEED)
    with Progress("making digits", 4) as progress:
        first, last = mnist.train[:-HELD_OUT], mnist.train[-HELD_OUT:]
        parts = [first] * MNIST_COPIES
        progress.advance()
        parts.append(strokes.make(STROKES, SEED))
        progress.advance()
        parts.append(Split(*fonts.make(font_files, list("0123456789"), FONT_COPIES, SEED)))
        progress.advance()
        texts = [*LETTERS, *(word(generator) for _ in range(WORDS))]
        written, _ = fonts.make(font_files, texts, NONE_COPIES, SEED + 1)
        singles = np.concatenate([first.images, parts[-2].images])
        nones = np.concatenate([written, nondigits.make(NONES, SEED, singles)])
        parts.append(Split(nones, np.full(len(nones), NONE, np.int64)))
        progress.advance()
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    order = generator.permutation(len(labels))
    train = Split(
        np.concatenate([images[order], np.repeat(last.images, MNIST_COPIES, 0)]),
        np.concatenate([labels[order], np.repeat(last.labels, MNIST_COPIES)]),
    )
    arrays = (train.images, train.labels, mnist.test.images, mnist.test.labels)
    with partial_folder(folder) as incoming:
        for file, array in zip(FILES, arrays, strict=True):
            write_idx(Path(incoming, file), array.astype(np.uint8))
        for file in FILES:
            Path(incoming, file).replace(folder / file)


def word(generator: np.random.Generator) -> str:
    """Two to five random small letters."""
    length = int(generator.integers(2, 6))
    return "".join(generator.choice(list(string.ascii_lowercase), length))
