"""Getting a data set and looking at it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from lenet.commands import parse, print_rows


@dataclass(frozen=True)
class DataFlags:
    """Gets a data set if it is not there yet, verifies it, and shows what is in it."""

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]] = "mnist"
    """mnist, fashion-mnist, or a folder of your own (IDX files or one sub-folder per class)."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    sheet: Path | None = None
    """Draw a contact sheet, one row a class, into this .png or .svg."""
    json: bool = False
    """Print one JSON object."""


def run(flags: list[str]) -> int:
    asked = parse(DataFlags, "data", flags)

    from lenet import data

    found = data.load(asked.name, asked.data_dir)
    folder = (
        data.data_folder(asked.data_dir) / found.name
        if found.name in data.SOURCES
        else Path(found.name)
    )
    parts = {"train": found.train, "test": found.test}
    counts = {
        part: [int((split.labels == label).sum()) for label in range(len(found.classes))]
        for part, split in parts.items()
    }
    if asked.sheet:
        from lenet.figures import plots

        figure = plots.contact_sheet(found.train.images, found.train.labels, found.classes)
        plots.save(figure, asked.sheet)
    if asked.json:
        shapes = {part: list(split.images.shape) for part, split in parts.items()}
        about = {"name": found.name, "folder": str(folder), "shapes": shapes}
        balance = {part: dict(zip(found.classes, c, strict=True)) for part, c in counts.items()}
        print(json.dumps({**about, "classes": balance, "sha256": found.checksums}))
        return 0
    print_rows(
        f"{found.name}, in {folder}",
        ["class", "train", "test"],
        [
            *(
                [name, f"{counts['train'][i]:,}", f"{counts['test'][i]:,}"]
                for i, name in enumerate(found.classes)
            ),
            ["total", *(f"{len(split):,}" for split in parts.values())],
        ],
        totals=True,
    )
    size = sum(split.images.nbytes for split in parts.values())
    height, width = found.train.images.shape[1:]
    print(f"images {height}x{width}, uint8, {size / 1e6:.1f} MB in all")
    for file, checksum in found.checksums.items():
        print(f"SHA-256 {checksum}  {file}")
    if asked.sheet:
        print(f"wrote {asked.sheet}")
    return 0
