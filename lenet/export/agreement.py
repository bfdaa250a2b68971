"""Whether an exported network answers as the network itself, on images that both are shown."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.errors import LenetError
from lenet.evaluation import evaluation
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint

TRIALS = 1000  # images
TOLERANCE = 1e-3  # of the largest score; float32 in another order costs about 1e-6


@dataclass(frozen=True)
class Agreement:
    """How close two networks are.

    Attributes:
        images: which images both have answered.
        count: how many.
        largest_difference: of two scores.
        largest_score: by its absolute value, for comparison.
        same_answers: share of the images, 0..1.
    """

    images: str
    count: int
    largest_difference: float
    largest_score: float
    same_answers: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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

    def compare(self, scores: NDArray[Any]) -> Agreement:
        """The agreement of other scores for the same images."""
        return Agreement(
            self.words,
            len(self.images),
            float(abs(scores - self.scores).max()),
            float(abs(self.scores).max()),
            float((scores.argmax(1) == self.scores.argmax(1)).mean()),
        )

    def require(self, scores: NDArray[Any], what: str) -> Agreement:
        """The same, of scores that have to be equal but for rounding.

        Raises:
            LenetError: they are not.
        """
        found = self.compare(scores)
        if not found.largest_difference <= TOLERANCE * max(found.largest_score, 1):
            raise LenetError(
                f"{what} gives other scores than the network, by up to "
                f"{found.largest_difference:.3g} on {self.words}; nothing was written"
            )
        return found


def trial(model: Checkpoint, data_name: str | None, data_dir: str | Path | None) -> Trial:
    """A thousand test images of the network's data set where that is on this disk, or else
    generated ones."""
    images, words = test_images(data_name or data_of(model), data_dir)
    channels = int(model.options.get("in_channels", 1))
    if channels != 1:
        images = generated(channels)
        words = f"{TRIALS:,} generated images of {channels} channels"
        from lenet.engine.steps import scores_by_autograd

        return Trial(images, words, scores_by_autograd(checkpoint.restore(model), images))
    return Trial(images, words, evaluation.scorer(model)(images))


def data_of(model: Checkpoint) -> str:
    """The data set that a network was trained on; MNIST if it does not say."""
    return (model.card.get("data") or {}).get("name", "mnist")


def test_images(name: str, data_dir: str | Path | None) -> tuple[NDArray[np.uint8], str]:
    reason = f"{name} is not on this disk"
    try:
        if data.is_on_disk(name, data_dir):
            images = data.load(name, data_dir).test.images[:TRIALS]
            return images, f"{len(images):,} test images of {name}"
    except LenetError as error:
        reason = str(error)
    return generated(1)[:, 0], f"{TRIALS:,} generated images ({reason})"


def generated(channels: int) -> NDArray[np.uint8]:
    """Blots of all shades (1000, channels, 28, 28), the same ones each time."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (TRIALS, channels, 7, 7)) * draw.integers(
        0, 2, (TRIALS, channels, 7, 7)
    )
    return np.kron(coarse, np.ones((4, 4), np.int64)).astype(np.uint8)
