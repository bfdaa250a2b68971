"""Pictures of all kinds, read safely as luminance.

Arrays are (height, width); boxes are (left, top, right, bottom), right and bottom excluded.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lenet.data.pictures import aside
from lenet.errors import LenetError

Gray = NDArray[Any]  # uint8 (height, width); Any, as OpenCV's annotations lack dtypes
Mask = NDArray[Any]  # the same, 0 or 255
Box = tuple[int, int, int, int]
# Formats that Pillow decodes itself; for others, EPS for example, it starts programs. JPEG includes
# MPO, which many phones write as .jpg.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")
MAX_BYTES = 200 * 2**20
MAX_PIXELS = 50_000_000  # as the largest photographs of most phones; checked before decoding
SECONDS = 2.0  # of computing that decoding a file may take
# What begins otherwise is no picture: PNG, JPEG, GIF, WebP, TIFF, BMP, PPM.
BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II", b"MM", b"BM", b"P")
# Ordinary pictures are decoded at once, as no file of these kinds and sizes takes longer than a
# quarter of a second, whatever is in it; all others in a process that can be stopped.
ORDINARY_PIXELS = 1_000_000
ORDINARY_BYTES, TINY_BYTES = 256 << 10, 16 << 10  # of a common format; of any format
ORDINARY_SEGMENTS = 100  # of a JPEG file: each scan goes over the whole picture
JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
PNM_HEAD = re.compile(rb"P[56]\s\d{1,5}\s\d{1,5}\s255\s")  # others are decoded by Python
BAND = 64  # rows that are brought to eight bits at a time
SAMPLE_FORMAT, UNSIGNED = 339, (1,)  # a TIFF tag, and its default
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap sides
LOADED_SIDE = 2048  # larger pictures are averaged down to this
DRAFT_SIDE = 1024  # JPEG files are decoded at 1/2, 1/4 or 1/8, which is faster, but not below this
# What Pillow is known to raise on damaged or malicious files. Warning is for programs that turn
# warnings into errors.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, EOFError, RuntimeError, Warning, struct.error, zlib.error, cv2.error),
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


Source = str | Path | bytes | BinaryIO | Image.Image | NDArray | Picture


class TooLargeError(LenetError):
    """The picture has more pixels than it may have."""


def load_picture(source: Source, pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture's luminance.

    `source` is a path, the bytes of a file, a binary file object, a Pillow image, or an array:
    2-D, (H, W, 3) or (H, W, 4) of bool, uint8, uint16, other integers, or floats; a `Picture` is
    returned as it is. Files: PNG, JPEG, GIF (first frame), WebP, TIFF (first page), BMP, PPM; EXIF
    orientation is applied. They may have `pixels`. All but small files of common formats are
    decoded in another process, which is stopped after SECONDS of computing, and where it takes more
    than 400 MiB of memory.

    Luminance is Rec. 601's (0.299 R + 0.587 G + 0.114 B) of the stored values, without gamma
    correction. Values without a fixed range (32-bit integers, floats outside 0..1) are stretched:
    the smallest becomes 0, the largest 255. Transparent parts get a background on which the visible
    parts can be seen (`flatten_alpha`). Pictures with a side over 2048 pixels are averaged down to
    that; large JPEG files are decoded at 1/2, 1/4 or 1/8.

    Raises:
        TooLargeError: it has more pixels.
        LenetError: the source is not such a picture, or decoding it takes too long or too much
            memory; the message has the file's name and a remedy.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        return load_array(source)
    if isinstance(source, Image.Image):
        return decode(source, "the picture", source.size)
    data, name = read_bytes(source)
    if not is_ordinary(data, name):
        return decode_aside(data, name, pixels)
    return decode_file(data, name, pixels)


def is_ordinary(data: bytes, name: str = "the picture") -> bool:
    """Whether decoding a file takes a moment, whatever is in it. Errors: as `load_picture`."""
    if not data:
        raise LenetError(f"{name} is empty; give a PNG or JPEG file")
    if not data.startswith(BEGINNINGS):
        raise LenetError(no_picture(name))
    few_segments = data[:2] == b"\xff\xd8" and (
        len(JPEG_SEGMENT.findall(data, 0, ORDINARY_BYTES)) <= ORDINARY_SEGMENTS
    )
    common = few_segments or data[:4] == b"\x89PNG" or PNM_HEAD.match(data)
    if len(data) > (ORDINARY_BYTES if common else TINY_BYTES):
        return False
    width, height = open_image(data, name).size
    return width * height <= ORDINARY_PIXELS


def decode_file(data: bytes, name: str, pixels: int) -> Picture:
    """Decodes the bytes of a file in this process. Errors: as `load_picture`."""
    image = open_image(data, name)
    size = image.size
    check_size(image, name, pixels)
    image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    return decode(image, name, size)


def load_planes(source: Source) -> list[Gray]:
    """Reads the red, green and blue of a picture, transparent parts on white.

    `source`, sizes and errors are those of `load_picture`; a grey picture has three equal planes.
    """
    if isinstance(source, Picture):
        return [source.gray] * 3
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] not in (3, 4):
            return [load_array(source).gray] * 3
        return [load_array(source[..., channel]).gray for channel in range(3)]
    if isinstance(source, Image.Image):
        return planes_of(source, "the picture")
    data, name = read_bytes(source)
    if not is_ordinary(data, name):
        return list(decode_aside(data, name, MAX_PIXELS, color=True).gray)
    return planes_of(open_image(data, name), name)


def planes_of(image: Image.Image, name: str) -> list[Gray]:
    """Red, green and blue of an opened image."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return [decode(image, name, image.size).gray] * 3
    check_size(image, name)
    with decoding(name):
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return [luminance(plane) for plane in image.convert("RGB").split()]


def decode_aside(data: bytes, name: str, pixels: int, color: bool = False) -> Picture:
    """Decodes the bytes of a file in another process; with `color`, `gray` has the three planes
    (3, height, width). Errors: as `load_picture`."""
    try:
        reply, gray = aside.ask({"name": name, "pixels": pixels, "color": color}, data, SECONDS)
    except aside.StoppedError as error:
        raise LenetError(
            f"{name} cannot be decoded: {error}; save it as PNG, or make it smaller"
        ) from None
    if "error" in reply:
        raise (TooLargeError if reply["too_large"] else LenetError)(reply["error"])
    width, height = reply["size"]
    return Picture(np.frombuffer(gray, np.uint8).reshape(reply["shape"]), (width, height))


def answer(question: aside.Message, data: bytes) -> tuple[aside.Message, bytes]:
    """What the other process answers to `decode_aside`."""
    cv2.setNumThreads(1)
    try:
        name = question["name"]
        if question["color"]:
            image = open_image(data, name)
            picture = Picture(np.stack(planes_of(image, name)), image.size)
        else:
            picture = decode_file(data, name, question["pixels"])
    except LenetError as error:
        return {"error": str(error), "too_large": isinstance(error, TooLargeError)}, b""
    return {"size": picture.size, "shape": picture.gray.shape}, picture.gray.tobytes()


def open_image(data: bytes, name: str) -> Image.Image:
    """Opens the picture in the bytes of a file, without decoding it. Errors: as `load_picture`."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise LenetError(no_picture(name)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(too_large(name, MAX_PIXELS)) from None
    except MemoryError:
        raise LenetError(no_memory(name)) from None
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None


def read_bytes(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    """The file's bytes, and its name for messages."""
    if isinstance(source, bytes):
        return bytes(source), "the picture"
    if isinstance(source, str | Path):
        name = str(source)
        try:
            if not name:
                raise LenetError("a picture's name is empty; give a path, or - for standard input")
            mode = Path(source).stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe could keep us waiting
                raise LenetError(f"{name} is not a file; send what it gives to standard input (-)")
            with Path(source).open("rb") as file:
                data = read_most(file)
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
            data = read_most(source)
        except (OSError, ValueError) as error:
            raise LenetError(f"{name} cannot be read ({error}); open it again") from None
        except TypeError:
            raise LenetError(
                f"{name} is open as text; open it in binary mode, open(path, 'rb')"
            ) from None
    else:
        raise LenetError(
            f"a {type(source).__name__} is not a picture; give a path, bytes, a binary file, "
            "a Pillow image or a NumPy array"
        )
    if len(data) > MAX_BYTES:
        raise LenetError(f"{name} has more than {MAX_BYTES >> 20} MiB; make the picture smaller")
    return data, name


def read_most(file: BinaryIO) -> bytes:
    """What a file holds, up to a little more than MAX_BYTES; piece by piece, as `read` reserves
    what it is asked for. Raises TypeError for a text file."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (piece := file.read(1 << 20)):
        data += piece
    return bytes(data)


def no_picture(name: str) -> str:
    return (
        f"{name} is not a picture that can be read (PNG, JPEG, GIF, WebP, TIFF, BMP, PPM); "
        "save it as PNG or JPEG"
    )


def no_memory(name: str) -> str:
    return f"{name} needs more memory than there is for a picture; make it smaller"


def damaged(name: str, error: BaseException) -> str:
    if "memory" in str(error):  # Pillow's and OpenCV's words
        return no_memory(name)
    return (
        f"{name} is damaged or truncated ({error or type(error).__name__}); save or copy it again"
    )


def too_large(name: str, most: int) -> str:
    return f"{name} has more than {most:,} pixels; make the picture smaller"


def check_size(image: Image.Image, name: str, most: int = MAX_PIXELS) -> None:
    """Refuses pictures without pixels or with too many, before they are decoded."""
    width, height = image.size
    if width < 1 or height < 1:
        raise LenetError(f"{name} has no pixels ({width}x{height}); give another picture")
    if width * height > most:
        raise TooLargeError(too_large(name, most))


def decode(image: Image.Image, name: str, size: tuple[int, int]) -> Picture:
    """Decodes an opened image, which had that size before `draft`."""
    check_size(image, name)
    with decoding(name):
        image.load()
        turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
        upright = (size[1], size[0]) if turned else size
        unsigned = False
        if isinstance(image, TiffImageFile) and image.mode == "I":
            unsigned = image.tag_v2.get(SAMPLE_FORMAT, UNSIGNED) == UNSIGNED
        return Picture(luminance(ImageOps.exif_transpose(image), unsigned), upright)


@contextmanager
def decoding(name: str) -> Generator[None, None, None]:
    """Turns what decoders raise into a LenetError that names the file."""
    try:
        yield
    except LenetError:
        raise
    except MemoryError:
        raise LenetError(no_memory(name)) from None
    except DECODE_ERRORS as error:
        raise LenetError(damaged(name, error)) from None


def luminance(image: Image.Image, unsigned: bool = False) -> Gray:
    """The luminance of a decoded image of any mode, at most LOADED_SIDE large. `unsigned`: its
    32-bit integers are, which Pillow does not know."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return shrink(eight_bits_of(image, unsigned), LOADED_SIDE)
    factor = max(max(image.size) // LOADED_SIDE, 1)
    if image.mode == "LAB":
        image = image.getchannel("L")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            image = image.reduce(factor)
            gray = np.asarray(image.convert("RGB").convert("L"))
            return shrink(flatten_alpha(gray, np.asarray(image.getchannel("A"))), LOADED_SIDE)
    if image.mode not in ("1", "L", "RGB", "RGBA"):
        image = image.convert("RGB")
    return shrink(np.asarray(image.convert("L").reduce(factor)), LOADED_SIDE)


def load_array(array: NDArray) -> Picture:
    """The luminance of an array of any accepted shape and type, at most LOADED_SIDE large."""
    shape = "x".join(map(str, array.shape)) or "()"
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise LenetError(f"an array of shape {shape} is not a picture; give HxW, HxWx3 or HxWx4")
    if array.size == 0:
        raise LenetError(f"an array of shape {shape} has no pixels; give another picture")
    height, width = array.shape[:2]
    if height * width > MAX_PIXELS:
        raise TooLargeError(too_large("the array", MAX_PIXELS))
    if array.dtype == np.uint8:
        values = array
    elif array.dtype.kind in "biuf":
        values = eight_bits_of(array)
    else:
        raise LenetError(f"an array of {array.dtype} is not a picture; give uint8, uint16 or float")
    if values.ndim == 2:
        gray = np.ascontiguousarray(values)
    else:
        gray = cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2GRAY)
        gray = flatten_alpha(gray, values[..., 3]) if values.shape[2] == 4 else gray
    return Picture(shrink(gray, LOADED_SIDE), (width, height))


def eight_bits_of(picture: NDArray | Image.Image, unsigned: bool = False) -> Gray:
    """The values as 0..255, rounded: 0..1 and uint16 have that range, others are stretched."""
    if isinstance(picture, Image.Image):
        sixteen = picture.mode.startswith("I;16")
    else:
        sixteen = picture.dtype.kind == "u" and picture.dtype.itemsize == 2
    low, high = 0.0, 65535.0
    if not sixteen:
        ends = [(band.min(), band.max()) for band in bands(picture, unsigned)]
        low, high = float(np.min(ends)), float(np.max(ends))
    if not np.isfinite((low, high)).all():
        raise LenetError("the picture has NaN or infinite values; replace them by numbers")
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    # Halved first, so that the span of extreme floats stays finite.
    span = max(high / 2 - low / 2, np.finfo(float).tiny)
    return np.concatenate(
        [eight_bits((band / 2 - low / 2) / span) for band in bands(picture, unsigned)]
    )


def bands(picture: NDArray | Image.Image, unsigned: bool) -> Iterator[NDArray]:
    """The values, some rows at a time: as float64, a whole large picture takes much memory."""
    image = isinstance(picture, Image.Image)
    width, height = picture.size if image else picture.shape[1::-1]
    for top in range(0, height, BAND):
        if image:
            band = np.asarray(picture.crop((0, top, width, min(top + BAND, height))))
            yield band.view(np.uint32) if unsigned else band
        else:
            yield picture[top : top + BAND]


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
