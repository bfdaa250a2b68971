"""Puts synthetic lines of digits on paper: pictures of numbers as cameras and scanners give them.

The paper is plain or printed with a texture, ruled, framed, unevenly lit; the picture is blurred,
noisy, compressed. Beside each picture stands which digit every pixel belongs to.
"""

import functools
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lenet.data.lines import BASELINE, FONTS, ROWS, SIZE, Lines

OTHER = 255  # owner of ink that is no digit's
NO_NUMBER = 0.12  # of the pictures show words or scribbles
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@functools.cache
def fonts() -> list[Path]:
    """The DejaVu fonts that matplotlib brings (its licence allows any use)."""
    package = importlib.util.find_spec("matplotlib")
    assert package is not None and package.origin is not None
    return sorted(Path(package.origin).parent.glob("mpl-data/fonts/ttf/DejaVu*.ttf"))


@dataclass(frozen=True)
class Sample:
    """A picture of a number.

    Attributes:
        picture: float32 (height, width), 0..1.
        owners: uint8 of the same shape: 0 paper, n + 1 the n-th digit, OTHER other ink.
        number: its digits.
    """

    picture: NDArray[np.float32]
    owners: NDArray[np.uint8]
    number: str


class Paper:
    """An endless, seeded stream of pictures of the numbers that `lines` writes, and some of words
    and scribbles. `letters` writes letters as if they were digits."""

    def __init__(self, lines: Lines, letters: Lines) -> None:
        self.lines, self.letters = lines, letters
        self.uniform, self.chance = lines.random.uniform, lines.chance
        self.generator = lines.generator

    def reseed(self, seed: int) -> None:
        """Begins another stream."""
        self.lines.reseed(seed)
        self.letters.reseed(seed + 1)

    def __iter__(self) -> Iterator[Sample]:
        while True:
            yield self.sample("" if self.chance(NO_NUMBER) else self.lines.number())

    def sample(self, number: str) -> Sample:
        """A picture of a given number; of words or scribbles for ""."""
        uniform, chance = self.uniform, self.chance
        if number:
            canvas, owners, _, width, weight = self.lines.write(number)
        else:
            canvas = self.words() if chance(0.6) else self.scribbles()
            width, owners, weight = canvas.shape[1], np.zeros_like(canvas), 0.5
        if number and chance(0.1):
            self.lines.clutter(canvas, width)
        canvas, owners = self.lines.pen(canvas[:, :width], weight), owners[:, :width]
        if chance(0.5):
            canvas, owners = self.bend(canvas, owners)
        height = uniform(14, 60) if chance(0.6) else uniform(10, 22)  # of a digit, in pixels
        scale = height / SIZE
        tight = chance(0.35)
        above, below, left, right = (
            height * (uniform(-0.05, 0.08) if tight else uniform(0.05, most))
            for most in (0.8, 0.8, 1.0, 1.0)
        )
        low, high = self.band(canvas)
        size = (
            math.ceil(width * scale + left + right),
            math.ceil((high - low) * scale + above + below),
        )
        size = max(size[0], 8), max(size[1], 8)
        matrix = np.array([[scale, 0, left], [0, scale, above - low * scale]])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        if scale < 1:
            canvas = cv2.GaussianBlur(canvas, (0, 0), 0.35 / scale)
        ink = cv2.warpAffine(canvas, matrix, size, flags=method).astype(np.float32) / 255
        owners = cv2.warpAffine(owners, matrix, size, flags=cv2.INTER_NEAREST)
        ink = np.clip(ink, 0, 1)
        ink = ink * (1 - uniform(0, 0.5) * self.smooth(ink.shape, 3 + height / 10))
        owners[(ink > 0.3) & (owners == 0)] = OTHER
        lines = self.rules(ink.shape, height, above + (BASELINE - low) * scale, tight)
        owners[(lines > 0.3) & (owners == 0)] = OTHER
        return Sample(self.expose(ink, lines, height), owners, number)

    def words(self) -> NDArray[np.uint8]:
        """Letters by hand, printed, or by a plotter's pen, on a canvas of `ROWS` rows."""
        pick, uniform = self.lines.random, self.uniform
        alone = self.chance(0.35)
        if self.chance(0.4):
            text = self.letters.number()
            canvas, _, _, width, _ = self.letters.write(text[:1] if alone else text)
            return canvas[:, :width]
        alphabet = pick.choice((LETTERS.lower(), LETTERS, LETTERS + LETTERS.lower()))
        words = ("".join(pick.choices(alphabet, k=pick.randint(1, 8))) for _ in range(3))
        text = " ".join(list(words)[: pick.choice((1, 1, 2, 3))])
        if alone:
            text = text[0]
        if self.chance(0.5):
            font = ImageFont.truetype(str(pick.choice(fonts())), round(SIZE * uniform(0.8, 1.5)))
            image = Image.new("L", (round(font.getlength(text)) + 2 * SIZE, ROWS))
            ImageDraw.Draw(image).text((SIZE, BASELINE), text, 255, font, anchor="ls")
            return np.array(image)
        face, scale = pick.choice(FONTS), SIZE / 22 * uniform(0.7, 1.2)
        thick = pick.randint(1, 4)
        width = cv2.getTextSize(text, face, scale, thick)[0][0] + 2 * SIZE
        canvas = np.zeros((ROWS, width), np.uint8)
        cv2.putText(canvas, text, (SIZE, BASELINE), face, scale, 255, thick, cv2.LINE_AA)
        return canvas

    def scribbles(self) -> NDArray[np.uint8]:
        """Random smooth strokes, polygons and rings on a canvas of `ROWS` rows."""
        pick, uniform = self.lines.random, self.uniform
        canvas = np.zeros((ROWS, round(SIZE * uniform(1.5, 8))), np.uint8)
        corner = np.array([canvas.shape[1], ROWS])
        for _ in range(pick.randint(1, 5)):
            kind, thick = pick.random(), pick.randint(1, 5)
            centre = corner * (uniform(0.1, 0.9), uniform(0.2, 0.8))
            knots = self.generator.uniform(-1, 1, (pick.randint(3, 14), 2))
            if kind < 0.65:
                points = np.cumsum(knots, 0) * SIZE * uniform(0.2, 0.6)
                count = 8 * len(points)
                x, y = cv2.resize(points, (2, count), interpolation=cv2.INTER_CUBIC).T
                points = np.stack([x, y], 1)
            else:
                points = knots[:6] * SIZE * uniform(0.3, 0.9)
            place = np.clip(points - points.mean(0) + centre, 2, corner - 2).astype(np.int32)
            if kind < 0.9:
                cv2.polylines(canvas, [place], kind > 0.75, 255, thick, cv2.LINE_AA)
            else:
                axes = round(uniform(4, SIZE)), round(uniform(4, SIZE / 2))
                cv2.ellipse(canvas, place[0].tolist(), axes, 0, 0, 360, 255, thick, cv2.LINE_AA)
        return canvas

    def band(self, canvas: NDArray[np.uint8]) -> tuple[int, int]:
        """First and last row of the ink."""
        rows = np.flatnonzero((canvas > 100).any(1))
        return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, ROWS)

    def bend(self, canvas, owners):
        """Moves ink and owners smoothly by up to a few pixels."""
        rows, columns = canvas.shape
        knots = self.generator.standard_normal((6, 2 + columns // 10, 2), np.float32)
        knots *= self.uniform(0.3, 1.3)
        shift = cv2.resize(knots, (columns, rows), interpolation=cv2.INTER_LINEAR)
        shift[..., 0] += np.arange(columns, dtype=np.float32)
        shift[..., 1] += np.arange(rows, dtype=np.float32)[:, None]
        return (
            cv2.remap(canvas, shift, None, cv2.INTER_LINEAR),
            cv2.remap(owners, shift, None, cv2.INTER_NEAREST),
        )

    def smooth(self, shape: tuple[int, ...], reach: float) -> NDArray[np.float32]:
        """Smooth random values about 0..1."""
        rows, columns = (2 + int(side / reach / 2) for side in shape)
        values = self.generator.random((rows, columns), np.float32)
        return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR)

    def rules(self, shape, height: float, base: float, tight: bool) -> NDArray[np.float32]:
        """Ruled lines and the sides of cells, 0..1; `base`: the row on which digits stand."""
        uniform, chance = self.uniform, self.chance
        rows, columns = shape
        drawn = np.zeros(shape, np.uint8)
        thick = max(1, round(height * uniform(0.03, 0.09)))

        def rule(x0: float, y0: float, x1: float, y1: float) -> None:
            points = (round(x0), round(y0)), (round(x1), round(y1))
            cv2.line(drawn, *points, 255, thick, cv2.LINE_AA)

        for share, low, high in ((0.4, -0.05, 0.35), (0.12, -1.35, -1.0), (0.04, -0.8, -0.2)):
            if chance(share):
                y = base + uniform(low, high) * height
                rule(0, y, columns, y + uniform(-0.04, 0.04) * columns)
        if chance(0.12) and not tight:  # a frame
            m = [uniform(0, 0.25) * height for _ in range(4)]
            cv2.rectangle(
                drawn,
                (round(m[0]), round(m[1])),
                (round(columns - 1 - m[2]), round(rows - 1 - m[3])),
                255,
                thick,
            )
            return drawn.astype(np.float32) / np.float32(255)
        for right in (False, True):
            if not tight and chance(0.18):
                x = uniform(0, 0.35) * height
                x = columns - x if right else x
                top, bottom = 0.0, float(rows)
                if chance(0.7):
                    top, bottom = (
                        (0, rows * uniform(0.2, 1))
                        if chance(0.5)
                        else (rows * uniform(0, 0.8), rows)
                    )
                lean = uniform(-0.06, 0.06) * rows
                rule(x, top, x + lean, bottom)
                if chance(0.5):  # the corner
                    reach = uniform(0.1, 1) * height * (-1 if right else 1)
                    y = bottom - uniform(1, 2 + 0.1 * height)
                    rule(x + lean, y, x + lean + reach, y + uniform(-2, 2))
        return drawn.astype(np.float32) / np.float32(255)

    def texture(self, shape, height: float) -> NDArray[np.float32]:
        """Printed lines, straight, wavy or round, as on cheques: 0..1."""
        uniform = self.uniform
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(height)
        total = np.zeros(shape, np.float32)
        for _ in range(self.lines.random.randint(1, 3)):
            angle, period = uniform(0, math.pi), uniform(0.07, 0.3)
            if self.chance(0.25):
                phase = np.hypot(x - uniform(-3, 6), y - uniform(-3, 3)) / period
            else:
                phase = x * math.cos(angle) + y * math.sin(angle)
                phase += uniform(0, 0.3) * np.sin(uniform(0.5, 4) * x + uniform(0, 6))
                phase += uniform(0, 0.3) * np.sin(uniform(0.5, 4) * y + uniform(0, 6))
                phase /= period
            away = np.abs(phase % 1 - 0.5) * (period * height)  # pixels from the next line
            line = np.clip(uniform(0.4, 1.3) + 0.5 - away, 0, 1) * uniform(0.4, 1)
            total = np.maximum(total, line.astype(np.float32))
        return total

    def expose(self, ink, lines, height: float) -> NDArray[np.float32]:
        """The picture of ink and printed lines on paper."""
        uniform, chance = self.uniform, self.chance
        rows, columns = ink.shape
        paper = uniform(0.35, 1.0)
        contrast = 1 - uniform(0.05, 0.85)
        picture = np.full(ink.shape, paper, np.float32)
        picture *= 1 + np.float32(uniform(-0.15, 0.15)) * np.linspace(
            -1, 1, columns, dtype=np.float32
        )
        picture *= (
            1
            + np.float32(uniform(-0.15, 0.15)) * np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
        )
        if chance(0.55):
            picture *= 1 - self.texture(ink.shape, height) * np.float32(
                uniform(0.03, 0.5) * contrast
            )
        if chance(0.08):  # a shadow's edge
            picture *= np.where(self.smooth(ink.shape, 2 * height) > 0.5, 1, uniform(0.7, 1))
        picture *= 1 - lines * np.float32(contrast * uniform(0.3, 1))
        if chance(0.08):
            self.print_beside(picture, height, contrast)
        picture *= 1 - ink * np.float32(contrast)
        if chance(0.7):
            picture = cv2.GaussianBlur(picture, (0, 0), uniform(0.3, max(0.4, 0.045 * height)))
        picture += self.generator.standard_normal(ink.shape, np.float32) * np.float32(
            uniform(0, 0.03) if chance(0.7) else 0
        )
        picture = np.clip(picture, 0, 1)
        if chance(0.5):
            quality = [cv2.IMWRITE_JPEG_QUALITY, self.lines.random.randint(30, 90)]
            data = cv2.imencode(".jpg", (picture * 255).astype(np.uint8), quality)[1]
            picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
        return picture

    def print_beside(self, picture, height: float, contrast: float) -> None:
        """A line of print that the picture's edge cuts off."""
        rows, columns = picture.shape
        drawn = np.zeros(picture.shape, np.uint8)
        text = str(self.lines.random.randrange(10**6))
        place = self.lines.random.randrange(columns), round(height * self.uniform(0.05, 0.2))
        if self.chance(0.3):
            place = place[0], rows + round(height * self.uniform(0.1, 0.4))
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 50, 255, 2, cv2.LINE_AA)
        picture *= 1 - drawn / np.float32(255) * np.float32(contrast)
