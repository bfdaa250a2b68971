"""How well pictures of other kinds than MNIST's are read: `python benchmarks/pictures.py MODEL`.

With `--harder`: pictures with lines, boxes, several digits or hardly any paper around the digit,
made of the last 10,000 training images; some of them show no digit, and must be refused with the
right reason.

Every tenth MNIST test image becomes a file of each kind (larger, off-centre, in uneven light,
photographed, thin, thick ...), with a fixed seed. Printed is the share that a trained network,
a run folder for example, reads right through the preprocessor. Needs SciPy.
"""

import io
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.datasets import load_digits

import lenet
from lenet.data import Split

Ink = NDArray[np.float64]  # (height, width), 0 is paper and 1 is full ink
Kind = Callable[[Ink, np.random.Generator], Ink]
Example = tuple[NDArray[np.uint8], str]  # a picture, and the label or the reason


def enlarged(ink: Ink, factor: int) -> Ink:
    size = (ink.shape[1] * factor, ink.shape[0] * factor)
    image = Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, np.float64).clip(0, 1)


def off_centre(ink: Ink, random: np.random.Generator) -> Ink:
    """Four times larger, anywhere on a page of 800x600."""
    page, digit = np.zeros((800, 600)), enlarged(ink, 4)
    top, left = random.integers(0, 800 - 112), random.integers(0, 600 - 112)
    page[top : top + 112, left : left + 112] = digit
    return page


def lit(ink: Ink, random: np.random.Generator, darkest: float) -> Ink:
    """The same paper lit from one side: the light falls to `darkest`."""
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] / max(ink.shape)
    angle = random.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    return 1 - (1 - 0.8 * ink) * (darkest + (1 - darkest) * ramp)


def photographed(ink: Ink, random: np.random.Generator) -> Ink:
    """Turned by up to 5 degrees, unevenly lit, with vignette, blur and noise."""
    digit = np.pad(enlarged(ink, 10), random.integers(20, 120))
    digit = ndimage.rotate(digit, random.uniform(-5, 5), reshape=False, order=1)
    paper = 1 - lit(digit, random, 0.6)
    y, x = np.mgrid[: paper.shape[0], : paper.shape[1]] / max(paper.shape) - 0.5
    paper *= 1 - (x**2 + y**2)
    paper = ndimage.gaussian_filter(paper, random.uniform(1, 4))
    return 1 - (paper + random.normal(0, 0.04, paper.shape))


def stroked(ink: Ink, pixels: float) -> Ink:
    """Strokes wider (or thinner) by so many pixels on each side, in eight times the size."""
    radius = round(8 * abs(pixels))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x * x + y * y <= radius * radius
    change = ndimage.grey_dilation if pixels > 0 else ndimage.grey_erosion
    return change(enlarged(ink, 8), footprint=disc)


def tight(ink: Ink) -> Ink:
    """Cropped to the ink."""
    rows, columns = np.flatnonzero(ink.max(axis=1)), np.flatnonzero(ink.max(axis=0))
    return enlarged(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 8)


KINDS: dict[str, Kind] = {
    "as it is, dark on light": lambda ink, random: ink,
    "as it is, light on dark": lambda ink, random: 1 - ink,
    "ten times larger": lambda ink, random: enlarged(ink, 10),
    "off-centre on a page of 600x800": off_centre,
    "lit from one side": lambda ink, random: lit(enlarged(ink, 6), random, 0.35),
    "photographed": photographed,
    "15% contrast, noise": lambda ink, random: (
        0.2 + 0.15 * enlarged(ink, 8) + random.normal(0, 0.008, (224, 224))
    ),
    "strokes thinner by half a pixel": lambda ink, random: stroked(ink, -0.5),
    "strokes thicker by half a pixel": lambda ink, random: stroked(ink, 0.5),
    "strokes thicker by a pixel": lambda ink, random: stroked(ink, 1),
    "cropped tightly": lambda ink, random: tight(ink),
}


def as_jpeg(ink: Ink) -> bytes:
    """Dark ink on light paper, in a JPEG file of quality 85."""
    file = io.BytesIO()
    pixels = ((1 - ink).clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cropped to the ink."""
    rows, columns = np.flatnonzero(image.max(1) > 40), np.flatnonzero(image.max(0) > 40)
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def on_page(ink: Ink, random: np.random.Generator, height: int, width: int) -> Ink:
    """Anywhere on an empty page."""
    page = np.zeros((height, width))
    top = random.integers(5, height - ink.shape[0] - 5)
    left = random.integers(5, width - ink.shape[1] - 5)
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page


def on_paper(ink: Ink, random: np.random.Generator, noise: float = 0.01) -> NDArray[np.uint8]:
    """Dark on light paper, with a little blur and noise."""
    gray = 0.92 * ndimage.gaussian_filter(1 - 0.85 * ink.clip(0, 1), 0.7)
    return ((gray + random.normal(0, noise, gray.shape)).clip(0, 1) * 255).astype(np.uint8)


def ruled(digits: Split, number: int, random: np.random.Generator) -> Example:
    """Lines of any spacing, thickness and darkness, not quite level; a third with columns."""
    ink = on_page(enlarged(cropped(digits.images[number]) / 255, 8), random, 300, 400)
    lines = Image.new("L", (400, 300), 0)
    draw = ImageDraw.Draw(lines)
    spacing, width = int(random.integers(35, 70)), int(random.integers(1, 5))
    slope, fill = random.uniform(-0.02, 0.02), int(255 * random.uniform(0.5, 1))
    for y in range(int(random.integers(0, spacing)) - 20, 320, spacing):
        draw.line((0, y, 400, y + slope * 400), fill=fill, width=width)
    if random.random() < 0.3:
        for x in range(int(random.integers(0, spacing)), 400, spacing):
            draw.line((x, 0, x - slope * 300, 300), fill=fill, width=width)
    ink = np.maximum(ink, np.asarray(lines) / 255)
    return on_paper(ink, random), str(digits.labels[number])


def underlined(digits: Split, number: int, random: np.random.Generator) -> Example:
    """One line across the page, somewhere in the middle."""
    ink = on_page(enlarged(cropped(digits.images[number]) / 255, 8), random, 260, 300)
    line = Image.new("L", (300, 260), 0)
    y, fill = int(random.integers(60, 205)), int(255 * random.uniform(0.6, 1))
    end = y + random.uniform(-4, 4)
    ImageDraw.Draw(line).line((0, y, 300, end), fill=fill, width=int(random.integers(1, 5)))
    ink = np.maximum(ink, np.asarray(line) / 255)
    return on_paper(ink, random), str(digits.labels[number])


def side_by_side(digits: Split, number: int, random: np.random.Generator) -> Example:
    """Two digits, 12 to 80% of their height apart."""
    parts = [cropped(digits.images[(7 * number + n) % len(digits)]) / 255 for n in (0, 131)]
    row = np.zeros((40, 80))
    left = 6
    for part in parts:
        top = 10 + int(random.integers(-3, 4))
        row[top : top + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + round(20 * random.uniform(0.12, 0.8))
    return on_paper(enlarged(row, int(random.integers(2, 7))), random), "several digits"


def stacked(digits: Split, number: int, random: np.random.Generator) -> Example:
    """Two digits, one above the other, 40 to 100% of their height apart."""
    parts = [cropped(digits.images[(7 * number + n) % len(digits)]) / 255 for n in (0, 131)]
    column = np.zeros((80, 40))
    top = 5
    for part in parts:
        column[top : top + part.shape[0], 10 : 10 + part.shape[1]] = part
        top += part.shape[0] + round(20 * random.uniform(0.4, 1))
    return on_paper(enlarged(column, 4), random), "several digits"


def empty_box(digits: Split, number: int, random: np.random.Generator) -> Example:
    """The box of a form: drawn with sharp, round or careless corners, half of them turned."""
    height, width = (int(side) for side in random.integers(60, 400, 2))
    image = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(image)
    line = int(random.integers(1, max(2, min(height, width) // 20)))
    left, top, right, bottom = random.uniform(0.02, 0.25, 4)
    x0, y0, x1, y1 = left * width, top * height, (1 - right) * width, (1 - bottom) * height
    match random.integers(0, 3):
        case 0:
            draw.rectangle((x0, y0, x1, y1), outline=255, width=line)
        case 1:
            draw.rounded_rectangle((x0, y0, x1, y1), (y1 - y0) * 0.1, outline=255, width=line)
        case _:
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            corners += random.normal(0, 0.01 * min(height, width), (4, 2))
            points = [(float(x), float(y)) for x, y in [*corners, corners[0]]]
            draw.line(points, fill=255, width=line)
    ink = np.asarray(image) / 255
    if random.random() < 0.5:
        ink = ndimage.rotate(ink, random.uniform(-2, 2), reshape=False, order=1)
    return on_paper(ink, random, random.uniform(0, 0.03)), "empty"


def filled(digits: Split, number: int, random: np.random.Generator) -> Example:
    """Cropped to the ink, not enlarged, one of the two polarities."""
    image = cropped(digits.images[number])
    return (255 - image if random.random() < 0.5 else image), str(digits.labels[number])


HARDER: dict[str, Callable[[Split, int, np.random.Generator], Example]] = {
    "ruled paper": ruled,
    "one line across": underlined,
    "two digits side by side": side_by_side,
    "two digits stacked": stacked,
    "an empty box": empty_box,
    "cropped, 20 pixels high": filled,
    "cropped, 8 pixels high": filled,
}


def eight_pixels() -> Split:
    """scikit-learn's digits."""
    rows, labels = load_digits(return_X_y=True)
    return Split((rows.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8), labels)


def harder(model: str, count: int = 400) -> None:
    predictor = lenet.Predictor(model)
    training = lenet.data.load("mnist").train[50_000:]
    print("                          right  sure  right of these  refused")
    for name, kind in HARDER.items():
        random = np.random.default_rng(1)
        digits = eight_pixels() if "8 pixels" in name else training
        examples = [kind(digits, number, random) for number in range(count)]
        answers = [predictor.predict(picture) for picture, _ in examples]
        given = [answer.reason if answer.label is None else answer.label for answer in answers]
        right = np.array([a == e for a, (_, e) in zip(given, examples, strict=True)])
        sure = np.array([not answer.rejected for answer in answers])
        refused = sum(answer.label is None for answer in answers)
        share = f"{right[sure].mean():.1%}" if sure.any() else "-"
        print(
            f"{name:24} {right.mean():6.1%} {sure.mean():6.1%} {share:>13} {refused:8}", flush=True
        )


def main(model: str) -> None:
    test = lenet.data.load("mnist").test[::10]
    predictor = lenet.Predictor(model)
    straight = predictor.scores(test.images).argmax(axis=1)
    print(f"the arrays themselves              {(straight == test.labels).mean():.1%}")
    print("                                   right  same answer  sure  right of these  no digit")
    for name, kind in KINDS.items():
        random = np.random.default_rng(0)
        answers = [predictor.predict(as_jpeg(kind(i / 255, random))) for i in test.images]
        labels = np.array([-1 if a.label is None else int(a.label) for a in answers])
        right, sure = labels == test.labels, np.array([not a.rejected for a in answers])
        print(
            f"{name:34} {right.mean():6.1%}  {(labels == straight).mean():10.1%}  "
            f"{sure.mean():5.1%}  {right[sure].mean():13.1%}  {(labels < 0).sum():8}",
            flush=True,
        )


if __name__ == "__main__":
    (harder if "--harder" in sys.argv else main)(sys.argv[1])
