"""Draws the figures of docs/reading.md: python docs/reading.py

All pictures are synthetic: digits of MNIST's test set, which no network was trained on, written
in lines and put on paper by `lenet.data.paper`.
"""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lenet import Reader, data
from lenet.data import nondigits
from lenet.data.lines import Lines
from lenet.data.paper import Paper, fonts
from lenet.figures.numbers import reading_figure
from lenet.figures.style import save

FIGURES = Path(__file__).parent / "figures"
PICTURES = 1200
SEED = 1998
COLUMNS, SHOWN = 5, 15
CELL, PICTURE, LABEL = (200, 96), (188, 62), 15  # pixels
RIGHT, WRONG = (26, 127, 55), (180, 40, 30)
WORDS = {
    "right": "Sure and right",
    "wrong": "Sure and wrong",
    "unsure": "Not sure, and it would have been wrong",
    "cautious": "Not sure, though it was right",
    "none": "No number, and rejected",
    "invented": "No number, and read as one",
}


def sheet(samples: dict[str, list[tuple[np.ndarray, str, str, str]]], file: Path) -> None:
    """Pictures in groups, under each what stands there and what was read."""
    font = ImageFont.truetype(str(next(f for f in fonts() if f.stem == "DejaVuSans")), 11)
    groups = [(name, group[:SHOWN]) for name, group in samples.items() if group]
    heights = [26 + CELL[1] * -(-len(group) // COLUMNS) for _, group in groups]
    picture = Image.new("RGB", (COLUMNS * CELL[0], sum(heights)), "white")
    pen, top = ImageDraw.Draw(picture), 0
    for (name, group), height in zip(groups, heights, strict=True):
        pen.text((6, top + 8), WORDS[name], fill="black", font=font)
        for n, (pixels, number, text, how) in enumerate(group):
            x, y = n % COLUMNS * CELL[0] + 6, top + 26 + n // COLUMNS * CELL[1]
            shown = Image.fromarray((255 * pixels).astype(np.uint8))
            scale = min(PICTURE[0] / shown.width, PICTURE[1] / shown.height)
            size = round(shown.width * scale), round(shown.height * scale)
            picture.paste(shown.resize(size, Image.Resampling.LANCZOS), (x, y))
            colour = RIGHT if name in ("right", "cautious", "none") else WRONG
            pen.text((x, y + PICTURE[1] + 2), f"{text or 'none'}  {how}", fill=colour, font=font)
            if text != number:
                words = f"shows {number or 'no number'}"
                pen.text((x, y + PICTURE[1] + LABEL), words, fill=(110, 110, 110), font=font)
        top += height
    picture.quantize(64).save(file, optimize=True)


def main() -> None:
    cv2.setNumThreads(1)
    mnist = data.load("mnist").test
    generator = np.random.default_rng(SEED)
    letters = data.Split(nondigits.letters(2000, generator), generator.integers(0, 10, 2000))
    paper = Paper(Lines([(mnist, 1.0)], SEED), Lines([(letters, 1.0)], SEED + 1))
    reader = Reader()
    groups: dict[str, list[tuple[np.ndarray, str, str, str]]] = {name: [] for name in WORDS}
    right = numbers = 0
    for sample in islice(paper, PICTURES):
        reading = reader.read(sample.picture)
        best = max(reading.numbers, key=lambda number: number.confidence, default=None)
        text = best.text if best else ""
        sure = best is not None and not best.rejected
        how = f"{best.confidence:.0%}" if best and best.text else (best or reading).reason or ""
        if sample.number:
            numbers, right = numbers + 1, right + (text == sample.number)
            same = text == sample.number
            name = ("right" if same else "wrong") if sure else ("cautious" if same else "unsure")
        else:
            name = "invented" if sure else "none"
        groups[name].append((sample.picture, sample.number, text, how))
    for name, group in groups.items():
        print(f"{WORDS[name]}: {len(group)} of {PICTURES}")
    print(f"read right: {right} of {numbers}")
    sheet(groups, FIGURES / "numbers.png")

    paper.reseed(SEED + 2)
    picture = paper.sample("40219").picture
    save(reading_figure(picture, reader.read(picture)), FIGURES / "number.png")


if __name__ == "__main__":
    main()
