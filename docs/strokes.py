"""Draws docs/figures/strokes.png and nondigits.png: python docs/strokes.py

Every variant of every digit that `lenet.data.strokes` writes, and what `lenet.data.nondigits`
shows a network as no digit.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lenet import data
from lenet.data import nondigits, strokes
from lenet.data.pen import Hand, Style, draw

FIGURES = Path(__file__).parent / "figures"
SAMPLES, COLUMNS, LABEL, CELL = 10, 3, 150, 30


def sheet(rows: list[tuple[str, NDArray[np.uint8]]], file: Path) -> None:
    """Rows of pictures with a name on the left, in columns, dark on light."""
    height = -(-len(rows) // COLUMNS)
    width = LABEL + rows[0][1].shape[0] * CELL
    picture = Image.new("L", (COLUMNS * width, height * CELL), 255)
    pen = ImageDraw.Draw(picture)
    for number, (name, images) in enumerate(rows):
        left, top = number // height * width, number % height * CELL
        pen.text((left + 6, top + 9), name, fill=0)
        for i, image in enumerate(images):
            picture.paste(Image.fromarray(255 - image), (left + LABEL + i * CELL, top))
    picture.save(file, optimize=True)


def main() -> None:
    rows = []
    for digit in range(10):
        for variant in strokes.variants(digit):
            hand = Hand(SAMPLES, np.random.default_rng(digit))
            rows.append((variant.__name__.replace("_", " "), draw(variant(hand), Style(), hand)))
    sheet(rows, FIGURES / "strokes.png")

    generator = np.random.default_rng(0)
    rows = []
    for name in nondigits.LETTERS:
        hand = Hand(SAMPLES, generator)
        rows.append((name, draw(nondigits.sign(hand, name), nondigits.LOOSE, hand)))
    mnist = data.load("mnist").train.images
    rows += [
        (name, pictures[:: len(pictures) // SAMPLES][:SAMPLES])
        for name, pictures in (
            ("words", nondigits.words(640, generator)),
            ("scribbles", nondigits.scribbles(320, generator)),
            ("several digits", nondigits.several(SAMPLES, generator, mnist)),
            ("textures", nondigits.textures(SAMPLES, generator)),
        )
    ]
    sheet(rows, FIGURES / "nondigits.png")


if __name__ == "__main__":
    main()
