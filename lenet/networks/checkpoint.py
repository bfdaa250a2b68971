"""Networks and training states on disk: safetensors with JSON metadata, written in one piece.

Safetensors files hold numbers only; nothing in them can run when they are read.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lenet.errors import LenetError
from lenet.evaluation.metrics import TEMPERATURES
from lenet.files import replacing

if TYPE_CHECKING:
    import torch

    from lenet.networks.models import Network

WEIGHTS = "weights.safetensors"
STATE = "state.safetensors"
CHECKSUM = "sha256"  # name of it in the metadata
LARGEST_NUMBER = 1e300  # JSON has larger ones, that no float holds
PRETRAINED = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as it lies on disk; reading one needs no PyTorch.

    Attributes:
        path: the file it came from.
        network: class name in `lenet.networks.models`.
        options: arguments of its constructor.
        card: what else is known: classes, recipe, data, preprocessing, temperature, rejection
            threshold; `lenet.pretrained.shipping` says more of what the networks of the package have.
        weights: name -> float32 array, in the order of the network's parameters.
    """

    path: Path
    network: str
    options: dict[str, Any]
    card: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]


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
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise LenetError(f"{path}: {name} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise LenetError(f"{path}: {name} has values that are not finite")
    order = metadata.get("order", "").split()
    if sorted(order) != sorted(arrays):
        raise LenetError(f"{path}: the weights do not match their description")
    return Checkpoint(path, network, options, card, {name: arrays[name] for name in order})


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


def save(model: "Network", path: str | Path) -> None:
    """Writes a network's weights and description to a .safetensors file, in one piece.

    Raises:
        LenetError: the file cannot be written; what was there before is kept.
    """
    weights = {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}
    with replacing(Path(path)) as temporary:
        save_tensors(weights, temporary, description(model))


def description(model: "Network") -> dict[str, str]:
    """The metadata that `read` needs beside the weights."""
    return {
        "format": "lenet",
        "model": type(model).__name__,
        "options": json.dumps(model.options),
        "card": json.dumps(model.card),
        # safetensors sorts names; the order is the network's
        "order": " ".join(name for name, _ in model.named_parameters()),
    }


def load(model: str | Path) -> "Network":
    """The trained network of a run folder, weights file or pretrained name, in evaluation mode.

    Raises:
        LenetError: as `read`, or the weights do not fit the network that the file names.
    """
    return restore(read(model))


def restore(checkpoint: Checkpoint) -> "Network":
    """The PyTorch network of a checkpoint, in evaluation mode."""
    import torch

    from lenet.networks.models import build

    try:
        # A LeNet may be of any size: it takes memory when its shapes are known to be the file's.
        with torch.device("meta" if checkpoint.network == "LeNet" else "cpu"):
            model = build(checkpoint.network, checkpoint.options)
    except (RuntimeError, ValueError) as error:
        raise LenetError(
            f"{checkpoint.path} describes no possible {checkpoint.network}: {error}"
        ) from None
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name: array.shape for name, array in checkpoint.weights.items()}
    if found != expected:
        wrong = sorted(n for n in found.keys() | expected if found.get(n) != expected.get(n))[0]
        raise LenetError(
            f"{checkpoint.path}: {wrong} has shape {found.get(wrong)}, "
            f"but {checkpoint.network} expects {expected.get(wrong)}"
        )
    if checkpoint.network == "LeNet":
        model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(checkpoint.weights[name]))
    model.card = checkpoint.card
    return model.eval()


def save_state(
    path: Path,
    networks: Mapping[str, "Network"],
    optimizer: "torch.optim.Optimizer",
    progress: dict[str, Any],
) -> None:
    """Writes all that the next epoch depends on: weights, optimizer state, and `progress`."""
    tensors = {
        f"{role}/{name}": parameter.detach().cpu().numpy()
        for role, network in networks.items()
        for name, parameter in network.named_parameters()
    }
    numbers = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if hasattr(value, "numpy"):
                tensors[f"optimizer/{index}/{key}"] = value.detach().cpu().numpy()
            else:
                numbers[f"optimizer/{index}/{key}"] = value
    with replacing(path) as temporary:
        save_tensors(
            tensors,
            temporary,
            {"progress": json.dumps(progress), "numbers": json.dumps(numbers)},
        )


def load_state(
    path: Path, networks: Mapping[str, "Network"], optimizer: "torch.optim.Optimizer"
) -> dict[str, Any]:
    """Puts a saved state into the networks and the optimizer and returns its `progress`.

    Raises:
        LenetError: the file is missing, damaged, or of another recipe.
    """
    import torch

    metadata, arrays = read_tensors(path)
    try:
        progress, numbers = json.loads(metadata["progress"]), json.loads(metadata["numbers"])
        with torch.no_grad():
            for role, network in networks.items():
                for name, parameter in network.named_parameters():
                    parameter.copy_(fitting(arrays[f"{role}/{name}"], parameter.shape))
        shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for name, value in [*arrays.items(), *numbers.items()]:
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                if isinstance(value, np.ndarray):
                    value = fitting(value, shapes[int(index)] if value.ndim else ())
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        if not all(isinstance(progress[name], int) for name in ("epoch", "metrics_bytes")):
            raise ValueError("its progress is not counted")
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise LenetError(f"{path} is not a training state of this recipe: {error}") from None
    return progress


def fitting(array: NDArray[Any], shape: Sequence[int]) -> "torch.Tensor":
    """The array as a tensor; PyTorch itself would stretch what has another shape."""
    import torch

    if array.shape != tuple(shape):
        raise ValueError(f"shape {array.shape} where {tuple(shape)} is expected")
    return torch.from_numpy(array)


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
