"""A LeNet as an estimator of scikit-learn, for pipelines and searches; without PyTorch.

from lenet import LeNetClassifier
LeNetClassifier(epochs=3).fit(X, y).predict(X)
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet.data.splits import Dataset, Split
from lenet.engine.processor import usable_cores
from lenet.engine.scores import FEW, scorer
from lenet.errors import LenetError, extra
from lenet.evaluation.metrics import softmax
from lenet.networks.checkpoint import Checkpoint
from lenet.training.engines import by_name
from lenet.training.recipe import Recipe
from lenet.training.recipes import find
from lenet.training.run import Settings
from lenet.training.train import assemble

with extra("sklearn"):
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_is_fitted, validate_data

FIELD = 28  # pixels: small images are enlarged by a whole factor to at most this side


class LeNetClassifier(ClassifierMixin, BaseEstimator):
    """A LeNet trained on images in rows of numbers.

    X is (n, features) or (n, height, width). A row of features is a square image, row by row (784
    columns for 28x28), with zeros for the pixels that are missing in the last row. The smallest
    value of the first fit is the background and the largest the ink. Images much smaller than 28x28
    are enlarged.

    Args:
        recipe: a name in `lenet.RECIPES`, the path of a .json file, or a `lenet.Recipe`. The other
            arguments replace its values; None leaves them. Its data and pictures are not used.
        epochs: passes over the training set.
        batch_size: images in a step.
        lr: highest learning rate.
        weight_decay: weight decay.
        activation: sigmoid, tanh, scaled-tanh, relu, gelu or silu (recipes with a LeNet).
        channels: of the convolutions, one number a layer (recipes with a LeNet).
        random_state: seed of initial weights, order of images and distortions; a number, a
            generator of NumPy's or None.
        n_jobs: CPU threads; None for as many as this process may use.

    Attributes:
        classes_: the labels, sorted.
        network_: the trained network, a `lenet.networks.checkpoint.Checkpoint`.
        n_features_in_: features of an image.

    Raises:
        LenetError: by `fit`: there is no such recipe, or it does not fit the data.
    """

    def __init__(
        self,
        recipe: str | Recipe = "mnist-99",
        *,
        epochs: int | None = 10,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        activation: str | None = None,
        channels: tuple[int, ...] | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.activation = activation
        self.channels = channels
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike) -> LeNetClassifier:
        """Trains a new network on X (n, features) or (n, height, width) and labels y (n,)."""
        rows, labels = self._validated(X, y)
        self._begin(rows, unique_labels(labels))
        self._train(rows, labels, self._recipe().optimisation.epochs)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None
    ) -> LeNetClassifier:
        """Trains for one pass over X with a constant learning rate, from where the last call ended.

        Args:
            X, y: as for `fit`.
            classes: all labels that will occur; needed by the first call if y lacks some.

        Raises:
            ValueError: y has labels that the first call did not name.
        """
        first = not hasattr(self, "network_")
        rows, labels = self._validated(X, y, reset=first)
        if first:
            self._begin(rows, np.unique(np.asarray(labels if classes is None else classes)))
        if new := sorted(set(np.unique(labels).tolist()) - set(self.classes_.tolist())):
            raise LenetError(f"labels {new} are not among the classes of the first call")
        self._train(rows, labels, 1, schedule="constant", warmup=0.0)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, classes): the softmax of the network's scores."""
        check_is_fitted(self)
        rows, _ = self._validated(X, reset=False)
        images = self._images(rows)
        # As many as take the way of many images, so that answers do not depend on their number.
        several = np.concatenate([images, np.zeros((FEW, *images.shape[1:]), np.uint8)])
        return softmax(scorer(self.network_, self._threads())(several)[: len(images)])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label of each image, (n,)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _validated(self, X: Any, y: Any = None, reset: bool = True) -> tuple[Any, Any]:
        """X as (n, features) after scikit-learn's checks, and y."""
        if getattr(X, "ndim", 2) == 3:
            X, shape = np.reshape(X, (len(X), -1)), tuple(X.shape[1:])
        elif reset:
            shape = None
        else:
            shape = self.image_shape_
        if y is None:
            X = validate_data(self, X, reset=reset)
        else:
            X, y = validate_data(self, X, y, reset=reset)
            check_classification_targets(y)
        if shape is None:
            side = math.ceil(math.sqrt(X.shape[1]))
            shape = side, side
        if reset:
            self.image_shape_ = shape
        return X, y

    def _threads(self) -> int:
        """`n_jobs` as scikit-learn means it: None and -1 for all cores."""
        return self.n_jobs if self.n_jobs and self.n_jobs > 0 else usable_cores()

    def _recipe(self, **changes: Any) -> Recipe:
        recipe = find(self.recipe) if isinstance(self.recipe, str) else self.recipe
        names = ("epochs", "batch_size", "lr", "weight_decay", "activation", "channels")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return recipe.changed(**{**given, "data": "arrays", "validation": 0, **changes})

    def _begin(self, X: NDArray[Any], classes: NDArray[Any]) -> None:
        """Forgets what was learned."""
        if len(classes) < 2:
            raise LenetError("the labels have one class, but training needs at least two classes")
        self.classes_ = classes
        self.range_ = float(X.min()), float(X.max())
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.state_, self.passes_ = None, 0

    def _images(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Rows as uint8 images (n, height, width)."""
        height, width = self.image_shape_
        low, high = self.range_
        values = (X.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
        pixels = np.zeros((len(X), height * width), np.uint8)
        pixels[:, : X.shape[1]] = values.round().clip(0, 255)
        factor = max(1, FIELD // max(height, width))
        images = pixels.reshape(-1, height, width)
        return images.repeat(factor, axis=1).repeat(factor, axis=2)

    def _train(self, X: NDArray[Any], y: NDArray[Any], epochs: int, **changes: Any) -> None:
        """Trains on from the state that was reached."""
        labels = np.searchsorted(self.classes_, y).astype(np.int64)
        split = Split(self._images(X), labels)
        dataset = Dataset("arrays", split, split, tuple(map(str, self.classes_)), {})
        recipe = self._recipe(seed=self.seed_, **changes)
        settings = Settings("cpu", "auto", self._threads(), None, False, os.getcwd())
        training, _ = assemble(recipe, dataset, settings)
        if self.state_ is not None:
            training.restore(self.state_)
        for _ in range(epochs):
            self.passes_ += 1
            training.run(self.passes_)
        self.state_ = {name: array.copy() for name, array in training.state().items()}
        flat = self.state_.get("average", self.state_["weights"])
        card = {"classes": list(dataset.classes), "recipe": recipe.as_dict()}
        weights = by_name(training.architecture, flat)
        self.network_ = Checkpoint(Path("classifier"), training.architecture, card, weights)
