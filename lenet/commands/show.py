"""Figures of a network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import parse_model

Figures = Literal["architecture", "kernels", "connections", "maps", "saliency", "f6"]


@dataclass(frozen=True)
class ShowFlags:
    """Draws the inside of a network, one file per figure.

    architecture: the layers to scale, with shapes and counts. kernels: all weights. connections:
    which maps are connected (Table I of the paper). maps: what every layer makes of an image.
    saliency: what the answer depends on. f6: the test images as the last layer but one sees them,
    projected onto a plane. Examples:

    `lenet show lenet5-1998`, `lenet show latest photo.jpg --only maps saliency --format svg`.
    """

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name or latest; or the name of a network (LeNet,
    LeNet5 ...) or recipe for an untrained network, optionally with options of the network."""
    image: Positional[Annotated[str, tyro.conf.arg(metavar="IMAGE")]] = "0"
    """A picture of a digit, or the number of a test image."""
    out: Path = Path("figures")
    """Folder for the figures."""
    format: Literal["png", "svg"] = "png"
    """Format of the files."""
    only: tuple[Figures, ...] = ()
    """Draw only these figures."""
    data: str | None = None
    """The data set of the test images; by default the one that the network was trained on."""
    data_dir: str | None = None
    """Folder of the public data sets; by default $LENET_DATA or the cache folder."""
    json: bool = False
    """Print one JSON object: the file of each figure, and why others were left out."""


def run(flags: list[str]) -> int:
    arguments, model = parse_model(ShowFlags, "show", flags)

    from lenet.figures import networks

    files, reasons = networks.draw(
        model,
        arguments.image,
        arguments.out,
        f".{arguments.format}",
        arguments.only,
        arguments.data,
        arguments.data_dir,
    )
    if arguments.json:
        figures = {name: str(file) for name, file in files.items()}
        print(json.dumps({"model": arguments.model, "figures": figures, "left_out": reasons}))
        return 0
    for file in files.values():
        print(f"wrote {file}")
    for name, reason in reasons.items():
        print(f"left out {name}: {reason}")
    return 0
