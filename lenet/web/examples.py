"""Images of the test set to look at: random ones, and the worst mistakes of a network."""

import random
from functools import cached_property

from lenet import data
from lenet.engine.scores import Scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.web.schemas import Example, Mistake, Mistakes, Pixels

SHOWN = 24  # mistakes


class Examples:
    """The test set that a network was trained for, read when first needed.

    Its attributes and methods raise LenetError if the data set is unknown, is not on this machine
    (nothing is downloaded) or has more classes than the network.

    Args:
        name: of the data set with these images, None if unknown.
        scores: gives the network's scores for uint8 images (N, 28, 28).
        classes: the network's names of them.
    """

    def __init__(self, name: str | None, scores: Scorer, classes: list[str]) -> None:
        self.name, self.scores, self.classes = name, scores, classes

    @cached_property
    def split(self) -> data.Split:
        if self.name is None:
            raise LenetError("the model does not say what it was trained on")
        if not data.is_here(self.name):
            raise LenetError(
                f"{self.name} is not on this machine; `lenet data {self.name}` gets it"
            )
        test = data.load(self.name).test
        if test.labels.max() >= len(self.classes):
            raise LenetError(f"{self.name} has more classes than the model")
        return data.Split(test.images.copy(), test.labels)  # without the rest of the data set

    @cached_property
    def hardest(self) -> Mistakes:
        split, scores = self.split, self.scores(self.split.images)
        worst = metrics.worst(scores, split.labels, len(split))
        mistakes = []
        for index in map(int, worst[:SHOWN]):
            best = int(scores[index].argmax())
            margin = float(scores[index, best] - scores[index, split.labels[index]])
            example = self.example(index).model_dump()
            mistakes.append(Mistake(**example, answer=self.classes[best], margin=margin))
        return Mistakes(errors=len(worst), images=len(split), mistakes=mistakes)

    def random(self) -> Example:
        return self.example(random.randrange(len(self.split)))

    def mistakes(self) -> Mistakes:
        return self.hardest

    def example(self, index: int) -> Example:
        label = self.classes[self.split.labels[index]]
        return Example(index=index, label=label, image=Pixels.of(self.split.images[index]))
