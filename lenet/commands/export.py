"""Writing a trained network for other software."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.errors import LenetError

if TYPE_CHECKING:
    from lenet.export.agreement import Agreement
    from lenet.export.c import CExport


@dataclass(frozen=True)
class ExportFlags:
    """Writes a trained network for other software, and checks that it answers as before.

    onnx: one file for ONNX Runtime and others, any batch size. safetensors: the weights under
    documented keys. c: C99 without allocation or libraries but libm, for small devices; it is
    compiled and tried if this machine has a compiler. Examples:

    `lenet export mnist --format onnx --input uint8`, `lenet export latest --format c --numbers
    int8 --out firmware/lenet`.
    """

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name, or latest (the newest run)."""
    format: Literal["onnx", "safetensors", "c"]
    """What to write."""
    out: Path | None = None
    """The file, or for c the folder; named after the model in this folder by default."""
    input: Literal["float", "uint8"] = "float"
    """onnx: what it takes, prepared floats or raw images (preparation inside)."""
    numbers: Literal["float32", "int8"] = "float32"
    """c: numbers of weights. int8 needs the training set, to choose the scales on."""
    data: str | None = None
    """The data set to check with; by default what the network was trained on."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    json: bool = False
    """Print one JSON object: files with their sizes in bytes, and what was checked."""


def run(flags: list[str]) -> int:
    asked = parse(ExportFlags, "export", flags)
    if asked.input != "float" and asked.format != "onnx":
        raise LenetError("--input is for --format onnx; the others take images as they are")
    if asked.numbers != "float32" and asked.format != "c":
        raise LenetError("--numbers is for --format c")

    from lenet import data
    from lenet.export import agreement, c, onnx, tensors
    from lenet.networks import checkpoint

    model = checkpoint.read(asked.model)
    name = model.path.parent.name if model.path.name == checkpoint.WEIGHTS else model.path.stem
    match asked.format:
        case "safetensors":
            out = asked.out or Path(f"{name}-export.safetensors")
            result = tensors.export(model, out)
            rows = [[key, words] for key, words in result.keys.items()]
        case "onnx":
            trial = agreement.trial(model, asked.data, asked.data_dir)
            result = onnx.export(
                model, asked.out or Path(f"{name}.onnx"), asked.input == "uint8", trial
            )
            rows = [
                ["input", result.input],
                ["opset", str(result.opset)],
                *agreement_rows(result.agreement),
            ]
        case "c":
            trial = agreement.trial(model, asked.data, asked.data_dir)
            dataset = None
            if asked.numbers == "int8":
                dataset = data.load(asked.data or agreement.data_of(model), asked.data_dir)
            result = c.export(model, asked.out or Path(f"{name}-{asked.numbers}"), dataset, trial)
            rows = c_rows(result)
    answer = result.as_dict()
    if asked.json:
        print(json.dumps({"model": str(model.path), **answer}))
        return 0
    width = max(len(name) for name, _ in rows)
    print(f"{model.path} as {asked.format}\n")
    for label, words in rows:
        print(f"  {label:{width}}  {words}")
    print()
    for file, size in answer["files"].items():
        print(f"wrote {file}, {size:,} bytes")
    return 0


def agreement_rows(found: "Agreement") -> list[list[str]]:
    return [
        ["checked on", found.images],
        ["largest difference of a score", f"{found.largest_difference:.3g}"],
        ["largest score", f"{found.largest_score:.3g}"],
        ["same answers", f"{found.same_answers:.2%}"],
    ]


def c_rows(found: "CExport") -> list[list[str]]:
    code = "unknown" if found.code_bytes is None else f"{found.code_bytes:,} bytes"
    rows = [
        ["numbers", found.numbers],
        ["code", code],
        ["weights and tables", f"{found.weight_bytes:,} bytes"],
        ["RAM", f"{found.memory_bytes:,} bytes, and a little stack"],
        ["tried", found.compiled],
    ]
    if found.agreement:
        rows += agreement_rows(found.agreement)
    if found.loss:
        change = 100 * (found.loss.error_int8 - found.loss.error)
        rows += [
            ["error in float32", f"{found.loss.error:.2%} of {found.loss.count:,} test images"],
            ["error in int8", f"{found.loss.error_int8:.2%} ({change:+.2f} points)"],
            ["scales chosen on", f"{found.loss.calibrated_on:,} training images"],
        ]
    return rows
