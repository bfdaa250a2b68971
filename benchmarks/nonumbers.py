"""Whether what is no number is rejected, and for the right reason: 500 drawn pictures.

    python benchmarks/nonumbers.py [--weights DIR] [--seed N] [--save DIR]

Words and letters (fonts that training does not use, and strokes by hand), printed text, scribbles,
faces, shapes, empty boxes and cells, blank and black pictures, noise and textures.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lenet.data import nondigits
from lenet.reading.reader import EMPTY, NOT_A_NUMBER, NOT_SURE, Reader
from lenet.tables import table

Picture = NDArray[np.uint8]
FONTS = sorted(Path(matplotlib.get_data_path()).glob("fonts/ttf/STIXGeneral*.ttf"))
FONTS += [
    path
    for name in ("cmr10", "cmss10", "cmtt10", "cmb10")
    for path in Path(matplotlib.get_data_path()).glob(f"fonts/ttf/{name}.ttf")
]
# Letters that are written like digits are left out of what must be told from digits.
LETTERS = "ABCDEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwx"
WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "amount", "payee", "date"),
    *("signed", "total", "received", "with", "thanks", "paid", "cash", "please", "turn", "page"),
    *("water", "evening", "morning", "kitchen", "garden", "letter", "market", "number"),
)


class Maker:
    """Pictures of each kind."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def paper(self, height: int, width: int) -> Picture:
        shade = self.random.integers(150, 256)
        slope = np.linspace(1, self.random.uniform(0.8, 1), width)
        noise = self.random.normal(0, self.random.uniform(0, 4), (height, width))
        return np.clip(shade * slope + noise, 0, 255).astype(np.uint8)

    def ink(self, mask: Picture) -> Picture:
        """A mask of ink, 255, on paper."""
        paper = self.paper(*mask.shape).astype(np.float32)
        dark = self.random.uniform(0.05, 0.5)
        return (paper * (1 - mask / 255 * (1 - dark))).astype(np.uint8)

    def text(self, text: str, size: int) -> Picture:
        font = ImageFont.truetype(str(FONTS[self.random.integers(len(FONTS))]), size)
        width = round(font.getlength(text)) + 2 * size
        image = Image.new("L", (width, 2 * size))
        ImageDraw.Draw(image).text((size, 1.5 * size), text, 255, font, anchor="ls")
        return np.array(image)

    def words(self) -> Picture:
        count = self.random.integers(1, 4)
        text = " ".join(self.random.choice(WORDS, count))
        cases = (str.upper, str.title, str.lower)
        return self.ink(
            self.text(cases[self.random.integers(3)](text), int(self.random.integers(24, 70)))
        )

    def letter(self) -> Picture:
        return self.ink(
            self.text(str(self.random.choice(list(LETTERS))), int(self.random.integers(30, 120)))
        )

    def by_hand(self, make: Callable[..., Picture]) -> Picture:
        image = make(1, self.random)[0]
        side = int(self.random.integers(60, 240))
        return self.ink(cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC))

    def hand_words(self) -> Picture:
        images = nondigits.letters(int(self.random.integers(3, 9)), self.random)
        images = nondigits.letters(32 * len(images), self.random)[::32]
        line = np.concatenate([i[:, 5:-5] for i in images], 1)
        scale = self.random.uniform(1.5, 5)
        return self.ink(cv2.resize(np.pad(line, 8), None, fx=scale, fy=scale))

    def paragraph(self) -> Picture:
        size = int(self.random.integers(14, 26))
        lines = [" ".join(self.random.choice(WORDS, 6)) for _ in range(self.random.integers(2, 7))]
        font = ImageFont.truetype(str(FONTS[self.random.integers(len(FONTS))]), size)
        image = Image.new("L", (24 * size, (len(lines) + 2) * size * 3 // 2))
        ImageDraw.Draw(image).multiline_text((size, size), "\n".join(lines), 255, font)
        return self.ink(np.array(image))

    def face(self) -> Picture:
        side = int(self.random.integers(120, 300))
        gray = np.full((side, side), self.random.integers(120, 250), np.uint8)
        centre, r = side // 2, self.random.uniform(0.3, 0.45) * side
        tone = int(self.random.integers(60, 220))
        cv2.ellipse(gray, (centre, centre), (int(0.8 * r), int(r)), 0, 0, 360, tone, -1)
        for x in (-0.35, 0.35):
            eye = int(centre + x * r), int(centre - 0.2 * r)
            cv2.ellipse(gray, eye, (int(0.15 * r), int(0.08 * r)), 0, 0, 360, 30, -1)
        cv2.line(gray, (centre, centre), (int(centre - 0.1 * r), int(centre + 0.25 * r)), 50, 2)
        mouth = centre, int(centre + 0.45 * r)
        cv2.ellipse(gray, mouth, (int(0.3 * r), int(0.12 * r)), 0, 0, 180, 40, 3)
        hair = centre, int(centre - 0.6 * r)
        cv2.ellipse(gray, hair, (int(0.8 * r), int(0.5 * r)), 0, 180, 360, 20, -1)
        return cv2.GaussianBlur(gray, (0, 0), self.random.uniform(0.5, 3))

    def shape(self) -> Picture:
        side = int(self.random.integers(60, 200))
        mask = np.zeros((side, side), np.uint8)
        points = self.random.integers(10, side - 10, (int(self.random.integers(3, 7)), 2))
        if self.random.random() < 0.5:
            cv2.fillPoly(mask, [points.astype(np.int32)], 255)
        else:
            cv2.polylines(mask, [points.astype(np.int32)], True, 255, 3, cv2.LINE_AA)
        return self.ink(mask)

    def box(self) -> Picture:
        height, width = self.random.integers(30, 140), self.random.integers(60, 400)
        mask = np.zeros((height, width), np.uint8)
        count = int(self.random.choice([1, 1, 2, 4, 6]))
        edge, thick = int(self.random.integers(0, 10)), int(self.random.integers(1, 4))
        xs = np.linspace(edge, width - 1 - edge, count + 1).astype(int)
        for x0, x1 in itertools.pairwise(xs):
            cv2.rectangle(mask, (x0, edge), (x1, height - 1 - edge), 255, thick)
        return self.ink(mask)

    def cell(self) -> Picture:
        """An empty table cell, cut out with the sides of its neighbours."""
        height, width = self.random.integers(30, 90), self.random.integers(50, 200)
        mask = np.zeros((height, width), np.uint8)
        for y in (self.random.integers(0, 5), height - 1 - self.random.integers(0, 6)):
            if self.random.random() < 0.7:
                cv2.line(mask, (0, int(y)), (width, int(y + self.random.integers(-2, 3))), 255, 1)
        for x in (self.random.integers(0, 6), width - 1 - self.random.integers(0, 8)):
            if self.random.random() < 0.7:
                cv2.line(mask, (int(x), 0), (int(x + self.random.integers(-2, 3)), height), 255, 1)
        return self.ink(mask)

    def blank(self) -> Picture:
        height, width = self.random.integers(30, 300, 2)
        kind = self.random.integers(4)
        if kind == 0:
            return np.full((height, width), self.random.choice([0, 255]), np.uint8)
        if kind == 1:
            return np.full((height, width), self.random.integers(0, 256), np.uint8)
        if kind == 2:
            return self.paper(height, width)
        return np.clip(self.random.normal(8, 3, (height, width)), 0, 255).astype(np.uint8)

    def noise(self) -> Picture:
        height, width = self.random.integers(40, 200, 2)
        noise = self.random.random((height, width)).astype(np.float32)
        reach = self.random.choice([0.0, 1.0, 3.0, 8.0])
        if reach:
            noise = cv2.GaussianBlur(noise, (0, 0), reach)
        return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)

    def stripes(self) -> Picture:
        height, width = self.random.integers(40, 200, 2)
        y, x = np.mgrid[:height, :width]
        angle, wave = self.random.uniform(0, np.pi), self.random.uniform(0.1, 1.5)
        wave = np.sin(wave * (x * np.cos(angle) + y * np.sin(angle)))
        return (200 + 40 * wave).astype(np.uint8)


def kinds(maker: Maker) -> dict[str, tuple[int, Callable[[], Picture], tuple[str, ...]]]:
    """How many of each, how they are made, and the right reasons."""
    ink, none = (NOT_A_NUMBER, NOT_SURE), (EMPTY,)
    either = (EMPTY, NOT_A_NUMBER)
    return {
        "words": (70, maker.words, ink),
        "letters": (50, maker.letter, ink),
        "words by hand": (50, maker.hand_words, ink),
        "letters by hand": (40, lambda: maker.by_hand(nondigits.letters), ink),
        "printed text": (40, maker.paragraph, ink),
        "scribbles": (50, lambda: maker.by_hand(nondigits.scribbles), ink),
        "faces": (30, maker.face, either),
        "shapes": (30, maker.shape, ink),
        "empty boxes": (40, maker.box, none),
        "empty cells": (40, maker.cell, none),
        "blank, black": (30, maker.blank, none),
        "noise": (15, maker.noise, either),
        "stripes": (15, maker.stripes, either),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for the pictures that were not rejected")
    arguments = parser.parse_args()
    reader, rows, sums = Reader(arguments.weights), [], [0, 0, 0]
    for name, (count, make, reasons) in kinds(Maker(arguments.seed)).items():
        rejected = right = 0
        for n in range(count):
            picture = make()
            reading = reader.read(picture)
            given = {number.reason for number in reading.numbers} or {reading.reason}
            rejected += None not in given
            right += given <= set(reasons)
            if arguments.save and not given <= set(reasons):
                arguments.save.mkdir(parents=True, exist_ok=True)
                label = "-".join(str(reason) for reason in given) + reading.text
                cv2.imwrite(str(arguments.save / f"{name} {n} {label}.png"), picture)
        for i, value in enumerate((count, rejected, right)):
            sums[i] += value
        rows.append([name, str(count), str(rejected), str(right)])
    rows.append(["all", *map(str, sums)])
    print(table("No numbers", ["kind", "pictures", "rejected", "right reason"], rows, totals=True))


if __name__ == "__main__":
    main()
