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

from lenet import fields
from lenet.data.folders import Pictures
from lenet.errors import LenetError
from lenet.files import checked_path, parse_json, replacing, require_regular
from lenet.networks.architecture import Architecture, Weights, build

WEIGHTS = "weights.safetensors"
CHECKSUM = "sha256"  # its name in the metadata
TEMPERATURES = (1e-4, 1e4)  # the range of fitted temperatures
LARGEST_IMAGE = 4096  # pixels on a side
PRETRAINED = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What this package reads of a card, all of it optional; others may write more into one."""

    classes: tuple[str, ...] | None = None
    recipe: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    preprocessing: str | None = None
    image_size: int | None = None
    measured_on: str | None = None
    error: float | None = None
    temperature: float | None = None
    rejection_threshold: float | None = None
    rejections: tuple[dict[str, float | None], ...] | None = None
    about: str | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        fields.check(self)
        recipe, data, points = self.recipe or {}, self.data or {}, self.rejections or ()
        fields.typed(str, recipe.get("name", ""), "recipe.name")
        fields.typed(int | None, recipe.get("validation"), "recipe.validation")
        fields.typed(str, data.get("name", ""), "data.name")
        low, high = TEMPERATURES
        classes = self.classes or ()
        fields.require(
            self,
            classes=len(set(classes)) == len(classes) and max(map(len, classes), default=0) <= 100,
            error=0 <= (self.error or 0) <= 1,
            image_size=1 <= (self.image_size or 28) <= LARGEST_IMAGE,
            temperature=low <= (self.temperature or 1) <= high,
            rejections=all({"threshold", "error"} <= point.keys() for point in points),
        )


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
    path = checked_path(model)
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
    if missing := {"model", "options", "card"} - metadata.keys():
        raise LenetError(
            f"{path} lacks the description that lenet.save writes with the weights: "
            + ", ".join(sorted(missing))
        )
    options, card = (
        parse_json(metadata[name], f"{path}: its {name} cannot be read")
        for name in ("options", "card")
    )
    if not (isinstance(options, dict) and isinstance(card, dict)):
        raise LenetError(f"{path}: its options or card are no JSON object")
    check_card(card, str(path))
    try:
        architecture = build(metadata["model"], options)
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


def check_card(card: dict[str, Any], source: str) -> None:
    """Refuses a card whose fields are not those of `Card`."""
    try:
        Card(**{name: card[name] for name in fields.annotations(Card) if name in card})
    except LenetError as error:
        raise LenetError(f"{source}: its card cannot be used: {error}") from None


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
        LenetError: the weights are not those of the architecture, `read` would refuse the card, or
            the file cannot be written (a file that was there before is kept).
    """
    require_fit(weights, architecture, f"{path} is not written")
    check_card(card, f"{path} is not written")
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
    require_regular(path)
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
