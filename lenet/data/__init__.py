"""Data: public sets, folders of your own, pictures, and what is done to images.

splits: the types; sources: MNIST and Fashion-MNIST; others: further public sets; idx: their file
format; digits: MNIST with what strokes, pen, fonts and nondigits draw; folders: folders of
pictures; pictures: from any picture to 28x28 pixels; distortion, corruptions: changed images.
Imports only errors, fields, files, notebook and progress from lenet.
"""

from pathlib import Path

from lenet.data.folders import PICTURES, Pictures, load_picture_folder, visible
from lenet.data.idx import FILES, has_idx_files, load_idx_folder, read_idx
from lenet.data.others import OTHERS
from lenet.data.sources import SOURCES, data_folder, is_verified, load_public, sum_words
from lenet.data.splits import Dataset, Split, from_arrays
from lenet.errors import LenetError

__all__ = [
    "FILES",
    "PICTURES",
    "SOURCES",
    "Dataset",
    "Split",
    "data_folder",
    "from_arrays",
    "is_here",
    "load",
    "public_folder",
    "read_idx",
    "sum_words",
    "visible",
]

SOURCES.update(OTHERS)


def load(
    name: str,
    data_dir: str | Path | None = None,
    pictures: Pictures = "digit",
    side: int = 28,
) -> Dataset:
    """Loads a public data set by name, "digits", or a folder of your own.

    "digits" is made from MNIST, drawn strokes and fonts when it is first used. "qmnist" has the
    50,000 test digits that MNIST lacks, "emnist-digits" and "emnist-letters" those parts of EMNIST,
    "kmnist" cursive Japanese, "usps" the 16x16 digits of 1989, "mnist-c" MNIST's test digits under
    the fifteen published corruptions, "mnist-c-fog" and the like under one. What was downloaded by
    hand is used if it lies in `public_folder(name)`.

    A folder contains IDX files with the names of MNIST's four files (also as .gz), or a sub-folder
    of pictures for each class, directly or under `train` and `test`. Without a `test` folder, every
    sixth picture of each class becomes test data.

    Args:
        name: of `SOURCES` ("mnist", "fashion-mnist", "qmnist" ...), "digits", or the path of a
            folder.
        data_dir: where public data sets are kept; by default $LENET_DATA or the user's cache.
        pictures: how the pictures of a folder are read. digit: those of 28x28 pixels unchanged,
            others by `lenet.data.pictures.preprocess`, which finds the digit. plain: the whole
            picture, bright on black. color: the whole picture in red, green and blue.
        side: of plain and color pictures, in pixels.

    Raises:
        LenetError: there is no such data set, no source has it (the message says why each failed),
            or a file is damaged.
    """
    if name in SOURCES:
        return load_public(name, public_folder(name, data_dir))
    if name == "digits":
        from lenet.data.digits import load_digits  # draws: minutes, the first time

        return load_digits(data_folder(data_dir))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        named = [known for known in SOURCES if not known.startswith("mnist-c-")]
        raise LenetError(
            f"no data set {name!r}: give {', '.join(named)}, digits, or the path of a folder"
        )
    folder = folder.resolve()  # as the name of the data set, it is valid from anywhere
    if any((folder / (file + end)).exists() for file in FILES for end in ("", ".gz")):
        return load_idx_folder(folder)
    return load_picture_folder(folder, pictures, side)


def public_folder(name: str, data_dir: str | Path | None = None) -> Path:
    """The folder that keeps a public data set."""
    return data_folder(data_dir) / (SOURCES[name].folder or name)


def is_here(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether `load` would find the data set on this machine, without a download."""
    if name == "digits":
        return has_idx_files(data_folder(data_dir) / name)
    if name not in SOURCES:
        return Path(name).expanduser().is_dir()
    return is_verified(public_folder(name, data_dir), SOURCES[name].checksums)
