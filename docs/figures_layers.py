"""Draws the pictures of layers.md: ``python docs/figures_layers.py`` from the root.

All are those of ``lenet show``, for networks that come with the package.
"""

import sys
from pathlib import Path

import lenet
from lenet.figures import gallery, plots

FIGURES = {  # file -> network, its figure
    "layers-1998-architecture": ("lenet5-1998", "architecture"),
    "layers-1998-connections": ("lenet5-1998", "connections"),
    "layers-1998-maps": ("lenet5-1998", "maps"),
    "layers-1998-f6": ("lenet5-1998", "f6"),
    "layers-mnist-maps": ("mnist", "maps"),
    "layers-mnist-saliency": ("mnist", "saliency"),
    "layers-d2l-kernels": ("d2l", "kernels"),
}
TEST_IMAGE = "0"  # of MNIST, a 7


def main(folder: Path) -> None:
    subjects = {
        name: gallery.subject(lenet.load(name), name, TEST_IMAGE, None, None)
        for name in {network for network, _ in FIGURES.values()}
    }
    for file, (network, figure) in FIGURES.items():
        plots.save(gallery.FIGURES[figure](subjects[network]), folder / f"{file}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
