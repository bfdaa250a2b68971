"""Pictures of all kinds, read safely, and the few operations on them that reading digits needs.

Arrays are (height, width); boxes are (left, top, right, bottom), right and bottom excluded.
Only NumPy and Pillow are used.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
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
# Formats that decode inside Pillow; others (EPS, for one) would start programs. JPEG includes MPO,
# what many telephones write as .jpg.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")
MAX_BYTES = 200 * 2**20
MAX_PIXELS = 50_000_000  # a telephone's largest common photograph; checked before decoding
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue: Rec. 601, as Pillow converts
LOADED_SIDE = 2048  # larger pictures are averaged down to this while they are read
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
    return decode(open_image(data, name), name)


def open_image(data: bytes, name: str = "the picture") -> Image.Image:
    """The picture in the bytes of a file, not yet decoded; its size, that to decode, is allowed.

    Raises LenetError for everything that is no such picture, with `name` and the remedy.
    """
    if not data:
        raise LenetError(f"{name} is empty; give a PNG or JPEG file")
    try:
        # Pillow warns of large pictures and odd metadata; the limit below is the stricter one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            check_size(image, name)
            image.draft("L", (LOADED_SIDE, LOADED_SIDE))  # JPEG only: decodes at 1/2, 1/4, 1/8
            return image
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


def outline(picture: NDArray) -> NDArray:
    """The values along the picture's four sides."""
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])


def crop(picture: Picture, box: Box) -> Picture:
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


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


def to_uint8(picture: Picture) -> NDArray[np.uint8]:
    """0..1 -> 0..255, rounded."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
