"""Distortions against SciPy's geometry and against what each range promises."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import BSpline

from lenet.data.distortion import KNOT_SPACING, Distortion, Warps, spline_basis
from lenet.engine import fused
from lenet.errors import LenetError
from lenet.training import autograd_warp


def warp(images: torch.Tensor, warps: Warps) -> torch.Tensor:
    """PyTorch's way, by the arrays of `warps`."""
    arrays = {n: torch.from_numpy(a) for n, a in vars(warps).items() if a is not None}
    basis = torch.from_numpy(spline_basis(images.shape[1]))
    return autograd_warp.warp(images, basis=basis, **arrays)


def blob(seed: int = 0) -> np.ndarray:
    """A smooth random image whose border is 0."""
    image = np.zeros((28, 28))
    image[8:20, 8:20] = np.random.default_rng(seed).uniform(0, 255, (12, 12))
    return ndimage.gaussian_filter(image, 0.8).clip(0, 255).round().astype(np.uint8)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_warp_is_scipys_affine_transform(seed: int):
    image = blob(seed)
    warps = Distortion(shift=3, rotation=30, scale=0.3, squeeze=0.2, shear=0.3).draw(
        1, 28, np.random.default_rng(seed)
    )
    ours, maps = warp(torch.from_numpy(image[None]), warps)[0].numpy(), warps.maps
    # SciPy counts (row, column) from the corner; ours is (x, y) about the centre.
    flip = np.array([[0, 1], [1, 0]])
    linear = flip @ maps[0, :, :2].astype(float) @ flip
    centre = np.array([13.5, 13.5])
    offset: Any = centre + flip @ maps[0, :, 2] - linear @ centre  # SciPy's stub wants a number
    theirs = ndimage.affine_transform(image.astype(float), linear, offset, order=1)
    assert np.abs(ours - theirs).max() <= 0.51  # ours is rounded


def displacements(knots: np.ndarray, side: int) -> np.ndarray:
    """(2, side, side): SciPy's cubic spline with these coefficients (2, K, K), in pixels."""
    count = knots.shape[1]
    where = (np.arange(count + 4) - (count + 3) / 2) * KNOT_SPACING
    pixels = np.arange(side) - (side - 1) / 2
    along_y = BSpline(where, knots, 3, axis=1, extrapolate=False)(pixels)
    return BSpline(where, along_y, 3, axis=2, extrapolate=False)(pixels)


@given(seed=st.integers(0, 1000), elastic=st.floats(0.1, 3.0))
@settings(max_examples=25, deadline=None)
def test_elastic_warp_is_scipys(seed: int, elastic: float):
    image = blob(seed)
    warps = Distortion(shift=2, rotation=20, flip=True, elastic=elastic).draw(
        1, 28, np.random.default_rng(seed)
    )
    assert warps.knots is not None
    ours = warp(torch.from_numpy(image[None]), warps)[0].numpy()
    y, x = np.mgrid[:28, :28] - 13.5
    x, y = np.einsum("ij,jyx->iyx", warps.maps[0], np.stack([x, y, np.ones((28, 28))]))
    dx, dy = displacements(warps.knots[0].astype(float), 28)
    theirs = ndimage.map_coordinates(image.astype(float), [y + dy + 13.5, x + dx + 13.5], order=1)
    assert np.abs(ours - theirs).max() <= 0.52  # ours is rounded


@pytest.mark.parametrize("side", [9, 28, 29, 32])
def test_elastic_displacements_have_their_size_and_smoothness(side: int):
    warps = Distortion(elastic=0.8).draw(3000, side, np.random.default_rng(5))
    assert warps.knots is not None
    fields = np.stack([displacements(k, side) for k in warps.knots.astype(float)])
    assert np.isfinite(fields).all()  # every pixel is within reach of four knots
    assert abs(fields.mean()) < 0.02
    if side == 28:
        assert fields.std() == pytest.approx(0.8, rel=0.02)
    # White noise under a Gaussian of s has the correlation exp(-d^2 / 4 s^2) at a distance d.
    near, far = fields[:, 0, :, :-4], fields[:, 0, :, 4:]
    expected = np.exp(-(4**2) / (4 * 4.04**2))
    assert np.corrcoef(near.ravel(), far.ravel())[0, 1] == pytest.approx(expected, abs=0.05)


def test_one_in_two_is_mirrored():
    images = np.stack([blob(seed) for seed in range(200)])
    warps = Distortion(flip=True).draw(200, 28, np.random.default_rng(0))
    flipped = warp(torch.from_numpy(images), warps).numpy()
    same = (flipped == images).all((1, 2))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2))
    assert (same ^ mirrored).all()
    assert 80 < same.sum() < 120


def test_nothing_drawn_changes_nothing():
    images = np.stack([blob(seed) for seed in range(4)])
    warps = Distortion().draw(4, 28, np.random.default_rng(0))
    assert not Distortion()
    assert Distortion(flip=True) and Distortion(elastic=0.1) and Distortion(fade=0.1)
    assert Distortion(noise=0.1)
    np.testing.assert_array_equal(warp(torch.from_numpy(images), warps).numpy(), images)


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -3), (-1, 4)])
def test_shift_moves_ink_right_and_down(x: int, y: int):
    image = blob()
    inverse = Warps(np.array([[[1, 0, -x], [0, 1, -y]]], np.float32))
    moved = warp(torch.from_numpy(image[None]), inverse)[0].numpy()
    np.testing.assert_array_equal(moved, np.roll(image, (y, x), axis=(0, 1)))


def test_ranges_are_kept_and_filled():
    count = 20_000
    draw = lambda **ranges: Distortion(**ranges).draw(count, 28, np.random.default_rng(1)).maps  # noqa: E731
    shifts = draw(shift=2.0)[:, :, 2]
    assert 1.99 < np.abs(shifts).max() <= 2.0 and abs(shifts.mean()) < 0.05
    turns = draw(rotation=10.0)[:, :, :2]
    angles = np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    assert 9.98 < np.abs(angles).max() <= 10.0001
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-5)
    areas = np.linalg.det(draw(scale=0.1)[:, :, :2])
    assert np.exp(-0.2) <= areas.min() < np.exp(-0.199) and np.exp(0.199) < areas.max()
    squeezed = draw(squeeze=0.1)[:, :, :2]
    np.testing.assert_allclose(np.linalg.det(squeezed), 1, atol=1e-5)
    assert np.exp(0.0995) < squeezed[:, 1, 1].max() <= np.exp(0.1) * 1.0001
    sheared = draw(shear=0.3)[:, :, :2]
    assert 0.299 < np.abs(sheared[:, 0, 1]).max() <= 0.3 and not sheared[:, 1, 0].any()


@settings(max_examples=20, deadline=None)
@given(paper=st.floats(0, 0.99), fade=st.floats(0.01, 0.99))
def test_shades_of_paper_and_ink(paper: float, fade: float):
    warps = Distortion(paper=paper, fade=fade).draw(2000, 4, np.random.default_rng(0))
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(2000, 4, 2)
    shaded = warp(images, warps).numpy().astype(float) / 255
    white, black = shaded[:, 1, 0], shaded[:, 1, 1]
    same = (white == 0) & (black == 1)
    assert 0.7 < same.mean() < 0.87  # some of a quarter are changed too little to be seen
    assert white.max() <= paper + 0.002 and white.max() > 0.98 * paper - 0.002
    lost = 1 - (black - white) / (1 - white)
    assert lost.max() <= fade + 0.01 / (1 - white.max()) and lost.max() > 0.9 * fade - 0.01


def test_same_generator_same_warps():
    distortion = Distortion(
        shift=1,
        rotation=10,
        scale=0.1,
        squeeze=0.1,
        shear=0.1,
        flip=True,
        elastic=1.0,
        paper=0.1,
        fade=0.1,
    )
    noisy = replace(distortion, noise=0.1)
    first, second = (noisy.draw(5, 28, np.random.default_rng([3, 1])) for _ in range(2))
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, vars(second)[name])
    # Noise leaves the rest as it is without.
    other = distortion.draw(5, 28, np.random.default_rng([3, 1]))
    assert other.noise is None
    for name in ("maps", "knots", "shades"):
        np.testing.assert_array_equal(vars(other)[name], vars(first)[name])
    many = noisy.draw(1000, 28, np.random.default_rng(4))
    assert many.shades is not None and many.noise is not None
    np.testing.assert_array_equal(many.shades[:, 1] < 1, many.noise[:, 1] > 0)  # the same images


def unmoved(noise: list[list[int]]) -> Warps:
    """Warps that do nothing but this noise."""
    maps = np.tile(np.eye(2, 3, dtype=np.float32), (len(noise), 1, 1))
    return Warps(maps, noise=np.array(noise))


def mueller(number: int) -> int:
    """Mueller's hash of a number of 32 bits."""
    number = ((number >> 16) ^ number) * 0x45D9F3B % 2**32
    number = ((number >> 16) ^ number) * 0x45D9F3B % 2**32
    return (number >> 16) ^ number


@given(
    seed=st.sampled_from([0, 2**31, 2**32 - 300, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    chance=st.sampled_from([0, 1, 2**31 - 1, 2**31]) | st.integers(0, 2**31),
    side=st.integers(1, 32),
)
@settings(max_examples=40, deadline=None)
def test_noise_is_that_of_its_seed(seed: int, chance: int, side: int):
    image = np.random.default_rng(0).integers(1, 255, (1, side, side), dtype=np.uint8)
    want = image.flatten()
    for i in range(side * side):
        drawn = mueller((seed + i) % 2**32)
        if drawn < 2 * chance:
            want[i] = 255 * (drawn % 2)
    warps = unmoved([[seed, chance]])
    ways = [warp(torch.from_numpy(image), warps).numpy()]
    if fused.instruction_sets():
        ways.append(fused.warp(image, np.zeros(1, np.int64), warps))
    for noisy in ways:
        np.testing.assert_array_equal(noisy.flatten(), want)


@settings(max_examples=10, deadline=None)
@given(noise=st.floats(0.05, 1.0), seed=st.integers(0, 100))
def test_shares_of_noise(noise: float, seed: int):
    images = torch.full((4000, 28, 28), 128, dtype=torch.uint8)
    warps = Distortion(noise=noise).draw(4000, 28, np.random.default_rng(seed))
    noisy = warp(images, warps).numpy()
    hit = noisy != 128
    shares = hit.mean((1, 2))
    assert 0.2 < (shares > 0).mean() < 0.28  # a few of a quarter get none
    assert noise * 0.92 < shares.max() < noise + 0.06
    assert shares.mean() == pytest.approx(noise / 8, rel=0.12)
    assert (noisy[hit] == 255).mean() == pytest.approx(0.5, abs=0.01)
    # Neither the same pixels each time nor neighbours together.
    chosen = hit[shares > 0]
    per_pixel = chosen.mean(0)
    assert per_pixel.std() < 2 * np.sqrt(noise / 2 / len(chosen))
    rest = chosen - chosen.mean((1, 2), keepdims=True)
    for one, two in ((rest[:, 1:], rest[:, :-1]), (rest[:, :, 1:], rest[:, :, :-1])):
        assert abs((one * two).mean()) < 0.01 * (rest**2).mean()


def test_noise_lies_on_the_warped_image():
    images = np.zeros((1, 28, 28), np.uint8)
    warps = unmoved([[7, 2**31]])
    moved = Warps(warps.maps * 3, shades=np.array([[50, 0.5]], np.float32), noise=warps.noise)
    noisy, other = (warp(torch.from_numpy(images), w).numpy() for w in (warps, moved))
    np.testing.assert_array_equal(noisy, other)
    assert set(np.unique(noisy)) == {0, 255}


needs_kernels = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)


@needs_kernels
@pytest.mark.parametrize(
    "options", [{}, {"elastic": 1.5}, {"paper": 0.4, "fade": 0.6, "noise": 0.3}]
)
@pytest.mark.parametrize(("side", "threads"), [(28, 1), (28, 2), (32, 3), (9, 1), (29, 1), (61, 2)])
def test_the_compiled_warp_is_the_same(side: int, threads: int, options: dict):
    random = np.random.default_rng(threads)
    images = random.integers(0, 256, (40, side, side), dtype=np.uint8)
    index = random.integers(0, 40, 500)
    warps = Distortion(
        shift=4, rotation=40, scale=0.4, squeeze=0.2, shear=0.4, flip=True, **options
    ).draw(500, side, random)
    ours = fused.warp(images, index, warps, threads).astype(int)
    theirs = warp(torch.from_numpy(images[index]), warps).numpy().astype(int)
    # Positions differ in the last bits, so now and then a pixel is rounded the other way.
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 1e-3


@needs_kernels
def test_the_compiled_warp_takes_any_map():
    images = np.full((1, 28, 28), 255, np.uint8)
    maps = np.zeros((4, 2, 3), np.float32)
    maps[:3] = np.array([1e38, -1e38, 3e9], np.float32)[:, None, None]
    warped = fused.warp(images, np.zeros(4, np.int64), Warps(maps))
    assert not warped[:3, 0].any()  # nowhere
    assert (warped[3] == 255).all()  # the centre
    for bad in (np.nan, np.inf):
        with pytest.raises(LenetError, match="maps must be finite"):
            fused.warp(images, np.zeros(1, np.int64), Warps(np.full((1, 2, 3), bad, np.float32)))
    for shade in ([-1, 1], [0, 1.1], [250, 0.5], [np.nan, 0], [0, np.nan]):
        shades = np.array([shade] * 4, np.float32)
        with pytest.raises(LenetError, match="shades must keep 0 and 255"):
            fused.warp(images, np.zeros(4, np.int64), Warps(maps, shades=shades))
    for noise in ([-1, 0], [2**32, 0], [0, -1], [0, 2**31 + 1]):
        with pytest.raises(LenetError, match="noise must have seeds below"):
            fused.warp(images, np.zeros(4, np.int64), Warps(maps, noise=np.array([noise] * 4)))
    knots = np.full((4, 2, 7, 7), 1e38, np.float32)
    knots[1:] = np.array([-1e38, 3e9, -3e9], np.float32)[:, None, None, None]
    warped = fused.warp(
        images, np.zeros(4, np.int64), Warps(np.zeros((4, 2, 3), np.float32), knots)
    )
    assert not warped.any()


@needs_kernels
def test_the_compiled_warp_refuses_what_does_not_fit():
    images, maps = np.zeros((2, 28, 28), np.uint8), np.zeros((3, 2, 3), np.float32)
    with pytest.raises(LenetError, match="index 2 is out of range"):
        fused.warp(images, np.array([0, 1, 2]), Warps(maps))
    with pytest.raises(LenetError, match="maps must have the shape"):
        fused.warp(images, np.array([0, 1]), Warps(maps))
    with pytest.raises(LenetError, match="square"):
        fused.warp(np.zeros((2, 28, 27), np.uint8), np.array([0, 1, 1]), Warps(maps))
    with pytest.raises(LenetError, match=r"knots must .* have the shape \(3, 2, 7, 7\)"):
        fused.warp(images, np.array([0, 1, 1]), Warps(maps, np.zeros((3, 2, 6, 7), np.float32)))
    with pytest.raises(LenetError, match=r"noise must have the shape \(3, 2\)"):
        fused.warp(images, np.array([0, 1, 1]), Warps(maps, noise=np.zeros((2, 2), np.int64)))
