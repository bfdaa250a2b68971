"""Draws lines of digits as the reader sees them: synthetic training data for reading numbers.

A line is what foreground and normalisation leave of a picture: ink 255 on 0, `HEIGHT` rows, the
digits' band `DIGIT` rows high in their middle. The digits are pictures of single digits, MNIST's
training images for one; what one writer has in common (slant, thickness, size, spacing) is drawn
once a line, then what the world adds: separators, currency marks, neighbours, ruled lines and
what their removal leaves, fading, blur, low resolution, and errors of the normalisation itself.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from lenet.data import Split

HEIGHT = 28  # rows of a line
DIGIT = 20  # rows of its digits, as in MNIST
SIZE = 32  # height of a digit while the line is drawn
ROWS = 64  # rows of the canvas then
BASELINE = 48  # row of the canvas on which digits stand
INK = 100  # grey value from which a pixel counts as ink, for distances between digits
LENGTHS = ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (6, 15, 18, 18, 16, 12, 7, 5, 2, 2))
LETTERS = (
    "$",
    "$",
    "$",
    "U$S",
    "R$",
    "Bs",
    "N",
    "EUR",
    "kg",
    "cm",
    "C",
    "E",
    "x",
    "#",
    "*",
    "%",
    "F",
)
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
)
GREYS = np.arange(256, dtype=np.float32)

Image = MatLike  # uint8 (height, width)


@dataclass(frozen=True)
class Line:
    """A picture of a number.

    Attributes:
        image: uint8 (`HEIGHT`, width), ink 255 on 0.
        number: its digits.
        boxes: float32 (digits, 4), left, top, right, bottom of each digit in pixels of the image,
            right to about a pixel; parts of a digit may lie outside the image.
    """

    image: Image
    number: str
    boxes: NDArray[np.float32]


class Glyphs:
    """Pictures of single digits: where their ink lies, and by class, from thin strokes to thick.

    Args:
        digits: uint8 (N, 28, 28) and labels 0 to 9; each class must occur.
    """

    def __init__(self, digits: Split) -> None:
        ink = digits.images > 20
        self.images = digits.images
        rows, columns = np.asarray(ink.any(axis=2)), np.asarray(ink.any(axis=1))
        side = ink.shape[1]
        self.top, self.left = rows.argmax(axis=1), columns.argmax(axis=1)
        self.bottom = side - rows[:, ::-1].argmax(axis=1)
        self.right = side - columns[:, ::-1].argmax(axis=1)
        thickness = ink.sum(axis=(1, 2)) / np.maximum(perimeters(ink), 1)
        self.slants = slants(digits.images)
        seen = rows.any(axis=1)
        self.members = []
        for label in range(10):
            members = np.flatnonzero((digits.labels == label) & seen)
            self.slants[members] -= np.median(self.slants[members])
            self.members.append(members[np.argsort(thickness[members], kind="stable")])

    def crop(self, number: int) -> Image:
        """The ink of a picture with one row and column of its surroundings on each side."""
        top, bottom = max(self.top[number] - 1, 0), self.bottom[number] + 1
        left, right = max(self.left[number] - 1, 0), self.right[number] + 1
        return self.images[number, top:bottom, left:right]


def perimeters(ink: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of borders between ink and background in each picture."""
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    across = (padded[:, :, 1:] != padded[:, :, :-1]).sum(axis=(1, 2))
    return across + (padded[:, 1:] != padded[:, :-1]).sum(axis=(1, 2))


def slants(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far each digit leans to the right, in columns a row, by its second moments."""
    rows, columns = np.arange(images.shape[1]), np.arange(images.shape[2])
    result = np.zeros(len(images), np.float32)
    for start in range(0, len(images), 10_000):
        part = images[start : start + 10_000].astype(np.float32)
        mass = np.maximum(part.sum(axis=(1, 2)), 1)
        by_row, by_column = part.sum(axis=2), part.sum(axis=1)
        y, x = by_row @ rows / mass, by_column @ columns / mass
        covariance = np.einsum("nyx,y,x->n", part, rows, columns, optimize=True) / mass - y * x
        variance = by_row @ rows**2 / mass - y**2
        result[start : start + 10_000] = -covariance / np.maximum(variance, 1)
    return np.clip(result, -1, 1)


class Lines:
    """An endless, seeded stream of synthetic lines.

    Args:
        sources: pictures of single digits and how often a line is written in each kind.
        seed: the same seed and sources give the same lines.
    """

    def __init__(self, sources: Sequence[tuple[Split, float]], seed: int) -> None:
        self.sources = [Glyphs(digits) for digits, _ in sources]
        self.shares = [share for _, share in sources]
        self.random = random.Random(seed)
        self.generator = np.random.default_rng(seed)

    def reseed(self, seed: int) -> None:
        """Begins another stream."""
        self.random.seed(seed)
        self.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def __iter__(self) -> Iterator[Line]:
        while True:
            yield self.line(self.number())

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def number(self) -> str:
        """The digits of a line; zeros at the end and repeats are commoner than by chance."""
        uniform = self.random.random
        length = self.random.choices(*LENGTHS)[0]
        digits = [int(10 * uniform()) for _ in range(length)]
        if self.chance(0.2):
            for place in range(max(1, length - self.random.randint(1, 4)), length):
                digits[place] = 0
        if self.chance(0.25):
            for place in range(1, length):
                if self.chance(0.4):
                    digits[place] = digits[place - 1]
        if self.chance(0.12):
            digits = [1 if self.chance(0.4) else digit for digit in digits]
        return "".join(map(str, digits))

    def line(self, number: str) -> Line:
        """Draws a given number."""
        canvas, _, boxes, width, weight = self.write(number)
        if self.chance(0.28):
            self.rule(canvas, width)
        if self.chance(0.18):
            self.clutter(canvas, width)
        canvas = self.pen(canvas[:, :width], weight)
        if self.chance(0.06):
            self.scar(canvas)
        if self.chance(0.5):
            canvas = self.bend(canvas)
        return self.develop(canvas, number, boxes)

    # What is written

    def write(self, number: str) -> tuple[Image, Image, NDArray[np.float64], int, float]:
        """The digits and separators of a line, as one writer writes them: the canvas, for every
        pixel the place of its digit, from 1, or 0, the digits' boxes on it, the width in use, and
        the weight of the strokes, 0 (thin) to 1."""
        uniform, gauss = self.random.uniform, self.random.gauss
        slant = min(max(gauss(-0.08, 0.2), -0.5), 0.5)
        weight = uniform(0, 1)  # of the strokes, from thin to thick
        stretch = math.exp(gauss(0, 0.14))
        spacing = uniform(0.3, 1.2) if self.chance(0.12) else gauss(0.12, 0.13)
        pitch = SIZE * uniform(0.9, 1.6) if self.chance(0.08) else 0.0  # one box a digit
        tilt, wave, phase = gauss(0, 0.03), gauss(0, 0.03) * SIZE, uniform(0, 6.3)
        unsteady = abs(gauss(0, 0.07))
        joined = 0.5 if self.chance(0.06) else 0.0
        pen = uniform(2, 4.5)
        comma = self.chance(0.3)  # whether this writer parts thousands or decimals
        small_zeros = self.random.uniform(0.55, 0.9) if self.chance(0.25) else 1.0
        hand = self.random.choices(range(len(self.sources)), self.shares)[0]
        mixed = self.chance(0.5)  # digits of several sources in one line

        canvas = np.zeros((ROWS, round(SIZE * (5 + 3 * len(number)))), np.uint8)
        owners = np.zeros_like(canvas)
        x = SIZE * uniform(0.05, 0.6)
        if self.chance(0.06):
            x = self.letters(canvas, x, slant) + SIZE * uniform(0.05, 0.5)
        if self.chance(0.05):
            x = self.mark(canvas, x, pen, "-=.,"[self.random.randrange(4)]) + SIZE * uniform(
                0.0, 0.4
            )
        edge = np.full(ROWS, x)  # right edge of the ink so far, by row
        boxes = np.zeros((len(number), 4))
        start = x
        for place, digit in enumerate(number):
            if mixed and self.chance(0.3):
                hand = self.random.choices(range(len(self.sources)), self.shares)[0]
            size = SIZE * math.exp(gauss(0, unsteady)) * (small_zeros if digit == "0" else 1)
            patch = self.digit(hand, int(digit), size, weight, slant + gauss(0, 0.06), stretch)
            height, width = patch.shape
            drift = (
                tilt * (x - start) + wave * math.sin(phase + x / (2 * SIZE)) + gauss(0, 0.04) * SIZE
            )
            if digit == "0" and size < 0.8 * SIZE and self.chance(0.3):
                drift -= uniform(0, SIZE - size)  # raised, as cents are
            top = min(max(round(BASELINE - height + drift), 0), ROWS - height)
            mask = patch > INK
            inked = mask.any(axis=1)
            near = edge[top : top + height]
            gap = SIZE * (spacing + gauss(0, 0.07))
            if gap < 0 and self.chance(0.5):
                gap = 0.0
            if place:
                touching = (near - mask.argmax(axis=1))[inked].max(initial=x - width)
                left = max(touching + max(gap, -0.12 * SIZE), boxes[place - 1, 0] + 0.2 * SIZE, 0)
                if pitch:
                    left = max(left, start + place * pitch + (pitch - width) / 2)
            else:
                left = x
            left = min(round(left), canvas.shape[1] - width)
            if place and joined and self.chance(joined):
                self.join(canvas, boxes[place - 1], left, top, height, pen)
            part = canvas[top : top + height, left : left + width]
            np.maximum(part, patch, out=part)
            owners[top : top + height, left : left + width][mask] = place + 1
            boxes[place] = left, top, left + width, top + height
            right = left + width - mask[:, ::-1].argmax(axis=1)
            near[inked] = np.maximum(near[inked], right[inked])
            edge = cv2.dilate(edge[:, None], np.ones((5, 1), np.uint8))[:, 0]
            x = left + width
            rest = len(number) - 1 - place
            if rest and ((comma and rest in (2, 3) and self.chance(0.7)) or self.chance(0.03)):
                kind = self.random.choices(".,-/:", (10, 8, 2, 2, 1))[0]
                x = self.mark(canvas, x + uniform(-0.15, 0.35) * SIZE, pen, kind)
                if kind in "-/:":
                    edge[:] = np.maximum(edge, x)
                else:
                    edge[BASELINE - 4 :] = np.maximum(edge[BASELINE - 4 :], x)
        if self.chance(0.22):
            kind = self.random.choices(".,-=/~", (10, 3, 8, 5, 1, 2))[0]
            x = self.mark(canvas, x + uniform(-0.05, 0.6) * SIZE, pen, kind)
        if self.chance(0.04):
            x = self.letters(canvas, x + SIZE * uniform(0.1, 0.7), slant)
        width = min(canvas.shape[1], round(x + SIZE * uniform(0.05, 0.6)))
        return canvas, owners, boxes, width, weight

    def digit(
        self, hand: int, label: int, size: float, weight: float, slant: float, stretch: float
    ) -> Image:
        """One digit of a given height, about a given weight and slant, cropped to its ink."""
        glyphs = self.sources[hand]
        members = glyphs.members[label]
        rank = min(max(0.92 * weight + self.random.gauss(0, 0.08), 0), 0.95)
        number = members[int(rank * len(members))]
        crop = glyphs.crop(number)
        slant -= 0.8 * float(glyphs.slants[number])
        height, width = crop.shape
        down = min(size / (height - 2), size / 10)
        across = down * stretch * math.exp(self.random.gauss(0, 0.06))
        across = min(across, 1.5 * SIZE / width)
        shear = slant * down
        turn = self.random.gauss(0, 0.04) * across
        rows = min(math.ceil(height * down + abs(turn) * width) + 1, ROWS)
        columns = math.ceil(width * across + abs(shear) * height) + 1
        matrix = np.array(
            [
                [across, -shear, max(shear, 0) * height + 0.5],
                [turn, down, max(-turn, 0) * width + 0.5],
            ]
        )
        patch = cv2.warpAffine(crop, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
        left, top, columns, rows = cv2.boundingRect((patch > INK).view(np.uint8))
        if not rows:
            return patch
        return patch[top : top + rows, left : left + columns]

    def join(
        self, canvas: Image, box: NDArray[np.float64], left: int, top: int, height: int, pen: float
    ) -> None:
        """A stroke from one digit to the next, as in zeros written in one go."""
        uniform = self.random.uniform
        y0, y1 = box[1] + uniform(0, 0.3) * SIZE, top + uniform(0, 0.3) * height
        x0, x1 = box[2] - uniform(0, 0.35) * SIZE, left + uniform(0, 0.35) * SIZE
        middle = (x0 + x1) / 2, (y0 + y1) / 2 + uniform(-0.1, 0.15) * SIZE
        points = [(x0, y0), middle, (x1, y1)]
        cv2.polylines(canvas, [pixels(points)], False, 255, max(1, round(pen * 0.8)), cv2.LINE_AA)

    def mark(self, canvas: Image, x: float, pen: float, kind: str) -> float:
        """A separator at x; returns its right edge."""
        uniform = self.random.uniform
        thick = max(1, round(pen * uniform(0.7, 1.3)))
        if kind in ".:":
            for y in (BASELINE - uniform(-0.1, 0.15) * SIZE, BASELINE - 0.55 * SIZE)[
                : 1 + (kind == ":")
            ]:
                axes = round(pen * uniform(0.4, 1.0)), round(pen * uniform(0.4, 0.9))
                cv2.ellipse(
                    canvas, (round(x + pen), round(y)), axes, uniform(0, 180), 0, 360, 255, -1
                )
            return x + 2 * pen
        if kind == ",":
            top = BASELINE + uniform(-0.2, 0.1) * SIZE
            length, lean = uniform(0.12, 0.4) * SIZE, uniform(-0.02, 0.25) * SIZE
            points = [
                (x + lean, top),
                (x + lean * uniform(0.5, 1.2), top + length / 2),
                (x, top + length),
            ]
        elif kind == "/":
            lean = uniform(0.1, 0.6) * SIZE
            points = [
                (x + lean, BASELINE - uniform(0.8, 1.2) * SIZE),
                (x, BASELINE + uniform(-0.1, 0.2) * SIZE),
            ]
        else:
            length, y = uniform(0.25, 1.0) * SIZE, BASELINE - uniform(0.2, 0.65) * SIZE
            if self.chance(0.15):
                y = BASELINE + uniform(-0.1, 0.1) * SIZE
            sway = SIZE * (0.12 if kind == "~" else 0.04)
            points = [(x + length * t, y + self.random.gauss(0, sway)) for t in (0, 0.33, 0.67, 1)]
            if kind == "=":
                below = y + uniform(0.14, 0.3) * SIZE
                again = [(px + uniform(-2, 2), py + below - y) for px, py in points]
                cv2.polylines(canvas, [pixels(again)], False, 255, thick, cv2.LINE_AA)
        cv2.polylines(canvas, [pixels(points)], False, 255, thick, cv2.LINE_AA)
        return max(point[0] for point in points) + thick

    def letters(self, canvas: Image, x: float, slant: float) -> float:
        """A currency mark or unit at x; returns its right edge."""
        text, font = self.random.choice(LETTERS), self.random.choice(FONTS)
        scale, thick = SIZE / 22 * self.random.uniform(0.6, 1.3), self.random.randint(2, 4)
        (width, height), _ = cv2.getTextSize(text, font, scale, thick)
        if x + width + 4 > canvas.shape[1] or height > BASELINE:
            return x
        cv2.putText(canvas, text, (round(x), BASELINE), font, scale, 255, thick, cv2.LINE_AA)
        return x + width

    # What else is on the paper

    def rule(self, canvas: Image, width: int) -> None:
        """Ruled lines, sides of frames, and what their removal leaves of them."""
        uniform = self.random.uniform
        thick = self.random.randint(1, 3)
        if self.chance(0.55):
            y = BASELINE + uniform(-0.05, 0.4) * SIZE
            if self.chance(0.15):
                y = BASELINE - SIZE * uniform(1, 1.3)
            if self.chance(0.05):
                y = BASELINE - SIZE * uniform(0.3, 0.7)
            left, right = 0.0, float(width)
            if self.chance(0.5):
                left, right = sorted((uniform(0, width), uniform(0, width)))
            rise = uniform(-0.04, 0.04) * width
            step = right - left if self.chance(0.5) else uniform(0.2, 1) * SIZE
            while left < right:
                end = min(left + step * uniform(0.3, 1), right)
                a, b = (left, y + rise * left / width), (end, y + rise * end / width)
                start, stop = pixels([a, b]).tolist()
                cv2.line(canvas, start, stop, 255, thick, cv2.LINE_AA)
                left = end + (0 if step > width / 2 else step * uniform(0.1, 1))
        for side in (0, 1):
            if self.chance(0.4):
                x = uniform(0, 0.25) * SIZE
                x = width - x if side else x
                top, bottom = (
                    (0, ROWS) if self.chance(0.5) else sorted((uniform(0, ROWS), uniform(0, ROWS)))
                )
                lean = uniform(-0.05, 0.05) * (bottom - top)
                start, stop = pixels([(x, top), (x + lean, bottom)]).tolist()
                cv2.line(canvas, start, stop, 255, thick + self.chance(0.3), cv2.LINE_AA)

    def clutter(self, canvas: Image, width: int) -> None:
        """Neighbours cut off at the sides, specks, and rests of print."""
        uniform, place = self.random.uniform, self.random.randrange
        if self.chance(0.35):  # a part of a neighbour at the left or right
            patch = self.digit(
                0, place(10), SIZE * uniform(0.7, 1.3), uniform(0, 1), uniform(-0.3, 0.3), 1
            )
            keep = max(2, round(patch.shape[1] * uniform(0.1, 0.35)))
            top = place(ROWS - patch.shape[0] + 1)
            if self.chance(0.5):
                patch, left = patch[:, -keep:], 0
            else:
                patch, left = patch[:, :keep], width - keep
            area = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
            np.maximum(area, patch[:, : area.shape[1]], out=area)
        if self.chance(0.35):  # a part of the line above or below
            patch = self.digit(0, place(10), SIZE, uniform(0, 1), uniform(-0.3, 0.3), 1)
            keep = max(2, round(patch.shape[0] * uniform(0.1, 0.3)))
            left = place(max(1, width - patch.shape[1]))
            patch, top = (patch[-keep:], 0) if self.chance(0.5) else (patch[:keep], ROWS - keep)
            area = canvas[top : top + keep, left : left + patch.shape[1]]
            np.maximum(area, patch, out=area)
        for _ in range(place(1, 10) if self.chance(0.5) else 0):
            x, y = place(width), place(ROWS)
            end = (x + round(uniform(-0.25, 0.25) * SIZE), y + round(uniform(-0.1, 0.1) * SIZE))
            cv2.line(canvas, (x, y), end, place(60, 256), place(1, 3), cv2.LINE_AA)

    # How it comes out

    def pen(self, canvas: Image, weight: float) -> Image:
        """The thickness of the strokes, sharp."""
        low, gain = self.random.uniform(0.3 + 0.2 * weight, 0.65), self.random.uniform(1.5, 4)
        canvas = stretched(canvas, low - 0.5 / gain, low + 0.5 / gain)
        change = self.random.random()
        if change < 0.2 and weight < 0.5:
            side = 3 if change < 0.18 or weight > 0.25 else 5
            return cv2.dilate(canvas, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
        if change > 0.92:
            thin = cv2.erode(canvas, np.ones((2, 2), np.uint8))
            if thin.sum() > 0.35 * canvas.sum():
                return thin
        return canvas

    def scar(self, canvas: Image) -> None:
        """Takes a thin stripe of ink away, as removing a ruled line does."""
        y = round(BASELINE - self.random.uniform(-0.1, 1.1) * SIZE)
        thick = self.random.randint(1, 3)
        left = self.random.randrange(canvas.shape[1])
        right = left + round(self.random.uniform(0.3, 3) * SIZE)
        canvas[y : y + thick, left:right] = 0

    def bend(self, canvas: Image) -> Image:
        """Moves the ink smoothly by up to a few pixels."""
        rows, columns = canvas.shape
        amount = self.random.uniform(0.4, 1.6)
        knots = self.generator.standard_normal((6, 2 + columns // 10, 2), np.float32) * amount
        shift = cv2.resize(knots, (columns, rows), interpolation=cv2.INTER_LINEAR)
        shift[..., 0] += np.arange(columns, dtype=np.float32)
        shift[..., 1] += np.arange(rows, dtype=np.float32)[:, None]
        return cv2.remap(canvas, shift[..., 0], shift[..., 1], cv2.INTER_LINEAR)

    def develop(self, canvas: Image, number: str, boxes: NDArray[np.float64]) -> Line:
        """Resolution, fading, noise, and the normalisation by a band that is not quite right."""
        uniform, gauss = self.random.uniform, self.random.gauss
        rows, columns = canvas.shape
        resolution = 1.0 if self.chance(0.65) else uniform(9, 28) / SIZE
        if resolution < 1:
            small = max(4, round(columns * resolution)), max(4, round(rows * resolution))
            canvas = cv2.resize(canvas, small, interpolation=cv2.INTER_AREA)
        if self.chance(0.25):
            canvas = cv2.GaussianBlur(canvas, (0, 0), uniform(0.4, max(0.5, 2 * resolution)))
        if self.chance(0.06):
            knots = self.generator.uniform(0.5, 1, (3, 2 + columns // 16)).astype(np.float32)
            ink = cv2.resize(knots, canvas.shape[::-1], interpolation=cv2.INTER_LINEAR)
            canvas = (canvas * ink).astype(np.uint8)
        if self.chance(0.12):
            noise = self.generator.standard_normal(canvas.shape, np.float32) * uniform(4, 28)
            canvas = cv2.add(canvas.astype(np.float32), noise, dtype=cv2.CV_8U)

        # The band of most digits, which a reader finds with some error.
        top, bottom = median(boxes[:, 1].tolist()), median(boxes[:, 3].tolist())
        scale = DIGIT / max(bottom - top, SIZE / 3) * math.exp(gauss(0, 0.08))
        if self.chance(0.06):
            scale *= uniform(0.5, 0.9)  # the sides of a cell were taken for digits
        across = scale * math.exp(gauss(0, 0.05))
        middle = HEIGHT / 2 + gauss(0, 0.9)
        down = middle - scale * (top + bottom) / 2
        shear = gauss(0, 0.05)
        left = -shear * middle
        fx, fy = canvas.shape[1] / columns, canvas.shape[0] / rows
        matrix = np.array([[across / fx, shear * scale / fy, 0], [0, scale / fy, down]])
        matrix[0, 2] = left + shear * down
        matrix[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2 - 0.5  # pixels' centres
        width = max(HEIGHT, round(columns * across))
        image = cv2.warpAffine(canvas, matrix, (width, HEIGHT), flags=cv2.INTER_LINEAR)
        low = uniform(0.05, 0.35)
        image = stretched(image, low, low + uniform(0.15, 0.6))

        boxes[:, 0::2] *= across
        boxes[:, 1::2] = boxes[:, 1::2] * scale + down
        boxes[:, 0::2] += shear * (boxes[:, 1::2].mean(axis=1, keepdims=True) - middle)
        return Line(image, number, boxes.astype(np.float32))


def stretched(image: Image, low: float, high: float) -> Image:
    """Grey values so that those up to `low` (of 1) become 0 and those from `high` on 255."""
    values = (GREYS - 255 * low) / (high - low)
    return cv2.LUT(image, cv2.convertScaleAbs(np.maximum(values, 0)))


def pixels(points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
    """Points (x, y) as OpenCV draws between them."""
    return np.array(points).astype(np.int32)
