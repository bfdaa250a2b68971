"""Files from strangers: whatever they hold, they are used, or refused in a few plain words."""

import copy
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import memory_limit, write_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import lenet
from lenet import data
from lenet.data import idx
from lenet.engine.scores import scorer, tracer
from lenet.errors import LenetError, is_printable
from lenet.networks import checkpoint
from lenet.networks.architecture import build
from lenet.networks.inspection import summary
from lenet.reading.prediction import Predictor
from lenet.sweep import sweep
from lenet.training import run as folders
from lenet.training.engines import require_fit
from lenet.training.recipe import Recipe
from lenet.training.run import Run

MEMORY = 1 << 30  # bytes that a file may cost
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
fuzz = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([2**20, 2**31, 2**53, 2**63, 10**18, 10**400]),
    st.floats(),
    st.sampled_from([1e-300, 1e30, 1e300]),
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\x1b[2J", "a\0b", "~nosuch-user/x", "x" * 5000, "..", "NaN", "\ud800"]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(texts, inner, max_size=3),
        st.integers(1, 300_000).map(lambda count: [1] * count),
        st.integers(1, 90).map(lambda depth: json.loads("[" * depth + "]" * depth)),
    ),
    max_leaves=6,
)


@contextmanager
def used_or_refused() -> Iterator[None]:
    """What is refused is refused in words that can be printed; all else is a defect."""
    refusal = "nothing"
    try:
        with memory_limit(MEMORY):
            yield
    except LenetError as error:
        refusal = str(error)
    assert 5 < len(refusal) < 2000
    assert all(map(is_printable, refusal.split("\n")))


def changed(draw: st.DrawFn, right: dict[str, Any]) -> dict[str, Any]:
    """The object with up to three of its values, at any depth, replaced, removed or added."""
    wrong = copy.deepcopy(right)
    for _ in range(draw(st.integers(0, 3))):
        place = wrong
        inner = [value for value in place.values() if isinstance(value, dict) and value]
        if inner and draw(st.booleans()):
            place = draw(st.sampled_from(inner))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace" if place:
                place[draw(st.sampled_from(sorted(place)))] = draw(values)
            case "remove" if place:
                del place[draw(st.sampled_from(sorted(place)))]
            case _:
                place[draw(texts)] = draw(values)
    return wrong


def as_json(draw: st.DrawFn, right: Any) -> bytes:
    """The JSON of an object that was changed, sometimes with bytes that were changed, too."""
    text = json.dumps(changed(draw, right)).encode()
    damage = draw(st.integers(0, 9))
    if damage == 1:
        text = text.replace(b":", b":" + b"[" * draw(st.integers(1, 100_000)), 1)
    if damage == 2:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.binary(max_size=8)) + text[place + draw(st.integers(0, 8)) :]
    return text


def write(file: Path, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    """A safetensors file without a checksum, which strangers could write as well."""
    plain = {name: text.encode("utf-8", "replace").decode() for name, text in metadata.items()}
    save_file(arrays, file, plain)


SIZES = st.one_of(st.integers(1, 6), st.sampled_from([0, 28, 100, 1000, 2**14, 2**20, 10**9]))
CHANGES = {
    **dict.fromkeys(("input_size", "classes", "in_channels"), SIZES),
    **dict.fromkeys(("kernel_sizes", "padding", "hidden"), st.lists(SIZES, max_size=4)),
    **dict.fromkeys(("mean", "std"), numbers),
    "channels": st.lists(SIZES, max_size=3),
}
OPTIONS = st.one_of(
    st.lists(
        st.one_of(*(st.tuples(st.just(name), changes) for name, changes in CHANGES.items())),
        max_size=2,
    ).map(dict),
    st.fixed_dictionaries(  # few weights, and much to compute and keep
        {
            "input_size": st.sampled_from([28, 2**12, 2**14, 2**20]),
            "channels": st.integers(1, 19).map(lambda count: [1] * count),
            "kernel_sizes": st.sampled_from([[1], [5], [101], [300]]),
            "padding": st.sampled_from([[0], [2], [200], [2**12], [2**19]]),
            "hidden": st.sampled_from([[], [1], [1] * 100]),
        }
    ),
)


@pytest.mark.fuzz
@given(draws=st.data(), options=OPTIONS)
@fuzz
def test_weights(draws: st.DataObject, options: dict[str, Any], tmp_path: Path) -> None:
    """Cards, and networks of all sizes whose weights are really there if they are few."""
    mnist = checkpoint.read("mnist")
    network, weights = mnist.architecture, dict(mnist.weights)
    options = network.as_dict() | options
    with used_or_refused():
        network = build("LeNet", options)
    if sum(parameter.size for parameter in network.parameters) < 2**18:
        weights = {p.name: np.ones(p.shape, np.float32) for p in network.parameters}
    card = mnist.card | {"classes": None}
    if draws.draw(st.booleans(), label="change card"):
        card = as_json(draws.draw, {**mnist.card, "classes": [*"0123456789"]})
    else:
        card = json.dumps(card).encode()
    metadata = {"model": "LeNet", "options": json.dumps(options), "card": card.decode("latin-1")}
    file = tmp_path / "x.safetensors"
    write(file, weights, metadata)
    with used_or_refused():
        model = checkpoint.read(file)
        assert is_printable("".join(model.classes) + model.data + model.name)
        str(summary(file))
        data.is_here(model.data)
        if model.architecture.preparation.channels == 1:
            few = 10 if model.architecture.values < 2**20 else 1  # 10 take the kernels for batches
            assert len(scorer(model, threads=1)(IMAGES[:few])) == few
            tracer(model)(IMAGES[0])
        predictor = Predictor(model)
        assert isinstance(predictor.threshold, float)


@pytest.mark.fuzz
@given(draws=st.data())
@fuzz
def test_recipes(draws: st.DataObject, tmp_path: Path) -> None:
    name = draws.draw(st.sampled_from(sorted(lenet.RECIPES)))
    right = lenet.RECIPES[name].as_dict()
    file = tmp_path / "recipe.json"
    file.write_bytes(as_json(draws.draw, right))
    with used_or_refused():
        recipe = Recipe.from_file(file)
        assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
        assert is_printable(f"{recipe.name}{recipe.data}{recipe!r}")
        recipe.architecture()
    plan = {"recipe": right, "vary": ["lr=1..2"], "trials": 3, "storage": None}
    (tmp_path / sweep.SWEEP).write_bytes(as_json(draws.draw, plan))
    with used_or_refused():
        sweep.read(tmp_path)


@pytest.mark.fuzz
@given(draws=st.data())
@fuzz
def test_run_folders(draws: st.DataObject, trained: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in (folders.METRICS, folders.RECIPE, folders.STATE):
        shutil.copy(trained.path / file, folder)
    record = json.loads((trained.path / folders.ENVIRONMENT).read_text())
    (folder / folders.ENVIRONMENT).write_bytes(as_json(draws.draw, record))
    metadata, arrays = checkpoint.read_tensors(trained.path / folders.STATE)
    state = dict(arrays)
    for name in ("progress", "recipe"):
        metadata[name] = as_json(draws.draw, json.loads(metadata[name])).decode("latin-1")
    wrong = draws.draw(st.sampled_from(["none", "weights", "moments", "more"]))
    if wrong != "none":
        shape = draws.draw(st.sampled_from([(), (0,), (3,), arrays["weights"].shape]))
        kind = draws.draw(st.sampled_from([np.float32, np.float64, np.int8]))
        filler = draws.draw(st.sampled_from([0, 1] if kind == np.int8 else [0, 1, np.nan]))
        arrays[wrong] = np.full(shape, filler, kind)
    write(folder / folders.STATE, arrays, metadata)
    metrics = (folder / folders.METRICS).read_bytes()
    place = draws.draw(st.integers(0, len(metrics)))
    rest = metrics[place + draws.draw(st.integers(0, 3)) :] if draws.draw(st.booleans()) else b""
    (folder / folders.METRICS).write_bytes(metrics[:place] + draws.draw(st.binary()) + rest)
    with used_or_refused():
        folders.read_metrics(folder)
    with used_or_refused():
        folders.read_environment(folder)
        begun, progress = folders.begin(folder, trained.recipe, record, state, new=False)
        require_fit(begun, state)
        assert 0 < progress.epoch <= trained.recipe.optimisation.epochs
        length = (folder / folders.METRICS).stat().st_size
        assert length in (progress.metrics_bytes, 0)  # a damaged one begins anew


@pytest.mark.fuzz
@given(draws=st.data())
@fuzz
def test_idx_folders(draws: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, shape in zip(data.FILES, [(3, 28, 28), (3,), (2, 28, 28), (2,)], strict=True):
        write_idx(folder / file, np.ones(shape, np.uint8))
    file = folder / draws.draw(st.sampled_from(data.FILES))
    content = file.read_bytes()
    packed = draws.draw(st.booleans())
    if packed and draws.draw(st.booleans()):
        content = gzip.compress(content)
    place = draws.draw(st.integers(0, min(len(content), 40)))
    more = draws.draw(st.binary(max_size=12))
    content = content[:place] + more + content[place + draws.draw(st.integers(0, 12)) :]
    if packed:
        file.unlink()
        file = file.with_name(f"{file.name}.gz")
    file.write_bytes(content)
    with used_or_refused():
        dataset = data.load(str(folder))
        for split in (dataset.train, dataset.test):
            assert split.images.shape == (len(split.labels), 28, 28)
            assert 0 <= split.labels.min() <= split.labels.max() < len(dataset.classes)


# What fuzz does not find


def test_packed_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST_UNPACKED", 1 << 20)
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(bytes(1 << 28), 1))
    with pytest.raises(LenetError, match="unpacks to more than 1 MiB"), memory_limit(1 << 26):
        data.read_idx(file)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("x.json", data.FILES[0], "weights.safetensors"):
        os.mkfifo(tmp_path / name)
    for read in (
        lambda: Recipe.from_file(tmp_path / "x.json"),
        lambda: data.load(str(tmp_path)),
        lambda: checkpoint.read_tensors(tmp_path / "weights.safetensors"),
        lambda: checkpoint.read(tmp_path / "weights.safetensors"),
    ):
        with pytest.raises(LenetError, match=r"not a regular file|no model"):
            read()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\x1b[31mred", b"two\nlines"])
def test_names_of_classes_can_be_printed(name: bytes, tmp_path: Path) -> None:
    for folder in (b"a", name):
        os.mkdir(os.fsencode(tmp_path) + b"/" + folder)
    with pytest.raises(LenetError, match="the name of a class must be UTF-8") as caught:
        data.load(str(tmp_path))
    assert all(map(is_printable, str(caught.value).split("\n")))


@pytest.mark.parametrize("path", ["~nosuch-user/x", "x" * 5000, "a\0b"])
def test_impossible_paths(path: str) -> None:
    for use in (
        lambda: checkpoint.locate(path),
        lambda: data.load(path),
        lambda: data.load("mnist", path),
        lambda: lenet.resume(path),
        lambda: lenet.train("mnist", out=path),
        lambda: lenet.train("mnist", data_dir=path),
    ):
        with pytest.raises(LenetError, match="cannot be used as a path"):
            use()
    assert not data.is_here(path)
