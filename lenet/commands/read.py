"""Reading numbers."""

import csv
import html
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.commands.predict import pictures, report_failure
from lenet.errors import LenetError, printable

if TYPE_CHECKING:
    from lenet.reading.reader import Reading

FEW = 32  # pictures that are read before other processes have started


@dataclass(frozen=True)
class ReadFlags:
    """Reads the numbers in pictures: postal codes, amounts, table cells, fields of forms.

    $ lenet read cheque.jpg --format "#,###.##"        # an amount
    $ lenet read cells/ --length 1 3 --csv > cells.csv # a folder of table cells
    $ lenet read card.png --check luhn --show drawn/   # and a drawing of how it was read
    $ lenet read - --json < scan.png                   # an answer for a program

    A number of less confidence than the threshold is printed, but marked as not sure. The exit
    status 1 says that at least one picture could not be read.
    """

    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")]]
    """Files, folders of pictures, or - for standard input."""
    format: str | None = None
    """What numbers look like: # for a digit, digits, and separators, as in "#,###.##"."""
    length: tuple[int, int] | None = None
    """Fewest and most digits of a number."""
    range: tuple[int, int] | None = None
    """Least and largest value of a number."""
    check: str | None = None
    """Check digit that numbers have: luhn, ean, isbn10, aba or mod97."""
    threshold: float = 0.6
    """Numbers of less confidence are rejected."""
    weights: Path | None = None
    """Folder of the reader's networks, instead of those that come with the package."""
    show: Path | None = None
    """Folder for drawings of what was read: boxes, cuts, the path through the graph."""
    json: bool = False
    """Print one JSON object a line: path and numbers; or path and error."""
    csv: bool = False
    """Print a table: path, text, confidence, rejected, reason, left, top, right, bottom."""
    hocr: bool = False
    """Print an hOCR page, for programs that read what OCR writes."""
    jobs: int | None = None
    """Processes that read pictures at the same time; by default as many as there are CPUs to use,
    and one for a few pictures."""


def run(flags: list[str]) -> int:
    arguments = parse(ReadFlags, "read", flags)
    if not arguments.images:
        raise LenetError("name at least one picture, or - for standard input")
    if arguments.json + arguments.csv + arguments.hocr > 1:
        raise LenetError("choose one of --json, --csv and --hocr")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise LenetError(f"--jobs must be 1 or more, not {arguments.jobs}")

    from lenet.engine.processor import usable_cores
    from lenet.reading.formats import Expected
    from lenet.reading.reader import Reader

    expected = Expected(arguments.format, arguments.length, arguments.range, arguments.check)
    reader = Reader(arguments.weights, expected, arguments.threshold)
    paths = list(pictures(arguments.images))
    sources = (sys.stdin.buffer.read() if path == "-" else path for path in paths)
    jobs = arguments.jobs or (usable_cores() if len(paths) > FEW else 1)
    table = csv.writer(sys.stdout)
    if arguments.csv:
        table.writerow(COLUMNS)
    if arguments.hocr:
        print(HOCR_HEAD)
    failed = 0
    for count, (path, reading) in enumerate(
        zip(paths, reader.read_many(sources, jobs), strict=True), 1
    ):
        if isinstance(reading, LenetError):
            failed += 1
            report_failure(path, str(reading), arguments.json)
            continue
        if arguments.show:
            draw(path, reading, arguments.show / f"{count}-{Path(path).stem}.png")
        if arguments.json:
            print(json.dumps({"path": path, **reading.as_dict()}))
        elif arguments.csv:
            for n in reading.numbers:
                row = (path, n.text, f"{n.confidence:.4f}", n.rejected, n.reason or "", *n.box)
                table.writerow(row)
        elif arguments.hocr:
            print(hocr(path, reading, count))
        else:
            if not reading.numbers:
                print(f"{printable(path)}: {reading.reason}")
            for n in reading.numbers:
                trust = f"not sure: {n.reason}" if n.rejected else "sure"
                print(f"{printable(path)}: {n.text or '-'}  ({trust}, {n.confidence:.1%})")
    if arguments.hocr:
        print("</body></html>")
    return 1 if failed else 0


COLUMNS = ("path", "text", "confidence", "rejected", "reason", "left", "top", "right", "bottom")
HOCR_HEAD = """\
<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="ocr-system" content="lenet">
<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocrx_cinfo"></head><body>"""


def hocr(path: str, reading: "Reading", page: int) -> str:
    """A page of hOCR 1.2: a line and a word for each number that is not rejected."""
    lines = [f"<div class='ocr_page' id='page_{page}' title='image \"{html.escape(path)}\"'>"]
    for count, number in enumerate(reading.numbers, 1):
        if number.rejected:
            continue
        box = " ".join(map(str, number.box))
        sure = round(100 * number.confidence)
        word = html.escape(number.written)
        lines.append(
            f"<span class='ocr_line' id='line_{page}_{count}' title='bbox {box}'>"
            f"<span class='ocrx_word' title='bbox {box}; x_wconf {sure}'>{word}</span></span>"
        )
    return "\n".join([*lines, "</div>"])


def draw(path: str, reading: "Reading", file: Path) -> None:
    from lenet.figures.numbers import reading_figure
    from lenet.figures.style import save

    save(reading_figure(path, reading), file)
