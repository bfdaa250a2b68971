"""Corruptions: images corrupted in the fifteen ways of MNIST-C, to see how networks cope.

The kinds and their strength follow MNIST-C (Mu and Gilmer 2019, "MNIST-C: a robustness benchmark
for computer vision"); the code is our own, so errors are close to those on the published images
but not the same. Every function takes uint8 images (N, H, W), 0 is paper and 255 is full ink, and
a NumPy generator, and returns new images of the same shape and type.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lenet.errors import LenetError

Images = NDArray[np.uint8]
Values = NDArray[np.floating]
Corruption = Callable[[Images, np.random.Generator], Images]

CHUNK = 500  # images corrupted at a time, so that they stay in the cache


def corrupt(images: Images, name: str, seed: int = 0) -> Images:
    """The images under one of `CORRUPTIONS`; the same seed gives the same images.

    Args:
        images: uint8 (N, H, W).
        name: a key of `CORRUPTIONS`.
        seed: 0 or more; each corruption draws its own numbers from it.

    Raises:
        LenetError: there is no such corruption, or the images are not uint8 (N, H, W).
    """
    if name not in CORRUPTIONS:
        raise LenetError(f"no corruption {name!r}: choose one of {', '.join(CORRUPTIONS)}")
    if images.dtype != np.uint8 or images.ndim != 3:
        raise LenetError(f"images must be uint8 (N, H, W), not {images.dtype} {images.shape}")
    random = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    corrupted = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        corrupted[part] = CORRUPTIONS[name](images[part], random)
    return corrupted


# Noise


def shot_noise(images: Images, random: np.random.Generator) -> Images:
    """Photon noise: full ink is three photons on average."""
    return pixels(random.poisson(ink(images) * 3) / 3)


def impulse_noise(images: Images, random: np.random.Generator) -> Images:
    """17% of the pixels become paper or full ink, half of them each."""
    drawn = random.random(images.shape, np.float32)
    return np.where(drawn < 0.17, np.where(drawn < 0.17 / 2, np.uint8(0), np.uint8(255)), images)


# Blur


def glass_blur(images: Images, random: np.random.Generator) -> Images:
    """Frosted glass: blurred (sigma 0.7), pixels swapped with their neighbours, blurred again.

    In two passes, each pixel in turn is swapped, with probability one half, with one up to a pixel
    above or to the left of it.
    """
    glass = blur(ink(images), 0.7)
    count, height, width = glass.shape
    every = np.arange(count)
    for _ in range(2):
        for y in range(height - 1, 0, -1):
            for x in range(width - 1, 0, -1):
                dy, dx = random.integers(-1, 1, (2, count)) * random.integers(0, 2, count)
                here, there = (every, y, x), (every, y + dy, x + dx)
                glass[here], glass[there] = glass[there], glass[here]
    return pixels(blur(glass, 0.7))


def motion_blur(images: Images, random: np.random.Generator) -> Images:
    """Moved during exposure: a trail within 45 degrees of the horizontal that fades as a Gaussian
    of sigma 3 pixels.
    """
    angle = random.uniform(-np.pi / 4, np.pi / 4, (len(images), 1)).astype(np.float32)
    weights = np.exp(-(np.arange(10) ** 2) / (2 * 3**2))
    original, trail = ink(images), np.zeros(images.shape, np.float32)
    height, width = images.shape[1:]
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    for distance, weight in enumerate((weights / weights.sum()).tolist()):
        rows, columns = y + distance * np.sin(angle), x + distance * np.cos(angle)
        moved = tents(rows, height) @ original @ tents(columns, width).swapaxes(1, 2)
        trail += weight * moved
    return pixels(trail)


# Position, size, slant


def shear(images: Images, random: np.random.Generator) -> Images:
    """Slanted to the left or to the right by 0.4 pixels a row."""
    maps = np.tile(np.eye(2), (len(images), 1, 1))
    maps[:, 0, 1] = 0.4 * signs(len(images), random)
    return pixels(warp(ink(images), maps, np.zeros(2)))


def scale(images: Images, random: np.random.Generator) -> Images:
    """Shrunk to 70%."""
    return pixels(warp(ink(images), np.eye(2) / 0.7, np.zeros(2)))


def rotate(images: Images, random: np.random.Generator) -> Images:
    """Rotated by 0.4 rad (23 degrees) either way."""
    angle = 0.4 * signs(len(images), random)
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)
    return pixels(warp(ink(images), maps, np.zeros(2)))


def translate(images: Images, random: np.random.Generator) -> Images:
    """Moved by 3 pixels either way along both axes."""
    shift = 3.0 * np.stack([signs(len(images), random), signs(len(images), random)], axis=1)
    return pixels(warp(ink(images), np.eye(2), shift))


# Light and weather


def brightness(images: Images, random: np.random.Generator) -> Images:
    """Half of full ink added everywhere."""
    return pixels(ink(images) + 0.5)


def stripe(images: Images, random: np.random.Generator) -> Images:
    """The outer quarters, left and right, inverted."""
    quarter = images.shape[2] // 4
    striped = images.copy()
    striped[:, :, :quarter] ^= 255
    striped[:, :, -quarter:] ^= 255
    return striped


def fog(images: Images, random: np.random.Generator) -> Images:
    """Fog three times as strong as ink, added and scaled back into the range.

    The fog is a sum of noise at seven scales: cells of 64, 32 ... 1 pixels, each scale half as
    strong as the one before.
    """
    height, width = images.shape[1:]
    clouds = np.zeros(images.shape, np.float32)
    for octave in range(7):
        cell = 64 >> octave
        size = 2 + max(height, width) // cell
        grid = random.uniform(-1, 1, (len(images), size, size)).astype(np.float32)
        # The image's position in the grid, in cells; the grid is interpolated between its points.
        (y0, x0), steps = random.uniform(0, 1, 2), np.arange(max(height, width)) / cell
        rows, columns = tents(y0 + steps[:height], size), tents(x0 + steps[:width], size)
        clouds += 0.5**octave * (rows @ grid @ columns.T)
    thickness = (0.57 + 0.45 * clouds).clip(0, 1)
    return pixels((ink(images) + 3 * thickness) / (1 + 3))


def spatter(images: Images, random: np.random.Generator) -> Images:
    """Splashes of mud, a quarter as dark as ink, on parts of the image."""
    wet = blur(random.normal(0.65, 0.3, images.shape).astype(np.float32), 1.0) > 0.65
    mud = blur(wet.astype(np.float32), 1.5)
    mud[mud < 0.8] = 0
    return pixels(ink(images) * (1 - mud) + 0.25 * mud)


# Strokes


def dotted_line(images: Images, random: np.random.Generator) -> Images:
    """A straight dotted line, 2 pixels on and 2 off, from the left edge to the right."""
    height, width = images.shape[1:]
    left, right = random.integers(0, height - 1, (2, len(images), 1))
    columns = np.arange(width)
    rows = left + (right - left) * columns / (width - 1)
    return stroke(images, rows, columns // 2 % 2 == 1)


def zigzag(images: Images, random: np.random.Generator) -> Images:
    """A zigzag line of period 8 and height 4 pixels, about a straight line from the left to the
    right whose ends differ by up to 5 pixels in height.
    """
    height, width = images.shape[1:]
    left = random.integers(0, height - 1, (len(images), 1))
    fall = random.integers(-5, 5, (len(images), 1))
    columns = np.arange(width)
    wave = 2 - np.abs((columns + 4) % 8 - 4)
    rows = left + fall * columns / (width - 1) + wave
    return stroke(images, rows, (columns >= 2) & (columns < width - 2))


def canny_edges(images: Images, random: np.random.Generator) -> Images:
    """Edges alone, a pixel wide (Canny 1986): smoothed with sigma 1, the ridges of the Sobel
    gradient above 0.2, and those above 0.1 that are connected to them.
    """
    smooth = np.pad(blur(ink(images), 1.0), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, along = smooth[:, :, 2:] - smooth[:, :, :-2], smooth[:, 2:] - smooth[:, :-2]
    gx = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    gy = along[:, :, :-2] + 2 * along[:, :, 1:-1] + along[:, :, 2:]
    steepness = np.hypot(gx, gy)
    ridge = is_ridge(steepness, gx, gy)
    ridge[:, [0, -1]] = ridge[:, :, [0, -1]] = False
    weak, edges = ridge & (steepness >= 0.1), ridge & (steepness >= 0.2)
    while True:
        framed = np.pad(edges, ((0, 0), (1, 1), (1, 1)))
        grown = weak & sliding_window_view(framed, (3, 3), (1, 2)).any((3, 4))
        if (grown == edges).all():
            return np.where(edges, np.uint8(255), np.uint8(0))
        edges = grown


CORRUPTIONS: dict[str, Corruption] = {
    corruption.__name__: corruption
    for corruption in (
        *(shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness),
        *(translate, stripe, fog, spatter, dotted_line, zigzag, canny_edges),
    )
}


# Building blocks


def ink(images: Images) -> Values:
    """float32, 0 is paper, 1 is full ink."""
    return images.astype(np.float32) / 255


def pixels(values: Values) -> Images:
    """Ink as uint8, clipped and rounded."""
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def signs(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """-1 or 1 at random, (count,)."""
    return 2 * random.integers(0, 2, count) - 1


def tents(positions: Values, size: int) -> Values:
    """Weights (..., P, size) of linear interpolation at positions (..., P) between the points
    0 .. size - 1; 0 beyond them.
    """
    distance = np.abs(positions[..., None].astype(np.float32) - np.arange(size, dtype=np.float32))
    return (1 - distance).clip(0)


def blur(values: Values, sigma: float) -> Values:
    """Gaussian blur of (N, H, W), the edge pixels repeated beyond the edges."""
    return gaussian(values.shape[1], sigma) @ values @ gaussian(values.shape[2], sigma).T


def gaussian(size: int, sigma: float) -> Values:
    """The matrix (size, size) that blurs a row of pixels; the kernel is cut at 4 sigma."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        rows = np.arange(size)
        matrix[rows, (rows + offset).clip(0, size - 1)] += weight
    return matrix.astype(np.float32)


def warp(values: Values, maps: Values, shifts: Values) -> Values:
    """The images (N, H, W) at map p + shift for each pixel p; bilinear, paper outside.

    p = (x, y) in pixels about the centre; maps are (2, 2) or (N, 2, 2), shifts (2,) or (N, 2).
    """
    count, height, width = values.shape
    maps = np.broadcast_to(maps.astype(np.float32), (count, 2, 2))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    points = np.stack([x.ravel(), y.ravel()]) - centre[:, None]
    seen = maps @ points + (shifts.astype(np.float32) + centre)[..., None]
    return between(values, seen[:, 0], seen[:, 1]).reshape(values.shape)


def between(values: Values, x: Values, y: Values) -> Values:
    """Bilinear values (N, P) of images (N, H, W) at points x, y (N, P); 0 outside."""
    count, height, width = values.shape
    framed = np.pad(values, ((0, 0), (1, 1), (1, 1))).reshape(count, -1)
    # Points beyond the frame of paper read the frame.
    x, y = (x + 1).clip(0, width + 0.999), (y + 1).clip(0, height + 0.999)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, below = x - left, y - top
    corner = top * (width + 2) + left
    upper, lower = (
        np.take_along_axis(framed, corner + row, 1) * (1 - right)
        + np.take_along_axis(framed, corner + row + 1, 1) * right
        for row in (0, width + 2)
    )
    return upper * (1 - below) + lower * below


def stroke(images: Images, rows: Values, drawn: NDArray[np.bool_]) -> Images:
    """Adds a line about two pixels wide with soft edges: at `rows` (N, W), in the columns that
    are `drawn` (W,).
    """
    distance = np.abs(np.arange(images.shape[1])[:, None] - rows[:, None, :])
    return pixels(ink(images) + np.where(drawn, (1.5 - distance).clip(0, 1), 0))


def is_ridge(steepness: Values, gx: Values, gy: Values) -> NDArray[np.bool_]:
    """Where the gradient is at least as steep as one pixel up and one pixel down the slope."""
    count, height, width = steepness.shape
    length = np.maximum(np.hypot(gx, gy), 1e-12)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ridge = steepness > 0
    for side in (-1, 1):
        points = (x + side * gx / length, y + side * gy / length)
        beside = between(steepness, *(axis.reshape(count, -1) for axis in points))
        ridge &= steepness >= beside.reshape(steepness.shape) - 1e-6
    return ridge
