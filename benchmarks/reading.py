"""How well numbers are read: whole numbers, digits, rejection, boxes, time by stage.

    python benchmarks/reading.py FOLDER [--weights DIR] [--limit N]

FOLDER, or each folder in it, holds labels.csv (filename, number: its digits) beside the pictures
and, if it likes, boxes.csv (filename, digit, x, y, w, h). What counts as read is the
picture's surest number. Intervals are Wilson's, 95%.
"""

import argparse
import csv
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lenet.reading import lines
from lenet.reading import reader as module
from lenet.reading.reader import Reader
from lenet.tables import table

STAGES = {
    "decoding": (module, "load_picture"),
    "foreground": (lines, "find_foreground"),
    "lines": (lines, "find_lines"),
    "segments": (module, "find_segments"),
    "networks": (module.Network, "logs"),
    "paths": (module, "candidates"),
}
REJECTED = 0.25


def edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def interval(right: int, count: int) -> str:
    z = 1.96
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    spread /= 1 + z * z / count
    return f"{100 * share:.1f} ({100 * (middle - spread):.1f}-{100 * (middle + spread):.1f})"


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = ((q[2] - q[0]) * (q[3] - q[1]) for q in (a, b))
    return both / (sum(areas) - both)


class Stopwatch:
    """Sums the seconds spent in the stages, by replacing their functions."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, self.timed(stage, getattr(owner, name)))

    def timed(self, stage, function):
        def call(*arguments):
            start = time.process_time()
            try:
                return function(*arguments)
            finally:
                self.seconds[stage] += time.process_time() - start

        return call


def measure(folder: Path, reader: Reader, limit: int, watch: Stopwatch) -> tuple[dict, dict]:
    rows = list(csv.DictReader((folder / "labels.csv").open()))[:limit]
    boxes = defaultdict(list)
    if (folder / "boxes.csv").exists():
        for row in csv.DictReader((folder / "boxes.csv").open()):
            x, y, w, h = (float(row[side]) for side in "xywh")
            boxes[row["filename"]].append((x, y, x + w, y + h))
    watch.seconds = dict.fromkeys(STAGES, 0.0)
    start = time.process_time()
    readings = [reader.read(folder / row["filename"]) for row in rows]
    total = time.process_time() - start
    right, errors, digits, hit, boxed, sure = 0, 0, 0, 0, 0, []
    for row, reading in zip(rows, readings, strict=True):
        surest = max(reading.numbers, key=lambda n: n.confidence, default=None)
        text, confidence = (surest.text, surest.confidence) if surest else ("", 0.0)
        right += text == row["number"]
        errors += edits(text, row["number"])
        digits += len(row["number"])
        sure.append((confidence, text == row["number"]))
        found = [digit.box for number in reading.numbers for digit in number.digits]
        for box in boxes[row["filename"]]:
            boxed += 1
            hit += any(overlap(box, other) >= 0.5 for other in found)
    sure.sort(key=lambda pair: -pair[0])
    kept = [ok for _, ok in sure[: math.ceil((1 - REJECTED) * len(sure))]]
    accepted = [ok for (c, ok) in sure if c >= reader.threshold]
    quality = {
        "folder": folder.name,
        "pictures": str(len(rows)),
        "right %": interval(right, len(rows)),
        "digits %": f"{100 - 100 * errors / digits:.1f}",
        f"right % at {REJECTED:.0%} rejected": f"{100 * sum(kept) / len(kept):.1f}",
        "accepted %": f"{100 * len(accepted) / len(rows):.1f}",
        "right % of accepted": f"{100 * sum(accepted) / max(1, len(accepted)):.1f}",
        "boxes %": f"{100 * hit / boxed:.1f}" if boxed else "",
    }
    stages = {stage: f"{1e3 * s / len(rows):.2f}" for stage, s in watch.seconds.items()}
    rest = total - sum(watch.seconds.values())
    stages |= {"rest": f"{1e3 * rest / len(rows):.2f}", "all": f"{1e3 * total / len(rows):.2f}"}
    return quality, {"folder (CPU ms a picture)": folder.name, **stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--limit", type=int, default=10**9)
    arguments = parser.parse_args()
    reader, watch = Reader(arguments.weights), Stopwatch()
    folders = (
        [arguments.folder]
        if (arguments.folder / "labels.csv").exists()
        else [path.parent for path in sorted(arguments.folder.glob("*/labels.csv"))]
    )
    folders = [f for f in folders if "number" in (f / "labels.csv").open().readline()]
    results = [measure(folder, reader, arguments.limit, watch) for folder in folders]
    for title, rows in zip(("Reading", "Time"), zip(*results, strict=True), strict=True):
        print(table(title, list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
