"""Reading pictures: a file in, a label with probabilities and an honest "not sure" out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures import Source
from lenet.engine.scores import scorer
from lenet.evaluation import metrics
from lenet.networks import checkpoint
from lenet.reading.preprocess import Preprocessed, preprocess, preprocess_plain


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        label: name of the class, None if the picture holds nothing to read.
        probabilities: class -> softmax of score / temperature, 0..1, where the temperature is
            the network's, fitted on held-out images; empty if there is no label.
        rejected: whether not to trust the answer: the two best scores are closer than the
            network's rejection threshold, or there is no label.
        reason: why there is no label, or why the answer is rejected; None if it is trusted.
        image: uint8 (28, 28) as the network saw it, None if nothing was found.
        steps: name -> picture, what the preprocessor did, in order.
    """

    label: str | None
    probabilities: dict[str, float]
    rejected: bool
    reason: str | None
    image: NDArray[np.uint8] | None
    steps: dict[str, NDArray[np.uint8]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: label, probabilities and rejected; or error where there is no label."""
        if self.label is None:
            return {"error": self.reason}
        return {
            "label": self.label,
            "probabilities": {name: round(p, 6) for name, p in self.probabilities.items()},
            "rejected": self.rejected,
        }


def preprocessor(card: dict[str, Any]) -> Callable[[Source], Preprocessed]:
    """What makes 28x28 pixels of a picture for the network with this card."""
    return preprocess_plain if card.get("preprocessing") == "plain" else preprocess


class Predictor:
    """Reads one picture after the other with one trained network.

    Args:
        model: a run folder, a weights file, a pretrained name, or "latest" (under ./runs).

    Raises:
        LenetError: there is no such model.
    """

    def __init__(self, model: str | Path = "mnist") -> None:
        self.checkpoint = checkpoint.read(model)
        self.scores = scorer(self.checkpoint, threads=1)  # one image: threads would wait
        card = self.checkpoint.card
        threshold = card.get("rejection_threshold")
        # Unknown, or none makes the network good enough: then no answer is to be trusted.
        self.threshold = math.inf if threshold is None else float(threshold)
        self.preprocess = preprocessor(card)

    def predict(self, image: Source) -> Prediction:
        """Reads one picture.

        Args:
            image: a path, the bytes of a file, a binary file, a PIL image, or an array: uint8,
                uint16, bool or float (H, W), (H, W, 3) or (H, W, 4).

        Raises:
            LenetError: it is no picture, or a damaged one.
        """
        found = self.preprocess(image)
        scores = None if found.image is None else self.scores(found.image[None])[0]
        return self.answer(found, scores)

    def answer(self, found: Preprocessed, scores: NDArray[np.float32] | None) -> Prediction:
        """What the network's scores (classes,) for a preprocessed picture mean; None where the
        preprocessor found nothing to give it."""
        if scores is None:
            return Prediction(None, {}, True, found.reason, None, found.steps)
        names = self.checkpoint.classes
        shares = metrics.softmax(scores / self.checkpoint.temperature)
        rejected = bool(metrics.confidence(scores) < self.threshold)
        return Prediction(
            label=names[int(scores.argmax())],
            probabilities=dict(zip(names, shares.tolist(), strict=True)),
            rejected=rejected,
            reason="the two best scores are too close" if rejected else None,
            image=found.image,
            steps=found.steps,
        )
