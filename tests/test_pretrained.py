"""The networks that come with the package answer as their cards say."""

import json
import re

import pytest

import lenet
from lenet import checkpoint, evaluation
from lenet.data import Dataset
from lenet.recipes import Recipe

FILES = sorted(checkpoint.PRETRAINED.rglob("*.safetensors"))
NAMES = [str(file.relative_to(checkpoint.PRETRAINED).with_suffix("")) for file in FILES]
every_network = pytest.mark.parametrize("file", FILES, ids=NAMES)


def test_the_reported_networks_are_there_under_their_names():
    assert {"lenet5-1998", "lenet5-1998-distorted"} <= set(checkpoint.pretrained_names())
    for recipe in ("lenet5-1998", "lenet5-1998-distorted"):
        assert checkpoint.locate(recipe) == checkpoint.PRETRAINED / f"{recipe}.safetensors"
        found = [checkpoint.read(file).card for file in FILES]
        seeds = [card["recipe"]["seed"] for card in found if card["recipe"]["name"] == recipe]
        assert sorted(seeds) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("recipe", ["lenet5-1998", "lenet5-1998-distorted"])
def test_the_network_of_that_name_is_the_median_of_the_five(recipe):
    cards = [checkpoint.read(file).card for file in FILES]
    errors = sorted(card["error"] for card in cards if card["recipe"]["name"] == recipe)
    assert checkpoint.read(recipe).card["error"] == errors[2]


@every_network
def test_cards_are_whole_and_of_no_machine(file):
    found = checkpoint.read(file)
    name = found.card["recipe"]["name"]
    assert name in file.stem
    seed = found.card["recipe"]["seed"]
    assert Recipe.from_dict(found.card["recipe"]) == Recipe.from_dict(
        {**lenet.RECIPES[name].as_dict(), "seed": seed}
    )
    assert found.card["measured_on"] == "test"
    metadata, _ = checkpoint.read_tensors(file)
    assert not re.search(r"[A-Za-z]:\\|(?<![A-Za-z])/\w", json.dumps(metadata))  # a path


@pytest.mark.slow
@every_network
def test_the_card_s_error_is_measured_again(file, mnist: Dataset):
    found = checkpoint.read(file)
    assert found.card["data"] == {"name": "mnist", "sha256": mnist.checksums}
    report = evaluation.evaluate(found, mnist.test)
    # Another processor rounds otherwise, which can turn an answer that hangs in the balance.
    assert abs(report.error - found.card["error"]) < 1.5 / len(mnist.test)
