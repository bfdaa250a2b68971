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

import io
import math
import struct
import warnings
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet.errors import LenetError

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
Source = str | Path | bytes | BinaryIO | Image.Image | NDArray

# --- what is read ---------------------------------------------------------------------------

# Formats that decode inside Pillow; others (EPS, for one) would start programs. JPEG includes MPO,
# what many telephones write as .jpg.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")
MAX_BYTES = 200 * 2**20
MAX_PIXELS = 50_000_000  # a telephone's largest common photograph; checked before decoding
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue: Rec. 601, as Pillow converts
LOADED_SIDE = 2048  # larger pictures are averaged down to this while they are read
MIN_SIDE = 4  # pixels; nothing smaller can show a digit
# Everything Pillow is known to raise on files that are damaged or made to harm.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# Luminance spread of the visible part of a transparent picture above which it is taken for a
# picture with its own background (a photograph with round corners), not for ink alone.
OWN_BACKGROUND_SPREAD = 0.5

# --- where the ink is -----------------------------------------------------------------------

WORKING_SIDE = 512  # pixels; the digit is sought at this size
CLOSER_SIDE = 100  # pixels; a digit found smaller than this is looked at again in a larger picture
CLOSER_MARGIN = 0.6  # of the digit's longer side, on each side of it, for that second look
# Ink over box above which a find is a sheet of paper (MNIST: 0.74 at most, but for narrow ones), if
# it is not narrower than the aspect; the margin keeps the sheet's edges out of the second look.
SHEET_FILL, SHEET_ASPECT, SHEET_MARGIN = 0.82, 0.5, 0.04
LIGHTING_SIDE = 64  # pixels; enough for a surface with six coefficients
LIGHTING_ROUNDS = 12  # the reweighted fit changes by less than a grey level after this many
STROKE_LIMIT = 0.35  # of the side: strokes are narrower, shadows wider
NEARLY_AS_GOOD = 0.05  # of a separation of 1; between guesses at the light
BORDER_BAND = 0.08  # of the side: where background is likelier than ink ...
BORDER_WEIGHT = 4.0  # ... by about this much
GREY_LEVEL = 1 / 255
MIN_LIGHT = 0.1  # keeps the division by the background bounded in black shadows
NOISE_SIGMAS = 4.0  # what exceeds the background's noise by this is a mark
MIN_CONTRAST = 0.06  # of the way from background to full ink; below, JPEG and sensors make "ink"
MIN_SEPARATION = 4.5  # mark level / noise; Gaussian noise above 4 sigmas is 4.2 on average

# Edges of strokes paler than the threshold: a picture of MNIST's size has pale pixels around the
# digit that belong to it; in larger pictures the same is a blurred edge, cut at a quarter.
FAINTEST, FAINT_EDGE = 0.09, 0.25
SHARPEN_CUT = 0.25  # ink below this becomes 0, above 1 - this becomes 1 ...
SHARPEN_FULL = 4.0  # ... when a pixel of the 20x20 box spans this many

# --- which marks are the digit --------------------------------------------------------------

SPECK = 0.02  # of the largest mark's ink; smaller marks are dust
BRIDGE = 0.004  # of the picture's side, from both ends: gaps in a stroke that count as none
JOIN_GAP = 0.25  # of the digit's longer side: how far off a detached stroke may lie
LINE_LENGTH, LINE_WIDTH = 0.9, 0.1  # of the picture: ruled lines are longer and narrower than this
FRAME_REACH = 0.03  # of a frame's longer side: how far its lines stray from its box
FRAME_SIDE = 0.9  # of each side covered by its line
FRAME_COVER = 0.6  # of the picture's outline covered by one mark: a frame or the desk's edge
BESIDE_BORDER = 0.1  # of the largest mark's ink: so much off the border is preferred to one on it
MIN_SHARE = 0.35  # of all ink off lines and frames; with less, no digit stands out
PIECE, MAX_PIECES = 0.2, 8  # strokes of at least this share of the largest; more are text
MIN_MARK = 6  # pixels
# Stroke length over the box's longer side. MNIST: 2.1 on average, 3.7 at most; noise: 5.7 and up.
MAX_STROKE_LENGTH = 5.0

# --- what MNIST looks like (measured on the training images) ---------------------------------

FIELD = 28
FIT = 20
CENTRE = 14.0  # centres of mass are uniform in 13.5 .. 14.5 (index coordinates, first pixel = 0)
# Stroke thickness in pixels of the 20x20 box, 2 * ink / length of outline: mean 2.7, 5% below 2.0,
# 5% above 3.9.
THINNEST, THICKEST = 2.0, 3.9
OUTLINE_PIXELS = 3  # pixels per pixel of the box at which outlines are measured: rough edges, seen
# closer, would count as long outlines and make strokes look thin
PEN_PIXELS = 8  # and at which strokes are made thicker or thinner, and told from texture


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
        box: (left, top, right, bottom) of the digit in pixels of the "grayscale" step.
        thickness: of the strokes as found, in pixels of the 20x20 box.
        centre: (x, y) centre of mass within the fitted digit, in pixels of the 20x20 box.
        shift: (x, y) where the fitted digit's first column and row went in the 28x28 field.
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


class NoDigitError(Exception):
    """Ends the work; the message is the reason."""


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
    image = place(fitted, ((FIELD - width) // 2, (FIELD - height) // 2))
    return Preprocessed(image=image, steps={**steps, "28x28": image})


# --- reading --------------------------------------------------------------------------------


def load_image(source: Source) -> Picture:
    """Reads a picture as float32 (height, width) luminance, 0 (black) .. 1 (white).

    `source` is a path, the bytes of a file, a binary file object, a Pillow image, or an array:
    2-D, (H, W, 3) or (H, W, 4) of bool, uint8, uint16, other integers, or floats. Files: PNG,
    JPEG, GIF (first frame), WebP, TIFF (first page), BMP, PPM; EXIF orientation is applied.

    Luminance is Rec. 601's (0.299 R + 0.587 G + 0.114 B), in the values the file stores (no
    gamma is undone). Values whose range no format fixes (32-bit integers, floats outside 0..1)
    are stretched so that the smallest becomes 0 and the largest 1. Transparent parts get a
    background on which the visible parts can be seen (`flatten_alpha`). Pictures with a side over
    2048 pixels are averaged down to that.

    Raises LenetError, with the file's name and the remedy, for everything that is no such picture.
    """
    if isinstance(source, np.ndarray):
        return load_array(source)
    if isinstance(source, Image.Image):
        return decode(source, "the picture")
    data, name = read_bytes(source)
    if not data:
        raise LenetError(f"{name} is empty; give a PNG or JPEG file")
    try:
        # Pillow warns of large pictures and odd metadata; the limit below is the stricter one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            check_size(image, name)
            image.draft("L", (LOADED_SIDE, LOADED_SIDE))  # JPEG only: decodes at 1/2, 1/4, 1/8
    except LenetError:
        raise
    except UnidentifiedImageError:
        raise LenetError(
            f"{name} is not a picture that can be read (PNG, JPEG, GIF, WebP, TIFF, BMP, PPM); "
            "save it as PNG or JPEG"
        ) from None
    except Image.DecompressionBombError:
        raise LenetError(too_large(name)) from None
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None
    return decode(image, name)


def read_bytes(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    """The file's bytes and the name to call it by in messages."""
    if isinstance(source, bytes):
        return bytes(source), "the picture"
    if isinstance(source, str | Path):
        name = str(source)
        try:
            with Path(source).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise LenetError(f"{name}: no such file; check the path") from None
        except IsADirectoryError:
            raise LenetError(f"{name} is a folder; name a picture file in it") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LenetError(f"{name} cannot be opened ({reason}); check the path") from None
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the picture"))
        try:
            data = source.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise LenetError(f"{name} cannot be read ({error}); open it again") from None
        if not isinstance(data, bytes):
            raise LenetError(f"{name} is open as text; open it in binary mode, open(path, 'rb')")
    else:
        raise LenetError(
            f"a {type(source).__name__} is no picture; give a path, bytes, a binary file, "
            "a Pillow image or a NumPy array"
        )
    if len(data) > MAX_BYTES:
        raise LenetError(f"{name} has more than {MAX_BYTES >> 20} MiB; make the picture smaller")
    return data, name


def damaged(name: str, error: BaseException) -> str:
    return f"{name} is damaged or cut off ({error or type(error).__name__}); save or copy it again"


def too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS:,} pixels; make the picture smaller"


def check_size(image: Image.Image, name: str) -> None:
    """Refuses pictures without pixels or with too many, before they are decoded."""
    width, height = image.size
    if width < 1 or height < 1:
        raise LenetError(f"{name} has no pixels ({width}x{height}); give another picture")
    if width * height > MAX_PIXELS:
        raise LenetError(too_large(name))


def decode(image: Image.Image, name: str) -> Picture:
    """Pixels of an opened image -> luminance, not larger than LOADED_SIDE."""
    check_size(image, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return luminance(ImageOps.exif_transpose(image))
    except LenetError:
        raise
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None


def luminance(image: Image.Image) -> Picture:
    """A decoded image of any mode -> luminance, not larger than LOADED_SIDE."""
    if image.mode in ("I", "F"):
        return shrink(unit_range(np.asarray(image)), LOADED_SIDE)
    if image.mode.startswith("I;16"):
        return shrink(np.asarray(image).astype(np.float32) / np.float32(65535), LOADED_SIDE)
    if image.mode == "LAB":
        image = image.getchannel("L")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() == (255, 255):  # nothing is transparent
            image = image.convert("RGB")
    elif image.mode != "L":
        image = image.convert("L") if image.mode in ("1", "RGB") else image.convert("RGB")
    factor = max(image.size) // LOADED_SIDE
    if factor > 1:
        image = image.reduce(factor)
    if image.mode == "RGBA":
        gray = np.asarray(image.convert("RGB").convert("L"), np.float32) / np.float32(255)
        alpha = np.asarray(image.getchannel("A"), np.float32) / np.float32(255)
        gray = flatten_alpha(gray, alpha)
    else:
        gray = np.asarray(image.convert("L"), np.float32) / np.float32(255)
    return shrink(gray, LOADED_SIDE)


def load_array(array: NDArray) -> Picture:
    """An array of any accepted shape and type -> luminance, not larger than LOADED_SIDE."""
    shape = "x".join(map(str, array.shape)) or "()"
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise LenetError(f"an array of shape {shape} is no picture; give HxW, HxWx3 or HxWx4")
    if array.size == 0:
        raise LenetError(f"an array of shape {shape} has no pixels; give another picture")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise LenetError(too_large("the array"))
    if array.dtype.kind == "u" and array.itemsize == 1:
        values = array.astype(np.float32) / np.float32(255)
    elif array.dtype.kind == "u" and array.itemsize == 2:
        values = array.astype(np.float32) / np.float32(65535)
    elif array.dtype.kind in "biuf":
        values = unit_range(array)
    else:
        raise LenetError(f"an array of {array.dtype} is no picture; give uint8, uint16 or float")
    if values.ndim == 3:
        gray = (values[..., :3] @ LUMINANCE).astype(np.float32)
        values = flatten_alpha(gray, values[..., 3]) if values.shape[2] == 4 else gray
    return shrink(values, LOADED_SIDE)


def unit_range(values: NDArray) -> Picture:
    """Floats in 0..1 (and bool) as they are; everything else stretched to 0..1."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise LenetError("the picture holds NaN or infinite values; replace them by numbers")
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        # Halved first, so that the span of extreme floats stays finite.
        values = (values / 2 - low / 2) / (high / 2 - low / 2) if high > low else values * 0
    return values.astype(np.float32)


def flatten_alpha(gray: Picture, alpha: Picture) -> Picture:
    """Puts a partly transparent picture on a background from which its visible part differs.

    Ink alone (little spread in luminance) goes on white if it is dark and on black if it is
    light. A picture that shows ink and paper goes on its own median, the paper.
    """
    visible = gray[alpha >= 0.5]
    if visible.size == 0:
        visible = gray[alpha > 0]
    if visible.size == 0:
        return np.ones_like(gray)
    low, middle, high = np.percentile(visible, (5, 50, 95))
    ink_alone = high - low <= OWN_BACKGROUND_SPREAD
    background = (0.0 if middle > 0.5 else 1.0) if ink_alone else middle
    return (alpha * gray + (1 - alpha) * background).astype(np.float32)


# --- finding the digit ----------------------------------------------------------------------


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


def find_background(gray: Picture) -> tuple[Picture, str]:
    """The background's luminance, and the polarity: "dark on light" or "light on dark".

    Tries even light, smooth light and light with shadows. The best guess is the one that splits
    the picture most cleanly in two levels and leaves the least ink on the picture's outline.
    """
    small = shrink(gray, LIGHTING_SIDE)
    smooth = smooth_lighting(small)
    if np.abs(small - smooth).max() < 2 * GREY_LEVEL:  # light alone: no guess can do better
        return enlarge(smooth, gray.shape), "dark on light"
    split = small.min() + otsu(small - small.min())
    darker, lighter = beyond_outline(small - smooth)
    guesses = [
        (np.full_like(small, commonest(small[small > split])), "dark on light"),
        (np.full_like(small, commonest(small[small <= split])), "light on dark"),
        (smooth, polarity_on(smooth, small)),
        (without_strokes(small), "dark on light")
        if darker >= lighter
        else (1 - without_strokes(1 - small), "light on dark"),
    ]
    scores = []
    for background, polarity in guesses:
        ink = extract_ink(small, background, polarity)
        marks = ink > otsu(ink)
        scores.append(separation(ink, marks) * float(1 - outline(marks).mean()))
    # The first, and so simplest, of those that are about as good as the best.
    best = next(n for n, score in enumerate(scores) if score >= max(scores) - NEARLY_AS_GOOD)
    background, polarity = guesses[best]
    return enlarge(background, gray.shape), polarity


def commonest(values: Picture) -> float:
    """The value around which most values lie."""
    bins = np.minimum((values * 32).astype(np.int64), 31)
    peak = int(np.argmax(np.bincount(bins)))
    return float(np.median(values[abs(bins - peak) <= 1]))


def outline(picture: NDArray) -> NDArray:
    """The values along the picture's four sides."""
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])


def beyond_outline(gray: Picture) -> tuple[float, float]:
    """How much darker and how much lighter than its outline a picture gets inside."""
    low, high = gray.min(), gray.max()
    outline_low, outline_high = np.percentile(outline(gray), (10, 90))
    return float(outline_low - low), float(high - outline_high)


def smooth_lighting(gray: Picture) -> Picture:
    """A quadratic surface fitted to most of the picture: a lamp to one side, a lens's vignette.

    Robust: least absolute deviations by reweighting, the border (where ink is rare) counting
    more, then least squares on what lies within the noise.
    """
    height, width = gray.shape
    surfaces = surface_terms(height, width)
    terms = surfaces.reshape(6, -1).T
    values = gray.ravel().astype(np.float64)
    x, y = np.abs(surfaces[1:3])  # scaled below so that the outermost pixels reach 1
    x, y = x * width / max(width - 1, 1), y * height / max(height - 1, 1)
    border = (np.maximum(x, y) >= 1 - 2 * BORDER_BAND).ravel()
    prior = np.where(border, BORDER_WEIGHT, 1.0)
    residual = values - np.median(values[border])
    for _ in range(LIGHTING_ROUNDS):
        weights = prior / np.maximum(np.abs(residual), GREY_LEVEL)
        coefficients = weighted_fit(terms, values, weights)
        residual = values - terms @ coefficients
    noise = max(1.4826 * float(np.median(np.abs(residual))), GREY_LEVEL)
    within = (np.abs(residual) < 3 * noise).astype(np.float64)
    coefficients = weighted_fit(terms, values, within)
    surface = np.tensordot(coefficients, surfaces, 1)
    return np.clip(surface, 0, 1).astype(np.float32)


def without_strokes(gray: Picture) -> Picture:
    """The paper under dark ink, with its shadows: the closing of the picture.

    The closing (highest value in a window, then lowest of those) fills everything dark that is
    narrower than the window, the strokes, and keeps the edges of shadows.
    """
    reach = round(STROKE_LIMIT * max(gray.shape) / 2)
    closed = -highest(-highest(gray, reach), reach)
    # Noise lifts the closing. Paper makes up the better half, where least was filled.
    return np.clip(closed + np.float32(np.quantile(gray - closed, 0.75)), 0, 1)


def highest(picture: Picture, reach: int) -> Picture:
    """The highest value in the square of pixels up to `reach` away."""
    top = picture.max()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        # Slopes go on beyond the border, so that a dark corner is not taken for something dark.
        padded = np.minimum(np.pad(picture, pad, mode="reflect", reflect_type="odd"), top)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis)
        picture = windows.max(-1)
    return picture


def surface_terms(height: int, width: int) -> NDArray[np.float64]:
    """1, x, y, x^2, xy, y^2 at the pixels' centres, x and y in -1..1: (6, height, width)."""
    y, x = np.meshgrid(
        (2 * np.arange(height) + 1) / height - 1,
        (2 * np.arange(width) + 1) / width - 1,
        indexing="ij",
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def weighted_fit(
    terms: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    weighted = terms.T * weights
    # The small ridge keeps the system solvable when few pixels are left.
    ridge = 1e-9 * weights.sum() * np.eye(terms.shape[1])
    return np.linalg.solve(weighted @ terms + ridge, weighted @ values)


def polarity_on(background: Picture, gray: Picture) -> str:
    """Whether what differs from the background is mostly darker or lighter than it."""
    difference = gray - background
    noise = 1.4826 * float(np.median(np.abs(difference)))
    limit = max(3 * noise, 2 * GREY_LEVEL)
    lighter = difference[difference > limit].sum()
    darker = -difference[difference < -limit].sum()
    return "light on dark" if lighter > darker else "dark on light"


def extract_ink(gray: Picture, background: Picture, polarity: str) -> Picture:
    """How far each pixel is from the background (0) towards full ink (1); noise may be below 0."""
    if polarity == "dark on light":
        return (background - gray) / np.clip(background, MIN_LIGHT, 1)
    return (gray - background) / np.clip(1 - background, MIN_LIGHT, 1)


def noise_level(ink: Picture) -> float:
    """Standard deviation of the background: from what lies below it, where no ink can be."""
    below = ink[ink < 0]
    if below.size < ink.size / 10:
        return 0.0
    return 1.4826 * float(np.median(-below))


def find_threshold(ink: Picture, noise: float) -> float:
    """Otsu's threshold, above the noise. Raises NoDigitError if nothing stands out."""
    threshold = max(otsu(ink), NOISE_SIGMAS * noise)
    marks = ink > threshold
    peak = float(ink.max())
    if peak < MIN_CONTRAST:
        raise NoDigitError("too little contrast between ink and background")
    if not marks.any() or float(ink[marks].mean()) < MIN_SEPARATION * noise:
        raise NoDigitError("the picture looks like noise or texture")
    if float(ink[marks].mean()) < MIN_CONTRAST:
        raise NoDigitError("too little contrast between ink and background")
    return threshold


def otsu(values: Picture) -> float:
    """The level that splits the values into two classes of greatest between-class variance.

    Values below 0, background that is brighter than itself, count as 0.
    """
    top = max(float(values.max()), 1e-6)
    bins = (np.clip(values, 0, None) * (255.99 / top)).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)[:-1]
    sum_below = np.cumsum(counts * np.arange(256))[:-1]
    mean = float(counts @ np.arange(256)) / values.size
    between = (sum_below - below * mean) ** 2 / np.maximum(below * (values.size - below), 1)
    # Empty bins between the classes make a plateau; its middle is the fairest choice.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return ((best[0] + best[-1]) / 2 + 1) / 256 * top


def separation(values: Picture, upper: Mask) -> float:
    """Between-class variance of two classes over the whole: 0 (mixed) .. 1 (two levels)."""
    share = float(upper.mean())
    if not 0 < share < 1:
        return 0.0
    difference = float(values[upper].mean() - values[~upper].mean())
    return share * (1 - share) * difference**2 / float(values.var())


def choose_marks(marks: Mask, ink: Picture) -> Mask:
    """The marks that make up the digit: the largest, with what lies close to it.

    Specks, ruled lines, frames and marks on the border (if one off the border is left) are not
    part of it. Raises NoDigitError if no digit stands out.
    """
    bridged, count = label(grow(marks, np.True_, round(BRIDGE * max(marks.shape))))
    labels = np.where(marks, bridged, 0)
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count + 1)[1:]
    mass = np.bincount(flat, weights=np.maximum(ink, 0).ravel(), minlength=count + 1)[1:]
    boxes = component_boxes(labels, count)
    height, width = marks.shape
    spans = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], 1) / (width, height)
    lines = (spans.max(1) >= LINE_LENGTH) & (spans.min(1) <= LINE_WIDTH)
    on_outline = outline(labels)
    cover = np.bincount(on_outline, minlength=count + 1)[1:] / on_outline.size
    frames = (cover >= FRAME_COVER) | enclosing_frames(labels, boxes, area, mass)
    if frames.all():
        raise NoDigitError("the marks are a frame along the picture's edges")
    lines &= ~frames
    if (lines | frames).all():
        lines[:] = False  # nothing but one long stroke: a 1
    strokes = ~lines & ~frames
    if mass[strokes].max() < SPECK * mass[lines].max(initial=0.0):
        strokes |= lines  # a line with dust beside it: a 1
    inner = strokes & (cover == 0)
    if inner.any() and mass[inner].max() >= BESIDE_BORDER * mass[strokes].max():
        strokes = inner
    main = int(np.argmax(np.where(strokes, mass, -1)))
    candidates = strokes & (mass >= SPECK * mass[main])
    chosen = join(boxes, main, candidates)
    if area[chosen].sum() < MIN_MARK:
        raise NoDigitError("there are only specks")
    pieces = (mass[chosen] > PIECE * mass[main]).sum()
    if mass[chosen].sum() < MIN_SHARE * mass[strokes].sum() or pieces > MAX_PIECES:
        raise NoDigitError("many marks and none stands out; crop the picture to one digit")
    digit = np.concatenate([[False], chosen])[labels]
    drawn = shrink(crop(digit, bounding_box(digit)).astype(np.float32), PEN_PIXELS * FIT)
    if drawn.sum() / stroke_thickness(drawn) > MAX_STROKE_LENGTH * max(drawn.shape):
        raise NoDigitError("the picture looks like noise or texture")
    return digit


def enclosing_frames(
    labels: NDArray[np.int64],
    boxes: NDArray[np.int64],
    area: NDArray[np.int64],
    mass: NDArray,
) -> Mask:
    """Which components are the box of a form: along their own bounding box, with a mark inside."""
    frames = np.zeros(len(boxes), bool)
    for n in np.flatnonzero(mass >= SPECK * mass.max()):
        left, top, right, bottom = boxes[n]
        reach = math.ceil(FRAME_REACH * max(right - left, bottom - top))
        own = labels[top:bottom, left:right] == n + 1
        if min(own.shape) <= 4 * reach or area[n] > own.size / 2:
            continue
        sides = [
            own[:reach].any(0),
            own[-reach:].any(0),
            own[:, :reach].any(1),
            own[:, -reach:].any(1),
        ]
        if min(side.mean() for side in sides) < FRAME_SIDE:
            continue
        inside = (boxes[:, :2] > boxes[n, :2]).all(1) & (boxes[:, 2:] < boxes[n, 2:]).all(1)
        frames[n] = mass[inside].max(initial=0.0) > SPECK * mass[n]
    return frames


def join(boxes: NDArray[np.int64], main: int, candidates: Mask) -> Mask:
    """Starts with component `main` and adds candidates near the growing box until none is near."""
    chosen = np.zeros(len(boxes), bool)
    chosen[main] = True
    while True:
        left, top = boxes[chosen, :2].min(0)
        right, bottom = boxes[chosen, 2:].max(0)
        gap_x = np.maximum(boxes[:, 0] - right, left - boxes[:, 2])
        gap_y = np.maximum(boxes[:, 1] - bottom, top - boxes[:, 3])
        near = np.maximum(gap_x, gap_y) <= JOIN_GAP * max(right - left, bottom - top)
        new = candidates & near & ~chosen
        if not new.any():
            return chosen
        chosen |= new


def label(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Numbers the 8-connected components of `mask` from 1 in reading order; 0 is background.

    Works on the runs of each row: runs of neighbouring rows that touch are joined by lowering
    both roots to the smaller until nothing changes.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    row, start = np.nonzero(steps == 1)
    stop = np.nonzero(steps == -1)[1]  # excluded
    # A run touches the runs of the row above that end at or after its start and start at or
    # before its stop. Rows are laid one after the other, with room that keeps them apart.
    stride = width + 2
    starts, stops = row * stride + start, row * stride + stop
    first = np.searchsorted(stops, starts - stride, "left")
    last = np.searchsorted(starts, stops - stride, "right")
    touching = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(row)), touching)
    offset = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching)
    above = np.repeat(first, touching) + offset
    root = np.arange(len(row))
    while True:
        a, b = root[above], root[below]
        if (a == b).all():
            break
        low = np.minimum(a, b)
        np.minimum.at(root, a, low)
        np.minimum.at(root, b, low)
        while not (root[root] == root).all():
            root = root[root]
    names, numbers = np.unique(root, return_inverse=True)
    # Each run writes its number at its start and takes it back after its stop.
    change = np.zeros((height, width + 1), np.int64)
    np.add.at(change, (row, start), numbers + 1)
    np.add.at(change, (row, stop), -(numbers + 1))
    return np.cumsum(change, axis=1)[:, :-1], len(names)


def component_boxes(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(left, top, right, bottom) of the components 1 .. count: (count, 4)."""
    y, x = np.nonzero(labels)
    of = labels[y, x] - 1
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2] = labels.size
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], of, x)
    np.minimum.at(boxes[:, 1], of, y)
    np.maximum.at(boxes[:, 2], of, x + 1)
    np.maximum.at(boxes[:, 3], of, y + 1)
    return boxes


def grow(mask: Mask, allowed: Mask | np.bool_, reach: int) -> Mask:
    """Adds the `allowed` pixels that can be reached from `mask` in `reach` steps, 8-connected."""
    for _ in range(reach):
        wide = mask.copy()
        wide[1:] |= mask[:-1]
        wide[:-1] |= mask[1:]
        tall = wide.copy()
        tall[:, 1:] |= wide[:, :-1]
        tall[:, :-1] |= wide[:, 1:]
        mask = mask | (tall & allowed)
    return mask


def extent(mask: Mask) -> tuple[int, int]:
    left, top, right, bottom = bounding_box(mask)
    return right - left, bottom - top


def bounding_box(mask: Mask) -> Box:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop(picture: Picture, box: Box) -> Picture:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


# --- strokes, size, place -------------------------------------------------------------------


def stroke_thickness(ink: Picture) -> float:
    """Mean thickness of the strokes in pixels: 2 * ink / length of the outline.

    A stroke of length l and thickness t holds l * t ink and has an outline of 2 l. The outline of
    a grey picture is the sum of its gradient (the coarea formula).
    """
    gradient_y, gradient_x = np.gradient(np.pad(ink, 2))
    outline = float(np.hypot(gradient_x, gradient_y).sum())
    return 2 * float(ink.sum()) / max(outline, 1e-6)


def change_thickness(ink: Picture, change: float) -> Picture:
    """Makes strokes thicker by `change` pixels of the 20x20 box (thinner if negative)."""
    pen = fit(ink, PEN_PIXELS * FIT)
    radius = abs(change) / 2 * PEN_PIXELS
    margin = math.ceil(radius) + 1
    pen = np.pad(pen, margin)
    changed = dilate(pen, radius) if change > 0 else 1 - dilate(1 - pen, radius)
    visible = changed > 0.1
    return crop(changed, bounding_box(visible)) if visible.any() else ink


def dilate(picture: Picture, radius: float) -> Picture:
    """The largest value within `radius` pixels."""
    whole = math.floor(radius)
    padded = np.pad(picture, whole, mode="edge")
    height, width = picture.shape
    result = picture.copy()
    for y in range(-whole, whole + 1):
        for x in range(-whole, whole + 1):
            if x * x + y * y <= radius * radius:
                moved = padded[whole + y : whole + y + height, whole + x : whole + x + width]
                np.maximum(result, moved, out=result)
    return result


def shrink(picture: Picture, side: int) -> Picture:
    """Averages a picture down so that its longer side is at most `side`, aspect kept."""
    return picture if max(picture.shape) <= side else fit(picture, side)


def fit(picture: Picture, side: int) -> Picture:
    """Resizes a picture so that its longer side is `side`, aspect kept, values clipped to 0..1.

    Smaller by averaging areas, larger by cubic interpolation.
    """
    height, width = picture.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return picture
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = Image.fromarray(np.ascontiguousarray(picture, np.float32)).resize(size, method)
    return np.clip(np.asarray(resized), 0, 1)


def enlarge(picture: Picture, shape: tuple[int, ...]) -> Picture:
    """Interpolates a picture linearly up to `shape`."""
    if picture.shape == shape:
        return picture
    height, width = shape
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


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


def to_uint8(picture: Picture) -> NDArray[np.uint8]:
    """0..1 -> 0..255, rounded."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
