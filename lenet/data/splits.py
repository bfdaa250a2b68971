"""Images with their labels, and data sets made of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet import notebook
from lenet.errors import LenetError

SHOWN = 10  # images of a class in a notebook


@dataclass(frozen=True, repr=False)
class Split:
    """Images and their labels: a sequence of (image, label), as PyTorch's `DataLoader` takes it.

    Attributes:
        images: uint8 (N, H, W), 0 is background and 255 is ink; in colour (N, C, H, W).
        labels: int64 (N,), indices into the data set's classes.

    Raises:
        LenetError: the arrays have other types or shapes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim not in (3, 4):
            raise LenetError(
                "images must be uint8 (N, H, W) or (N, channels, H, W) with values 0..255, not "
                f"{self.images.dtype} {self.images.shape}"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise LenetError(
                f"labels must be int64 ({len(self.images)},), a number for each image, not "
                f"{self.labels.dtype} {self.labels.shape}"
            )

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of {'x'.join(map(str, self.images.shape[1:]))})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{notebook.sheet(self.images[:20], 10)}"

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, part: int) -> tuple[NDArray[np.uint8], int]: ...
    @overload
    def __getitem__(self, part: slice | NDArray[Any] | list[int]) -> "Split": ...
    def __getitem__(self, part: Any) -> Any:
        """One image with its label, or the split of a slice, a mask or indices."""
        if isinstance(part, int | np.integer):
            return self.images[part], int(self.labels[part])
        return Split(self.images[part], self.labels[part])

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for red, green and blue."""
        return 1 if self.images.ndim == 3 else self.images.shape[1]

    @property
    def gray(self) -> NDArray[np.uint8]:
        """The images (N, H, W) for figures: the mean of their channels."""
        images = self.images
        return images if images.ndim == 3 else images.mean(1).round().astype(np.uint8)

    def counts(self, classes: Sequence[str]) -> dict[str, int]:
        """The number of images of each class."""
        return {name: int((self.labels == label).sum()) for label, name in enumerate(classes)}


@dataclass(frozen=True, repr=False)
class Dataset:
    """A training and a test split with the names of their classes.

    Attributes:
        checksums: SHA-256 by file name, of the uncompressed bytes; of the arrays' bytes if the
            data came from pictures.
        copies: how often each of the last training images, those that may be held out, stands
            there, one copy after the other.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    checksums: dict[str, str]
    copies: int = 1

    def __repr__(self) -> str:
        classes = ", ".join(self.classes)
        return f"Dataset({self.name!r}, train={self.train}, test={self.test}, classes: {classes})"

    def _repr_html_(self) -> str:
        """The name, and the first images of each class beside their numbers."""
        rows = []
        for label, name in enumerate(self.classes):
            own = np.flatnonzero(self.train.labels == label)
            counts = f"{len(own):,}", f"{int((self.test.labels == label).sum()):,}"
            pictures = notebook.sheet(self.train.images[own[:SHOWN]], SHOWN) if len(own) else ""
            row = notebook.cells((name, *counts))
            rows.append(f"<tr>{row}<td>{pictures}</td></tr>")
        head = "<tr><th>class</th><th>train</th><th>test</th><th></th></tr>"
        return f"<p>{escape(self.name)}</p><table>{head}{''.join(rows)}</table>"

    def __post_init__(self) -> None:
        for split in (self.train, self.test):
            low, high = int(split.labels.min(initial=0)), int(split.labels.max(initial=0))
            if not 0 <= low <= high < len(self.classes):
                raise LenetError(
                    f"labels must be in 0..{len(self.classes) - 1}, as there are "
                    f"{len(self.classes)} classes, not {low}..{high}"
                )

    def hold_out(self, count: int) -> "Dataset":
        """The same data with the last `count` training images, without copies, as the test split.

        Raises:
            LenetError: there are too few training images.
        """
        cut = len(self.train) - count * self.copies
        if not 0 < cut < len(self.train):
            raise LenetError(f"cannot hold out {count} of {len(self.train)} training images")
        held = self.train[cut :: self.copies]
        held = Split(np.ascontiguousarray(held.images), np.ascontiguousarray(held.labels))
        return Dataset(self.name, self.train[:cut], held, self.classes, self.checksums)


def from_arrays(images: ArrayLike, labels: ArrayLike) -> Dataset:
    """Makes a data set, named "arrays", of images and labels.

    Every sixth image of each class becomes test data. To choose yourself, make a `Dataset`.

    Args:
        images: uint8 (N, H, W), 0 is background and 255 is ink; in colour (N, C, H, W).
        labels: (N,), whole numbers or texts; those that occur, in order, are the classes.

    Raises:
        LenetError: they have other types or shapes, or no class has six images.
    """
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise LenetError(
            f"labels must be (N,) whole numbers or texts, not {values.dtype} {values.shape}"
        )
    names, numbers = np.unique(values, return_inverse=True)
    whole = Split(np.ascontiguousarray(images), numbers.astype(np.int64))
    return divided("arrays", whole, tuple(map(str, names)))


def divided(name: str, whole: Split, classes: tuple[str, ...]) -> Dataset:
    """A data set whose test images are every sixth image of each class of `whole`."""
    is_test = np.zeros(len(whole), bool)
    for label in range(len(classes)):
        is_test[np.flatnonzero(whole.labels == label)[5::6]] = True
    if len(classes) < 2 or not is_test.any():
        raise LenetError(
            f"{name}: training needs at least two classes, and test images six of a class; there "
            f"are {len(whole)} images of {len(classes)}"
        )
    train, test = whole[~is_test], whole[is_test]
    return Dataset(name, train, test, classes, checksums(train, test))


def checksums(train: Split, test: Split) -> dict[str, str]:
    """SHA-256 of the splits' arrays."""
    return {
        part: hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
        for part, split in (("train", train), ("test", test))
    }
