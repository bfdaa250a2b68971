"""Images with their labels, and data sets made of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError


@dataclass(frozen=True, repr=False)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 (N, 28, 28), 0 is background and 255 is ink.
        labels: int64 (N,), indices into the data set's classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of {'x'.join(map(str, self.images.shape[1:]))})"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Split":
        return Split(self.images[part], self.labels[part])

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
