"""Preprocessing: synthetic digits in, MNIST-like 28x28 pictures out; SciPy is the oracle."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lenet.data.pictures import load_image
from lenet.errors import LenetError
from lenet.reading import ink, marks
from lenet.reading.preprocess import preprocess

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
    expected = drawn() / 255
    limit = 0.15 if fmt in ("JPEG", "MPO") else 1e-6
    for source in (path, str(path), data, io.BytesIO(data), Image.open(io.BytesIO(data))):
        gray = load_image(source)
        assert gray.dtype == np.float32
        assert np.abs(gray - expected).max() < limit


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_every_mode(mode: str) -> None:
    binary = np.where(drawn() > 127, 255, 0).astype(np.uint8)
    gray = load_image(
        Image.fromarray(binary).convert("RGB" if mode == "HSV" else "L").convert(mode)
    )
    np.testing.assert_allclose(gray, binary / 255, atol=0.01)


def test_sixteen_bits() -> None:
    deep = drawn().astype(np.uint16) * 257
    image = Image.fromarray(deep)
    assert image.mode == "I;16"
    for source in (image, encoded(image, "PNG"), encoded(image, "TIFF"), deep, deep.astype(">u2")):
        np.testing.assert_allclose(load_image(source), drawn() / 255, atol=1e-6)


def test_luminance_is_rec_601() -> None:
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, :4] = (200, 100, 50)
    expected = (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255
    for source in (colours, colours / 255, Image.fromarray(colours)):
        assert load_image(source)[0, 0] == pytest.approx(expected, abs=0.5 / 255 + 1e-6)


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
        np.testing.assert_allclose(load_image(scaled), binary, atol=1e-6)


def test_values_without_a_fixed_range_are_stretched() -> None:
    ramp = 1e308 * np.linspace(-1, 1, 64).reshape(8, 8)
    np.testing.assert_allclose(load_image(ramp).ravel(), np.linspace(0, 1, 64), atol=1e-6)
    assert np.all(load_image(np.full((8, 8), 7.0)) == 0)


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
    np.testing.assert_allclose(load_image(data), drawn("7") / 255)


def test_first_frame_and_first_page() -> None:
    first, second = Image.fromarray(drawn("2")), Image.fromarray(drawn("9"))
    for fmt in ("GIF", "TIFF"):
        data = encoded(first, fmt, save_all=True, append_images=[second])
        np.testing.assert_allclose(load_image(data), drawn("2") / 255, atol=1e-6)


def test_large_pictures_are_averaged_down() -> None:
    large = drawn("8", 1500, (4000, 3000), (1200, 700))
    for fmt in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(large), fmt)
        assert max(load_image(data).shape) <= 2048
        assert difference(mnist_like("8"), image_of(data)) < 0.2


def test_the_callers_image_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (5000, 5000), "white").save(path)
    with Image.open(path) as image:
        load_image(image)
        assert (image.mode, image.size) == ("RGB", (5000, 5000))


# --- what cannot be read --------------------------------------------------------------------


def test_messages_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    png = encoded(Image.fromarray(drawn()), "PNG")
    files = {
        "empty.png": (b"", "is empty; give"),
        "text.png": (b"not a picture at all", "is not a picture"),
        "cut.png": (png[: len(png) // 2], "is damaged or cut off"),
        "eps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
        "bomb.png": (bomb(30_000, 30_000), "more than 50,000,000 pixels; make"),
        "large.png": (bomb(9_000, 9_000), "more than 50,000,000 pixels; make"),
    }
    for name, (data, message) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LenetError, match=f"{name} .*{message}"):
            load_image(tmp_path / name)
    with pytest.raises(LenetError, match=r"missing\.png: no such file; check"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(LenetError, match="is a folder; name"):
        load_image(tmp_path)
    with pytest.raises(LenetError, match="check the path"):
        load_image("nul\0byte")


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
        (7, "int is no picture"),
    ],
)
def test_sources_that_are_no_picture(source: object, message: str) -> None:
    with pytest.raises(LenetError, match=message):
        load_image(source)  # type: ignore[arg-type]


SEEDS = {
    fmt: encoded(Image.fromarray(drawn("4", 30, (40, 40), (10, 2))).convert("RGB"), fmt)
    for fmt in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
}


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
        assert result.reason is not None
        assert result.reason.startswith("no digit found: ")
    else:
        assert result.image.shape == (28, 28)
        assert result.image.dtype == np.uint8


def test_the_box_is_where_the_digit_is() -> None:
    page = drawn("4", 60, (1500, 1000), (900, 300))
    rows, columns = np.flatnonzero((page < 128).any(1)), np.flatnonzero((page < 128).any(0))
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    box = preprocess(page).box
    assert box is not None
    np.testing.assert_allclose(box, expected, atol=3)


@pytest.mark.parametrize("width", [1, 2, 4, 60, 80])
def test_strokes_are_made_as_thick_as_mnists(width: int) -> None:
    image = Image.new("L", (700, 700), 255)
    ImageDraw.Draw(image).line([(150, 150), (500, 150), (300, 600)], fill=0, width=width)
    seven = (image_of(image) / 255).astype(np.float32)
    assert 1.7 < marks.stroke_thickness(seven) < 4.3


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


def test_ruled_lines_are_left_out() -> None:
    page = Image.fromarray(drawn("2", 150, (400, 300), (150, 60)))
    for y in (20, 280):
        ImageDraw.Draw(page).line((0, y, 400, y + 3), fill=0, width=3)
    assert difference(mnist_like("2"), image_of(page)) < 0.2


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


NO_DIGIT = {
    "black": (np.zeros((50, 60), np.uint8), "blank"),
    "white": (np.full((50, 60), 255, np.uint8), "blank"),
    "one pixel": (np.zeros((1, 1), np.uint8), "too small"),
    "one row": (np.tile(np.array([0, 255], np.uint8), (1, 5000)), "too small"),
    "pale": (drawn() // 40 + 200, "contrast"),
    "light alone": (np.tile(np.linspace(90, 230, 200), (150, 1)).astype(np.uint8), "contrast"),
    "noise": (noise(0, 256), "noise"),
    "faint noise": (noise(100, 150), "noise"),
    "frame": (np.pad(np.full((90, 90), 200, np.uint8), 5), "patch"),
    "text": (drawn("lorem ipsum\ndolor sit amet", 30, (300, 100), (5, 5)), "many marks"),
}


@pytest.mark.parametrize("name", NO_DIGIT)
def test_reasons(name: str) -> None:
    array, word = NO_DIGIT[name]
    result = preprocess(array)
    assert result.image is None
    assert result.reason is not None
    assert word in result.reason
    assert "grayscale" in result.steps


# --- the parts, against SciPy ---------------------------------------------------------------


@quick
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_components_are_scipys(shape: tuple[int, int], density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    labels, count = marks.label(mask)
    expected, expected_count = ndimage.label(mask, np.ones((3, 3)))  # type: ignore[misc]
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)
    boxes = marks.component_boxes(labels, count)
    slices = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(expected)]
    np.testing.assert_array_equal(boxes, np.array(slices, int).reshape(-1, 4))


def test_a_spiral_is_one_component() -> None:
    turn = np.linspace(0, 60, 200_000)
    mask = np.zeros((400, 400), bool)
    mask[
        (200 + 3 * turn * np.sin(turn)).astype(int), (200 + 3 * turn * np.cos(turn)).astype(int)
    ] = 1
    assert marks.label(mask)[1] == ndimage.label(mask, np.ones((3, 3)))[1]  # type: ignore[index]


def test_dilation_and_highest_are_scipys() -> None:
    picture = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    for radius in (1.0, 2.5, 4.0):
        y, x = np.mgrid[-4:5, -4:5]
        expected = ndimage.grey_dilation(
            picture, footprint=x * x + y * y <= radius**2, mode="nearest"
        )
        np.testing.assert_array_equal(marks.dilate(picture, radius), expected)
    inner = ndimage.maximum_filter(picture, 7)[3:-3, 3:-3]
    np.testing.assert_array_equal(ink.highest(picture, 3)[3:-3, 3:-3], inner)


def test_thickness_of_known_strokes() -> None:
    for width, height in ((4, 400), (10, 400), (40, 400)):
        bar = np.ones((height, width), np.float32)
        expected = 2 * width * height / (2 * (width + height))
        assert marks.stroke_thickness(bar) == pytest.approx(expected, rel=0.02)


def test_the_import_is_light() -> None:
    code = "import sys, lenet.reading.preprocess; print({'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
