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

from lenet.data.folders import Pictures
from lenet.errors import LenetError
from lenet.fields import LARGEST_NUMBER
from lenet.files import replacing
from lenet.networks.architecture import Architecture, Weights, build

WEIGHTS = "weights.safetensors"
CHECKSUM = "sha256"  # its name in the metadata
TEMPERATURES = (1e-4, 1e4)  # the range of fitted temperatures
LARGEST_IMAGE = 4096  # pixels on a side
PRETRAINED = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network read from disk."""

    path: Path
    architecture: Architecture
    card: dict[str, Any]
    """Classes, recipe, data, preprocessing, temperature, rejection threshold; in the pretrained
    networks also what `lenet.pretrained.publish` describes."""
    weights: dict[str, NDArray[np.float32]]  # by name, in the order of the network's parameters

    @property
    def name(self) -> str:
        """The name of its run folder, or of its file without the suffix."""
        path = self.path
        return path.resolve().parent.name if path.name == WEIGHTS else path.stem

    @property
    def data(self) -> str:
        """The data set with its test images: the one that it was trained on, mnist for digits and
        if the card does not say."""
        name = (self.card.get("data") or {}).get("name", "mnist")
        return "mnist" if name == "digits" else name

    @property
    def pictures(self) -> tuple[Pictures, int]:
        """How pictures become its input, and their side: arguments of `lenet.data.load`."""
        how = self.card.get("preprocessing")
        return how if how in ("plain", "color") else "digit", self.card.get("image_size") or 28

    @property
    def classes(self) -> list[str]:
        """Names of the classes; plain numbers if the card does not say."""
        return self.card["classes"]

    @property
    def temperature(self) -> float:
        """Probabilities are softmax(scores / temperature); 1 if it was not fitted."""
        return self.card.get("temperature") or 1.0


def locate(model: str | Path) -> Path:
    """The weights file of a run folder, a file, a pretrained name, or "latest" (under ./runs).

    Raises:
        LenetError: there is none; the message lists the possibilities.
    """
    path = Path(model).expanduser()
    if str(model) == "latest":
        files = list(Path("runs").glob(f"*/{WEIGHTS}"))
        if not files:
            raise LenetError("no trained model under runs/: run `lenet train`, or give another")
        return max(files, key=lambda file: file.stat().st_mtime)
    if str(model) in pretrained_names():  # a user's own folder of that name is ./mnist
        return PRETRAINED / f"{model}.safetensors"
    if path.is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if path.is_dir():
        raise LenetError(f"{path} has no {WEIGHTS}; is it a run folder whose training finished?")
    raise LenetError(
        f"no model {str(model)!r}: give a run folder, a weights file (.safetensors) or one of: "
        + ", ".join(pretrained_names())
    )


def pretrained_names() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))


def read(model: str | Path) -> Checkpoint:
    """Reads a trained network without PyTorch; `model` is as in `locate`.

    Raises:
        LenetError: there is no such file, it is damaged, or it was not written by `save`.
    """
    path = locate(model)
    metadata, arrays = read_tensors(path)
    try:
        network = metadata["model"]
        options, card = json.loads(metadata["options"]), json.loads(metadata["card"])
        if not (isinstance(options, dict) and is_card(card)):
            raise ValueError
    except (KeyError, ValueError, RecursionError):
        raise LenetError(
            f"{path} lacks the description that lenet.save writes with the weights"
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
    """Whether the fields of a card that this package reads, all optional, have the right types."""
    if not isinstance(card, dict):
        return False
    classes, data = card.get("classes") or [], card.get("data") or {}
    side = card.get("image_size") or 28
    threshold = card.get("rejection_threshold") or 0.0
    temperature = card.get("temperature") or 1.0
    low, high = TEMPERATURES
    return (
        isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and len(set(classes)) == len(classes)
        and isinstance(data, dict)
        and isinstance(data.get("name", ""), str)
        and type(side) is int
        and 1 <= side <= LARGEST_IMAGE
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
        card: see `Checkpoint`; JSON-able.
        notes: further metadata, for other readers.

    Raises:
        LenetError: the weights are not those of the architecture, or the file cannot be written
            (a file that was there before is kept).
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
    """Refuses weights that are not finite float32 arrays of the architecture's parameters."""
    expected = {parameter.name: parameter.shape for parameter in architecture.parameters}
    shapes = {name: array.shape for name, array in weights.items()}
    if shapes != expected:
        name = min(n for n in shapes | expected if shapes.get(n) != expected.get(n))
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
            metadata, names = file.metadata() or {}, file.keys()  # `file` cannot be iterated
            arrays = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise LenetError(f"there is no file {path}") from None
    # TypeError and AttributeError: number formats that NumPy lacks
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        if kind := kind_of(path):
            raise LenetError(f"{path} is {kind}") from None
        raise LenetError(f"{path} is not a complete safetensors file: {error}") from None
    written = metadata.pop(CHECKSUM, None)  # older files have none
    if written not in (None, checksum(arrays, metadata)):
        raise LenetError(f"{path} is damaged: its contents do not match its checksum")
    return metadata, arrays


def kind_of(path: Path) -> str | None:
    """What a file is that is no safetensors file, by its first bytes, and what to do with it."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 12)
    except OSError:
        return None
    wanted = "not a .safetensors file as lenet.save writes it"
    if start.startswith(b"PK") and b"data.pkl" in start:
        return (
            "a state dict of PyTorch, which does not say what network it is: load it in Python, "
            "lenet.load(file, lenet.LeNet()), and write it with lenet.save"
        )
    names = {
        b"PK": "a zip archive (.npz, .keras?)",
        b"\x80": "a pickle, which can run code when it is read",
        b"\x89HDF": "an HDF5 file, as Keras writes it",
        b"\x93NUMPY": "an array of NumPy",
        b"\x89PNG": "a picture",
        b"\xff\xd8\xff": "a picture",
        b"\x1f\x8b": "a gzip archive",
        b"{": "a JSON file",
    }
    for magic, name in names.items():
        if start.startswith(magic):
            return f"{name}, {wanted}"
    return None


def checksum(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> str:
    """SHA-256 of a file's metadata and arrays, by name."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
