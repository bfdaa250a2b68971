"""What others' tools read of the project: torch.hub, the citation, the changelog."""

import re
from pathlib import Path

import numpy as np
import torch

import lenet
from lenet.networks.torch import Network

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
