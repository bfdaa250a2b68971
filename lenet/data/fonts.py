"""Digits and letters of handwriting fonts, as pictures in MNIST's manner.

The fonts are packages of npm, fetched once and kept in the data folder; docs/strokes.md names
their licences. Pillow draws them.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lenet.data.pen import centred, fit_box
from lenet.data.sources import run_tool
from lenet.errors import LenetError

VERSION = "5.3.0"  # of every package @fontsource/...
FAMILIES: tuple[str, ...] = (
    "amatic-sc",
    "annie-use-your-telescope",
    "architects-daughter",
    "bad-script",
    "balsamiq-sans",
    "caveat",
    "caveat-brush",
    "cedarville-cursive",
    "comic-neue",
    "cookie",
    "courgette",
    "courier-prime",
    "covered-by-your-grace",
    "damion",
    "dancing-script",
    "delicious-handrawn",
    "delius",
    "gaegu",
    "gloria-hallelujah",
    "gochi-hand",
    "grandstander",
    "great-vibes",
    "handlee",
    "homemade-apple",
    "indie-flower",
    "itim",
    "kalam",
    "kaushan-script",
    "kiwi-maru",
    "knewave",
    "liu-jian-mao-cao",
    "long-cang",
    "lora",
    "mansalva",
    "marck-script",
    "nanum-brush-script",
    "nanum-pen-script",
    "neucha",
    "oooh-baby",
    "patrick-hand",
    "permanent-marker",
    "playpen-sans",
    "poor-story",
    "reenie-beanie",
    "roboto",
    "rock-salt",
    "roboto-slab",
    "sacramento",
    "satisfy",
)
WEIGHTS = ("300", "400", "500", "700")
SIZE = 110  # pixels of the em that glyphs are drawn at
WORKING = 72  # pixels of a glyph's longer side when it is distorted


def fetch(folder: Path) -> list[Path]:
    """The fonts' files, in a fixed order; npm gets those that are not in the folder yet.

    Raises:
        LenetError: npm is not there or cannot get them.
    """
    packages = folder / "node_modules" / "@fontsource"
    if not all((packages / family).is_dir() for family in FAMILIES):
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {f"@fontsource/{family}": VERSION for family in FAMILIES}
        (folder / "package.json").write_text(json.dumps({"dependencies": wanted}))
        run_tool(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    files = [
        packages / family / "files" / f"{family}-latin-{weight}-normal.woff2"
        for family in FAMILIES
        for weight in WEIGHTS
    ]
    return [file for file in files if file.exists()]


def glyph(font: ImageFont.FreeTypeFont, text: str) -> NDArray[np.uint8] | None:
    """What a font draws for a text, cut out, 255 on 0; None where it draws nothing."""
    picture = Image.new("L", (SIZE * (2 + len(text)), 3 * SIZE), 0)
    ImageDraw.Draw(picture).text((SIZE, SIZE), text, fill=255, font=font)
    x, y, width, height = cv2.boundingRect(np.asarray(picture))
    return np.asarray(picture)[y : y + height, x : x + width] if width * height else None


def distorted(glyph: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A glyph stretched, slanted, turned, made thicker or thinner, in MNIST's box (20, 20)."""
    height, width = glyph.shape
    scale, angle = WORKING / max(height, width), generator.normal(0, 0.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1, -generator.normal(0, 0.15)], [0, 1]])
    matrix = turn @ slant @ np.diag([scale * np.exp(generator.normal(0, 0.18)), scale])
    field = 3 * WORKING
    shift = field / 2 - matrix @ [width / 2, height / 2]
    picture = cv2.warpAffine(glyph, np.column_stack([matrix, shift]), (field, field))
    change = int(generator.integers(-2, 7))
    if change:
        pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(change) + 1, abs(change) + 1))
        changed = cv2.dilate(picture, pen) if change > 0 else cv2.erode(picture, pen)
        picture = changed if changed.max() else picture
    return fit_box(np.asarray(picture, np.uint8))


def make(
    files: list[Path], texts: list[str], copies: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws every text in every font, `copies` times.

    The same fonts, texts, copies and seed give the same pictures.

    Returns:
        uint8 (N, 28, 28), and for each picture its number in `texts`.
    """
    generator = np.random.default_rng(seed)
    boxes, numbers = [], []
    for file in files:
        try:
            font = ImageFont.truetype(file, SIZE)
        except OSError as error:
            raise LenetError(f"{file} cannot be read as a font: {error}") from None
        for number, text in enumerate(texts):
            drawn = glyph(font, text)
            if drawn is not None:
                boxes += [distorted(drawn, generator) for _ in range(copies)]
                numbers += [number] * copies
    return centred(np.stack(boxes)), np.array(numbers, np.int64)
