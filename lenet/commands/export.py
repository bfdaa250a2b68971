"""Writing a trained network for other software."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.errors import LenetError


@dataclass(frozen=True)
class ExportFlags:
    """Writes a trained network for other software, and checks that its answers are the same.

    onnx: one file for ONNX Runtime and others, any batch size. safetensors: the weights under
    documented keys. c: C99 for small devices, without allocation and with no library but libm; it
    is compiled and tested if this machine has a compiler. Examples:

    `lenet export mnist --format onnx --input uint8`, `lenet export latest --format c --numbers
    int8 --out firmware/lenet`.
    """

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name, or latest (the newest run)."""
    format: Literal["onnx", "safetensors", "c"]
    """What to write."""
    out: Path | None = None
    """The file, or for c the folder; by default named after the model, in this folder."""
    input: Literal["float", "uint8"] = "float"
    """onnx: the input, prepared floats or raw images (prepared by the network)."""
    numbers: Literal["float32", "int8"] = "float32"
    """c: type of the weights. int8 needs the training set to choose its scales."""
    data: str | None = None
    """The data set to check with; by default the one that the network was trained on."""
    data_dir: str | None = None
    """Folder of the public data sets; by default $LENET_DATA or the cache folder."""
    json: bool = False
    """Print one JSON object: files with their sizes in bytes, and the results of the checks."""


def run(flags: list[str]) -> int:
    arguments = parse(ExportFlags, "export", flags)
    if arguments.input != "float" and arguments.format != "onnx":
        raise LenetError("--input is for --format onnx; the other formats take raw images")
    if arguments.numbers != "float32" and arguments.format != "c":
        raise LenetError("--numbers is for --format c")

    from lenet import data
    from lenet.export import c, onnx, tensors
    from lenet.export.agreement import trial
    from lenet.networks import checkpoint

    model = checkpoint.read(arguments.model)
    data_name, data_dir = arguments.data or model.data, arguments.data_dir
    match arguments.format:
        case "safetensors":
            result = tensors.export(
                model, arguments.out or Path(f"{model.name}-export.safetensors")
            )
        case "onnx":
            out, pixels = arguments.out or Path(f"{model.name}.onnx"), arguments.input == "uint8"
            result = onnx.export(model, out, pixels, trial(model, data_name, data_dir))
        case "c":
            out = arguments.out or Path(f"{model.name}-{arguments.numbers}")
            dataset = data.load(data_name, data_dir) if arguments.numbers == "int8" else None
            result = c.export(model, out, dataset, trial(model, data_name, data_dir))
    if arguments.json:
        print(json.dumps({"model": str(model.path), **result.as_dict()}))
        return 0
    table = list(rows(result.facts))
    width = max(len(label) for label, _ in table)
    print(f"{model.path} as {result.format}\n")
    for label, words in table:
        print(f"  {label:{width}}  {words}")
    print()
    for file, size in result.files.items():
        print(f"wrote {file}, {size:,} bytes")
    return 0


def rows(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Labels and values of the facts; groups are flattened."""
    for name, value in facts.items():
        match value:
            case dict():
                yield from rows(value, f"{prefix}{name}: " if name != "keys" else "")
            case None:
                yield prefix + name, "unknown"
            case int():
                yield prefix + name.replace("_", " "), f"{value:,}"
            case float():
                yield prefix + name.replace("_", " "), f"{value:.4g}"
            case _:
                yield prefix + name.replace("_", " "), str(value)
