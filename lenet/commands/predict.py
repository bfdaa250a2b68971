"""Reading pictures."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.errors import LenetError


@dataclass(frozen=True)
class PredictFlags:
    """Reads pictures: PNG, JPEG, GIF, WebP, TIFF, BMP; photographs, scans, drawings.

    Exit status 1 says that at least one picture could not be read.
    """

    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")]]
    """Files, folders of pictures, or - for standard input."""
    model: str = "mnist"
    """A run folder, a weights file, latest (the newest run), or one of `lenet models`."""
    show: Path | None = None
    """Draw what the preprocessor did: a .png or .svg for one picture, a folder for several,
    where their names begin with their numbers."""
    json: bool = False
    """Print one JSON object a line: path, label, probabilities, rejected; or path and error."""


def run(flags: list[str]) -> int:
    asked = parse(PredictFlags, "predict", flags)
    if not asked.images:
        raise LenetError("name at least one picture, or - for standard input")

    from lenet.reading.prediction import Predictor

    sources = list(pictures(asked.images))
    one_file = asked.show is not None and asked.show.suffix.lower() in (".png", ".svg")
    if one_file and len(sources) > 1:
        raise LenetError(
            f"--show {asked.show} is one file for {len(sources)} pictures: name a folder"
        )
    predictor = Predictor(asked.model)
    failed = 0
    for number, path in enumerate(sources, 1):
        try:
            answer = predictor.predict(sys.stdin.buffer if path == "-" else path)
        except LenetError as error:
            failed += 1
            report_failure(path, str(error), asked.json)
            continue
        if asked.show:
            name = "stdin" if path == "-" else Path(path).stem
            file = asked.show if one_file else asked.show / f"{number}-{name}.png"
            draw_steps(answer, path, file)
        if answer.label is None:
            failed += 1
            report_failure(path, answer.reason or "no digit found", asked.json)
        elif asked.json:
            print(json.dumps({"path": path, **answer.as_dict()}))
        else:
            ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
            shares = "  ".join(f"{name} {p:.1%}" for name, p in ranked)
            trust = f"not sure: {answer.reason}" if answer.rejected else "sure"
            print(f"{path}: {answer.label}  ({trust})  {shares}")
    return 1 if failed else 0


def pictures(names: tuple[str, ...]) -> Iterator[str]:
    """The files themselves, and the pictures in folders."""
    from lenet.data import PICTURES, visible

    for name in names:
        inside = visible(Path(name)) if name != "-" and Path(name).is_dir() else []
        # A folder without pictures fails as a picture does, and the others are still read.
        yield from sorted(str(f) for f in inside if f.suffix.lower() in PICTURES) or [name]


def report_failure(path: str, reason: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"path": path, "error": reason}))
    else:
        named = reason if path != "-" and path in reason else f"{path}: {reason}"
        print(named, file=sys.stderr)


def draw_steps(answer: Any, title: str, file: Path) -> None:
    from lenet.figures import images, style

    words = answer.label if answer.reason is None else answer.reason
    figure = images.preprocessing_steps(answer.steps, f"{title}: {words}", answer.probabilities)
    style.save(figure, file)
