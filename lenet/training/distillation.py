"""Distillation: one network learns what others, its teachers, say of the same images.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.evaluation import evaluation
from lenet.evaluation.metrics import softmax
from lenet.networks import checkpoint


class Teachers:
    """Trained networks that give targets to another.

    Args:
        names: run folders, weights files or pretrained names.
        classes: what the labels of the data mean.
        temperature: what the scores are divided by.
        threads: CPU threads; None for as many as this process may use.

    Raises:
        LenetError: a teacher cannot be read, or was trained for other classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        temperature: float,
        threads: int | None = None,
    ) -> None:
        self.temperature, self.threads = temperature, threads
        self.scorers = []
        for name in names:
            teacher = checkpoint.read(name)
            known = teacher.card.get("classes")
            if known != list(classes):
                raise LenetError(
                    f"the teacher {name} tells apart {', '.join(known or ['unknown classes'])}; "
                    f"the data have {', '.join(classes)}"
                )
            self.scorers.append(evaluation.scorer(teacher, threads=threads))

    def targets(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax (N, classes) of the mean scores of uint8 images (N, 28, 28)."""
        scores = np.mean([scorer(images) for scorer in self.scorers], axis=0)
        return softmax(scores / self.temperature).astype(np.float32)
