"""Whether an exported network gives the scores of the network itself."""

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
TOLERANCE = 1e-3  # of the largest score; float32 sums in another order differ by about 1e-6


@dataclass(frozen=True)
class Trial:
    """Images and the scores that the network gives for them."""

    images: NDArray[np.uint8]  # (N, 28, 28), or (N, channels, 28, 28)
    words: str  # which images they are
    scores: NDArray[np.float32]  # (N, classes)

    def compare(self, scores: NDArray[Any]) -> dict[str, Any]:
        """Compares other scores for the same images; `same_answers` is a share, 0..1."""
        return {
            "images": self.words,
            "count": len(self.images),
            "largest_difference": float(abs(scores - self.scores).max()),
            "largest_score": float(abs(self.scores).max()),
            "same_answers": float((scores.argmax(1) == self.scores.argmax(1)).mean()),
        }

    def require(self, scores: NDArray[Any], what: str) -> dict[str, Any]:
        """Compares scores that may differ by rounding only. Raises LenetError if they do not."""
        check = self.compare(scores)
        if not check["largest_difference"] <= TOLERANCE * max(check["largest_score"], 1):
            raise LenetError(
                f"{what} gives other scores than the network, by up to "
                f"{check['largest_difference']:.3g} on {self.words}; nothing was written"
            )
        return check


def trial(model: Checkpoint, data_name: str | None, data_dir: str | Path | None) -> Trial:
    """Takes 1000 test images of the network's data set if it is on this disk, else blots of all
    shades, which are always the same."""
    name, channels = data_name or model.data, model.architecture.preparation.channels
    draw = np.random.default_rng(0)
    shape = (TRIALS, 7, 7) if channels == 1 else (TRIALS, channels, 7, 7)
    coarse = draw.integers(0, 256, shape) * draw.integers(0, 2, shape)
    images = np.kron(coarse, np.ones((4, 4), np.int64)).astype(np.uint8)
    words = f"{TRIALS:,} generated images"
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
