"""Draws the figures of layers.md: ``python docs/figures_layers.py`` from the root.

All are those of ``lenet show``, for networks that come with the package and test image 0, a 7.
"""

from pathlib import Path

from lenet.figures import networks
from lenet.networks import checkpoint

FOLDER = Path(__file__).parent / "figures"
FIGURES = {  # prefix of the files -> network, its figures
    "layers-1998": ("lenet5-1998", ("architecture", "connections", "maps", "f6")),
    "layers-mnist": ("mnist", ("maps", "saliency")),
    "layers-d2l": ("d2l", ("kernels",)),
}

if __name__ == "__main__":
    for prefix, (name, only) in FIGURES.items():
        files, _ = networks.draw(checkpoint.read(name), "0", FOLDER, only=only)
        for which, file in files.items():
            file.rename(FOLDER / f"{prefix}-{which}.png")
