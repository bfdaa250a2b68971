"""LeNetClassifier against scikit-learn's own checks, and in its pipelines and searches."""

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_kernels
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import lenet
from lenet import LeNetClassifier
from lenet.errors import LenetError
from lenet.networks import checkpoint

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
QUICK: dict[str, Any] = dict(epochs=8, n_jobs=1, random_state=0)


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """scikit-learn's digits: 64 columns, 0 to 16."""
    X, y = load_digits(return_X_y=True)
    return X[:900], y[:900]


@needs_kernels
def test_scikit_learns_own_checks() -> None:
    """All of them; its two skips are for what is not installed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' own
        results = check_estimator(LeNetClassifier(n_jobs=1), on_skip=None)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input", "check_classifier_data_not_an_array"}
    assert len(results) - len(skipped) > 40


def test_it_learns_digits_of_any_layout(
    rows: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    X, y = rows
    names = np.array([f"digit {n}" for n in y])
    model = LeNetClassifier(**QUICK).fit(X[:700], names[:700])
    assert model.classes_.tolist() == [f"digit {n}" for n in range(10)]
    answers = model.predict(X[700:])
    assert accuracy_score(names[700:], answers) == model.score(X[700:], names[700:]) > 0.9
    shares = model.predict_proba(X[700:])
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (model.classes_[shares.argmax(1)] == answers).all()
    images = LeNetClassifier(**QUICK).fit(X[:700].reshape(-1, 8, 8), names[:700])
    np.testing.assert_array_equal(images.predict_proba(X[700:].reshape(-1, 8, 8)), shares)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X[700:]), shares)
    scaled = LeNetClassifier(**QUICK).fit(X[:700] / 16 - 5, names[:700])
    np.testing.assert_array_equal(scaled.predict_proba(X[700:] / 16 - 5), shares)


def test_partial_fit_goes_on(rows: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    X, y = rows
    model = LeNetClassifier(n_jobs=1, random_state=0)
    scores = []
    for _ in range(4):
        for part in np.array_split(np.arange(700), 3):
            model.partial_fit(X[part], y[part], classes=range(10))
        scores.append(model.score(X[700:], y[700:]))
    assert scores[-1] > max(0.9, scores[0])
    with pytest.raises(LenetError, match=r"labels \[11\]"):
        model.partial_fit(X[:2], [1, 11])
    assert model.fit(X[:20], y[:20] % 2).classes_.tolist() == [0, 1], "fit starts again"


def test_pipelines_and_searches(rows: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    X, y = rows
    pipeline = make_pipeline(MinMaxScaler(), LeNetClassifier(**QUICK))
    grid = {"lenetclassifier__lr": [1e-6, 5e-3]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X[:600], y[:600])
    assert search.best_params_ == {"lenetclassifier__lr": 5e-3}
    best: Any = search.best_estimator_
    assert best.score(X[600:], y[600:]) > 0.85
    copy: Any = clone(best)
    assert copy.get_params()["lenetclassifier__epochs"] == 8


def test_its_network_is_as_any_other(digits: Arrays, tmp_path: Path) -> None:
    images, labels = digits
    model = LeNetClassifier("mnist-99", activation="relu", **QUICK).fit(images[:640], labels[:640])
    network = model.network_
    checkpoint.write(
        tmp_path / "mine.safetensors", network.architecture, network.weights, network.card
    )
    split = lenet.data.Split(images[640:], labels[640:].astype(np.int64))
    report = lenet.evaluate(tmp_path / "mine.safetensors", split)
    assert report.accuracy == model.score(images[640:], labels[640:]) > 0.9


def test_wrong_arguments_are_told_by_fit(
    rows: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    X, y = rows
    for model, words in (
        (LeNetClassifier("nothing"), "no recipe"),
        (LeNetClassifier(epochs=0), "epochs"),
        (LeNetClassifier("lenet5s", activation="relu"), "activation"),
    ):
        with pytest.raises(LenetError, match=words):
            model.fit(X[:30], y[:30])
    with pytest.raises(LenetError, match="two classes"):
        LeNetClassifier().fit(X[:3], [1, 1, 1])


def test_without_scikit_learn_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lenet.classifier", raising=False)
    monkeypatch.delitem(vars(lenet), "LeNetClassifier", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(LenetError, match=r"pip install 'lenet\[sklearn\]'"):
        _ = lenet.LeNetClassifier
