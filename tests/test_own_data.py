"""Data of one's own, as arrays and pictures of any size and colour, and networks of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lenet
from lenet import data
from lenet.errors import LenetError
from lenet.networks import checkpoint

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
FAST: dict[str, Any] = dict(
    activation="relu", init="torch", optimizer="adamw", lr=3e-3, batch_size=32, threads=1
)


@pytest.fixture(scope="module")
def colours() -> tuple[NDArray[np.uint8], list[str]]:
    """Noisy pictures (120, 3, 32, 32) that differ only in their colour."""
    random = np.random.default_rng(0)
    labels = ["red", "green", "blue"] * 40
    images = random.integers(0, 100, (120, 3, 32, 32), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[["red", "green", "blue"].index(label)] += 100
    return images, labels


def test_a_split_is_a_sequence_for_loaders(digits: Arrays) -> None:
    split = data.Split(digits[0][:50], digits[1][:50].astype(np.int64))
    image, label = split[7]
    assert np.array_equal(image, digits[0][7]) and label == digits[1][7] and type(label) is int
    assert [y for _, y in split] == digits[1][:50].tolist()
    assert len(split[10:20]) == 10 and np.array_equal(split[10:20].images, digits[0][10:20])
    batches: list[Any] = list(DataLoader(split, batch_size=20))  # pyright: ignore[reportArgumentType]
    assert [tuple(x.shape) for x, _ in batches] == [(20, 28, 28), (20, 28, 28), (10, 28, 28)]
    assert torch.cat([x for x, _ in batches]).numpy().tobytes() == split.images.tobytes()


def test_arrays_become_a_data_set() -> None:
    labels = np.repeat([7, 3], 12)
    images = np.arange(24, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    dataset = data.from_arrays(images, labels)
    assert dataset.classes == ("3", "7")
    assert dataset.test.images[:, 0, 0].tolist() == [5, 11, 17, 23]  # every sixth of each class
    assert dataset.test.labels.tolist() == [1, 1, 0, 0]
    assert len(dataset.train) == 20


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((9, 28, 28)), np.arange(9), "uint8"),
        (np.zeros((9, 784), np.uint8), np.arange(9), "uint8"),
        (np.zeros((9, 28, 28), np.uint8), np.arange(8), "number for each image"),
        (np.zeros((9, 28, 28), np.uint8), np.zeros((9, 2)), "whole numbers or texts"),
        (np.zeros((9, 28, 28), np.uint8), np.arange(9), "six of a class"),
        (np.zeros((9, 28, 28), np.uint8), np.zeros(9, int), "two classes"),
    ],
)
def test_arrays_that_are_no_data_are_named(images: Any, labels: Any, words: str) -> None:
    with pytest.raises(LenetError, match=words):
        data.from_arrays(images, labels)


def test_training_on_arrays_a_callback_and_resuming(digits: Arrays, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def stop_after_two(metrics: dict[str, Any]) -> bool:
        seen.append(metrics)
        return metrics["epoch"] == 2

    folder = tmp_path / "run"
    run = lenet.train("mnist", data=digits, epochs=4, out=folder, on_epoch=stop_after_two, **FAST)
    assert [m["epoch"] for m in seen] == [1, 2]
    assert seen == [m for m in run.metrics if "step" not in m]
    assert run.recipe.data == "arrays" and run.network.card["data"]["name"] == "arrays"
    assert (folder / checkpoint.WEIGHTS).exists()
    with pytest.raises(LenetError, match="the data have changed"):
        lenet.resume(folder, (digits[0][::-1], digits[1][::-1]))
    resumed = lenet.resume(folder, data.from_arrays(*digits))
    whole = lenet.train("mnist", data=digits, epochs=4, out=tmp_path / "whole", **FAST)
    for name, weights in whole.network.weights.items():
        assert np.array_equal(weights, resumed.network.weights[name]), name


def test_colour_and_other_sizes_from_end_to_end(
    colours: tuple[NDArray[np.uint8], list[str]], tmp_path: Path
) -> None:
    images, labels = colours
    options: dict[str, Any] = dict(epochs=6, input_size=32, shift=1.0, noise=0.1, paper=0.1, **FAST)
    run = lenet.train("d2l", data=(images, labels), out=tmp_path / "run", **options)
    assert run.report.error == 0 and run.report.classes == ("blue", "green", "red")
    model = lenet.load(run.path)
    assert model.input_shape == (3, 32, 32)
    lenet.save(model, tmp_path / "again.safetensors")
    test = data.from_arrays(images, labels).test
    for form in (model, run.network, tmp_path / "again.safetensors"):
        assert lenet.evaluate(form, test).confusion == run.report.confusion
    picture = Image.new("RGB", (90, 60), (20, 20, 160))
    picture.save(tmp_path / "blue.png")
    for source in (picture, tmp_path / "blue.png", np.asarray(picture)):
        prediction = lenet.Predictor(run.path).predict(source)
        assert prediction.label == "blue"
        assert prediction.image is not None and prediction.image.shape == (3, 32, 32)


def test_folders_of_pictures_that_are_no_digits(
    colours: tuple[NDArray[np.uint8], list[str]], tmp_path: Path
) -> None:
    for number, (image, label) in enumerate(zip(*colours, strict=True)):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).resize((60, 45)).save(folder / f"{number:03}.png")
    name = str(tmp_path / "pictures")
    with pytest.raises(LenetError, match="--pictures plain"):
        data.load(name)
    plain = data.load(name, pictures="plain", side=20)
    assert plain.train.images.shape == (102, 20, 20) and plain.classes == ("blue", "green", "red")
    assert not plain.train.images[:, :2].any()  # the aspect is kept
    options: dict[str, Any] = dict(pictures="color", input_size=24, epochs=6, **FAST)
    run = lenet.train("d2l", data=name, out=tmp_path / "run", **options)
    assert run.report.error == 0
    assert run.network.pictures == ("color", 24)
    label = lenet.Predictor(run.path).predict(tmp_path / "pictures/green/001.png").label
    assert label == "green"


class Mine(nn.Module):
    """A network of one's own: sums of the quarters of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(14)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.head(self.pool(x).flatten(1))


def test_modules_of_ones_own_are_evaluated_summarised_and_traced(digits: Arrays) -> None:
    model = Mine()
    labels = digits[1][:90].astype(np.int64) % 3
    split = data.Split(digits[0][:90], labels)
    x = torch.from_numpy(digits[0][:90])[:, None] / 255
    expected = float((model(x).argmax(1).numpy() != labels).mean())
    assert lenet.evaluate(model, split).error == pytest.approx(expected)
    assert model.training
    states = lenet.trace(model, x)
    assert list(states) == ["pool", "head", "output"]
    assert torch.equal(states["output"], model(x)) and torch.equal(
        states["output"], 2 * states["head"]
    )
    rows = list(lenet.summary(model))
    assert [(r.name, r.kind, r.output_shape, r.parameters) for r in rows] == [
        ("pool", "AvgPool2d", (1, 2, 2), 0),
        ("head", "Linear", (3,), 15),
    ]


def test_the_summary_of_any_module_counts_as_that_of_a_network() -> None:
    sequence = lenet.LeNet()[:]
    ours, theirs = lenet.summary("LeNet"), lenet.summary(sequence)
    for row, other in zip(ours, theirs, strict=True):
        assert vars(row) | {"kind": ""} == vars(other) | {"kind": ""}


@pytest.mark.parametrize("action", [lenet.evaluate, lenet.summary, lenet.trace, lenet.train])
def test_what_is_no_network_is_named_in_one_line(action: Any, digits: Arrays) -> None:
    split = data.Split(digits[0][:9], digits[1][:9].astype(np.int64))
    arguments = {lenet.evaluate: (split,), lenet.trace: (torch.rand(1, 1, 28, 28),)}
    with pytest.raises(LenetError, match=r"Linear|recipe") as caught:
        action(nn.Linear(3, 3), *arguments.get(action, ()))
    assert "\n" not in str(caught.value)
    if action in (lenet.evaluate, lenet.summary):
        with pytest.raises(LenetError, match="int"):
            action(3, *arguments.get(action, ()))
