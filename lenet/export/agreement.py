"""Whether an exported network answers as the network itself, on images that both are shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.networks.checkpoint import Checkpoint

TRIALS = 1000  # images
TOLERANCE = 1e-3  # of the largest score; float32 in another order costs about 1e-6


@dataclass(frozen=True)
class Trial:
    """Images and what the network answers.

    Attributes:
        images: uint8 (N, 28, 28), or (N, channels, 28, 28).
        words: which they are.
        scores: float32 (N, classes).
    """

    images: NDArray[np.uint8]
    words: str
    scores: NDArray[np.float32]

    def compare(self, scores: NDArray[Any]) -> dict[str, Any]:
        """How close other scores for the same images are, JSON-able; of the answers, the share
        that is the same, 0..1."""
        return {
            "images": self.words,
            "count": len(self.images),
            "largest_difference": float(abs(scores - self.scores).max()),
            "largest_score": float(abs(self.scores).max()),
            "same_answers": float((scores.argmax(1) == self.scores.argmax(1)).mean()),
        }

    def require(self, scores: NDArray[Any], what: str) -> dict[str, Any]:
        """The same, of scores that have to be equal but for rounding.

        Raises:
            LenetError: they are not.
        """
        check = self.compare(scores)
        if not check["largest_difference"] <= TOLERANCE * max(check["largest_score"], 1):
            raise LenetError(
                f"{what} gives other scores than the network, by up to "
                f"{check['largest_difference']:.3g} on {self.words}; nothing was written"
            )
        return check


def trial(model: Checkpoint, data_name: str | None, data_dir: str | Path | None) -> Trial:
    """A thousand test images of the network's data set where that is on this disk, or else
    generated ones."""
    name, channels = data_name or model.data, model.architecture.preparation.channels
    images, words = generated(channels), f"{TRIALS:,} generated images"
    if channels != 1:
        words += f" of {channels} channels"
    else:
        try:
            if data.is_here(name, data_dir):
                images = data.load(name, data_dir).test.images[:TRIALS]
                words = f"{len(images):,} test images of {name}"
            else:
                words += f" ({name} is not on this disk)"
        except LenetError as error:
            words += f" ({error})"
    return Trial(images, words, scorer(model)(images))


def generated(channels: int) -> NDArray[np.uint8]:
    """Blots of all shades, the same ones each time: (1000, 28, 28), or (1000, channels, 28, 28)."""
    draw = np.random.default_rng(0)
    shape = (TRIALS, 7, 7) if channels == 1 else (TRIALS, channels, 7, 7)
    coarse = draw.integers(0, 256, shape) * draw.integers(0, 2, shape)
    return np.kron(coarse, np.ones((4, 4), np.int64)).astype(np.uint8)
