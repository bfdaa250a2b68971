"""Pictures that are small as files and slow to decode: one maker for each kind of file.

Used by the tests and by benchmarks/hostile_load.py.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

FLAT = Image.new("L", (1000, 1000), 255)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG file."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, before: bytes = b"", colour: int = 0, deep: int = 8) -> bytes:
    """A black PNG file of that size; `before` stands before its pixels."""
    values = {0: 1, 2: 3, 6: 4}[colour] * deep // 8
    pack = zlib.compressobj(1)
    pixels = b"".join(pack.compress(bytes(1 + values * width)) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, deep, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), before, chunk(b"IDAT", pixels + pack.flush()), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_scans(size: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, empty."""
    whole = encoded(FLAT, "JPEG", progressive=True)
    return whole[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" * (size // 10) + whole[-2:]


def jpeg_segments(size: int) -> bytes:
    """A JPEG of empty APP13 segments."""
    whole = encoded(FLAT, "JPEG")
    return whole[:2] + b"\xff\xed\x00\x02" * (size // 4) + whole[2:]


def png_chunks(size: int) -> bytes:
    return png(100, 100, before=chunk(b"teXt") * (size // 12))


def png_empty_pixels(size: int) -> bytes:
    return png(100, 100, before=chunk(b"IDAT") * (size // 12))


def ppm_odd(size: int) -> bytes:
    """A binary PPM with ten grey levels."""
    side = int((size / 3) ** 0.5)
    return b"P6 %d %d 9\n" % (side, side) + bytes(3 * side * side)


def ppm_text(size: int) -> bytes:
    side = int((size / 2) ** 0.5)
    return b"P2 %d %d 255\n" % (side, side) + b"0 " * (side * side)


def pbm_comments(size: int) -> bytes:
    return b"P4\n" + b"#" + b"x" * size + b"\n8 8\n" + bytes(8)


def gif_comments(size: int) -> bytes:
    """A GIF whose comment comes byte by byte."""
    whole = encoded(FLAT, "GIF")
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1) if whole[10] & 128 else 13
    return whole[:start] + b"\x21\xfe" + b"\x01x" * (size // 2) + b"\0" + whole[start:]


def bmp_runs(size: int) -> bytes:
    """A run-length encoded BMP of short runs."""
    side = int((size / 2) ** 0.5)
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, size, 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    runs = b"\x01\x00" * (side * side)
    return struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start) + head + bytes(1024) + runs


def tiff_strips(size: int) -> bytes:
    """An uncompressed TIFF with a strip for every row of one pixel."""
    rows = size // 9
    entries = [
        (256, 4, 1, 1),
        (257, 4, 1, rows),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, rows, 8 + rows),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, rows, 8 + 5 * rows),
    ]
    data = bytes(rows) + np.arange(8, 8 + rows, dtype="<u4").tobytes()
    data += np.ones(rows, "<u4").tobytes()
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


MAKERS = {
    maker.__name__: maker
    for maker in (
        *(jpeg_scans, jpeg_segments, png_chunks, png_empty_pixels, ppm_odd, ppm_text),
        *(pbm_comments, gif_comments, bmp_runs, tiff_strips),
    )
}
