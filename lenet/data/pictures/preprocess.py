"""From any picture of one digit to the 28x28 pixels that networks expect, step by step.

The makers of MNIST took binary pictures of about 128x128 pixels, fitted each digit into a 20x20
box, keeping its aspect (the grey levels come from antialiasing), and placed it in a 28x28 field
with its centre of mass in the middle (LeCun et al. 1998, section III-A). This module does the same
for photographs, scans and drawings, after it has found the ink.

    load_picture  ->  reduce  ->  foreground  ->  components of the digit  ->  crop
                  ->  normalise the strokes  ->  fit into 20x20  ->  centre in 28x28

Arrays are uint8 (height, width); boxes are (left, top, right, bottom), right and bottom excluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures.components import (
    bounding_box,
    find_digit,
    grow,
    stroke_thickness,
    without_rules,
)
from lenet.data.pictures.decoding import (
    Box,
    Gray,
    Picture,
    Source,
    crop,
    fit,
    load_picture,
    load_planes,
    outline,
    shrink,
)
from lenet.data.pictures.foreground import NOISE_SIGMAS, NoDigitError, above, find_foreground
from lenet.errors import LenetError

REASONS = ("empty", "several digits", "not a digit")
MIN_SIDE = 4  # pixels; nothing smaller can show a digit
WORKING_SIDE = 320  # pixels; larger pictures are reduced by 2, 3, 4 ... to this at most
CLOSER_SIDE = 100  # pixels; smaller digits get a second look at a higher resolution
CLOSER_MARGIN = 0.6  # of the digit's longer side, on each side of it, for that second look
# A component that fills this share of its box is a sheet of paper (MNIST: 0.74 at most, narrow
# digits aside) unless it is narrower than the aspect; the margin keeps the sheet's edges out of the
# second look.
SHEET_FILL, SHEET_ASPECT, SHEET_MARGIN = 0.82, 0.5, 0.04
# Edges of strokes that are paler than the threshold: in a picture of MNIST's size, pale pixels
# around the digit belong to it; in larger pictures they are a blurred edge, cut at a quarter.
FAINTEST, FAINT_EDGE = 0.09, 0.25
SHARPEN_CUT = 0.25  # ink below this becomes 0, above 1 - this becomes 1 ...
SHARPEN_FULL = 4.0  # ... when a pixel of the 20x20 box spans this many
FIELD, FIT = 28, 20
CENTRE = 14.0  # centres of mass are uniform in 13.5 .. 14.5 (index coordinates, first pixel = 0)
# Stroke thickness in pixels of the 20x20 box, 2 * ink / length of outline: mean 2.7, 5% below 2.0,
# 5% above 3.9.
THINNEST, THICKEST = 2.0, 3.9
OUTLINE_PIXELS = 3  # pixels per pixel of the box where outlines are measured, with rough edges ...
PEN_PIXELS = 8  # ... and where strokes are made thicker or thinner


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """What `preprocess` made of a picture.

    Attributes:
        size: (width, height) of the picture.
        image: uint8 (28, 28), ink 255 on 0, or None if there is not one digit; whole pictures may
            have another size, and colour (3, H, W).
        reason: why `image` is None: one of `REASONS`; None otherwise. "empty": blank, too pale, an
            empty box or sheet; "several digits": side by side; "not a digit": too small, noise,
            texture, text, a filled patch.
        steps: uint8 (height, width) by name, in order, up to the last one made: "grayscale",
            "ink" (bright on black, lighting evened), "marks" (255: the digit; 96: other marks),
            "cropped", "strokes" (only if their thickness was changed), "20x20", "28x28". "ink" and
            "marks" show a part of the picture if the digit was small or on a sheet of paper.
        polarity: "dark on light" or "light on dark"; None if it is not known.
        box: (left, top, right, bottom) of the digit, or of the whole picture if none was searched
            for, in pixels of the picture.
        shift: (x, y) of the fitted part's first pixel in the 28x28 field.
    """

    size: tuple[int, int]
    image: NDArray[np.uint8] | None = None
    reason: str | None = None
    steps: dict[str, Gray] = field(default_factory=dict)
    polarity: str | None = None
    box: Box | None = None
    shift: tuple[int, int] | None = None


def preprocess(source: Source) -> Preprocessed:
    """Makes 28x28 pixels as in MNIST from any picture of one digit.

    `source` and errors are those of `load_picture`. A picture without a digit is not an error: the
    result's `image` is None, and `reason` says why.
    """
    picture = load_picture(source)
    gray = picture.gray
    steps = {"grayscale": gray}
    try:
        look = look_at(gray, steps)
        if sheet := region_inside(look):
            look = look_inside(gray, sheet, look.polarity, steps)
        elif region := closer_region(look, gray):
            look = look_at(crop(gray, region), steps).moved(region)
    except NoDigitError as error:
        return Preprocessed(picture.size, reason=str(error), steps=steps)
    image, shift = normalise(look.digit, steps)
    box = in_picture(look.box, picture)
    return Preprocessed(picture.size, image, None, steps, look.polarity, box, shift)


def preprocess_plain(source: Source, side: int = FIELD, color: bool = False) -> Preprocessed:
    """Makes side x side pixels of a whole picture, aspect kept, the rest black.

    Grey pictures become bright on black, as in Fashion-MNIST; with `color` the image is uint8
    (3, side, side) with the picture's own colours. `source` and errors are those of `load_picture`.
    """
    steps: dict[str, Gray] = {}
    size: tuple[int, int]
    if color:
        planes = load_planes(source)
        size = planes[0].shape[1], planes[0].shape[0]
        steps["picture"] = np.dstack(planes)
    else:
        picture = load_picture(source)
        planes, size = [picture.gray], picture.size
        steps["grayscale"] = picture.gray
        if np.median(outline(picture.gray)) > 127:  # photographed on a light background
            planes = [255 - picture.gray]
            steps["inverted"] = planes[0]
    fitted = [fit(plane, side) for plane in planes]
    height, width = fitted[0].shape
    shift = ((side - width) // 2, (side - height) // 2)
    placed = [place(plane, shift, side) for plane in fitted]
    steps[f"{side}x{side}"] = np.dstack(placed) if color else placed[0]
    image = np.stack(placed) if color else placed[0]
    return Preprocessed(size, image, steps=steps, box=(0, 0, *size), shift=shift)


def preprocess_none(source: Source) -> Preprocessed:
    """Takes a picture of 28x28 pixels unchanged, ink bright on black.

    `source` and errors are those of `load_picture`; other sizes raise LenetError.
    """
    image = load_picture(source).gray
    if image.shape != (FIELD, FIELD):
        height, width = image.shape
        raise LenetError(
            f"without preprocessing a picture must have 28x28 pixels, not {width}x{height}"
        )
    size = (FIELD, FIELD)
    return Preprocessed(size, image, steps={"28x28": image}, box=(0, 0, *size), shift=(0, 0))


@dataclass(frozen=True, eq=False)
class Look:
    """A digit found in a picture."""

    digit: Gray  # its ink alone, cropped to it
    box: Box  # in the picture
    reduced: int  # pixels of the picture averaged to one, on each axis
    polarity: str

    def moved(self, region: Box) -> Look:
        """The same in a larger picture, of which the picture was a region."""
        (x, y), (left, top, right, bottom) = region[:2], self.box
        return replace(self, box=(left + x, top + y, right + x, bottom + y))


def look_at(gray: Gray, steps: dict[str, Gray]) -> Look:
    """Finds one digit; adds "ink" and "marks" to `steps`. Raises NoDigitError."""
    if cv2.minMaxLoc(gray)[0] == cv2.minMaxLoc(gray)[1]:
        raise NoDigitError("empty")
    if min(gray.shape) < MIN_SIDE:
        raise NoDigitError("not a digit")
    reduced = math.ceil(max(gray.shape) / WORKING_SIDE)
    foreground = find_foreground(reduce(gray, reduced))
    ink = without_rules(foreground.ink, foreground.threshold)
    steps["ink"] = cv2.convertScaleAbs(ink, alpha=255 / ink.max())
    marks = above(ink, foreground.threshold)
    digit = find_digit(ink, foreground.threshold)
    steps["marks"] = digit | marks & 96
    left, top, right, bottom = bounding_box(digit)
    pixel = max(right - left, bottom - top) / FIT  # of the 20x20 box, in pixels of this picture
    region = around((left, top, right, bottom), round(pixel) + 1, ink.shape)
    ink, digit = crop(ink, region), crop(digit, region)
    level = float(np.median(ink[digit > 0]))
    digit = grow(digit, above(ink, FAINT_EDGE * level), round(pixel))
    digit = grow(digit, above(ink, max(FAINTEST * level, NOISE_SIGMAS * foreground.noise)), 1)
    box = bounding_box(digit)
    digit = crop(cv2.LUT(ink, sharper(level, pixel)) & digit, box)
    x, y = region[:2]
    box = (box[0] + x, box[1] + y, box[2] + x, box[3] + y)
    return Look(digit, tuple(side * reduced for side in box), reduced, foreground.polarity)


def reduce(gray: Gray, factor: int) -> Gray:
    """Averages squares of pixels; drops the remainder at the right and the bottom."""
    height, width = (max(side // factor, 1) for side in gray.shape)
    part = gray[: height * factor, : width * factor]
    return part if factor == 1 else cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)


def around(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """The box with a margin, within the picture."""
    left, top, right, bottom = box
    height, width = shape
    left, top = max(0, left - margin), max(0, top - margin)
    return left, top, min(width, right + margin), min(height, bottom + margin)


def sharper(level: float, pixel: float) -> NDArray[np.uint8]:
    """A table that scales ink to make `level` full ink. If a pixel of the 20x20 box spans several
    pixels, the ink becomes nearly binary, as in the makers' pictures: the grey levels then come
    from averaging."""
    cut = SHARPEN_CUT * min(max((pixel - 1) / (SHARPEN_FULL - 1), 0), 1)
    scaled = (np.arange(256) / level - cut) / (1 - 2 * cut)
    return np.round(scaled.clip(0, 1) * 255).astype(np.uint8)


def region_inside(look: Look) -> Box | None:
    """The inside of the digit's box, if it is not strokes but a sheet of paper or a lit field."""
    shape = look.digit.shape
    if look.digit.mean() < SHEET_FILL * 255 or min(shape) < SHEET_ASPECT * max(shape):
        return None
    left, top, right, bottom = look.box
    margin = math.ceil(SHEET_MARGIN * max(right - left, bottom - top))
    if min(right - left, bottom - top) - 2 * margin < MIN_SIDE:
        return None
    return left + margin, top + margin, right - margin, bottom - margin


def look_inside(gray: Gray, sheet: Box, polarity: str, steps: dict[str, Gray]) -> Look:
    """Finds the digit on a sheet of paper. Raises NoDigitError if there is only the sheet."""
    try:
        return look_at(crop(gray, sheet), steps).moved(sheet)
    except NoDigitError:
        empty = polarity == "light on dark"  # paper on a desk; else a patch of ink
        raise NoDigitError("empty" if empty else "not a digit") from None


def closer_region(look: Look, gray: Gray) -> Box | None:
    """The part of the picture for a second look, if the digit was too small in the first."""
    if max(look.digit.shape) >= CLOSER_SIDE or look.reduced == 1:
        return None
    left, top, right, bottom = look.box
    margin = math.ceil(CLOSER_MARGIN * max(right - left, bottom - top))
    return around(look.box, margin, gray.shape)


def in_picture(box: Box, picture: Picture) -> Box:
    """A box of `picture.gray` in the pixels of the picture itself."""
    height, width = picture.gray.shape
    x, y = picture.size[0] / width, picture.size[1] / height
    left, top, right, bottom = box
    right, bottom = math.ceil(right * x - 1e-6), math.ceil(bottom * y - 1e-6)
    return math.floor(left * x), math.floor(top * y), right, bottom


def normalise(digit: Gray, steps: dict[str, Gray]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The 28x28 image of a digit's ink, and its shift (x, y) (see `Preprocessed`)."""
    steps["cropped"] = digit
    drawn = shrink(digit, OUTLINE_PIXELS * FIT)
    thickness = stroke_thickness(drawn) * FIT / max(drawn.shape)
    if not THINNEST <= thickness <= THICKEST:
        change = min(max(thickness, THINNEST), THICKEST) - thickness
        digit = steps["strokes"] = change_thickness(digit, change)
    fitted = fit(digit, FIT)
    # The darkest pixel is full ink, as in every MNIST image.
    fitted = steps["20x20"] = cv2.convertScaleAbs(fitted, alpha=255 / max(int(fitted.max()), 1))
    shift = centring_shift(fitted)
    image = steps["28x28"] = place(fitted, shift)
    return image, shift


def change_thickness(ink: Gray, change: float) -> Gray:
    """Makes strokes thicker by `change` pixels of the 20x20 box (thinner if negative)."""
    radius = abs(change) / 2 * PEN_PIXELS
    margin = math.ceil(radius) + 1
    pen = np.pad(fit(ink, PEN_PIXELS * FIT), margin)
    changed = (cv2.dilate if change > 0 else cv2.erode)(pen, disc(radius))
    visible = above(changed, 25)
    return crop(changed, bounding_box(visible)) if visible.any() else ink


def disc(radius: float) -> Gray:
    """A round structuring element of that radius."""
    whole = math.floor(radius)
    y, x = np.mgrid[-whole : whole + 1, -whole : whole + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def centring_shift(fitted: Gray) -> tuple[int, int]:
    """The shift (x, y) in whole pixels that puts a fitted digit's centre of mass in the middle of
    the 28x28 field, with all its ink inside."""
    moments = cv2.moments(fitted)
    height, width = fitted.shape
    x, y = (round(CENTRE - moments[name] / moments["m00"]) for name in ("m10", "m01"))
    return min(max(x, 0), FIELD - width), min(max(y, 0), FIELD - height)


def place(digit: Gray, shift: tuple[int, int], side: int = FIELD) -> NDArray[np.uint8]:
    """The digit in an empty square field, its first pixel at `shift` (x, y)."""
    image = np.zeros((side, side), np.uint8)
    x, y = shift
    image[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
    return image
