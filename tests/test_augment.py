"""Distortions against SciPy's geometry and against what each range promises."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lenet.augment import Distortion, warp
from lenet.engine import fused
from lenet.errors import LenetError


def blob(seed: int = 0) -> np.ndarray:
    """A smooth random image whose border is 0."""
    image = np.zeros((28, 28))
    image[8:20, 8:20] = np.random.default_rng(seed).uniform(0, 255, (12, 12))
    return ndimage.gaussian_filter(image, 0.8).clip(0, 255).round().astype(np.uint8)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_warp_is_scipys_affine_transform(seed: int):
    image = blob(seed)
    maps = Distortion(3, 30, 0.3, 0.2, 0.3).draw(1, np.random.default_rng(seed))
    ours = warp(torch.from_numpy(image[None]), torch.from_numpy(maps))[0].numpy()
    # SciPy counts (row, column) from the corner; ours is (x, y) about the centre.
    flip = np.array([[0, 1], [1, 0]])
    linear = flip @ maps[0, :, :2].astype(float) @ flip
    centre = np.array([13.5, 13.5])
    offset: Any = centre + flip @ maps[0, :, 2] - linear @ centre  # SciPy's stub wants a number
    theirs = ndimage.affine_transform(image.astype(float), linear, offset, order=1)
    assert np.abs(ours - theirs).max() <= 0.51  # ours is rounded


def test_nothing_drawn_changes_nothing():
    images = np.stack([blob(seed) for seed in range(4)])
    maps = Distortion().draw(4, np.random.default_rng(0))
    assert not Distortion()
    np.testing.assert_array_equal(
        warp(torch.from_numpy(images), torch.from_numpy(maps)).numpy(), images
    )


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -3), (-1, 4)])
def test_shift_moves_ink_right_and_down(x: int, y: int):
    image = blob()
    inverse = torch.tensor([[[1.0, 0, -x], [0, 1, -y]]])
    moved = warp(torch.from_numpy(image[None]), inverse)[0].numpy()
    np.testing.assert_array_equal(moved, np.roll(image, (y, x), axis=(0, 1)))


def test_ranges_are_kept_and_filled():
    count = 20_000
    draw = lambda **ranges: Distortion(**ranges).draw(count, np.random.default_rng(1))  # noqa: E731
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


def test_same_generator_same_maps():
    distortion = Distortion(1, 10, 0.1, 0.1, 0.1)
    first, second = (distortion.draw(5, np.random.default_rng([3, 1])) for _ in range(2))
    np.testing.assert_array_equal(first, second)


needs_kernels = pytest.mark.skipif(
    not fused.instruction_sets(), reason="the compiled kernels are not installed"
)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_compiled_warp_is_the_same(threads: int):
    random = np.random.default_rng(threads)
    images = random.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    index = random.integers(0, 40, 500)
    maps = Distortion(4, 40, 0.4, 0.2, 0.4).draw(500, random)
    ours = fused.warp(images, index, maps, threads).astype(int)
    theirs = warp(torch.from_numpy(images[index]), torch.from_numpy(maps)).numpy().astype(int)
    # Positions differ in the last bits, so now and then a pixel is rounded the other way.
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 1e-3


@needs_kernels
def test_the_compiled_warp_takes_any_map():
    images = np.full((1, 28, 28), 255, np.uint8)
    maps = np.full((4, 2, 3), np.nan, np.float32)
    maps[1:] = np.array([np.inf, -1e38, 0], np.float32)[:, None, None]
    warped = fused.warp(images, np.zeros(4, np.int64), maps)
    assert not warped[:2].any()  # nowhere
    assert (warped[3] == 255).all()  # the centre


@needs_kernels
def test_the_compiled_warp_refuses_what_does_not_fit():
    images, maps = np.zeros((2, 28, 28), np.uint8), np.zeros((3, 2, 3), np.float32)
    with pytest.raises(LenetError, match="index 2 is out of range"):
        fused.warp(images, np.array([0, 1, 2]), maps)
    with pytest.raises(LenetError, match="maps must have the shape"):
        fused.warp(images, np.array([0, 1]), maps)
    with pytest.raises(LenetError, match="square"):
        fused.warp(np.zeros((2, 28, 27), np.uint8), np.array([0, 1, 1]), maps)
