"""Steps that stay on the device, on the CPU: without a graph, they are the ordinary steps."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import lenet
from lenet import engine
from lenet.data import Split
from lenet.engine.resident import WARM_UP, Capture, ResidentSteps
from lenet.engine.steps import AutogradStep, cpu_threads, scores_by_autograd
from lenet.errors import LenetError
from lenet.networks.models import Network
from lenet.training import epochs
from lenet.training.epochs import Minibatches
from lenet.training.optim import SGD
from lenet.training.recipe import Recipe
from lenet.training.train import initial_network, make_optimizer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def train(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Split:
    return Split(digits[0][:150], digits[1][:150].astype(np.int64))


def repeat(step: Any) -> Any:
    """In place of a captured graph: the step itself, which then is executed once a replay."""
    return step


def run(
    recipe: Recipe, train: Split, capture: Capture | None, epochs: int = 2
) -> tuple[list[dict[str, Any]], Network, torch.optim.Optimizer]:
    """Records and network after some epochs: ordinary steps, or resident ones."""
    model = initial_network(recipe, 10)
    optimizer = make_optimizer(recipe, model)
    criterion = epochs_criterion(recipe)
    if capture is None:
        step: Any = AutogradStep(model, train, criterion)
    else:
        step = ResidentSteps(model, optimizer, train, criterion, recipe.batch_size, capture)
    teachers: Any = Teachers() if recipe.teachers else None
    running = Minibatches(recipe, model, optimizer, step, "autograd", train, teachers)
    records = [record for epoch in range(1, epochs + 1) for record in running.run(epoch)]
    return records, running.network, optimizer


def epochs_criterion(recipe: Recipe) -> Any:
    return epochs.make_criterion(recipe)


class Teachers:
    """Say of each image what its brightness is."""

    threads = 1

    def targets(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        light = images.reshape(len(images), -1).mean(axis=1) / 255
        targets = np.full((len(images), 10), 0.0, np.float32)
        targets[:, 0], targets[:, 1] = light, 1 - light
        return targets


RECIPE = Recipe(epochs=2, batch_size=16, activation="tanh", init="torch")
RECIPES = {
    "sgd": RECIPE.changed(lr=0.1, momentum=0.9, weight_decay=1e-3, warmup=0.3, schedule="cosine"),
    "adamw": RECIPE.changed(optimizer="adamw", lr=2e-3, averaging=0.9, label_smoothing=0.1),
    "distorted": replace(
        RECIPE, lr=0.05, rotation=10, shift=1, elastic=0.5, fade=0.3, noise=0.2, pooling="max"
    ),
    "taught": replace(
        RECIPE, lr=0.1, teachers=("x",), distillation=0.7, temperature=2.0, rotation=5, copies=1
    ),
    "mse": RECIPE.changed(lr=0.1, loss="mse", batch_size=50),  # no smaller batch at the end
    "small": RECIPE.changed(lr=0.1, batch_size=200),  # nothing but a smaller batch
    "lenet5": Recipe(model="LeNet5", loss="map", lr=1e-3, epochs=2, batch_size=16),
    "lenet5s": Recipe(model="LeNet5s", lr=1e-2, epochs=2, batch_size=16),
}


@pytest.mark.parametrize("name", RECIPES)
def test_resident_steps_are_the_ordinary_ones(name: str, train: Split) -> None:
    want, network, optimizer = run(RECIPES[name], train, None)
    found, resident, other = run(RECIPES[name], train, repeat)
    assert [r.keys() for r in found] == [r.keys() for r in want]
    for got, expected in zip(found, want, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    for a, b in zip(resident.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    # What a checkpoint keeps is the same, too: plain numbers, and states of the same names.
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert isinstance(other.param_groups[0]["lr"], float)
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys()
    assert [s.keys() for s in other.state.values()] == [s.keys() for s in optimizer.state.values()]


def test_each_step_is_done_once_whoever_does_it(train: Split) -> None:
    """Capturing executes nothing; the graph replaces every whole batch after the first few."""
    captured, replays = [], []

    def capture(step: Any) -> Any:
        captured.append(step)

        def replay() -> None:
            replays.append(1)
            step()

        return replay

    records, _, _ = run(RECIPE, train, capture)  # 9 whole batches and a smaller one, twice
    assert len(records) == 20
    assert len(captured) == 1
    assert len(replays) == 2 * 9 - WARM_UP
    assert [r["examples"] for r in records] == [*[16] * 9, 6] * 2
    assert [r["step"] for r in records] == list(range(1, 21))


def test_nothing_waits_for_the_device_within_a_step(
    train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of a tensor is looked at by Python between the first step and the last."""
    looks: list[str] = []
    inside = False
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy", "nonzero"):
        original = getattr(torch.Tensor, name)

        def spy(self: Any, *rest: Any, original: Any = original, name: str = name) -> Any:
            if inside:
                looks.append(name)
            return original(self, *rest)

        monkeypatch.setattr(torch.Tensor, name, spy)
    step = ResidentSteps.step

    def watched(self: Any, *rest: Any) -> None:
        nonlocal inside
        inside = True
        step(self, *rest)
        inside = False

    monkeypatch.setattr(ResidentSteps, "step", watched)
    # Fused optimizers look at a learning rate on the CPU, and only there: they get a plain one.
    monkeypatch.setattr(SGD, "step", lambda self: None)
    for name in ("sgd", "distorted", "taught", "mse", "lenet5", "lenet5s"):
        run(RECIPES[name], train, repeat, epochs=1)
    assert looks == []


def test_test_images_stay_on_the_device(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model = initial_network(RECIPE, 10)
    optimizer = make_optimizer(RECIPE, model)
    steps = ResidentSteps(model, optimizer, train, epochs.make_criterion(RECIPE), 16, repeat)
    uploads = []
    on_device = steps.on_device
    monkeypatch.setattr(steps, "on_device", lambda a: uploads.append(a) or on_device(a))
    for images, seen in ((train.images[:30], 1), (train.images[30:], 2)):
        for _ in range(2):
            found = steps.scores(model, images)
            np.testing.assert_array_equal(found, scores_by_autograd(model, images))
            assert len(uploads) == seen


def test_losses_are_printed_after_the_epoch(train: Split) -> None:
    lines: list[str] = []

    class Bar:
        def advance(self, count: int, note: str | None = None) -> None: ...

        def say(self, line: str) -> None:
            lines.append(line)

    recipe = RECIPE.changed(print_every=4)
    printed = []
    for capture in (None, repeat):
        model = initial_network(recipe, 10)
        optimizer = make_optimizer(recipe, model)
        criterion = epochs.make_criterion(recipe)
        step: Any = AutogradStep(model, train, criterion)
        if capture:
            step = ResidentSteps(model, optimizer, train, criterion, 16, capture)
        running = Minibatches(recipe, model, optimizer, step, "autograd", train)
        bar: Any = Bar()
        running.run(1, epochs.Watch(bar, recipe, 1))
        printed.append([*lines])
        lines.clear()
    assert printed[0] == printed[1]
    assert len(printed[0]) == 2


def test_which_engine_serves() -> None:
    plan = engine.plan("LeNet", lenet.LeNet().options)
    assert engine.choose("auto", "cuda", plan)[0] == "graph"
    assert engine.choose("graph", "cuda:1", plan)[0] == "graph"
    assert engine.choose("autograd", "cuda", plan)[0] == "autograd"
    with pytest.raises(LenetError, match="graph needs a CUDA device, not cpu"):
        engine.choose("graph", "cpu", plan)
    with pytest.raises(LenetError, match="the fused kernels run on the CPU"):
        engine.choose("fused", "cuda", plan)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", RECIPES)
def test_graphs_on_a_cuda_device(name: str, train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # float32 as on the CPU
    recipe, records = RECIPES[name], []
    teachers: Any = Teachers() if recipe.teachers else None
    for device in ("cpu", "cuda"):
        model = initial_network(recipe, 10).to(device)
        optimizer = make_optimizer(recipe, model)
        running, _ = epochs.make_epochs(
            recipe, torch.device(device), "auto", 1, model, optimizer, train, teachers
        )
        records.append([r for epoch in (1, 2) for r in running.run(epoch)])
    assert running.engine == "graph"
    for got, expected in zip(records[1], records[0], strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-3)
