"""Trained networks on disk: safetensors with JSON metadata, written in one piece.

Safetensors files hold numbers only; nothing in them can run when they are read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lenet.errors import LenetError
from lenet.fields import LARGEST_NUMBER
from lenet.files import replacing
from lenet.networks.architecture import Architecture, Weights, build

WEIGHTS = "weights.safetensors"
CHECKSUM = "sha256"  # name of it in the metadata
TEMPERATURES = (1e-4, 1e4)  # those that may be fitted
PRETRAINED = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as it lies on disk.

    Attributes:
        path: the file it came from.
        architecture: the network.
        card: what else is known: classes, recipe, data, preprocessing, temperature, rejection
            threshold; `lenet.pretrained.publish` says more of what the networks of the package
            have.
        weights: name -> float32 array, in the order of the network's parameters.
    """

    path: Path
    architecture: Architecture
    card: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]

    @property
    def name(self) -> str:
        """What to call it: the name of its run folder, or of its file without the suffix."""
        path = self.path
        return path.resolve().parent.name if path.name == WEIGHTS else path.stem

    @property
    def data(self) -> str:
        """The data set whose test images it was trained for: what it was trained on; mnist where
        the card does not say, and for digits, which has the same test images."""
        name = (self.card.get("data") or {}).get("name", "mnist")
        return "mnist" if name == "digits" else name

    @property
    def classes(self) -> list[str]:
        """Names of the classes; plain numbers where the card does not say."""
        return self.card["classes"]

    @property
    def temperature(self) -> float:
        """What scores are divided by before they become probabilities; 1 if it was not fitted."""
        return self.card.get("temperature") or 1.0


def locate(model: str | Path) -> Path:
    """The weights file of a run folder, a file, a pretrained name, or "latest" (under ./runs).

    Raises:
        LenetError: there is none; the message says what was looked for.
    """
    path = Path(model).expanduser()
    if str(model) == "latest":
        return latest_run() / WEIGHTS
    if str(model) in pretrained_names():  # ./mnist is a folder of the user's
        return PRETRAINED / f"{model}.safetensors"
    if path.is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if path.is_dir():
        raise LenetError(f"{path} holds no {WEIGHTS}; is it a run folder whose training finished?")
    raise LenetError(
        f"no model {str(model)!r}: give a run folder, a weights file (.safetensors)"
        + (f" or one of: {', '.join(names)}" if (names := pretrained_names()) else "")
    )


def pretrained_names() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))


def latest_run(runs: Path = Path("runs")) -> Path:
    """The newest run folder with weights."""
    files = sorted(runs.glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise LenetError(f"no trained model under {runs}/: run `lenet train`, or name one")
    return files[-1].parent


def read(model: str | Path) -> Checkpoint:
    """Reads a trained network without PyTorch; `model` is anything that `locate` finds.

    Raises:
        LenetError: there is no such file, it is damaged, or it was not written by `save`.
    """
    path = locate(model)
    metadata, arrays = read_tensors(path)
    try:
        network = metadata["model"]
        options, card = json.loads(metadata["options"]), json.loads(metadata["card"])
        if not (isinstance(options, dict) and is_card(card)):
            raise ValueError("metadata are not of the expected types")
    except (KeyError, ValueError, RecursionError):
        raise LenetError(
            f"{path} lacks the description that lenet.save writes beside the weights"
        ) from None
    try:
        architecture = build(network, options)
    except LenetError as error:
        raise LenetError(f"{path} describes no possible network: {error}") from None
    require_fit(arrays, architecture, str(path))
    classes = card.get("classes") or [str(label) for label in range(architecture.classes)]
    if len(classes) != architecture.classes:
        raise LenetError(
            f"{path}: the network has {architecture.classes} scores, but its card names "
            f"{len(classes)} classes"
        )
    weights = {parameter.name: arrays[parameter.name] for parameter in architecture.parameters}
    return Checkpoint(path, architecture, {**card, "classes": classes}, weights)


def is_card(card: Any) -> bool:
    """Whether what this package reads of a card has the right types; all of it may be missing."""
    if not isinstance(card, dict):
        return False
    classes, data = card.get("classes") or [], card.get("data") or {}
    threshold = card.get("rejection_threshold") or 0.0
    temperature = card.get("temperature") or 1.0
    low, high = TEMPERATURES
    return (
        isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and len(set(classes)) == len(classes)
        and isinstance(data, dict)
        and isinstance(data.get("name", ""), str)
        and isinstance(threshold, int | float)
        and abs(threshold) < LARGEST_NUMBER
        and isinstance(temperature, int | float)
        and low <= temperature <= high
    )


def write(
    path: str | Path,
    architecture: Architecture,
    weights: Weights,
    card: dict[str, Any],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Writes a trained network to a .safetensors file, in one piece.

    Args:
        weights: float32 arrays of the architecture's parameters by name.
        card: what is known of the network, JSON-able.
        notes: further metadata, for other readers.

    Raises:
        LenetError: the weights are not those of the architecture, or the file cannot be written;
            what was there before is kept.
    """
    require_fit(weights, architecture, f"{path} is not written")
    metadata = {
        "format": "lenet",
        "model": architecture.network,
        "options": json.dumps(architecture.as_dict()),
        "card": json.dumps(card),
        **(notes or {}),
    }
    with replacing(Path(path)) as temporary:
        save_tensors(dict(weights), temporary, metadata)


def require_fit(weights: Weights, architecture: Architecture, source: str) -> None:
    """Refuses weights that are not finite float32 arrays of the architecture's parameters.

    Raises:
        LenetError: it names the first array that differs.
    """
    expected = {parameter.name: parameter.shape for parameter in architecture.parameters}
    shapes = {name: array.shape for name, array in weights.items()}
    if shapes != expected:
        differ = [n for n in shapes.keys() | expected if shapes.get(n) != expected.get(n)]
        name = sorted(differ)[0]
        raise LenetError(
            f"{source}: {name} has shape {shapes.get(name)}, but {architecture.network} has "
            f"{expected.get(name)}"
        )
    for name, array in weights.items():
        if array.dtype != np.float32:
            raise LenetError(f"{source}: {name} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise LenetError(f"{source}: {name} has values that are not finite")


def save_tensors(tensors: dict[str, NDArray[Any]], path: Path, metadata: dict[str, str]) -> None:
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    metadata = {**metadata, CHECKSUM: checksum(tensors, metadata)}
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from None


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """(metadata, tensors) of a safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, file.keys()  # it cannot be iterated itself
            arrays = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise LenetError(f"there is no file {path}") from None
    # TypeError and AttributeError: number formats that NumPy does not have
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise LenetError(f"{path} is not a whole safetensors file: {error}") from None
    written = metadata.pop(CHECKSUM, None)  # older files have none
    if written not in (None, checksum(arrays, metadata)):
        raise LenetError(f"{path} is damaged: its contents do not have the checksum they should")
    return metadata, arrays


def checksum(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> str:
    """SHA-256 of all that a file says: its metadata and its numbers, by name."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
