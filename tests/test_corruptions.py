"""Corruptions: what each is said to do, against SciPy, and the same every time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from lenet import data
from lenet.data import corruptions
from lenet.data.corruptions import CORRUPTIONS, corrupt
from lenet.errors import LenetError
from lenet.evaluation.evaluate import robustness

MNIST_C = (
    "shot_noise impulse_noise glass_blur motion_blur shear scale rotate brightness translate "
    "stripe fog spatter dotted_line zigzag canny_edges"
)
FIXED = ("scale", "brightness", "stripe", "canny_edges")  # nothing in them is drawn
SMALL = np.random.default_rng(0).integers(0, 256, (5, 20, 33), np.uint8)

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def images(digits: tuple[Images, Images]) -> Images:
    return digits[0][:30]


def seeded() -> np.random.Generator:
    return np.random.default_rng(7)


def assert_near(found: Images, expected: NDArray[np.floating]) -> None:
    """`expected` is in 0..1; a pixel may be rounded the other way."""
    assert np.abs(found - 255 * expected.clip(0, 1)).max() < 0.51


def seen(image: Images, linear: NDArray[np.floating], shift: tuple[float, float]) -> NDArray:
    """SciPy's affine map about the centre; it counts (y, x), we (x, y)."""
    centre = (np.array(image.shape) - 1) / 2
    swapped = np.asarray(linear)[::-1, ::-1]
    offset = centre - swapped @ centre + np.array(shift[::-1])
    transform: Any = ndimage.affine_transform  # its stub knows no offset for each axis
    return transform(image / 255, swapped, offset, order=1, mode="grid-constant")


def test_all_fifteen_are_there() -> None:
    assert " ".join(CORRUPTIONS) == MNIST_C


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_all_have_in_common(name: str, images: Images) -> None:
    before = images.copy()
    first = corrupt(images, name)
    np.testing.assert_array_equal(images, before)
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert (first != images).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(corrupt(images, name), first)
    assert (corrupt(images, name, seed=1) == first).all() == (name in FIXED)
    assert corrupt(SMALL, name).shape == SMALL.shape
    assert corrupt(images[:0], name).shape == (0, 28, 28)


def test_each_image_is_spoilt_in_its_own_way(images: Images) -> None:
    same = np.repeat(images[:1], 40, axis=0)
    for name in set(CORRUPTIONS) - set(FIXED):
        assert len(np.unique(corrupt(same, name), axis=0)) > 1, name


def test_many_images_are_spoilt_in_parts(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corrupt(images, "canny_edges")
    monkeypatch.setattr(corruptions, "CHUNK", 7)
    np.testing.assert_array_equal(corrupt(images, "canny_edges"), whole)


def test_what_is_refused(images: Images) -> None:
    with pytest.raises(LenetError, match="no corruption 'snow': choose one of shot_noise, "):
        corrupt(images, "snow")
    with pytest.raises(LenetError, match=r"must be uint8 \(N, H, W\), not float64"):
        corrupt(images / 255, "fog")  # pyright: ignore[reportArgumentType]
    with pytest.raises(LenetError, match=r"not uint8 \(28, 28\)"):
        corrupt(images[0], "fog")


def test_shot_noise_is_poisson() -> None:
    grey = np.full((200, 28, 28), 51, np.uint8)  # 0.2 of full ink: 0.6 quanta
    found = corrupt(grey, "shot_noise")
    for quanta, value in enumerate((0, 85, 170)):
        share = (found == value).mean()
        assert share == pytest.approx(stats.poisson.pmf(quanta, 0.6), abs=5 / np.sqrt(grey.size))
    assert set(np.unique(found)) == {0, 85, 170, 255}


def test_impulse_noise_turns_17_percent() -> None:
    grey = np.full((200, 28, 28), 51, np.uint8)
    found = corrupt(grey, "impulse_noise")
    for value in (0, 255):
        assert (found == value).mean() == pytest.approx(0.085, abs=2.5 / np.sqrt(grey.size))
    assert set(np.unique(found)) == {0, 51, 255}


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
def test_blur_is_scipy_s(sigma: float) -> None:
    values = SMALL.astype(np.float32)
    expected = ndimage.gaussian_filter(values, (0, sigma, sigma), mode="nearest", truncate=4)
    np.testing.assert_allclose(corruptions.blur(values, sigma), expected, rtol=1e-5, atol=1e-3)


def test_glass_blur_moves_ink_about_and_keeps_it(images: Images) -> None:
    found = corrupt(images, "glass_blur") / 255
    twice = ndimage.gaussian_filter(images / 255, (0, 1, 1), mode="nearest")
    ratio = found.sum(axis=(1, 2)) / (images / 255).sum(axis=(1, 2))
    assert np.abs(ratio - 1).max() < 0.02
    assert 0.02 < np.abs(found - twice).mean() < 0.1


def test_motion_blur_is_a_fading_trail(images: Images) -> None:
    found = corruptions.motion_blur(images, seeded())
    angles = seeded().uniform(-np.pi / 4, np.pi / 4, (len(images), 1))[:, 0]
    weights = stats.norm.pdf(np.arange(10), scale=3)
    for image, angle, blurred in zip(images, angles, found, strict=True):
        trail = [
            seen(image, np.eye(2), (distance * np.cos(angle), distance * np.sin(angle)))
            for distance in range(10)
        ]
        assert_near(blurred, np.average(trail, axis=0, weights=weights))


def turned(angle: float) -> NDArray[np.floating]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("shear", [(np.array([[1, s], [0, 1]]), (0, 0)) for s in (0.4, -0.4)]),
        ("scale", [(np.eye(2) / 0.7, (0, 0))]),
        ("rotate", [(turned(angle), (0, 0)) for angle in (0.4, -0.4)]),
        ("translate", [(np.eye(2), (x, y)) for x in (-3, 3) for y in (-3, 3)]),
    ],
)
def test_affine_maps_are_scipy_s(name: str, ways: list, images: Images) -> None:
    used = set()
    for image, found in zip(images, corrupt(images, name), strict=True):
        errors = [np.abs(found - 255 * seen(image, *way)).max() for way in ways]
        assert min(errors) < 0.51
        used.add(int(np.argmin(errors)))
    assert len(used) == len(ways)  # each way occurs


def test_brightness_and_stripe(images: Images) -> None:
    assert_near(corrupt(images, "brightness"), images / 255 + 0.5)
    found = corrupt(images, "stripe")
    np.testing.assert_array_equal(found[:, :, 7:21], images[:, :, 7:21])
    for part in (slice(0, 7), slice(21, 28)):
        np.testing.assert_array_equal(found[:, :, part], 255 - images[:, :, part])


def test_fog_leaves_a_quarter_of_the_contrast(images: Images) -> None:
    found = corruptions.fog(images, seeded()).astype(int)
    alone = corruptions.fog(np.zeros_like(images), seeded()).astype(int)
    assert np.abs(found - alone - images / 4).max() < 1.01
    assert 20 < alone.mean(axis=(1, 2)).std() < 60  # some fog is thick and some is thin
    assert 1 < alone.std(axis=(1, 2)).mean() < 25  # and it is uneven


def test_spatter_covers_some_ink_and_leaves_the_rest(images: Images) -> None:
    found = corruptions.spatter(images, seeded())
    mud = corruptions.spatter(np.zeros_like(images), seeded())
    assert 0.05 < (mud > 0).mean() < 0.5
    assert set(np.unique(mud)) <= {0, *range(51, 65)}  # 0.8 to 1 of a quarter
    np.testing.assert_array_equal(found[mud == 0], images[mud == 0])
    cover = mud / 63.75
    assert np.abs(found - (images * (1 - cover) + mud))[mud > 0].max() < 3


@pytest.mark.parametrize(
    ("name", "columns"),
    [("dotted_line", [x for x in range(28) if x % 4 > 1]), ("zigzag", list(range(2, 26)))],
)
def test_strokes_add_ink_where_they_are_drawn(
    name: str, columns: list[int], images: Images
) -> None:
    blank = np.zeros_like(images)
    line = CORRUPTIONS[name](blank, seeded())
    others = sorted(set(range(28)) - set(columns))
    assert not line[:, :, others].any()
    inside = line[:, :, columns].max(axis=1) == 255
    assert inside.mean() > 0.8  # a zigzag may leave the picture
    assert (line > 0).sum(axis=1).max() <= 4  # about two pixels and soft edges
    found = CORRUPTIONS[name](images, seeded())
    expected = np.minimum(images.astype(int) + line, 255)
    assert np.abs(found - expected).max() <= 1


def test_canny_edges_of_a_square_are_its_outline() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 8:20, 8:20] = 255
    (found,) = corrupt(square, "canny_edges") > 0
    where = np.argwhere(found)
    assert np.abs(np.abs(where - 13.5).max(axis=1) - 6).max() <= 1  # on the edge, or one beside it
    label: Any = ndimage.label  # its stub says int
    holes, count = label(~found)
    assert count == 2  # inside and outside: the outline is closed
    assert holes[13, 13] != holes[0, 0]


def test_canny_edges_hang_together_as_they_should(images: Images) -> None:
    found = corrupt(images, "canny_edges")
    assert set(np.unique(found)) == {0, 255}
    for image, edges in zip(images, found > 0, strict=True):
        smooth = ndimage.gaussian_filter(image / 255, 1, mode="nearest")
        steep = np.hypot(*(ndimage.sobel(smooth, axis, mode="nearest") for axis in (0, 1)))
        assert steep[edges].min() >= 0.1 - 1e-6
        label: Any = ndimage.label
        pieces, count = label(edges, np.ones((3, 3)))
        assert count > 0
        assert min(ndimage.maximum(steep, pieces, range(1, count + 1))) >= 0.2 - 1e-6


def test_errors_are_counted_on_the_corrupted_images(digit_folder: Path) -> None:
    split = data.load(str(digit_folder)).test

    def brightest_column(images: Images) -> NDArray[np.float32]:
        """A network of a kind: scores are the ink in ten columns."""
        return images[:, :, 9:19].sum(axis=1).astype(np.float32)

    errors = robustness(brightest_column, split)
    assert list(errors) == list(CORRUPTIONS)
    for name in ("stripe", "scale"):
        answers = brightest_column(corrupt(split.images, name)).argmax(axis=1)
        assert errors[name] == pytest.approx(np.mean(answers != split.labels))
