"""Predictions: right digits from pictures, honest doubt, and a reason for every failure."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TRAIN, needs_kernels
from numpy.typing import NDArray
from PIL import Image

import lenet
from lenet.data.pictures.preprocess import preprocess, preprocess_plain
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.reading.prediction import AHEAD, Prediction, Predictor
from lenet.training.run import Run

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def predictor(trained: Run) -> Predictor:
    return Predictor(trained.path)


def drawing(digit: NDArray[np.uint8], side: int = 140) -> Image.Image:
    """The digit as dark ink on white paper."""
    return Image.fromarray(255 - digit).resize((side, side), Image.Resampling.BICUBIC)


def test_reads_most_digits(predictor: Predictor, digits: Digits) -> None:
    images, labels = digits
    right = [
        predictor.predict(drawing(image)).label == str(label)
        for image, label in zip(images[TRAIN : TRAIN + 60], labels[TRAIN : TRAIN + 60], strict=True)
    ]
    assert np.mean(right) > 0.6  # trained for a second on 640 digits that were centred otherwise


def test_what_a_prediction_is(predictor: Predictor, trained: Run, digits: Digits) -> None:
    source = drawing(digits[0][TRAIN])
    found = predictor.predict(source)
    prepared = preprocess(source)
    assert found.image is not None
    assert prepared.image is not None
    np.testing.assert_array_equal(found.image, prepared.image)
    assert list(found.steps) == list(prepared.steps)
    with torch.no_grad():
        scores = trained.model(trained.model.prepare(found.image[None]))[0]
    expected = scores.double().softmax(dim=0)
    assert list(found.probabilities) == list("0123456789")
    np.testing.assert_allclose([*found.probabilities.values()], expected, rtol=1e-4, atol=1e-9)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.label == max(found.probabilities, key=lambda name: found.probabilities[name])
    best, second = scores.topk(2).values.tolist()
    assert found.rejected == (best - second < predictor.threshold)


def test_same_answer_for_every_kind_of_source(
    predictor: Predictor, digits: Digits, tmp_path: Path
) -> None:
    picture = drawing(digits[0][TRAIN + 1])
    picture.save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    expected = predictor.predict(picture)
    sources = (tmp_path / "x.png", str(tmp_path / "x.png"), content, io.BytesIO(content))
    for source in (*sources, np.asarray(picture)):
        found = predictor.predict(source)
        assert found.as_dict() == expected.as_dict()
        assert found.image is not None
        np.testing.assert_array_equal(found.image, expected.image)


@pytest.mark.parametrize("threshold", [0.0, 1e9])
def test_close_scores_are_rejected(
    threshold: float, trained: Run, digits: Digits, tmp_path: Path
) -> None:
    model = lenet.load(trained.path)
    model.card["rejection_threshold"] = threshold
    lenet.save(model, tmp_path / "x.safetensors")
    found = Predictor(tmp_path / "x.safetensors").predict(drawing(digits[0][TRAIN]))
    assert found.rejected == (threshold > 0)
    assert found.reason == ("not sure" if threshold else None)
    assert found.label is not None
    assert found.as_dict().keys() == {"label", "probabilities", "rejected", "reason", "box"}


@pytest.mark.parametrize("manner", ["plain", "digit"])
def test_preprocessing_is_that_of_the_card(manner: str, digits: Digits, tmp_path: Path) -> None:
    model = lenet.LeNet()
    model.card["preprocessing"] = manner
    lenet.save(model, tmp_path / "x.safetensors")
    picture = Image.new("L", (60, 60), 255)
    picture.paste(drawing(digits[0][TRAIN], 30), (2, 2))
    found = Predictor(tmp_path / "x.safetensors").predict(picture).image
    plain, digit = preprocess_plain(picture).image, preprocess(picture).image
    assert found is not None
    assert plain is not None
    assert digit is not None
    np.testing.assert_array_equal(found, plain if manner == "plain" else digit)
    assert (plain != digit).any()


@pytest.mark.parametrize(
    "source",
    [Image.new("L", (100, 100), 255), np.zeros((60, 60), np.uint8), Image.new("RGB", (9, 9))],
)
def test_empty_pictures_have_no_digit(predictor: Predictor, source: Any) -> None:
    found = predictor.predict(source)
    assert found.label is None
    assert found.probabilities == {}
    assert found.rejected
    assert found.image is None
    nothing = {"label": None, "probabilities": {}, "rejected": True, "box": None}
    assert found.as_dict() == {**nothing, "reason": "empty"}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_formats(form: str, predictor: Predictor, digits: Digits) -> None:
    picture = drawing(digits[0][TRAIN])
    file = io.BytesIO()
    picture.save(file, form)
    assert predictor.predict(file.getvalue()).label == predictor.predict(picture).label


def damaged(form: str) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(file, form)
    return file.getvalue()[:400]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged|not a picture"),
        (damaged("PNG"), "damaged"),
        (damaged("JPEG"), "damaged"),
        (damaged("GIF"), "damaged|not a picture"),
        (damaged("BMP"), "damaged"),
    ],
)
def test_files_that_are_no_pictures(
    content: bytes, words: str, predictor: Predictor, tmp_path: Path
) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(LenetError, match=words) as caught:
        predictor.predict(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "/nowhere/x.png",
        Path("nowhere.png"),
        "\0",
        Path("."),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((0, 5), np.uint8),
        np.full((9, 9), np.nan),
        io.StringIO("text"),
        3,
        None,
    ],
)
def test_sources_that_are_no_pictures(predictor: Predictor, source: Any) -> None:
    with pytest.raises(LenetError):
        predictor.predict(source)


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LenetError, match="no trained model under runs/"):
        Predictor("latest")
    with pytest.raises(LenetError, match="no model 'nothing'"):
        Predictor("nothing")


def test_networks_that_pytorch_serves(digits: Digits, tmp_path: Path) -> None:
    model = lenet.LeNet5()
    lenet.save(model, tmp_path / "x.safetensors")
    found = Predictor(tmp_path / "x.safetensors").predict(drawing(digits[0][0]))
    assert found.image is not None
    with torch.no_grad():
        scores = model(model.prepare(found.image[None]))[0]
    assert found.label == str(int(scores.argmax()))
    assert found.rejected  # no threshold is known


def test_wrong_number_of_classes(digits: Digits, tmp_path: Path) -> None:
    model = lenet.LeNet()
    model.card = {"classes": ["a", "b"]}
    lenet.save(model, tmp_path / "x.safetensors")
    with pytest.raises(LenetError, match="10 scores, but its card names 2 classes"):
        Predictor(tmp_path / "x.safetensors").predict(drawing(digits[0][0]))


@needs_kernels
def test_pytorch_is_not_imported(trained: Run, digits: Digits, tmp_path: Path) -> None:
    drawing(digits[0][TRAIN]).save(tmp_path / "x.png")
    script = (
        "import sys, lenet\n"
        "found = lenet.Predictor(sys.argv[1]).predict(sys.argv[2])\n"
        "assert found.label is not None\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'matplotlib' not in sys.modules\n"
        "print(found.label)\n"
    )
    line = [sys.executable, "-c", script, str(trained.path), str(tmp_path / "x.png")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == Predictor(trained.path).predict(tmp_path / "x.png").label


def test_weights_are_those_of_the_file(predictor: Predictor, trained: Run) -> None:
    assert predictor.checkpoint.path == trained.path / checkpoint.WEIGHTS


def test_probabilities_are_those_at_the_card_s_temperature(
    trained: Run, digits: Digits, tmp_path: Path
) -> None:
    picture = drawing(digits[0][TRAIN])
    plain = Predictor(trained.path).predict(picture)
    model = lenet.load(trained.path)
    model.card["temperature"] = 3.0
    lenet.save(model, tmp_path / "x.safetensors")
    found = Predictor(tmp_path / "x.safetensors").predict(picture)
    powers = np.array([*plain.probabilities.values()]) ** (1 / 3)
    np.testing.assert_allclose([*found.probabilities.values()], powers / powers.sum(), rtol=1e-5)
    assert (found.label, found.rejected) == (plain.label, plain.rejected)


def test_the_digits_of_the_package_are_read_without_naming_a_model(digits: Digits) -> None:
    found = Predictor()
    assert found.checkpoint.path == checkpoint.PRETRAINED / "digits.safetensors"
    right = [found.predict(drawing(digits[0][i])).label == str(digits[1][i]) for i in range(40)]
    assert np.mean(right) > 0.8  # of 8x8 pixels, enlarged


def test_the_box_is_in_the_picture_s_pixels(predictor: Predictor, digits: Digits) -> None:
    page = Image.new("L", (900, 700), 255)
    page.paste(drawing(digits[0][TRAIN], 280), (500, 300))
    rows, columns = np.nonzero(np.asarray(page) < 215)
    box = predictor.predict(page).as_dict()["box"]
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, expected, atol=10)


def test_many_pictures_keep_their_order_and_fail_alone(
    predictor: Predictor, digits: Digits
) -> None:
    good = [drawing(image) for image in digits[0][TRAIN : TRAIN + 30]]
    pictures: list[Any] = [*good]
    pictures[7] = b"no picture"
    pictures[20] = Image.new("L", (50, 50), 255)
    for jobs in (1, 3, None):
        answers = list(predictor.predict_many(iter(pictures), jobs))
        assert len(answers) == 30
        for number, answer in enumerate(answers):
            if number == 7:
                assert isinstance(answer, LenetError)
                continue
            assert isinstance(answer, Prediction)
            assert answer.as_dict() == predictor.predict(pictures[number]).as_dict()


def test_endless_pictures_are_read_a_few_ahead(predictor: Predictor, digits: Digits) -> None:
    taken = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            taken.append(1)
            yield digits[0][0]

    answers: Any = predictor.predict_many(endless(), jobs=2)
    for _ in range(50):
        next(answers)
    assert len(taken) <= 50 + 2 * AHEAD
    answers.close()


def test_a_class_none_is_no_digit(
    trained: Run, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Predictor(trained.path)
    names = [*"01234567", "none", "9"]
    monkeypatch.setitem(found.checkpoint.card, "classes", names)
    assert found.checkpoint.classes == names
    prepared = preprocess(drawing(digits[0][TRAIN]))
    scores = np.zeros(10, np.float32)
    scores[[3, 8]] = 30, 29  # clear of no digit by less than of the other digits
    answer = found.answer(prepared, scores)
    shares = np.exp(np.delete(scores, 8) / found.checkpoint.temperature)
    np.testing.assert_allclose([*answer.probabilities.values()], shares / shares.sum(), rtol=1e-5)
    assert answer.label == "3"
    scores[8] = 40
    answer = found.answer(prepared, scores)
    assert (answer.label, answer.rejected, answer.reason) == (None, True, "not a digit")
    assert "none" not in answer.probabilities
