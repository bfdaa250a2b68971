"""Images of the test set to look at: one by chance, and those that a network gets most wrong."""

import random

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.engine.scores import Scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.web.schemas import Example, Mistake, Mistakes, Pixels

MISTAKES = 24  # that are shown


class Examples:
    """The test set that a network was trained for, if it is on this machine; read when asked for.

    Args:
        name: of the data set with these images, None if the network does not say.
        scores: gives its scores for uint8 images (N, 28, 28).
        classes: their names.
    """

    def __init__(self, name: str | None, scores: Scorer, classes: list[str]) -> None:
        self.name, self.scores, self.classes = name, scores, classes
        self.split: data.Split | None = None
        self.hardest: Mistakes | None = None

    def load(self) -> data.Split:
        """The test set. Raises LenetError if it is not here; nothing is downloaded."""
        if self.split is None:
            if self.name is None:
                raise LenetError("the model does not say what it was trained on")
            if not data.is_here(self.name):
                raise LenetError(
                    f"{self.name} is not on this machine; `lenet data {self.name}` gets it"
                )
            test = data.load(self.name).test
            if test.labels.max() >= len(self.classes):
                raise LenetError(f"{self.name} has more classes than the model")
            self.split = data.Split(test.images.copy(), test.labels)
        return self.split

    def random(self) -> Example:
        """One image by chance."""
        split = self.load()
        return self.example(split, random.randrange(len(split)))

    def mistakes(self) -> Mistakes:
        """The hardest mistakes; computed once."""
        if self.hardest is None:
            split = self.load()
            scores = self.scores(split.images)
            worst = metrics.worst(scores, split.labels, len(split))
            self.hardest = Mistakes(
                errors=len(worst),
                images=len(split),
                mistakes=[self.mistake(split, scores, int(i)) for i in worst[:MISTAKES]],
            )
        return self.hardest

    def mistake(self, split: data.Split, scores: NDArray[np.float32], index: int) -> Mistake:
        best = int(scores[index].argmax())
        return Mistake(
            **self.example(split, index).model_dump(),
            answer=self.classes[best],
            margin=float(scores[index, best] - scores[index, split.labels[index]]),
        )

    def example(self, split: data.Split, index: int) -> Example:
        label = self.classes[split.labels[index]]
        return Example(index=index, label=label, image=Pixels.of(split.images[index]))
