"""The public surface as a program with types uses it; mypy --strict reads it. No test file."""

import numpy as np
from numpy.typing import NDArray

import lenet


def train(folder: str) -> float:
    run = lenet.train("mnist", data=folder, epochs=3, activation="relu")
    recipe: lenet.Recipe = run.recipe.changed(lr=0.1)
    print(run.path / "report.json", run.metrics[-1]["train_loss"], recipe.model)
    resumed = lenet.resume(run.path)
    return resumed.report.error


def evaluate(model: str, pixels: NDArray[np.uint8]) -> list[str]:
    data = lenet.data.load("mnist")
    report = lenet.evaluate(model, data.test[:100])
    names = [f"{row.name}: {row.f1:.2f}" for row in report.per_class]
    split = lenet.data.Split(pixels, data.test.labels[: len(pixels)])
    print(split.images.mean(), report.accuracy, report.count, data.classes[0].upper())
    return names


def read(picture: str) -> str:
    answer = lenet.Predictor("digits").predict(picture)
    if answer.rejected or answer.label is None:
        return answer.reason or ""
    probability: float = answer.probabilities[answer.label]
    text = [number.text for number in lenet.Reader().read(picture).numbers if not number.rejected]
    return f"{answer.label} {probability:.2f} {answer.box} {' '.join(text)}"


def look() -> int:
    for row in lenet.summary("LeNet5"):
        print(row.name, row.output_shape, row.receptive_field)
    model = lenet.LeNet(activation="relu")
    x = model.prepare(np.zeros((1, 28, 28), np.uint8))
    for name, activation in lenet.trace(model, x).items():
        print(name, tuple(activation.shape))
    lenet.save(model, "mine.safetensors")
    try:
        return lenet.load("mine.safetensors").classes
    except lenet.LenetError as error:
        print(error)
        return 0
