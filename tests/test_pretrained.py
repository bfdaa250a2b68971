"""The networks that come with the package answer as their cards say."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import lenet
from lenet import data
from lenet.data import Dataset
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.pretrained import publish
from lenet.training.recipe import Recipe
from lenet.training.run import Run

NAMES = ("d2l", "digits", "fashion-mnist", "lenet5-1998", "lenet5-1998-distorted", "mnist")
OTHERS = sorted((checkpoint.PRETRAINED / "other-seeds").glob("*.safetensors"))
every_network = pytest.mark.parametrize("name", NAMES)


def test_all_networks_are_there() -> None:
    assert checkpoint.pretrained_names() == list(NAMES)
    for name in NAMES:
        assert checkpoint.locate(name) == checkpoint.PRETRAINED / f"{name}.safetensors"
        assert lenet.load(name).card == checkpoint.read(name).card
    found = [checkpoint.read(file).card["recipe"] for file in OTHERS]
    for name, published in (("lenet5-1998", 4), ("lenet5-1998-distorted", 4)):
        seeds = {recipe["seed"] for recipe in found if recipe["name"] == name}
        assert seeds | {published} == set(range(5))


@every_network
def test_cards_are_whole_and_of_no_machine(name: str) -> None:
    found = checkpoint.read(name)
    card = found.card
    most = 100_000 if name == "digits" else 61_706
    assert sum(array.size for array in found.weights.values()) <= most
    assert card["measured_on"] == "test"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", card["date"])
    assert len(card["about"]) < 60
    errors = sorted(card["seeds"].values())
    assert card["error"] == card["seeds"][str(card["recipe"]["seed"])]
    assert card["error"] == errors[(len(errors) - 1) // 2]  # the median, not the best
    recipe = Recipe.from_dict(card["recipe"])
    if recipe.name in lenet.RECIPES:
        assert recipe.changed(seed=0) == lenet.RECIPES[recipe.name]
    metadata, _ = checkpoint.read_tensors(found.path)
    assert not re.search(r"[A-Za-z]:\\|(?<![A-Za-z])/\w", json.dumps(metadata))  # a path


def test_the_table_says_what_the_cards_say() -> None:
    cards = {name: checkpoint.read(name).card for name in NAMES}
    assert publish.table(cards) in publish.README.read_text(encoding="utf-8")


def test_the_page_on_exports_has_the_errors_of_the_cards() -> None:
    page = Path(__file__).parents[1] / "docs" / "export.md"
    found = re.findall(r"^\| `(.+?)` \| float32 \|.* (\S+) \|$", page.read_text("utf-8"), re.M)
    cards = {name: checkpoint.read(name).card for name in NAMES}
    expected = [(name, publish.percent(card["error"])) for name, card in cards.items()]
    assert found == expected, "run docs/exports.py again"


@pytest.mark.slow
@every_network
def test_everything_on_the_card_is_measured_again(name: str) -> None:
    found = checkpoint.read(name)
    card, dataset = found.card, data.load(found.data)
    for file, checksum in dataset.checksums.items():
        if card["data"]["name"] == found.data or file.startswith("t10k"):
            assert card["data"]["sha256"][file] == checksum
    scores = scorer(found)(dataset.test.images).astype(float)
    labels, count = dataset.test.labels, len(dataset.test)
    right = scores.argmax(axis=1) == labels
    # Another processor rounds otherwise, which can turn an answer that hangs in the balance.
    one = 1.5 / count
    assert 1 - right.mean() == pytest.approx(card["error"], abs=one)

    for temperature, expected in (
        (card["temperature"], card["reliability"]["ece"]),
        (1.0, card["ece_before"]),
    ):
        best = special.softmax(scores / temperature, axis=1).max(axis=1)
        bins = np.ceil(best * 15).astype(int)
        parts = [(right[bins == i], best[bins == i]) for i in np.unique(bins)]
        ece = sum(len(r) / count * abs(r.mean() - b.mean()) for r, b in parts)
        assert ece == pytest.approx(expected, abs=3 * one)

    ordered = np.sort(scores, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    assert [point["target"] for point in card["rejections"]] == [0.005, 0.001]
    for point in card["rejections"]:
        kept = gap >= point["threshold"] - 1e-3
        assert 1 - kept.mean() == pytest.approx(point["rejected"], abs=2 * one)
        assert 1 - right[kept].mean() == pytest.approx(point["error"], abs=3 * one)
    assert card["rejection_threshold"] == card["rejections"][-1]["threshold"]


@pytest.mark.slow
@pytest.mark.parametrize("file", OTHERS, ids=[file.stem for file in OTHERS])
def test_the_other_seeds_have_the_errors_of_their_cards(file: Path, mnist: Dataset) -> None:
    found = checkpoint.read(file)
    recipe = found.card["recipe"]
    assert file.stem == f"{recipe['name']}-seed-{recipe['seed']}"
    error = lenet.evaluate(found, mnist.test).error
    assert error == pytest.approx(found.card["error"], abs=1.5 / len(mnist.test))
    seeds = checkpoint.read(recipe["name"]).card["seeds"]
    assert seeds[str(recipe["seed"])] == found.card["error"]


# Publishing


@pytest.fixture(scope="module")
def runs(
    trained: Run, quick_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Run, Run]:
    """Three seeds of one recipe, of one epoch but for the first."""
    folder = tmp_path_factory.mktemp("seeds")
    recipes = [quick_recipe.changed(seed=seed) for seed in (1, 2)]
    more = [lenet.train(r, out=folder / str(r.seed), threads=1) for r in recipes]
    return trained, more[0], more[1]


@pytest.fixture(scope="module")
def chosen(runs: tuple[Run, ...]) -> tuple[Checkpoint, dict[str, float]]:
    return publish.median([checkpoint.read(run.path) for run in runs])


@pytest.fixture(scope="module")
def twin(
    chosen: tuple[Checkpoint, dict[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    recipe = Recipe.from_dict(chosen[0].card["recipe"]).changed(validation=150)
    return lenet.train(recipe, out=tmp_path_factory.mktemp("twin") / "twin", threads=1)


def test_the_median_is_chosen(
    chosen: tuple[Checkpoint, dict[str, float]], runs: tuple[Run, ...]
) -> None:
    found, seeds = chosen
    assert seeds == {str(run.recipe.seed): run.report.error for run in runs}
    assert found.card["error"] == np.median([run.report.error for run in runs])


def test_publishing(
    runs: tuple[Run, ...],
    chosen: tuple[Checkpoint, dict[str, float]],
    twin: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (checkpoint, publish):
        monkeypatch.setattr(module, "PRETRAINED", tmp_path)
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    monkeypatch.setattr(publish, "FIGURE", tmp_path / "figure.png")
    (tmp_path / "README.md").write_text(f"before\n\n{publish.TABLE}old\nold\n\nafter\n\nthat\n")
    publish.publish("small", tuple(run.path for run in runs), twin=twin.path, about="digits")
    found = checkpoint.read("small")
    text = (tmp_path / "README.md").read_text()
    assert text == (
        f"before\n\n{publish.TABLE}{publish.table({'small': found.card})}\n\nafter\n\nthat\n"
    )
    publish.publish("small", tuple(run.path for run in runs), twin=twin.path, about="digits")
    assert (tmp_path / "README.md").read_text() == text  # a second time changes nothing
    assert "| `small` | `quick`, seed" in text
    assert (tmp_path / "figure.png").stat().st_size > 5000
    for name, array in chosen[0].weights.items():
        np.testing.assert_array_equal(found.weights[name], array)

    # What is on the card, from the weights alone.
    card, dataset = found.card, data.load(str(runs[0].recipe.data))
    held = dataset.train[-150:]
    scores = scorer(checkpoint.read(twin.path))(held.images).astype(float)

    claimed = special.softmax(scores / card["temperature"], axis=1).max(axis=1)
    assert claimed.mean() == pytest.approx(np.mean(scores.argmax(1) == held.labels))
    assert card["held_out"]["images"] == 150
    assert card["held_out"]["error"] == pytest.approx(np.mean(scores.argmax(1) != held.labels))
    ordered = np.sort(scores, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    tested = scorer(found)(dataset.test.images).astype(float)
    ordered = np.sort(tested, axis=1)
    tested_gap = ordered[:, -1] - ordered[:, -2]
    for point, there in zip(card["rejections"], card["held_out"]["rejections"], strict=True):
        assert point["target"] == there["target"]
        assert point["threshold"] == there["threshold"]
        if point["threshold"] is None:
            assert point["rejected"] is there["rejected"] is None
            continue
        for where, its, labels, sure in (
            (there, scores, held.labels, gap),
            (point, tested, dataset.test.labels, tested_gap),
        ):
            kept = sure >= point["threshold"]
            assert where["rejected"] == pytest.approx(1 - kept.mean())
            wrong = its.argmax(1)[kept] != labels[kept]
            assert where["error"] == pytest.approx(wrong.mean())
        assert there["error"] <= there["target"]
        # No smaller threshold does there.
        more = gap >= np.max(gap[gap < point["threshold"]], initial=0)
        wrong = scores.argmax(1)[more] != held.labels[more]
        assert point["threshold"] == 0 or wrong.mean() > there["target"]
    report = lenet.evaluate(lenet.load("small"), dataset.test)
    assert report.temperature == card["temperature"]
    assert report.reliability.ece == pytest.approx(card["reliability"]["ece"], abs=1e-6)
    assert lenet.Predictor("small").checkpoint.temperature == card["temperature"]


def test_a_run_that_held_images_out_is_its_own_twin(
    twin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (checkpoint, publish):
        monkeypatch.setattr(module, "PRETRAINED", tmp_path)
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    monkeypatch.setattr(publish, "FIGURE", tmp_path / "figure.png")
    (tmp_path / "README.md").write_text(f"{publish.TABLE}\n\n")
    publish.publish("own", (twin.path,), about="digits")
    found = checkpoint.read("own")
    dataset = data.load(str(twin.recipe.data))
    assert found.card["error"] == lenet.evaluate(twin.path, dataset.test).error
    assert found.card["held_out"]["images"] == 150
    assert found.card["held_out"]["error"] == twin.report.error


def test_a_score_for_none_is_lowered_until_digits_are_hardly_taken_for_it(runs: tuple[Run]) -> None:
    """As if 9 were none: then the images of the other classes must not be answered with it."""
    run = checkpoint.read(runs[0].path)
    named = dataclasses.replace(run, card={**run.card, "classes": [*"012345678", "none"]})
    bias = run.weights["output.bias"].copy()
    bias[9] += 10  # so that many are
    named = dataclasses.replace(named, weights={**run.weights, "output.bias": bias})
    split = data.load(str(runs[0].recipe.data)).train
    digit = split.labels < 9
    held = data.Split(split.images[digit], split.labels[digit])
    rare = publish.with_rare_none(named, held)
    before, after = (scorer(network)(held.images) for network in (named, rare))
    others = before[:, :9].argmax(1)
    right = others == held.labels
    assert (before[right].argmax(1) == 9).mean() > 0.02
    assert (after[right].argmax(1) == 9).sum() <= 1 + right.sum() // publish.RARE
    np.testing.assert_allclose(after[:, :9], before[:, :9])


def test_networks_are_published_from_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "FIGURE", tmp_path / "docs" / "figures" / "reliability.png")
    with pytest.raises(LenetError, match=r"figures does not exist: .* from a checkout"):
        publish.publish("small", (tmp_path,), twin=tmp_path, about="digits")


def test_what_cannot_be_published(
    runs: tuple[Run, ...], chosen: tuple[Checkpoint, dict[str, float]], twin: Run
) -> None:
    first, second, _ = (checkpoint.read(run.path) for run in runs)
    held_out = checkpoint.read(twin.path)
    with pytest.raises(LenetError, match="two of the runs have the same seed"):
        publish.median([first, first])
    with pytest.raises(LenetError, match="is of another recipe than"):
        publish.median([first, held_out])
    dataset = data.load(str(runs[0].recipe.data))
    with pytest.raises(LenetError, match="held no images out: name its --twin"):
        publish.model_card(chosen[0], chosen[0], dataset, chosen[1])
    longer = {**held_out.card["recipe"], "epochs": 99}
    other = dataclasses.replace(held_out, card={**held_out.card, "recipe": longer})
    for wrong in (first, second, other):
        with pytest.raises(LenetError, match=r"is no twin of .* --validation 10000"):
            publish.model_card(chosen[0], wrong, dataset, chosen[1])
