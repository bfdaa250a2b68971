"""What prompts, notebooks and others' tools show: reprs, torch.hub, the citation, the changelog."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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


def test_hugging_face_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a folder as the hub has it and back; the card's metadata are what the hub reads."""
    hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    from lenet.export.hub import HubNetwork

    network = HubNetwork("mnist")
    network.save_pretrained(tmp_path / "mnist")
    again = HubNetwork.from_pretrained(tmp_path / "mnist").checkpoint
    assert again.architecture == network.checkpoint.architecture
    assert again.card == network.checkpoint.card
    for name, weight in network.checkpoint.weights.items():
        np.testing.assert_array_equal(again.weights[name], weight)
    metadata = hub.ModelCard.load(tmp_path / "mnist" / "README.md").data
    assert (metadata.license, metadata.library_name) == ("mit", "lenet")
    assert metadata.eval_results[0].metric_value == 1 - again.card["error"]

    cards: list[str] = []

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, *, folder_path: Path, **_: Any) -> str:
            cards.append((Path(folder_path) / "README.md").read_text(encoding="utf-8"))
            return "commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert network.push_to_hub("me/digits") == "commit"
    assert 'from_pretrained("me/digits")' in cards[0]


def test_mypy_accepts_the_public_surface() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "tests/surface.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
