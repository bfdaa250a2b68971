"""The engines of PyTorch beside the fused kernels: one state, the same steps."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lenet.data import Split
from lenet.data.distortion import Warps
from lenet.engine.fused import flatten
from lenet.errors import LenetError
from lenet.training.autograd import WARM_UP, AutogradEngine, GraphEngine
from lenet.training.engines import Batch, Engine, FusedEngine, Job, make_engine
from lenet.training.recipe import Recipe
from lenet.training.schedule import learning_rate

BATCH, STEPS = 16, 12

RECIPE = Recipe(activation="tanh", init="torch", batch_size=BATCH, lr=0.1)
RECIPES = {
    "sgd": RECIPE.changed(momentum=0.9, weight_decay=1e-3, warmup=0.3, schedule="cosine"),
    "adamw": RECIPE.changed(optimizer="adamw", lr=2e-3, averaging=0.9, label_smoothing=0.1),
    "distorted": RECIPE.changed(lr=0.05, rotation=10, shift=1, elastic=0.5, fade=0.3, noise=0.2),
    "taught": RECIPE.changed(teachers=("x",), distillation=0.7, temperature=2.0, rotation=5),
    "mse": RECIPE.changed(loss="mse"),
    "lenet5": Recipe(model="LeNet5", initial="sqrt", loss="map", lr=1e-3, batch_size=BATCH),
    "lenet5s": Recipe(model="LeNet5s", lr=1e-2, batch_size=BATCH),
}


@pytest.fixture(scope="module")
def train(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Split:
    return Split(digits[0][:150], digits[1][:150].astype(np.int64))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def repeat(step: Any) -> Any:
    """In place of a captured graph: the step itself, which then is executed once a replay."""
    return step


def job_of(recipe: Recipe, train: Split, device: str = "cpu") -> Job:
    architecture = recipe.architecture()
    weights = flatten(architecture.initial_weights(1).values())
    return Job(recipe, architecture, train, weights, device, threads=1)


def engine_of(kind: str, recipe: Recipe, train: Split, **options: Any) -> Engine:
    kinds = {"fused": FusedEngine, "autograd": AutogradEngine, "graph": GraphEngine}
    return kinds[kind](job_of(recipe, train), **options)


def batches(recipe: Recipe, train: Split) -> list[Batch]:
    """What some steps train on; the last batch is a smaller one."""
    random, steps = np.random.default_rng(3), []
    for number in range(1, STEPS + 1):
        index = random.permutation(len(train))[: BATCH if number < STEPS else 5]
        warps: Warps | None = None
        if recipe.distortion:
            warps = recipe.distortion.draw(len(index), 28, random)
        targets = None
        if recipe.objective.teachers:
            targets = random.dirichlet(np.ones(10), len(index)).astype(np.float32)
        rate = learning_rate(recipe.optimisation, number - 1, STEPS)
        steps.append(Batch(index, warps, targets, rate, number))
    return steps


def run(engine: Engine, steps: list[Batch]) -> list[tuple[float, int]]:
    return [(float(loss), int(right)) for loss, right in (engine.step(step) for step in steps)]


@pytest.mark.parametrize("name", RECIPES)
def test_all_engines_make_the_same_steps(name: str, train: Split) -> None:
    recipe = RECIPES[name]
    steps = batches(recipe, train)
    engines = {
        "fused": engine_of("fused", recipe, train),
        "autograd": engine_of("autograd", recipe, train),
        "graph": engine_of("graph", recipe, train, capture=repeat),
    }
    results = {kind: run(engine, steps) for kind, engine in engines.items()}
    for kind in ("autograd", "graph"):
        for got, want in zip(results[kind], results["fused"], strict=True):
            assert got == pytest.approx(want, rel=2e-4)
        state, wanted = engines[kind].state(), engines["fused"].state()
        assert state.keys() == wanted.keys()
        for key, array in wanted.items():
            scale = np.abs(array).max()
            np.testing.assert_allclose(state[key], array, atol=1e-3 * scale, err_msg=key)
        scores = engines["fused"].scores(train.images[:20])
        np.testing.assert_allclose(engines[kind].scores(train.images[:20]), scores, atol=2e-3)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["fused", "autograd"])
def test_a_state_goes_on_as_it_would_have(name: str, kind: str, train: Split) -> None:
    """Bit for bit by one engine; and the other one can go on with it."""
    recipe = RECIPES[name]
    steps = batches(recipe, train)
    whole = engine_of(kind, recipe, train)
    run(whole, steps)
    first = engine_of(kind, recipe, train)
    run(first, steps[:6])
    kept = {key: array.copy() for key, array in first.state().items()}
    for other in ("fused", "autograd"):
        second = engine_of(other, recipe, train)
        second.restore(kept)
        run(second, steps[6:])
        for key, array in whole.state().items():
            if other == kind:
                np.testing.assert_array_equal(second.state()[key], array)
            else:
                scale = np.abs(array).max()
                np.testing.assert_allclose(second.state()[key], array, atol=1e-3 * scale)


def test_states_of_others_are_refused(train: Split) -> None:
    engine = engine_of("fused", RECIPES["adamw"], train)
    state = {name: array.copy() for name, array in engine.state().items()}
    for change, words in (
        ({"moments": state["moments"][:1]}, "moments has shape"),
        ({"average": state["average"][1:]}, "average has shape"),
        ({"more": state["average"]}, "more has shape"),
        ({"weights": state["weights"] * np.float32("nan")}, "weights has values that are not"),
    ):
        for kind in ("fused", "autograd"):
            with pytest.raises(LenetError, match=words):
                engine_of(kind, RECIPES["adamw"], train).restore({**state, **change})


def test_each_step_is_done_once_whoever_does_it(train: Split) -> None:
    """Capturing executes nothing; the graph replaces every whole batch after the first few."""
    captured, replays = [], []

    def capture(step: Any) -> Any:
        captured.append(step)

        def replay() -> None:
            replays.append(1)
            step()

        return replay

    engine = engine_of("graph", RECIPE, train, capture=capture)
    run(engine, batches(RECIPE, train))
    assert len(captured) == 1
    assert len(replays) == STEPS - 1 - WARM_UP


def test_which_engine_serves(train: Split) -> None:
    book = job_of(RECIPE, train)
    engine, reason = make_engine(book)
    assert (engine.name, reason) == ("fused", "it serves this network and is faster")
    assert make_engine(book, "autograd")[0].name == "autograd"
    flat = job_of(RECIPE.changed(channels=(), padding=(), kernel_sizes=()), train)
    engine, reason = make_engine(flat)
    assert engine.name == "autograd"
    assert "1 to 8 convolutions, not 0" in reason
    with pytest.raises(LenetError, match="graph needs a CUDA device, not cpu"):
        make_engine(book, "graph")
    with pytest.raises(LenetError, match="the fused engine cannot serve here"):
        make_engine(flat, "fused")
    with pytest.raises(LenetError, match="engine must be one of"):
        make_engine(book, "warp drive")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", RECIPES)
def test_graphs_on_a_cuda_device(name: str, train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # float32 as on the CPU
    recipe = RECIPES[name]
    steps = batches(recipe, train)
    want = run(engine_of("fused", recipe, train), steps)
    for engine in ("autograd", "graph"):
        made, _ = make_engine(job_of(recipe, train, device="cuda"), engine)
        for got, expected in zip(run(made, steps), want, strict=True):
            assert got[0] == pytest.approx(expected[0], rel=1e-3)
