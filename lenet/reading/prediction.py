"""One digit in a picture: a file in, a label with probabilities and an honest "not sure" out."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import notebook
from lenet.data.pictures.decoding import Box, Source
from lenet.data.pictures.preprocess import Preprocessed, preprocess, preprocess_plain
from lenet.engine.processor import usable_cores
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.networks import checkpoint

NOT_SURE = "not sure"
NOT_A_DIGIT = "not a digit"
JUNK = "none"  # the class, in a network that has one, of what is no digit
AHEAD = 4  # pictures that are read ahead, for each thread


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The answer for one picture.

    Attributes:
        label: name of the class, None if the picture holds nothing to read.
        probabilities: class -> softmax of score / temperature, 0..1, where the temperature is
            the network's, fitted on held-out images; empty where nothing was found to read. Of a
            network with a class "none", shares among the digits.
        rejected: whether not to trust the answer, or there is no label.
        reason: why it is rejected; None if it is trusted. "not sure": the two best scores are
            closer than the network's rejection threshold. Without a label: "empty" (a blank or too
            pale picture, an empty box or sheet), "several digits" (side by side, or one above the
            other), "not a digit" (noise, texture, text, a filled patch, or the network's class
            "none").
        box: [left, top, right, bottom] of what was read, in the picture's pixels, right and bottom
            excluded; None where nothing was found.
        image: uint8 (28, 28) as the network saw it, None if nothing was found; in colour (3, H, W).
        steps: name -> picture, what the preprocessor did, in order.
    """

    label: str | None
    probabilities: dict[str, float]
    rejected: bool
    reason: str | None
    box: Box | None
    image: NDArray[np.uint8] | None
    steps: dict[str, NDArray[np.uint8]]

    def __repr__(self) -> str:
        if self.label is None:
            return f"Prediction(no label: {self.reason})"
        trust = self.reason or "sure"
        share = self.probabilities[self.label]
        return f"Prediction({self.label!r}, {share:.1%}, {trust}, box {self.box})"

    def _repr_html_(self) -> str:
        """The image that the network saw, and the probabilities."""
        words = f"<p>{escape(repr(self))}</p>"
        if self.image is None:
            return words
        return words + notebook.beside(
            notebook.image(self.image), notebook.bars(self.probabilities)
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: label, probabilities, rejected, reason and box."""
        return {
            "label": self.label,
            "probabilities": {name: round(p, 6) for name, p in self.probabilities.items()},
            "rejected": self.rejected,
            "reason": self.reason,
            "box": None if self.box is None else list(self.box),
        }


def preprocessor(model: checkpoint.Checkpoint) -> Callable[[Source], Preprocessed]:
    """What makes an image of a picture for this network."""
    how, side = model.pictures
    if how == "digit":
        return preprocess
    return partial(preprocess_plain, side=side, color=how == "color")


class Predictor:
    """Reads digits in pictures with a trained network. Safe to call from several threads.

    Args:
        model: a run folder, a weights file, a pretrained name, "latest" (under ./runs), or a
            checkpoint.

    Raises:
        LenetError: there is no such model.
    """

    def __init__(self, model: str | Path | checkpoint.Checkpoint = "digits") -> None:
        read = isinstance(model, checkpoint.Checkpoint)
        self.checkpoint = model if read else checkpoint.read(model)
        self.scores = scorer(self.checkpoint, threads=1)  # one image: threads would wait
        threshold = self.checkpoint.card.get("rejection_threshold")
        # Unknown, or none makes the network good enough: then no answer is to be trusted.
        self.threshold = math.inf if threshold is None else float(threshold)
        self.preprocess = preprocessor(self.checkpoint)

    def predict(self, picture: Source) -> Prediction:
        """Reads one picture.

        Args:
            picture: a path, the bytes of a file, a binary file, a PIL image, or an array: uint8,
                uint16, bool or float (H, W), (H, W, 3) or (H, W, 4).

        Raises:
            LenetError: it is no picture, or a damaged one.
        """
        found = self.preprocess(picture)
        scores = None if found.image is None else self.scores(found.image[None])[0]
        return self.answer(found, scores)

    def predict_many(
        self, pictures: Iterable[Source], jobs: int | None = None
    ) -> Generator[Prediction | LenetError, None, None]:
        """Reads many pictures, in their order, a few ahead of what is taken.

        A picture that cannot be read fails alone: its LenetError stands in its place.

        Args:
            pictures: each as `predict` takes it; also endless.
            jobs: threads; None for as many as this process may use CPUs.
        """
        jobs = jobs or usable_cores()
        left = iter(pictures)
        with ThreadPoolExecutor(jobs) as threads:

            def started(picture: Source) -> Future[Prediction | LenetError]:
                return threads.submit(self.predict_or_error, picture)

            ahead = deque(map(started, islice(left, AHEAD * jobs)))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(map(started, islice(left, 1)))

    def predict_or_error(self, picture: Source) -> Prediction | LenetError:
        try:
            return self.predict(picture)
        except LenetError as error:
            return error

    def answer(self, found: Preprocessed, scores: NDArray[np.float32] | None) -> Prediction:
        """What the network's scores (classes,) for a preprocessed picture mean; None where the
        preprocessor found nothing to give it."""
        if scores is None:
            return Prediction(None, {}, True, found.reason, None, None, found.steps)
        shares = metrics.softmax(scores / self.checkpoint.temperature).tolist()
        probabilities = dict(zip(self.checkpoint.classes, shares, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        rejected = bool(metrics.confidence(scores) < self.threshold)
        reason = NOT_SURE if rejected else None
        if JUNK in probabilities:
            junk = probabilities.pop(JUNK)
            probabilities = {name: p / max(1 - junk, 1e-12) for name, p in probabilities.items()}
        if label == JUNK:
            label, rejected, reason = None, True, NOT_A_DIGIT
        return Prediction(
            label, probabilities, rejected, reason, found.box, found.image, found.steps
        )
