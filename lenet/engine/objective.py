"""The objective: what training minimises."""

from dataclasses import dataclass
from typing import Literal

from lenet import fields
from lenet.errors import LenetError

LARGEST_SCORE = 1e4  # of what scores are compared with or divided by


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss, and what teachers add to it.

    With teachers it is (1 - w) loss + w T^2 cross_entropy(p, softmax(scores / T)), where p are the
    teachers' probabilities at temperature T, and w is `distillation` (Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015, section 2).
    """

    loss: Literal["cross-entropy", "mse", "mse-bipolar", "penalty", "map"] = "cross-entropy"
    """Cross-entropy, squared error to one-hot targets or to +1 for the right class and -1 for the
    others, or criterion (8) or (9) of 1998."""
    j: float = 10.0
    """Constant of the loss map: the penalty of the "rubbish" class. The paper gives no value."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes (cross-entropy only)."""
    teachers: tuple[str, ...] = ()
    """Run folders, weights files or names of networks, whose mean scores are imitated."""
    distillation: float = 0.0
    """Share of the objective from the teachers; the rest is from the labels."""
    temperature: float = 1.0
    """Divides the teachers' and the network's scores in the teachers' part of the objective."""

    def __post_init__(self) -> None:
        fields.check(self)
        fields.require(
            self,
            j=0 < self.j <= LARGEST_SCORE,
            label_smoothing=0 <= self.label_smoothing < 1,
            distillation=0 <= self.distillation <= 1,
            temperature=1 / LARGEST_SCORE <= self.temperature <= LARGEST_SCORE,
            teachers="latest" not in self.teachers,  # it would be another one on --resume
        )
        if self.label_smoothing and self.loss != "cross-entropy":
            raise LenetError("label_smoothing goes with the loss cross-entropy")
        if self.teachers and self.loss != "cross-entropy":
            raise LenetError("teachers go with the loss cross-entropy")
        if self.teachers and not self.distillation:
            raise LenetError("teachers go with a distillation above 0")
        if self.loss != "map" and self.j != Objective.j:
            raise LenetError("j goes with the loss map")
