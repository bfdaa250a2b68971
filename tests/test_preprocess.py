"""Preprocessing: synthetic digits in, MNIST-like 28x28 pictures out; SciPy is the oracle."""

from __future__ import annotations

import functools
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lenet.commands.predict import pictures
from lenet.data.pictures import components, decoding
from lenet.data.pictures.decoding import load_picture
from lenet.data.pictures.preprocess import REASONS, preprocess
from lenet.errors import LenetError

FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
quick = settings(max_examples=25, deadline=None)


def drawn(
    digit: str = "5",
    size: int = 120,
    page: tuple[int, int] = (200, 240),
    at: tuple[int, int] = (60, 40),
) -> np.ndarray:
    """A black digit on white: uint8 (height, width)."""
    image = Image.new("L", page, 255)
    ImageDraw.Draw(image).text(at, digit, font=ImageFont.truetype(FONT, size), fill=0)
    return np.asarray(image)


@functools.cache
def mnist_like(digit: str) -> np.ndarray:
    """A digit as MNIST has it, made apart from the module: box 20 high, mass in the middle."""
    ink = 255 - drawn(digit, 400, (500, 600), (100, 50))
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = round(20 * ink.shape[1] / ink.shape[0])
    small = np.asarray(Image.fromarray(ink).resize((width, 20), Image.Resampling.BOX))
    y, x = centre_of_mass(small)
    field = np.zeros((28, 28), np.uint8)
    top, left = round(14 - y), round(14 - x)
    field[top : top + 20, left : left + width] = small
    return field


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def image_of(source: object) -> np.ndarray:
    result = preprocess(source)  # type: ignore[arg-type]
    assert result.image is not None, result.reason
    return result.image


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference over the ink of the first; a shift of one pixel is forgiven, for
    a centre of mass half-way between two pixels may be rounded to either."""
    shifted = (np.roll(b, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return min(float(np.abs(a.astype(float) - c).sum() / a.sum()) for c in shifted)


def centre_of_mass(picture: np.ndarray) -> np.ndarray:
    """(y, x)"""
    return np.array(ndimage.center_of_mass(picture), float)


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_every_format_from_every_source(fmt: str, tmp_path: Path) -> None:
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(Image.fromarray(drawn()), fmt, **options)
    path = tmp_path / "digit.bin"
    path.write_bytes(data)
    limit = 38 if fmt in ("JPEG", "MPO") else 0
    for source in (path, str(path), data, io.BytesIO(data), Image.open(io.BytesIO(data))):
        gray = load_picture(source).gray
        assert gray.dtype == np.uint8
        assert np.abs(gray.astype(int) - drawn()).max() <= limit


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_every_mode(mode: str) -> None:
    binary = np.where(drawn() > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(binary).convert("RGB" if mode == "HSV" else "L").convert(mode)
    np.testing.assert_allclose(load_picture(image).gray, binary, atol=2)


def test_sixteen_bits() -> None:
    deep = drawn().astype(np.uint16) * 257
    image = Image.fromarray(deep)
    assert image.mode == "I;16"
    for source in (image, encoded(image, "PNG"), encoded(image, "TIFF"), deep, deep.astype(">u2")):
        np.testing.assert_array_equal(load_picture(source).gray, drawn())


def test_thirty_two_bits() -> None:
    """TIFF has them with and without a sign; Pillow reads all as signed."""
    values = np.array([[0, 1 << 31], [3 << 30, (1 << 32) - 1]], np.uint32)
    signed = encoded(Image.fromarray(values.view(np.int32)), "TIFF")
    sample_format = struct.pack("<HHII", 339, 3, 1, 2)
    assert sample_format in signed
    unsigned = signed.replace(sample_format, struct.pack("<HHII", 339, 3, 1, 1))
    assert load_picture(unsigned).gray.tolist() == [[0, 128], [191, 255]]
    assert load_picture(signed).gray.tolist() == [[255, 0], [128, 255]]


def test_luminance_is_rec_601() -> None:
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, :4] = (200, 100, 50)
    expected = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    for source in (colours, colours / 255, Image.fromarray(colours)):
        assert load_picture(source).gray[0, 0] == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64]
)
def test_arrays_of_every_type(dtype: type) -> None:
    binary = drawn() > 127
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.unsignedinteger) else 1
    for scaled in (
        binary.astype(dtype) * dtype(top),
        np.dstack([binary.astype(dtype) * dtype(top)] * 4),
    ):
        np.testing.assert_array_equal(load_picture(scaled).gray, 255 * binary)


def test_values_without_a_fixed_range_are_stretched() -> None:
    ramp = 1e308 * np.linspace(-1, 1, 64).reshape(8, 8)
    expected = np.linspace(0, 255, 64)
    np.testing.assert_allclose(load_picture(ramp).gray.ravel(), expected, atol=0.51)
    assert not load_picture(np.full((8, 8), 7.0)).gray.any()


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_transparency_is_seen(ink: int) -> None:
    mask = 255 - drawn("6")
    rgba = np.dstack([np.full_like(mask, ink)] * 3 + [mask])
    palette = Image.fromarray(rgba).quantize(16)
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba), "PNG"), palette):
        assert difference(image_of(drawn("6")), image_of(source)) < 0.1


def test_round_corners_take_the_colour_of_the_paper() -> None:
    page = np.dstack([drawn("3")] * 3 + [np.full_like(drawn(), 255)])
    page[:30, :30] = 0
    assert difference(image_of(drawn("3")), image_of(page)) < 0.001


def test_exif_orientation_is_applied() -> None:
    upright = Image.fromarray(drawn("7"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise when shown
    data = encoded(upright.rotate(90, expand=True), "PNG", exif=exif)
    picture = load_picture(data)
    np.testing.assert_array_equal(picture.gray, drawn("7"))
    assert picture.size == upright.size


def test_first_frame_and_first_page() -> None:
    first, second = Image.fromarray(drawn("2")), Image.fromarray(drawn("9"))
    for fmt in ("GIF", "TIFF"):
        data = encoded(first, fmt, save_all=True, append_images=[second])
        np.testing.assert_array_equal(load_picture(data).gray, drawn("2"))


def test_large_pictures_are_averaged_down() -> None:
    large = drawn("8", 1500, (4000, 3000), (1200, 700))
    for fmt in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(large), fmt)
        picture = load_picture(data)
        assert max(picture.gray.shape) <= 2048
        assert picture.size == (4000, 3000)
        assert difference(mnist_like("8"), image_of(data)) < 0.2


def test_the_callers_image_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (5000, 5000), "white").save(path)
    with Image.open(path) as image:
        load_picture(image)
        assert (image.mode, image.size) == ("RGB", (5000, 5000))


# --- what cannot be read --------------------------------------------------------------------


def test_messages_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    png = encoded(Image.fromarray(drawn()), "PNG")
    files = {
        "empty.png": (b"", "is empty; give"),
        "text.png": (b"not a picture at all", "is not a picture"),
        "cut.png": (png[: len(png) // 2], "is damaged or truncated"),
        "eps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
        "bomb.png": (bomb(30_000, 30_000), "more than 50,000,000 pixels; make"),
        "large.png": (bomb(9_000, 9_000), "more than 50,000,000 pixels; make"),
    }
    for name, (data, message) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LenetError, match=f"{name} .*{message}"):
            load_picture(tmp_path / name)
    with pytest.raises(LenetError, match=r"missing\.png: no such file; check"):
        load_picture(tmp_path / "missing.png")
    with pytest.raises(LenetError, match="is a folder; give a picture file"):
        load_picture(tmp_path)
    with pytest.raises(LenetError, match="check the path"):
        load_picture("nul\0byte")


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it holds."""
    data = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros(5), "shape 5"),
        (np.zeros((4, 4, 2)), "shape 4x4x2"),
        (np.zeros((0, 4)), "no pixels"),
        (np.full((8, 8), np.nan), "NaN"),
        (np.zeros((8, 8), complex), "complex128"),
        (Image.new("L", (0, 5)), "no pixels"),
        (io.StringIO("text"), "binary mode"),
        (7, "int is not a picture"),
    ],
)
def test_sources_that_are_no_picture(source: object, message: str) -> None:
    with pytest.raises(LenetError, match=message):
        load_picture(source)  # type: ignore[arg-type]


# --- what would take for ever ---------------------------------------------------------------


@pytest.mark.parametrize("maker", hostile.MAKERS.values(), ids=hostile.MAKERS)
def test_what_may_be_slow_is_not_decoded_here(maker: Callable[[int], bytes]) -> None:
    assert not decoding.is_ordinary(maker(1 << 20))


def test_ordinary_pictures_are_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no other process is started, which would take longer than they do."""
    monkeypatch.setattr(decoding.aside, "ask", None)
    photo = Image.fromarray(drawn()).resize((1000, 1000)).convert("RGB")
    for data in (
        *(encoded(Image.fromarray(drawn()), fmt) for fmt in ("PNG", "JPEG", "WEBP", "GIF")),
        *(encoded(photo, fmt) for fmt in ("PNG", "JPEG")),
        *(encoded(photo, "JPEG", progressive=True), encoded(Image.fromarray(drawn()), "PPM")),
    ):
        assert load_picture(data).gray.min() < 55


def test_a_picture_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SECONDS", 0.2)
    with pytest.raises(
        LenetError, match=r"the picture cannot be decoded: it takes more than 0\.2 s"
    ):
        load_picture(hostile.jpeg_scans(2 << 20))
    monkeypatch.undo()
    large = Image.fromarray(drawn("8", 1200, (1500, 1500)))  # and the next one is read
    np.testing.assert_array_equal(load_picture(encoded(large, "PNG")).gray, np.asarray(large))


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux alone")
def test_a_picture_that_takes_too_much_memory() -> None:
    with pytest.raises(LenetError, match="needs more memory"):
        load_picture(hostile.png(7000, 7000, colour=6))


def test_a_decoder_that_breaks_down(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding.aside.end_all()
    monkeypatch.setattr(decoding.aside, "PROGRAM", "import os; os.abort()")
    with pytest.raises(LenetError, match="the decoder broke down"):
        load_picture(encoded(Image.new("L", (1200, 1200)), "PNG"))


def test_other_processes_answer_many_threads() -> None:
    pages = [drawn(digit, 1200, (1300, 1300)) for digit in "0123"]
    files = [encoded(Image.fromarray(page), "PNG") for page in pages] + [
        b"\x89PNG\r\n" + bytes(99_999)
    ]
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(load_picture, file) for file in files * 2]
    for number, future in enumerate(futures):
        if number % 5 == 4:
            with pytest.raises(LenetError, match="is not a picture"):
                future.result()
        else:
            np.testing.assert_array_equal(future.result().gray, pages[number % 5])
    assert 1 <= len(decoding.aside.idle) <= 3


def test_small_files_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(encoded(Image.fromarray(drawn()), "PNG"))
    tracemalloc.start()
    load_picture(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(LenetError, match=r"pipe\.png is not a file; send"):
        load_picture(tmp_path / "pipe.png")


def test_an_empty_name_is_no_folder() -> None:
    assert list(pictures(("",))) == [""]
    with pytest.raises(LenetError, match="name is empty"):
        load_picture("")


SEEDS = {
    fmt: encoded(Image.fromarray(drawn("4", 30, (40, 40), (10, 2))).convert("RGB"), fmt)
    for fmt in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
}


@pytest.mark.fuzz
@given(
    beginning=st.sampled_from([(name, size) for name in SEEDS for size in (4, 12, 40, 200)]),
    rest=st.binary(max_size=400),
)
def test_beginnings_of_files_raise_nothing_but_lenet_error(
    beginning: tuple[str, int], rest: bytes
) -> None:
    name, size = beginning
    try:
        picture = load_picture(SEEDS[name][:size] + rest)
    except LenetError as error:
        message = str(error)
    else:
        message = f"{picture.size}"
        assert picture.gray.dtype == np.uint8
    assert 0 < len(message) < 300


@settings(max_examples=300, deadline=None)
@given(
    fmt=st.sampled_from(sorted(SEEDS)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6),
)
def test_damaged_files_raise_nothing_but_lenet_error(
    fmt: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(SEEDS[fmt])
    for place, bits in flips:
        data[int(place * len(data))] ^= bits
    if cut < 0.3:
        data = data[: int(cut / 0.3 * len(data))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = preprocess(bytes(data))
        except LenetError:
            return
    assert (result.image is None) == (result.reason is not None)


# --- what comes out -------------------------------------------------------------------------


@pytest.mark.parametrize("digit", "0123456789")
def test_an_mnist_picture_comes_out_as_it_was(digit: str) -> None:
    original = mnist_like(digit)
    for source in (original, 255 - original, Image.fromarray(original)):
        assert difference(original, image_of(source)) < 0.04
    large = np.kron(255 - original, np.ones((10, 10), np.uint8))
    assert difference(original, image_of(large)) < 0.2


@quick
@given(
    digit=st.sampled_from("0123456789"),
    size=st.integers(60, 300),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    dark=st.integers(0, 90),
    light=st.integers(150, 255),
    inverted=st.booleans(),
)
def test_place_size_brightness_and_polarity_do_not_matter(
    digit: str, size: int, x: float, y: float, dark: int, light: int, inverted: bool
) -> None:
    at = (round(x * (500 - size)), round(y * (600 - 1.3 * size)))
    page = drawn(digit, size, (500, 600), at)
    page = np.round(dark + page / 255 * (light - dark)).astype(np.uint8)
    page = 255 - page if inverted else page
    result = preprocess(page)
    assert result.image is not None, result.reason
    assert result.polarity == ("light on dark" if inverted else "dark on light")
    # DejaVu's strokes lie within MNIST's range: only antialiasing and the font's hinting differ.
    distances = {d: difference(mnist_like(d), result.image) for d in "0123456789"}
    assert distances[digit] < 0.35
    assert min(distances, key=distances.__getitem__) == digit


@quick
@given(
    digit=st.sampled_from("0123456789"),
    width=st.integers(1, 30),
    angle=st.floats(0, 6.28),
    slope=st.floats(0, 0.6),
    noise=st.floats(0, 0.03),
)
def test_the_frame_of_every_digit(
    digit: str, width: int, angle: float, slope: float, noise: float
) -> None:
    rng = np.random.default_rng(0)
    page = drawn(digit, 200, (300, 300), (80, 30)) / 255
    y, x = np.mgrid[-1:1:300j, -1:1:300j]
    light = 1 - slope / 2 * (1 + (x * np.cos(angle) + y * np.sin(angle)) / 1.42)
    page = np.clip((0.2 + 0.7 * page) * light + rng.normal(0, noise, page.shape), 0, 1)
    result = preprocess(page)
    image = result.image
    assert image is not None, result.reason
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert image.max() == 255
    np.testing.assert_allclose(centre_of_mass(image), (14, 14), atol=0.51)
    assert max(result.steps["20x20"].shape) == 20
    assert next(iter(result.steps)) == "grayscale"
    assert list(result.steps)[-1] == "28x28"
    assert all(step.dtype == np.uint8 and step.ndim == 2 for step in result.steps.values())


@quick
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_array_gives_a_picture_or_a_reason(array: np.ndarray) -> None:
    result = preprocess(array)
    if result.image is None:
        assert result.reason in REASONS
    else:
        assert result.image.shape == (28, 28)
        assert result.image.dtype == np.uint8


@pytest.mark.parametrize(("scale", "fmt"), [(1, "PNG"), (1, "JPEG"), (3, "JPEG"), (3, "PNG")])
def test_the_box_is_where_the_digit_is(scale: int, fmt: str) -> None:
    """In the picture's own pixels, also where a large picture is decoded or looked at smaller."""
    page = drawn("4", 60 * scale, (1500 * scale, 1000 * scale), (900 * scale, 300 * scale))
    rows, columns = np.flatnonzero((page < 128).any(1)), np.flatnonzero((page < 128).any(0))
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    result = preprocess(encoded(Image.fromarray(page), fmt))
    assert result.box is not None
    np.testing.assert_allclose(result.box, expected, atol=4 * scale)
    assert result.size == page.shape[::-1]


@pytest.mark.parametrize("width", [1, 2, 4, 60, 80])
def test_strokes_are_made_as_thick_as_mnists(width: int) -> None:
    image = Image.new("L", (700, 700), 255)
    ImageDraw.Draw(image).line([(150, 150), (500, 150), (300, 600)], fill=0, width=width)
    assert 1.7 < components.stroke_thickness(image_of(image)) < 4.3


# --- what belongs to the digit --------------------------------------------------------------


def test_detached_strokes_stay_and_specks_go() -> None:
    image = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.line(
        [(90, 90), (90, 150), (150, 140), (200, 190), (150, 250), (80, 240)], fill=0, width=14
    )
    draw.line([(90, 65), (220, 65)], fill=0, width=14)
    clean = preprocess(image)
    assert clean.box is not None
    assert clean.box[1] < 65
    rng = np.random.default_rng(1)
    off = ndimage.distance_transform_edt(clean.steps["grayscale"])
    assert isinstance(off, np.ndarray)
    for x, y in rng.integers(0, 297, (80, 2)).tolist():
        if off[y, x] > 8:  # a speck that touches a stroke is part of it
            draw.rectangle((x, y, x + 1, y + 1), fill=0)
    assert difference(image_of(clean.steps["grayscale"]), image_of(image)) < 0.1


@pytest.mark.parametrize("inset", [0, 4, 40])
def test_the_box_of_a_form_is_left_out(inset: int) -> None:
    page = Image.fromarray(drawn("2", 150, (300, 300), (100, 60)))
    ImageDraw.Draw(page).rectangle((inset, inset, 299 - inset, 299 - inset), outline=0, width=4)
    assert difference(mnist_like("2"), image_of(page)) < 0.2


@pytest.mark.parametrize("ys", [(20, 280), (90, 150, 210), (25, 70, 115, 160, 205, 250)])
@pytest.mark.parametrize("rise", [0, 5])
@pytest.mark.parametrize("width", [1, 3])
def test_ruled_lines_are_left_out_also_across_the_digit(
    ys: tuple[int, ...], rise: int, width: int
) -> None:
    page = Image.fromarray(drawn("3", 150, (400, 300), (150, 60)))
    for y in ys:
        ImageDraw.Draw(page).line((0, y, 400, y + rise), fill=40, width=width)
    image = image_of(page)
    distances = {d: difference(mnist_like(d), image) for d in "0123456789"}
    assert min(distances, key=distances.__getitem__) == "3"
    assert distances["3"] < 0.35


def test_lines_from_top_to_bottom_are_left_out() -> None:
    page = Image.fromarray(drawn("2", 150, (400, 300), (150, 60)))
    for x in (30, 200, 370):
        ImageDraw.Draw(page).line((x, 0, x + 2, 300), fill=40, width=2)
    assert difference(mnist_like("2"), image_of(page)) < 0.25


def tight(digit: np.ndarray) -> np.ndarray:
    """Bright on black, cropped to the ink: it touches all four borders."""
    rows, columns = np.flatnonzero(digit.max(1) > 60), np.flatnonzero(digit.max(0) > 60)
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("digit", "0123456789")
@pytest.mark.parametrize("side", [12, 20, 40])
@pytest.mark.parametrize("polarity", ["dark on light", "light on dark"])
def test_small_pictures_full_of_ink_keep_their_polarity(
    digit: str, side: int, polarity: str
) -> None:
    ink = tight(mnist_like(digit))
    width = max(round(side * ink.shape[1] / ink.shape[0]), 4)
    small = np.asarray(Image.fromarray(ink).resize((width, side), Image.Resampling.BILINEAR))
    result = preprocess(255 - small if polarity == "dark on light" else small)
    assert result.image is not None
    assert result.polarity == polarity
    if side > 12:
        assert difference(mnist_like(digit), result.image) < 0.35


def five(bar: tuple[int, int]) -> Image.Image:
    """A 5 whose bar is a stroke of its own, `bar` pixels (right, up) from the rest."""
    image = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.line(
        [(90, 90), (90, 150), (150, 140), (200, 190), (150, 250), (80, 240)], fill=0, width=14
    )
    x, y = 90 + bar[0], 70 - bar[1]
    draw.line([(x, y), (x + 120, y - 4)], fill=0, width=14)
    return image


@pytest.mark.parametrize("bar", [(0, 0), (15, 0), (0, 20), (25, 15)])
@pytest.mark.parametrize("cropped", [False, True])
def test_the_bar_of_a_5_is_part_of_it(bar: tuple[int, int], cropped: bool) -> None:
    ink = 255 - np.asarray(five(bar))
    page = 255 - tight(ink) if cropped else five(bar)
    result = preprocess(page)
    assert result.box is not None
    expected = (0, 0, *tight(ink).shape[::-1])
    width, height = result.box[2] - result.box[0], result.box[3] - result.box[1]
    np.testing.assert_allclose((width, height), expected[2:], atol=3)


def test_a_sheet_on_a_dark_desk() -> None:
    desk = np.full((500, 400), 30, np.uint8)
    desk[100:340, 100:300] = np.maximum(drawn("5"), 40)
    assert difference(mnist_like("5"), image_of(desk)) < 0.2


def test_a_shadow_with_an_edge() -> None:
    page = drawn("3", 200, (400, 400), (130, 80)) * 0.7 + 50
    page[np.add.outer(np.arange(400), np.arange(400)) > 420] *= 0.55
    assert difference(mnist_like("3"), image_of(page.astype(np.uint8))) < 0.25


def test_a_digit_cut_out_tightly() -> None:
    page = drawn("5", 300, (400, 500), (100, 60))
    rows, columns = np.flatnonzero((page < 128).any(1)), np.flatnonzero((page < 128).any(0))
    tight = page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert difference(mnist_like("5"), image_of(tight)) < 0.2


def noise(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (200, 240)).astype(np.uint8)


def framed(height: int, width: int, inset: int, line: int, turn: float = 0.0) -> np.ndarray:
    """An empty box of a form."""
    image = Image.new("L", (width, height), 0)
    box = (inset, inset, width - 1 - inset, height - 1 - inset)
    ImageDraw.Draw(image).rectangle(box, outline=255, width=line)
    return 255 - np.asarray(image.rotate(turn, Image.Resampling.BILINEAR))


NO_DIGIT = {
    "black": (np.zeros((50, 60), np.uint8), "empty"),
    "white": (np.full((50, 60), 255, np.uint8), "empty"),
    "one pixel": (np.zeros((1, 1), np.uint8), "empty"),
    "one row": (np.tile(np.array([0, 255], np.uint8), (1, 5000)), "not a digit"),
    "pale": (drawn() // 40 + 200, "empty"),
    "light alone": (np.tile(np.linspace(90, 230, 200), (150, 1)).astype(np.uint8), "empty"),
    "noise": (noise(0, 256), "not a digit"),
    "faint noise": (noise(100, 150), "not a digit"),
    "sheet": (np.pad(np.full((90, 90), 200, np.uint8), 5), "empty"),
    "patch": (np.pad(np.zeros((60, 90), np.uint8), 30, constant_values=230), "not a digit"),
    "frame": (framed(100, 120, 0, 3), "empty"),
    "box": (framed(200, 160, 20, 3), "empty"),
    "thin box": (framed(300, 300, 60, 1), "empty"),
    "turned box": (framed(200, 200, 40, 5, 3), "empty"),
    "ruled paper": (np.tile(np.where(np.arange(240) % 40 < 2, 60, 250), (300, 1)).T, "empty"),
    "text": (drawn("lorem ipsum\ndolor sit amet", 30, (300, 100), (5, 5)), "not a digit"),
    "12": (drawn("12", 120, (300, 200), (60, 30)), "several digits"),
    "1234": (drawn("1234", 60, (300, 200), (60, 60)), "several digits"),
    "far apart": (drawn("6      9", 80, (500, 200), (60, 50)), "several digits"),
    "a column": (drawn("3\n\n8", 60, (200, 300), (60, 20)), "several digits"),
}


@pytest.mark.parametrize("name", NO_DIGIT)
def test_reasons(name: str) -> None:
    array, reason = NO_DIGIT[name]
    result = preprocess(array.astype(np.uint8))
    assert (result.image, result.reason) == (None, reason)
    assert "grayscale" in result.steps


# --- the parts ------------------------------------------------------------------------------


@quick
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_components_are_scipys(shape: tuple[int, int], density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    labels, area, boxes = components.components(mask.astype(np.uint8) * 255)
    expected, count = ndimage.label(mask, np.ones((3, 3)))  # type: ignore[misc]
    assert len(area) == count
    for number, (rows, columns) in enumerate(ndimage.find_objects(expected), 1):
        ours = labels[expected == number]
        assert (ours == ours[0]).all()  # in whatever order
        assert area[ours[0] - 1] == ours.size
        box = (columns.start, rows.start, columns.stop, rows.stop)
        assert boxes[ours[0] - 1].tolist() == list(box)


def test_thickness_of_known_strokes() -> None:
    for width, height in ((4, 400), (10, 400), (40, 400)):
        bar = np.full((height, width), 255, np.uint8)
        expected = 2 * width * height / (2 * (width + height))
        assert components.stroke_thickness(bar) == pytest.approx(expected, rel=0.02)


def test_the_import_is_light() -> None:
    code = "import sys, lenet.data.pictures.preprocess"
    code += "; print({'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
