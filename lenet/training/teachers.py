"""Teachers: trained networks from whose scores another one learns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.engine.objective import Objective
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation.metrics import softmax
from lenet.networks import checkpoint


class Teachers:
    """Trained networks that give targets to another.

    Args:
        objective: names the teachers (run folders, weights files or pretrained names) and their
            temperature.
        classes: what the labels of the data mean.
        threads: CPU threads; None for as many as this process may use.
        folder: where relative paths start.

    Raises:
        LenetError: a teacher cannot be read, or was trained for other classes.
    """

    def __init__(
        self, objective: Objective, classes: Sequence[str], threads: int | None, folder: Path
    ) -> None:
        self.temperature = objective.temperature
        self.scorers = []
        for name in objective.teachers:
            teacher = checkpoint.read(folder / name if (folder / name).exists() else name)
            if teacher.classes != list(classes):
                raise LenetError(
                    f"the teacher {name} has the classes {', '.join(teacher.classes)}; "
                    f"the data have {', '.join(classes)}"
                )
            self.scorers.append(scorer(teacher, threads))

    def targets(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax (N, classes) of the mean scores of uint8 images (N, 28, 28)."""
        scores = np.mean([score(images) for score in self.scorers], axis=0)
        return softmax(scores / self.temperature).astype(np.float32)
