"""What prompts, notebooks and others' tools show: reprs, torch.hub, the citation, the changelog."""

import re
from pathlib import Path

import numpy as np
import torch

import lenet
from lenet.networks.torch import Network
from lenet.training.recipes import find

ROOT = Path(__file__).parents[1]


def test_torch_hub_gives_the_trained_network() -> None:
    model = torch.hub.load(str(ROOT), "lenet5_1998", source="local")
    assert isinstance(model, Network)
    x = model.prepare(np.zeros((1, 28, 28), np.uint8))
    assert torch.equal(model(x), lenet.load("lenet5-1998")(x))


def test_every_file_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^version: (.+)$", citation) == [lenet.__version__]
    assert f"\n## {lenet.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_a_prompt_shows_is_short(digit_folder: Path) -> None:
    dataset = lenet.data.load(str(digit_folder))
    answer = lenet.Predictor("mnist").predict(dataset.test.images[0])
    report = lenet.evaluate("mnist", dataset.test)
    for thing, words in (
        (dataset, f"{len(dataset.train):,} images of 28x28"),
        (report, f"{report.error:.2%} of {report.count:,} wrong"),
        (answer, str(answer.label or answer.reason)),
        (find("mnist"), "epochs=30"),
    ):
        assert words in repr(thing)
        assert len(repr(thing)) < 300 and "\n" not in repr(thing)
    table = str(lenet.summary("LeNet5"))
    assert "60,000" in table and "340,908" in table, "parameters and connections of the paper"
