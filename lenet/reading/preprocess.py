"""Any picture of one digit -> the 28x28 picture a digit network expects, every step kept.

The makers of MNIST took binary pictures of about 128x128 pixels, fitted each digit into a 20x20
box with its aspect kept (the grey levels come from the antialiasing), and placed it in a 28x28
field with its centre of mass in the middle (LeCun et al. 1998, section III-A). This module does
the same for photographs, scans and drawings, where the ink has to be found first.

    load_image  ->  reduce  ->  even the lighting  ->  find the marks of the digit  ->  crop
                ->  normalise the strokes  ->  fit into 20x20  ->  centre in 28x28

Only NumPy and Pillow are used. Arrays are (height, width); boxes are (left, top, right, bottom),
right and bottom excluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures import (
    Box,
    Picture,
    Source,
    crop,
    fit,
    load_image,
    outline,
    shrink,
    to_uint8,
)
from lenet.errors import LenetError
from lenet.reading.ink import (
    GREY_LEVEL,
    NOISE_SIGMAS,
    NoDigitError,
    extract_ink,
    find_background,
    find_threshold,
    noise_level,
)
from lenet.reading.marks import (
    FIT,
    bounding_box,
    change_thickness,
    choose_marks,
    extent,
    grow,
    stroke_thickness,
)

MIN_SIDE = 4  # pixels; nothing smaller can show a digit
WORKING_SIDE = 512  # pixels; the digit is sought at this size
CLOSER_SIDE = 100  # pixels; a digit found smaller than this is looked at again in a larger picture
CLOSER_MARGIN = 0.6  # of the digit's longer side, on each side of it, for that second look
# Ink over box above which a find is a sheet of paper (MNIST: 0.74 at most, but for narrow ones), if
# it is not narrower than the aspect; the margin keeps the sheet's edges out of the second look.
SHEET_FILL, SHEET_ASPECT, SHEET_MARGIN = 0.82, 0.5, 0.04
# Edges of strokes paler than the threshold: a picture of MNIST's size has pale pixels around the
# digit that belong to it; in larger pictures the same is a blurred edge, cut at a quarter.
FAINTEST, FAINT_EDGE = 0.09, 0.25
SHARPEN_CUT = 0.25  # ink below this becomes 0, above 1 - this becomes 1 ...
SHARPEN_FULL = 4.0  # ... when a pixel of the 20x20 box spans this many
FIELD = 28
CENTRE = 14.0  # centres of mass are uniform in 13.5 .. 14.5 (index coordinates, first pixel = 0)
# Stroke thickness in pixels of the 20x20 box, 2 * ink / length of outline: mean 2.7, 5% below 2.0,
# 5% above 3.9.
THINNEST, THICKEST = 2.0, 3.9
OUTLINE_PIXELS = 3  # pixels per pixel of the box at which outlines are measured: rough edges, seen


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """What `preprocess` made of a picture.

    Attributes:
        image: uint8 (28, 28), ink 255 on 0, or None if no digit was found.
        reason: why `image` is None ("no digit found: ..."); None otherwise.
        steps: name -> uint8 (height, width), in order, as far as the work got: "grayscale",
            "ink" (bright on black, lighting evened), "marks" (255: the digit; 96: marks left out),
            "cropped", "strokes" (only if their thickness was changed), "20x20", "28x28". "ink" and
            "marks" show a part of the picture if the digit was small or on a sheet of paper.
        polarity: "dark on light" or "light on dark"; None if the work ended before.
        threshold: ink level that separates marks from background, 0..1.
        box: (left, top, right, bottom) of the digit, or of the whole picture where none was sought,
            in pixels of the "grayscale" step.
        thickness: of the strokes as found, in pixels of the 20x20 box.
        centre: (x, y) centre of mass within the fitted digit, in pixels of the 20x20 box.
        shift: (x, y) where the fitted part's first column and row went in the 28x28 field.
    """

    image: NDArray[np.uint8] | None = None
    reason: str | None = None
    steps: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    polarity: str | None = None
    threshold: float | None = None
    box: Box | None = None
    thickness: float | None = None
    centre: tuple[float, float] | None = None
    shift: tuple[int, int] | None = None


def preprocess(source: Source) -> Preprocessed:
    """Makes a 28x28 picture in MNIST's manner from any picture of one digit.

    `source` is anything `load_image` takes; a picture that cannot be read raises LenetError. A
    picture without a digit is no error: the result's `image` is None and `reason` says why.
    """
    gray = load_image(source)
    result = Preprocessed(steps={"grayscale": to_uint8(gray)})
    steps = result.steps
    try:
        look = find_digit(gray, steps)
        if sheet := region_inside(look):
            look = look_inside(gray, sheet, steps)
        elif region := closer_region(look, gray):
            look = find_digit(crop(gray, region), steps).moved(region)
        result = replace(
            result, polarity=look.polarity, threshold=look.threshold, box=look.box_in_source
        )
        digit = crop(look.ink, look.box)
        steps["cropped"] = to_uint8(digit)
        drawn = shrink(digit, OUTLINE_PIXELS * FIT)
        thickness = stroke_thickness(drawn) * FIT / max(drawn.shape)
        if not THINNEST <= thickness <= THICKEST:
            digit = change_thickness(digit, np.clip(thickness, THINNEST, THICKEST) - thickness)
            steps["strokes"] = to_uint8(digit)
        fitted = stretch(fit(digit, FIT))
        steps["20x20"] = to_uint8(fitted)
        centre = centre_of_mass(fitted)
        shift = centring_shift(fitted.shape, centre)
        image = place(to_uint8(fitted), shift)
        steps["28x28"] = image
        return replace(result, image=image, thickness=thickness, centre=centre, shift=shift)
    except NoDigitError as none:
        return replace(result, reason=f"no digit found: {none}")


def preprocess_plain(source: Source) -> Preprocessed:
    """Makes a 28x28 picture of any thing, as Fashion-MNIST has them: bright on black, aspect kept.

    The whole picture is taken. `source` and errors are those of `load_image`.
    """
    gray = load_image(source)
    steps = {"grayscale": to_uint8(gray)}
    if np.median(outline(gray)) > 0.5:  # photographed on a light background
        gray = 1 - gray
        steps["inverted"] = to_uint8(gray)
    fitted = to_uint8(fit(gray, FIELD))
    height, width = fitted.shape
    shift = ((FIELD - width) // 2, (FIELD - height) // 2)
    image = place(fitted, shift)
    box = (0, 0, gray.shape[1], gray.shape[0])
    return Preprocessed(image=image, steps={**steps, "28x28": image}, box=box, shift=shift)


def preprocess_none(source: Source) -> Preprocessed:
    """Takes a picture of 28x28 pixels as it is, ink bright on black.

    `source` and errors are those of `load_image`; a picture of another size raises LenetError.
    """
    gray = load_image(source)
    if gray.shape != (FIELD, FIELD):
        height, width = gray.shape
        raise LenetError(
            f"without preprocessing a picture must have 28x28 pixels, not {width}x{height}"
        )
    image = to_uint8(gray)
    box = (0, 0, FIELD, FIELD)
    return Preprocessed(image=image, steps={"28x28": image}, box=box, shift=(0, 0))


@dataclass(frozen=True, eq=False)
class Look:
    """A digit found in a picture that was reduced `scale` times (x, y) for it."""

    ink: Picture  # 0..1, only the digit's, at the reduced size
    box: Box  # in `ink`
    scale: tuple[float, float]
    polarity: str
    threshold: float
    origin: tuple[int, int] = (0, 0)

    def moved(self, region: Box) -> Look:
        return replace(self, origin=region[:2])

    @property
    def box_in_source(self) -> Box:
        (left, top, right, bottom), (x, y) = self.box, self.scale
        x0, y0 = self.origin
        return (
            x0 + math.floor(left * x),
            y0 + math.floor(top * y),
            x0 + math.ceil(right * x - 1e-6),
            y0 + math.ceil(bottom * y - 1e-6),
        )


def find_digit(gray: Picture, steps: dict[str, NDArray[np.uint8]]) -> Look:
    """Finds one digit; adds "ink" and "marks" to `steps`. Raises NoDigitError."""
    if min(gray.shape) < MIN_SIDE:
        raise NoDigitError(f"the picture is too small ({gray.shape[1]}x{gray.shape[0]} pixels)")
    small = shrink(gray, WORKING_SIDE)
    if small.max() - small.min() < GREY_LEVEL:
        raise NoDigitError("the picture is blank")
    background, polarity = find_background(small)
    ink = extract_ink(small, background, polarity)
    noise = noise_level(ink)
    steps["ink"] = to_uint8(stretch(ink))
    threshold = find_threshold(ink, noise)
    marks = ink > threshold
    digit = choose_marks(marks, ink)
    steps["marks"] = np.where(digit, 255, np.where(marks, 96, 0)).astype(np.uint8)
    level = float(np.median(ink[digit]))
    pixel = max(extent(digit)) / FIT  # of the 20x20 box, in pixels of this picture
    digit = grow(digit, ink > FAINT_EDGE * level, round(pixel))
    digit = grow(digit, ink > max(FAINTEST * level, NOISE_SIGMAS * noise), 1)
    digit_ink = np.where(digit, sharpen(ink / level, pixel), 0).astype(np.float32)
    scale = (gray.shape[1] / small.shape[1], gray.shape[0] / small.shape[0])
    return Look(digit_ink, bounding_box(digit), scale, polarity, threshold)


def sharpen(ink: Picture, pixel: float) -> Picture:
    """Clips ink to 0..1, and makes it nearly binary, as the makers' pictures were, if a pixel of
    the 20x20 box spans several of its pixels: the grey levels then come from the averaging."""
    cut = SHARPEN_CUT * min(max((pixel - 1) / (SHARPEN_FULL - 1), 0), 1)
    return np.clip((ink - cut) / (1 - 2 * cut), 0, 1)


def region_inside(look: Look) -> Box | None:
    """The inside of what was found, if it is no stroke but a sheet of paper or a lit field."""
    found = crop(look.ink, look.box)
    if found.mean() < SHEET_FILL or min(found.shape) < SHEET_ASPECT * max(found.shape):
        return None
    left, top, right, bottom = look.box_in_source
    margin = math.ceil(SHEET_MARGIN * max(right - left, bottom - top))
    if min(right - left, bottom - top) - 2 * margin < MIN_SIDE:
        return None
    return left + margin, top + margin, right - margin, bottom - margin


def look_inside(gray: Picture, sheet: Box, steps: dict[str, NDArray[np.uint8]]) -> Look:
    """Finds the digit on a sheet of paper. Raises NoDigitError if there is only the sheet."""
    try:
        return find_digit(crop(gray, sheet), steps).moved(sheet)
    except NoDigitError:
        raise NoDigitError("there is one filled patch and nothing on it") from None


def closer_region(look: Look, gray: Picture) -> Box | None:
    """The part of the picture for a second look, if the first saw the digit too small."""
    left, top, right, bottom = look.box
    if max(right - left, bottom - top) >= CLOSER_SIDE or max(look.scale) <= 1:
        return None
    left, top, right, bottom = look.box_in_source
    margin = math.ceil(CLOSER_MARGIN * max(right - left, bottom - top))
    height, width = gray.shape
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(width, right + margin),
        min(height, bottom + margin),
    )


def stretch(ink: Picture) -> Picture:
    """Scales the ink so that the darkest pixel is full ink, as in every MNIST image."""
    return ink / max(float(ink.max()), 1e-6)


def centre_of_mass(ink: Picture) -> tuple[float, float]:
    """(x, y) in index coordinates: the first pixel's centre is (0, 0)."""
    total = float(ink.sum())
    x = float(ink.sum(0) @ np.arange(ink.shape[1])) / total
    y = float(ink.sum(1) @ np.arange(ink.shape[0])) / total
    return x, y


def centring_shift(shape: tuple[int, ...], centre: tuple[float, float]) -> tuple[int, int]:
    """The whole-pixel shift that brings `centre` to the field's middle, all ink kept inside."""
    height, width = shape
    x = min(max(round(CENTRE - centre[0]), 0), FIELD - width)
    y = min(max(round(CENTRE - centre[1]), 0), FIELD - height)
    return x, y


def place(digit: NDArray[np.uint8], shift: tuple[int, int]) -> NDArray[np.uint8]:
    """The digit in an empty 28x28 field, its first pixel at `shift` (x, y)."""
    image = np.zeros((FIELD, FIELD), np.uint8)
    x, y = shift
    image[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
    return image
