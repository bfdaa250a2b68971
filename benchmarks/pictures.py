"""How well pictures of other kinds than MNIST's are read: `python benchmarks/pictures.py MODEL`.

Every tenth MNIST test image becomes a file of each kind (larger, off-centre, in uneven light,
photographed, thin, thick ...), with a fixed seed. Printed is the share that a trained network,
a run folder for example, reads right through the preprocessor. Needs SciPy.
"""

import io
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import lenet

Ink = NDArray[np.float64]  # (height, width), 0 is paper and 1 is full ink
Kind = Callable[[Ink, np.random.Generator], Ink]


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
    main(*sys.argv[1:])
