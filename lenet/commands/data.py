"""Getting a data set and showing it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import parse
from lenet.tables import table


@dataclass(frozen=True)
class DataFlags:
    """Downloads a data set if necessary, verifies it, and shows its contents."""

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]] = "mnist"
    """mnist, fashion-mnist, digits, qmnist, emnist-digits, emnist-letters, kmnist, usps, mnist-c,
    mnist-c-fog and the like; or your own folder (IDX files or one sub-folder per class)."""
    pictures: Literal["digit", "plain", "color"] = "digit"
    """How pictures of a folder are read: find the digit in each, or take it whole, in grey or in
    colour."""
    data_dir: str | None = None
    """Folder of the public data sets; by default $LENET_DATA or the cache folder."""
    sheet: Path | None = None
    """Draw a contact sheet, one row per class, into this .png or .svg file."""
    json: bool = False
    """Print one JSON object."""


def run(flags: list[str]) -> int:
    arguments = parse(DataFlags, "data", flags)

    from lenet import data

    dataset = data.load(arguments.name, arguments.data_dir, arguments.pictures)
    public = dataset.name in data.SOURCES
    folder = data.public_folder(dataset.name, arguments.data_dir) if public else dataset.name
    parts = {"train": dataset.train, "test": dataset.test}
    counts = {part: split.counts(dataset.classes) for part, split in parts.items()}
    if arguments.sheet:
        from lenet.figures import images, style

        style.save(images.contact_sheet(dataset.train, dataset.classes), arguments.sheet)
    if arguments.json:
        shapes = {part: list(split.images.shape) for part, split in parts.items()}
        about = {"name": dataset.name, "folder": str(folder), "shapes": shapes}
        print(json.dumps({**about, "classes": counts, "sha256": dataset.checksums}))
        return 0
    rows = [[name, *(f"{counts[part][name]:,}" for part in parts)] for name in dataset.classes]
    rows.append(["total", *(f"{len(split):,}" for split in parts.values())])
    print(table(f"{dataset.name}, in {folder}", ["class", *parts], rows, totals=True))
    size = sum(split.images.nbytes for split in parts.values())
    shape = "x".join(map(str, dataset.train.images.shape[1:]))
    print(f"images {shape}, uint8, {size / 1e6:.1f} MB in all")
    for file, checksum in dataset.checksums.items():
        print(f"{data.sum_words(checksum)}  {file}")
    if arguments.sheet:
        print(f"wrote {arguments.sheet}")
    return 0
