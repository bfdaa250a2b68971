"""Reading pictures."""

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.errors import LenetError, printable

if TYPE_CHECKING:
    from lenet.reading.prediction import Prediction


@dataclass(frozen=True)
class PredictFlags:
    """Reads pictures: PNG, JPEG, GIF, WebP, TIFF, BMP; photographs, scans, drawings.

    Exit status 1 says that at least one picture could not be read.
    """

    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")]]
    """Files, folders of pictures, or - for standard input."""
    model: str = "digits"
    """A run folder, a weights file, latest (the newest run), or one of `lenet models`."""
    show: Path | None = None
    """Draw the steps of preprocessing: a .png or .svg file for one picture, a folder for several,
    in which each name begins with the number of the picture."""
    jobs: int | None = None
    """Pictures read at the same time; by default one for each CPU that may be used."""
    json: bool = False
    """Print one JSON object a line: path, label, probabilities, rejected, reason, box; or path and
    error for a file that is no picture."""


def run(flags: list[str]) -> int:
    arguments = parse(PredictFlags, "predict", flags)
    if not arguments.images:
        raise LenetError("name at least one picture, or - for standard input")

    import cv2

    from lenet.reading.prediction import Predictor

    sources = list(pictures(arguments.images))
    one_file = arguments.show is not None and arguments.show.suffix.lower() in (".png", ".svg")
    if one_file and len(sources) > 1:
        raise LenetError(
            f"--show {arguments.show} is one file for {len(sources)} pictures: name a folder"
        )
    if arguments.jobs is not None and arguments.jobs < 1:
        raise LenetError(f"--jobs {arguments.jobs}: give at least 1")
    cv2.setNumThreads(1)  # one thread per picture is faster than several for one
    warnings.filterwarnings("ignore", module="PIL")  # about odd metadata
    predictor = Predictor(arguments.model)
    opened = (sys.stdin.buffer if path == "-" else path for path in sources)
    answers = predictor.predict_many(opened, arguments.jobs)
    failed = 0
    for number, (path, answer) in enumerate(zip(sources, answers, strict=True), 1):
        if isinstance(answer, LenetError):
            failed += 1
            report_failure(path, str(answer), arguments.json)
            continue
        failed += answer.label is None
        if arguments.show:
            name = "stdin" if path == "-" else Path(path).stem
            file = arguments.show if one_file else arguments.show / f"{number}-{name}.png"
            draw_steps(answer, path, file)
        if arguments.json:
            print(json.dumps({"path": path, **answer.as_dict()}))
        elif answer.label is None:
            report_failure(path, answer.reason or "", False)
        else:
            ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
            shares = "  ".join(f"{name} {p:.1%}" for name, p in ranked)
            print(f"{printable(path)}: {answer.label}  ({answer.reason or 'sure'})  {shares}")
    return 1 if failed else 0


def pictures(names: tuple[str, ...]) -> Iterator[str]:
    """The files named, and the pictures in the folders named."""
    from lenet.data import PICTURES, visible

    for name in names:
        # An empty name would be the current folder.
        inside = visible(Path(name)) if name not in ("", "-") and Path(name).is_dir() else []
        # A folder without pictures fails as a picture does, and the others are still read.
        yield from sorted(str(f) for f in inside if f.suffix.lower() in PICTURES) or [name]


def report_failure(path: str, reason: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"path": path, "error": reason}))
    else:
        named = reason if path != "-" and path in reason else f"{path}: {reason}"
        print(printable(named), file=sys.stderr)


def draw_steps(answer: "Prediction", title: str, file: Path) -> None:
    from lenet.figures import images, style

    words = answer.label if answer.reason is None else answer.reason
    figure = images.preprocessing_steps(answer.steps, f"{title}: {words}", answer.probabilities)
    style.save(figure, file)
