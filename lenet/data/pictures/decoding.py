"""Pictures of all kinds, read safely as luminance.

Arrays are (height, width); boxes are (left, top, right, bottom), right and bottom excluded.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lenet.errors import LenetError

Gray = NDArray[Any]  # uint8 (height, width); Any, as OpenCV's annotations lack dtypes
Mask = NDArray[Any]  # the same, 0 or 255
Box = tuple[int, int, int, int]
Source = str | Path | bytes | BinaryIO | Image.Image | NDArray
# Formats that Pillow decodes itself; for others, EPS for example, it starts programs. JPEG includes
# MPO, which many phones write as .jpg.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")
MAX_BYTES = 200 * 2**20
MAX_PIXELS = 50_000_000  # as the largest photographs of most phones; checked before decoding
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap sides
LOADED_SIDE = 2048  # larger pictures are averaged down to this
DRAFT_SIDE = 1024  # JPEG files are decoded at 1/2, 1/4 or 1/8, which is faster, but not below this
# What Pillow is known to raise on damaged or malicious files. Warning is for programs that turn
# warnings into errors.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, EOFError, MemoryError, RuntimeError, Warning, struct.error, zlib.error),
    Image.DecompressionBombError,
)
# If the luminance of the visible part of a transparent picture spreads further than this, the
# picture has its own background (a photograph with round corners) and is not ink alone.
OWN_BACKGROUND_SPREAD = 127


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture."""

    gray: Gray  # luminance, uint8 (height, width), 0 black .. 255 white
    size: tuple[int, int]  # (width, height) of the picture as displayed; `gray` may be smaller


def load_picture(source: Source) -> Picture:
    """Reads a picture's luminance.

    `source` is a path, the bytes of a file, a binary file object, a Pillow image, or an array:
    2-D, (H, W, 3) or (H, W, 4) of bool, uint8, uint16, other integers, or floats. Files: PNG,
    JPEG, GIF (first frame), WebP, TIFF (first page), BMP, PPM; EXIF orientation is applied.

    Luminance is Rec. 601's (0.299 R + 0.587 G + 0.114 B) of the stored values, without gamma
    correction. Values without a fixed range (32-bit integers, floats outside 0..1) are stretched:
    the smallest becomes 0, the largest 255. Transparent parts get a background on which the visible
    parts can be seen (`flatten_alpha`). Pictures with a side over 2048 pixels are averaged down to
    that; large JPEG files are decoded at 1/2, 1/4 or 1/8.

    Raises:
        LenetError: the source is not such a picture; the message has the file's name and a remedy.
    """
    if isinstance(source, np.ndarray):
        return load_array(source)
    if isinstance(source, Image.Image):
        return decode(source, "the picture", source.size)
    data, name = read_bytes(source)
    image = open_image(data, name)
    size = image.size
    image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    return decode(image, name, size)


def load_planes(source: Source) -> list[Gray]:
    """Reads the red, green and blue of a picture, transparent parts on white.

    `source`, sizes and errors are those of `load_picture`; a grey picture has three equal planes.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] not in (3, 4):
            return [load_array(source).gray] * 3
        return [load_array(source[..., channel]).gray for channel in range(3)]
    name = "the picture"
    if not isinstance(source, Image.Image):
        data, name = read_bytes(source)
        source = open_image(data, name)
    check_size(source, name)
    try:
        image = ImageOps.exif_transpose(source)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return [luminance(image)] * 3
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return [luminance(plane) for plane in image.convert("RGB").split()]
    except LenetError:
        raise
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None


def open_image(data: bytes, name: str = "the picture") -> Image.Image:
    """Opens the picture in the bytes of a file, without decoding it. Errors: as `load_picture`."""
    if not data:
        raise LenetError(f"{name} is empty; give a PNG or JPEG file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise LenetError(
            f"{name} is not a picture that can be read (PNG, JPEG, GIF, WebP, TIFF, BMP, PPM); "
            "save it as PNG or JPEG"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LenetError(too_large(name)) from None
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None
    check_size(image, name)
    return image


def read_bytes(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    """The file's bytes, and its name for messages."""
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
            raise LenetError(f"{name} is a folder; give a picture file in it") from None
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
            f"a {type(source).__name__} is not a picture; give a path, bytes, a binary file, "
            "a Pillow image or a NumPy array"
        )
    if len(data) > MAX_BYTES:
        raise LenetError(f"{name} has more than {MAX_BYTES >> 20} MiB; make the picture smaller")
    return data, name


def damaged(name: str, error: BaseException) -> str:
    return (
        f"{name} is damaged or truncated ({error or type(error).__name__}); save or copy it again"
    )


def too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS:,} pixels; make the picture smaller"


def check_size(image: Image.Image, name: str) -> None:
    """Refuses pictures without pixels or with too many, before they are decoded."""
    width, height = image.size
    if width < 1 or height < 1:
        raise LenetError(f"{name} has no pixels ({width}x{height}); give another picture")
    if width * height > MAX_PIXELS:
        raise LenetError(too_large(name))


def decode(image: Image.Image, name: str, size: tuple[int, int]) -> Picture:
    """Decodes an opened image, which had that size before `draft`."""
    check_size(image, name)
    try:
        image.load()
        turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
        upright = (size[1], size[0]) if turned else size
        return Picture(luminance(ImageOps.exif_transpose(image)), upright)
    except LenetError:
        raise
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None


def luminance(image: Image.Image) -> Gray:
    """The luminance of a decoded image of any mode, at most LOADED_SIDE large."""
    if image.mode in ("I", "F"):
        return shrink(eight_bits(unit_range(np.asarray(image))), LOADED_SIDE)
    if image.mode.startswith("I;16"):
        return shrink(eight_bits(np.asarray(image) / 65535), LOADED_SIDE)
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
        gray = np.asarray(image.convert("RGB").convert("L"))
        gray = flatten_alpha(gray, np.asarray(image.getchannel("A")))
    else:
        gray = np.asarray(image.convert("L"))
    return shrink(gray, LOADED_SIDE)


def load_array(array: NDArray) -> Picture:
    """The luminance of an array of any accepted shape and type, at most LOADED_SIDE large."""
    shape = "x".join(map(str, array.shape)) or "()"
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise LenetError(f"an array of shape {shape} is not a picture; give HxW, HxWx3 or HxWx4")
    if array.size == 0:
        raise LenetError(f"an array of shape {shape} has no pixels; give another picture")
    height, width = array.shape[:2]
    if height * width > MAX_PIXELS:
        raise LenetError(too_large("the array"))
    if array.dtype == np.uint8:
        values = array
    elif array.dtype.kind == "u" and array.itemsize == 2:
        values = eight_bits(array / 65535)
    elif array.dtype.kind in "biuf":
        values = eight_bits(unit_range(array))
    else:
        raise LenetError(f"an array of {array.dtype} is not a picture; give uint8, uint16 or float")
    if values.ndim == 2:
        gray = np.ascontiguousarray(values)
    else:
        gray = cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2GRAY)
        gray = flatten_alpha(gray, values[..., 3]) if values.shape[2] == 4 else gray
    return Picture(shrink(gray, LOADED_SIDE), (width, height))


def unit_range(values: NDArray) -> NDArray[np.float64]:
    """Values as float64; if they are not in 0..1, stretched to that."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise LenetError("the picture has NaN or infinite values; replace them by numbers")
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        # Halved first, so that the span of extreme floats stays finite.
        values = (values / 2 - low / 2) / (high / 2 - low / 2) if high > low else values * 0
    return values


def eight_bits(values: NDArray) -> Gray:
    """0..1 -> 0..255, rounded."""
    return np.round(values * 255).astype(np.uint8)


def flatten_alpha(gray: Gray, alpha: Gray) -> Gray:
    """Puts a partly transparent picture on a background that differs from its visible part.

    Ink alone (luminance of little spread) goes on white if it is dark, on black if it is light. A
    picture of ink and paper goes on its own median, the paper.
    """
    visible = gray[alpha > 127] if (alpha > 127).any() else gray[alpha > 0]
    if visible.size == 0:
        return np.full_like(gray, 255)
    low, middle, high = np.percentile(visible, (5, 50, 95))
    ink_alone = high - low <= OWN_BACKGROUND_SPREAD
    background = (0 if middle > 127 else 255) if ink_alone else middle
    share = alpha / 255
    return eight_bits((share * gray + (1 - share) * background) / 255)


def outline(picture: NDArray) -> NDArray:
    """The values along the picture's four sides."""
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])


def crop(picture: Gray, box: Box) -> Gray:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def shrink(picture: Gray, side: int) -> Gray:
    """Averages a picture down if its longer side exceeds `side`, keeping its aspect."""
    return picture if max(picture.shape) <= side else fit(picture, side)


def fit(picture: Gray, side: int) -> Gray:
    """Resizes a picture to a longer side of `side`, keeping its aspect.

    It is reduced by averaging areas and enlarged by cubic interpolation.
    """
    height, width = picture.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return picture if scale == 1 else cv2.resize(picture, size, interpolation=method)
