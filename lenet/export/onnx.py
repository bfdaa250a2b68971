"""ONNX in one file, for any batch size, with the preparation of images inside if asked for."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet import __version__
from lenet.errors import extra
from lenet.evaluation import evaluation
from lenet.export.agreement import Agreement, Trial
from lenet.files import replacing
from lenet.networks import checkpoint
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.models import Network
from lenet.progress import Progress

BATCHES = (1, 7, 250)  # sizes that the file is tried with, in turn


@dataclass(frozen=True)
class OnnxExport:
    """What was written."""

    path: Path
    size: int
    input: str
    opset: int
    agreement: Agreement

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": "onnx",
            "files": {str(self.path): self.size},
            "input": self.input,
            "opset": self.opset,
            "check": self.agreement.as_dict(),
        }


class FromPixels(nn.Module):
    """A network with the preparation of its images in front."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.model.prepare(images))


def export(model: Checkpoint, path: Path, pixels: bool, trial: Trial) -> OnnxExport:
    """Writes a network as ONNX, and compares it with the network first.

    The input is `images`, uint8 (N, 28, 28), with `pixels`, else `x`, prepared float32
    (N, C, H, W); the output is `scores`, float32 (N, classes), larger is better. The metadata
    hold `classes`, `card`, `network`, `options` (JSON) and `input` (words).

    Raises:
        LenetError: the extra is not installed, the file cannot be written, or it answers
            otherwise than the network.
    """
    with extra("onnx"):
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    with Progress("exporting to ONNX", 3) as progress:
        network = checkpoint.restore(model)
        example, name, words = example_input(network, pixels)
        with quiet():
            exported = torch.onnx.export(
                FromPixels(network).eval() if pixels else network,
                (example,),
                dynamo=True,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[name],
                output_names=["scores"],
                verbose=False,
            )
        assert exported is not None
        progress.advance()
        file = exported.model_proto
        file.producer_name, file.producer_version = "lenet", __version__
        file.doc_string = (
            f"{model.network}. Input {name}: {words}. Output scores: the largest answers."
        )
        metadata = {
            "classes": json.dumps(evaluation.class_names(model, network.classes)),
            "network": model.network,
            "options": json.dumps(model.options),
            "card": json.dumps(model.card),
            "input": words,
        }
        onnx.helper.set_model_props(file, metadata)
        with replacing(path) as temporary:
            onnx.checker.check_model(file, full_check=True)
            onnx.save_model(file, temporary)
            progress.advance()
            session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
            shown = trial.images if pixels else network.prepare(trial.images).numpy()
            agreement = trial.require(answers(session, name, shown), "the ONNX file")
            size = temporary.stat().st_size
        progress.advance()
    return OnnxExport(path, size, words, file.opset_import[0].version, agreement)


def example_input(network: Network, pixels: bool) -> tuple[Tensor, str, str]:
    """An input of two images, its name, and what it is."""
    channels = network.input_shape[0]
    if not pixels:
        shape = ", ".join(map(str, network.input_shape))
        x = torch.zeros(2, *network.input_shape)
        return x, "x", f"float32 (N, {shape}), prepared"
    shape = (28, 28) if channels == 1 else (channels, 28, 28)
    words = f"uint8 (N, {', '.join(map(str, shape))}), 0 is paper and 255 is ink"
    return torch.zeros(2, *shape, dtype=torch.uint8), "images", words


def answers(session: Any, name: str, images: NDArray[Any]) -> NDArray[np.float32]:
    """Scores, in batches of several sizes."""
    parts, start, turn = [], 0, 0
    while start < len(images):
        stop = start + BATCHES[turn % len(BATCHES)]
        parts.append(session.run(["scores"], {name: images[start:stop]})[0])
        start, turn = stop, turn + 1
    return np.concatenate(parts)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own insides and on torchvision, which is not used."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
