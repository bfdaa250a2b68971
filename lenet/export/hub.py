"""Hugging Face Hub: a trained network as a repository with weights, configuration and model card.

    HubNetwork("runs/mine").push_to_hub("me/digits")
    model = HubNetwork.from_pretrained("me/digits").checkpoint
    lenet.Predictor(model).predict("photo.jpg")

The methods are those of ``huggingface_hub.ModelHubMixin``; PyTorch is not needed.
"""

import json
from pathlib import Path
from typing import Any, Self

from lenet.errors import extra
from lenet.networks import checkpoint
from lenet.networks.checkpoint import WEIGHTS, Checkpoint

with extra("hub"):
    from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin, hf_hub_download

SETS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist"}
USE = """
# {name}

{network} of the Python package `lenet`, with {parameters:,} parameters.{about}

```python
from lenet import Predictor
from lenet.export.hub import HubNetwork  # pip install 'lenet[hub]'

model = HubNetwork.from_pretrained("{repository}").checkpoint
print(Predictor(model).predict("photo.jpg").label)
```

Classes: {classes}.
"""


class HubNetwork(ModelHubMixin):
    """A trained network that can go to the hub and come from it.

    Attributes:
        checkpoint: the network; `Predictor` and `lenet.evaluate` take it, and `lenet.load` takes
            its `path`.

    Args:
        model: a checkpoint, a run folder, a weights file or a pretrained name.

    Raises:
        LenetError: there is no such model.
    """

    def __init__(self, model: Checkpoint | str | Path) -> None:
        is_read = isinstance(model, Checkpoint)
        self.checkpoint = model if is_read else checkpoint.read(model)

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self.checkpoint
        checkpoint.write(save_directory / WEIGHTS, model.architecture, model.weights, model.card)
        config = {"architecture": model.architecture.network, **model.architecture.as_dict()}
        (save_directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        folder = Path(model_id)
        if folder.is_dir():
            return cls(folder)
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        file = hf_hub_download(model_id, WEIGHTS, **{name: options[name] for name in names})
        return cls(Path(file))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Creates the repository if need be, and uploads the network; returns the commit's URL."""
        return super().push_to_hub(repo_id, model_card_kwargs={"repository": repo_id}, **options)

    def generate_model_card(
        self, *args: Any, repository: str = "REPOSITORY", **_: Any
    ) -> ModelCard:
        """The README of the repository: metadata for the hub, then how to use the network."""
        card, architecture = self.checkpoint.card, self.checkpoint.architecture
        trained_on = (card.get("data") or {}).get("name", "")
        results = []
        if trained_on in SETS and isinstance(card.get("error"), float):
            results.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type=SETS[trained_on],
                    dataset_name=trained_on,
                    dataset_split=card.get("measured_on", "test"),
                    metric_type="accuracy",
                    metric_value=round(1 - card["error"], 6),
                )
            )
        data = ModelCardData(
            license="mit",
            library_name="lenet",
            pipeline_tag="image-classification",
            tags=["lenet", "mnist", "handwriting", architecture.network],
            datasets=[SETS[trained_on]] if trained_on in SETS else None,
            model_name=self.checkpoint.name,
            eval_results=results or None,
        )
        words = USE.format(
            name=self.checkpoint.name,
            network=architecture.network,
            parameters=sum(parameter.size for parameter in architecture.parameters),
            about=f" {card['about'].rstrip('.')}." if card.get("about") else "",
            repository=repository,
            classes=", ".join(self.checkpoint.classes),
        )
        return ModelCard(f"---\n{data.to_yaml()}\n---\n{words}")
