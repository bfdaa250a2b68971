"""Figures of a network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import find_network, parse
from lenet.errors import LenetError

Figures = Literal["architecture", "kernels", "connections", "maps", "saliency", "f6"]


@dataclass(frozen=True)
class ShowFlags:
    """Draws what is inside a network, a file a figure.

    architecture: the layers to scale, with shapes and counts. kernels: all weights. connections:
    which maps the second convolution (C3) connects. maps: what every layer answers to an image.
    saliency: what the answer hangs on. f6: the test images as the last layer but one sees them,
    in a plane. Examples:

    `lenet show lenet5-1998`, `lenet show latest photo.jpg --only maps saliency --format svg`.
    """

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name or latest; or LeNet, LeNet5, LeNet5s or a
    recipe for a network that is not trained."""
    image: Positional[Annotated[str, tyro.conf.arg(metavar="IMAGE")]] = "0"
    """A picture of a digit, or the number of a test image."""
    out: Path = Path("figures")
    """Folder for the figures."""
    format: Literal["png", "svg"] = "png"
    """Kind of the files."""
    only: tuple[Figures, ...] = ()
    """Draw these figures only."""
    data: str | None = None
    """The data set of the test images; by default what the network was trained on."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    json: bool = False
    """Print one JSON object: file of each figure, and why others were left out."""


def run(flags: list[str]) -> int:
    asked = parse(ShowFlags, "show", flags)

    from lenet.figures import gallery, plots
    from lenet.progress import Progress

    subject = gallery.subject(
        find_network(asked.model), asked.model, asked.image, asked.data, asked.data_dir
    )
    names = asked.only or tuple(gallery.FIGURES)
    written: dict[str, str] = {}
    left_out: dict[str, str] = {}
    with Progress("drawing", len(names)) as progress:
        for name in dict.fromkeys(names):
            try:
                figure = gallery.FIGURES[name](subject)
            except LenetError as error:
                if asked.only:
                    raise
                left_out[name] = str(error)
            else:
                file = asked.out / f"{name}.{asked.format}"
                plots.save(figure, file)
                written[name] = str(file)
            progress.advance(note=name)
    if asked.json:
        print(json.dumps({"model": asked.model, "figures": written, "left_out": left_out}))
        return 0
    for file in written.values():
        print(f"wrote {file}")
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")
    return 0
