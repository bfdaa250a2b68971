"""Teachers: trained networks whose scores another one learns from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation.metrics import softmax
from lenet.networks import checkpoint


class Teachers:
    """Trained networks that give targets to another.

    Args:
        names: run folders, weights files or pretrained names.
        classes: what the labels of the data mean.
        temperature: what the scores are divided by.
        threads: CPU threads; None for as many as this process may use.
        folder: where relative paths start.

    Raises:
        LenetError: a teacher cannot be read, or was trained for other classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        temperature: float,
        threads: int | None,
        folder: Path,
    ) -> None:
        self.temperature = temperature
        self.scorers = []
        for name in names:
            teacher = checkpoint.read(folder / name if (folder / name).exists() else name)
            if teacher.classes != list(classes):
                raise LenetError(
                    f"the teacher {name} tells apart {', '.join(teacher.classes)}; "
                    f"the data have {', '.join(classes)}"
                )
            self.scorers.append(scorer(teacher, threads))

    def targets(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax (N, classes) of the mean scores of uint8 images (N, 28, 28)."""
        scores = np.mean([score(images) for score in self.scorers], axis=0)
        return softmax(scores / self.temperature).astype(np.float32)
