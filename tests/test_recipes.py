"""Recipes: flags, JSON and sense."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.commands import leading_recipe, parse
from lenet.commands.train import TrainFlags
from lenet.errors import LenetError
from lenet.fields import annotations
from lenet.networks.architecture import NETWORKS
from lenet.training.recipe import PARTS, Recipe
from lenet.training.recipes import RECIPES

BASE = Recipe().as_dict()
OF_LENET5 = NETWORKS["LeNet5"]().as_dict()
DEFAULTS = {**BASE, **OF_LENET5}
FIELDS = list(DEFAULTS)
# Another value for every field, and what else must be chosen with it.
CHANGED: dict[str, Any] = {
    "name": "mine",
    "data": "somewhere",
    "pictures": "plain",
    "validation": 5,
    "model": "LeNet5s",
    "input_size": 32,
    "channels": (4, 8, 12),
    "kernel_sizes": (3, 5),
    "padding": (0, 1),
    "hidden": (),
    "activation": "silu",
    "pooling": "max",
    "init": "lecun-uniform",
    "mean": 0.1307,
    "std": 0.3081,
    "subsampling": "sum",
    "initial": "sqrt",
    "fan_in": "inputs+bias",
    "subsampling_start": "random",
    "head": "softmax",
    "epochs": 3,
    "batch_size": 7,
    "loss": "mse",
    "j": 2.5,
    "label_smoothing": 0.1,
    "optimizer": "adamw",
    "lr": 0.125,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "beta2": 0.99,
    "mu": 0.5,
    "curvature": "exact",
    "schedule": "cosine",
    "warmup": 0.25,
    "print_every": 50,
    "shift": 1.5,
    "rotation": 5.0,
    "scale": 0.2,
    "squeeze": 0.3,
    "shear": 0.4,
    "flip": True,
    "elastic": 0.5,
    "paper": 0.2,
    "fade": 0.25,
    "noise": 0.3,
    "copies": 20,
    "teachers": ("runs/a", "mnist"),
    "distillation": 0.9,
    "temperature": 2.0,
    "averaging": 0.999,
    "seed": 12,
}


SDLM = {"model": "LeNet5", "batch_size": 1, "optimizer": "sdlm", "loss": "map"}


def company(name: str) -> dict[str, Any]:
    """The other fields that this one cannot do without."""
    if name in ("mu", "curvature"):
        return SDLM
    taught = {"teachers": ("runs/a",), "distillation": 0.5}
    if name in ("teachers", "distillation", "temperature"):
        return {field: value for field, value in taught.items() if field != name}
    if name == "j":
        return {"loss": "map"}
    if name == "beta2":
        return {"optimizer": "adamw"}
    return {"model": "LeNet5"} if name in OF_LENET5 else {}


OF_D2L = {"name": "d2l", "data": "fashion-mnist"}  # what this recipe has that the default has not


def flagged(name: str) -> set[str]:
    return {name, *company(name)}


def changed(name: str) -> Recipe:
    return Recipe(**company(name), **{name: CHANGED[name]})


def test_every_field_is_tested() -> None:
    of_parts = {name for part in PARTS.values() for name in annotations(part)}
    assert set(CHANGED) == set(FIELDS) >= of_parts
    assert all(CHANGED[name] != DEFAULTS[name] for name in FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_a_flag(name: str) -> None:
    expected, value = changed(name), CHANGED[name]
    words = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
    flags = [f"--{name.replace('_', '-')}", *(words if value is not True else [])]
    for other, needed in company(name).items():
        words = needed if isinstance(needed, tuple) else (str(needed),)
        flags += [f"--{other.replace('_', '-')}", *words]
    recipe, left = leading_recipe(["d2l", *flags], "mnist")
    parsed = parse(TrainFlags, "train", left, TrainFlags(recipe)).recipe
    assert parsed == expected.changed(**{k: v for k, v in OF_D2L.items() if k not in flagged(name)})
    assert parsed != RECIPES["d2l"]


@pytest.mark.parametrize("name", FIELDS)
def test_json_round_trip_of_every_field(name: str, tmp_path: Path) -> None:
    recipe = changed(name)
    text = json.dumps(recipe.as_dict())
    assert Recipe.from_dict(json.loads(text)) == recipe
    (tmp_path / "r.json").write_text(text)
    assert Recipe.from_file(tmp_path / "r.json") == recipe


@settings(deadline=None)
@given(lr=st.floats(1e-300, 1e6), shift=st.floats(0, 100), seed=st.integers(0, 2**32 - 1))
def test_json_keeps_every_bit(lr: float, shift: float, seed: int) -> None:
    recipe = Recipe(lr=lr, shift=shift, seed=seed)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.validation == (10_000 if name == "digits" else 0)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.architecture().classes == 10


def test_the_recipes_that_are_promised() -> None:
    assert set(RECIPES) >= {"mnist", "d2l", "lenet5s", "lenet5-1998"}
    d2l = RECIPES["d2l"]
    # "Dive into Deep Learning", section 7.6: LeNet(lr=0.9), 10 epochs, batch 256, Xavier.
    assert (d2l.data, d2l.model) == ("fashion-mnist", "LeNet")
    values = d2l.as_dict()
    assert [values[n] for n in ("lr", "epochs", "batch_size", "optimizer")] == [0.9, 10, 256, "sgd"]
    network = [values[name] for name in ("activation", "pooling", "init")]
    assert network == ["sigmoid", "average", "xavier-uniform"]
    assert [values[n] for n in ("momentum", "weight_decay", "schedule")] == [0, 0, "constant"]
    parameters = RECIPES["mnist"].architecture().parameters
    assert sum(parameter.size for parameter in parameters) == 61_706


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs cannot be 0"),
        ({"epochs": 10**20}, "epochs cannot be 1000"),
        ({"batch_size": 0}, "batch_size cannot be 0"),
        ({"validation": -1}, "validation cannot be -1"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"seed": 2**32}, "seed cannot be"),
        ({"lr": 0}, "lr cannot be 0"),
        ({"lr": 1e200}, "lr cannot be"),
        ({"lr": -1.0}, "lr cannot be"),
        ({"momentum": 1.0}, "momentum cannot be 1.0"),
        ({"weight_decay": -0.1}, "weight_decay cannot be"),
        ({"warmup": 1.0}, "warmup cannot be"),
        ({"label_smoothing": 1.0}, "label_smoothing cannot be"),
        ({"shift": -1.0}, "shift cannot be"),
        ({"print_every": -1}, "print_every cannot be"),
        ({"scale": 1.0}, "scale cannot be"),
        ({"flip": 1}, "flip cannot be 1"),
        ({"elastic": -0.5}, "elastic cannot be"),
        ({"paper": 1.0}, "paper cannot be"),
        ({"fade": -0.1}, "fade cannot be"),
        ({"noise": 1.1}, "noise cannot be"),
        ({"copies": -1}, "copies cannot be"),
        ({"averaging": 1.0}, "averaging cannot be"),
        ({"teachers": ["a"], "distillation": 1.5}, "distillation cannot be"),
        ({"teachers": ["a"], "distillation": 1.0, "temperature": 0.0}, "temperature cannot be"),
        ({"teachers": ["a"]}, "teachers go with a distillation"),
        ({"distillation": 0.5}, "distillation goes with teachers"),
        ({"temperature": 2.0}, "temperature goes with teachers"),
        ({"teachers": ["a"], "distillation": 0.5, "loss": "mse"}, "teachers go with the loss"),
        ({"teachers": ["latest"], "distillation": 0.5}, "teachers cannot be"),
        ({"teachers": "a", "distillation": 0.5}, "teachers cannot be 'a'"),
        ({"mu": 0.0}, "mu cannot be"),
        ({"j": 0.0}, "j cannot be"),
        ({"name": "a/b"}, "name cannot be 'a/b'"),
        ({"name": "a\x1b[2J"}, "name cannot be"),
        ({"model": "AlexNet"}, "there is no model 'AlexNet': choose LeNet, LeNet5, LeNet5s"),
        ({"model": ["LeNet"]}, "there is no model"),
        ({"epochs": 1.5}, "epochs cannot be 1.5"),
        ({"epochs": "3"}, "epochs cannot be '3'"),
        ({"epochs": True}, "epochs cannot be True"),
        ({"epochs": None}, "epochs cannot be None"),
        ({"lr": "fast"}, "lr cannot be 'fast'"),
        ({"lr": True}, "lr cannot be True"),
        ({"lr": 10**400}, "lr cannot be 1000"),
        ({"data": 3}, "data cannot be 3"),
        ({"channels": {}}, "channels cannot be"),
        ({"channels": [6, "16"]}, "channels cannot be '16'"),
        ({"channels": [6, 1.5]}, "channels cannot be 1.5"),
        ({"normalise": [0.1]}, "normalise cannot be"),
        ({"normalise": [0.1, 0.2, 0.3]}, "normalise cannot be"),
        ({"speed": 3, "epochs": 1, "luck": 1}, "a recipe has no luck, speed"),
        ({"epoch": 3}, "has no epoch; did you mean epochs"),
        (
            {"model": "LeNet5s", "channels": [6, 12]},
            "channels is an option of LeNet, not of LeNet5s",
        ),
        ({"head": "softmax"}, "head is an option of LeNet5, not of LeNet"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing goes with"),
        ({"momentum": 0.9, "optimizer": "adamw"}, "momentum goes with"),
        ({"optimizer": "sdlm"}, "sdlm goes with the model LeNet5 and batch_size 1"),
        ({"activation": "swish"}, "activation must be one of sigmoid"),
        ({"shift": 1e30}, "shift cannot be"),
        ({"hidden": [10**7]}, "hidden must be from 1 to"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(LenetError, match=words) as caught:
        Recipe.from_dict(values)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "values",
    [
        {"warmup": 0.1},
        {"weight_decay": 0.1},
        {"print_every": 10},
        {"copies": 3},
        {"averaging": 0.9},
        {"loss": "mse"},
        {"loss": "cross-entropy"},
        {"head": "softmax"},
        {"head": "softmax", "loss": "cross-entropy", "label_smoothing": 0.1},
    ],
)
def test_what_the_optimizer_of_1998_would_ignore_is_refused(values: dict[str, Any]) -> None:
    Recipe.from_dict(SDLM)
    Recipe.from_dict({**SDLM, "head": "softmax", "loss": "cross-entropy"})
    with pytest.raises(LenetError, match="sdlm"):
        Recipe.from_dict({**SDLM, **values})


@pytest.mark.parametrize("name", [n for n, value in BASE.items() if isinstance(value, float)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(name: str, value: float) -> None:
    with pytest.raises(LenetError, match=rf"{name} cannot be|{name} goes with"):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"lr": NaN}',
        "[" * 100_000,
        '{"lr": ' + "9" * 5000 + "}",
        "\xff",
    ],
)
def test_files_that_are_no_recipe(content: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(LenetError):
        Recipe.from_file(file)
    with pytest.raises(LenetError, match=r"nowhere\.json cannot be read"):
        Recipe.from_file(tmp_path / "nowhere.json")


@pytest.mark.parametrize("model", ["LeNet5", "LeNet5s"])
def test_networks_of_ten_classes(model: str) -> None:
    with pytest.raises(
        LenetError, match=f"{model} reads 1 channel and has 10 classes, but the data"
    ):
        Recipe(model=model).architecture(classes=3)
    assert Recipe().architecture(classes=3).classes == 3


def test_changes_keep_the_rest() -> None:
    recipe = RECIPES["mnist"].changed(epochs=3, activation="relu", rotation=0)
    wanted = {**RECIPES["mnist"].as_dict(), "epochs": 3, "activation": "relu", "rotation": 0}
    assert recipe.as_dict() == wanted
    other = recipe.changed(model="LeNet5", head="softmax")
    assert other.network == NETWORKS["LeNet5"](head="softmax")  # pyright: ignore[reportCallIssue]
    assert other.optimisation == recipe.optimisation


def test_recipes_of_version_0_1_are_read() -> None:
    """They had the options of all networks, and normalise for mean and std."""
    old = {**BASE, "model": "LeNet5", "normalise": [0.0, 1.0], "initial": "sqrt"}
    del old["mean"], old["std"], old["beta2"]
    assert Recipe.from_dict(old) == Recipe(model="LeNet5", initial="sqrt")
    ours = {**BASE, **OF_LENET5, "model": "LeNet", "normalise": [0.1, 0.3], "initial": "sqrt"}
    assert Recipe.from_dict(ours) == Recipe(mean=0.1, std=0.3)
    with pytest.raises(LenetError, match="activation is an option of LeNet"):
        Recipe.from_dict({**old, "activation": "relu"})


@pytest.mark.parametrize("values", [{"mu": 0.2}, {"curvature": "exact"}, {"j": 5.0}])
def test_knobs_of_1998_without_effect_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(LenetError, match=r"sdlm|loss map"):
        Recipe(**values)
