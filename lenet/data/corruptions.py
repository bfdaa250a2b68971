"""Corruptions: images spoilt in the fifteen ways of MNIST-C, to see how a network bears them.

The kinds and their strength follow MNIST-C (Mu and Gilmer 2019, "MNIST-C: a robustness benchmark
for computer vision"); the code is our own, so errors are near those on the published images but
not the same. Every function takes uint8 images (N, H, W), 0 is paper and 255 is full ink, and a
NumPy generator, and returns new images of the same shape and type. NumPy only.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError

Images = NDArray[np.uint8]
Values = NDArray[np.floating]
Corruption = Callable[[Images, np.random.Generator], Images]

CHUNK = 500  # images spoilt at a time, so that the work stays in the cache


def corrupt(images: Images, name: str, seed: int = 0) -> Images:
    """The images under one of `CORRUPTIONS`; the same seed gives the same images.

    Args:
        images: uint8 (N, H, W).
        name: a key of `CORRUPTIONS`.
        seed: any number that is not negative; each corruption draws its own numbers from it.

    Raises:
        LenetError: there is no such corruption, or the images are of another kind.
    """
    if name not in CORRUPTIONS:
        raise LenetError(f"no corruption {name!r}: choose one of {', '.join(CORRUPTIONS)}")
    if images.dtype != np.uint8 or images.ndim != 3:
        raise LenetError(f"images must be uint8 (N, H, W), not {images.dtype} {images.shape}")
    random = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    spoilt = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        spoilt[part] = CORRUPTIONS[name](images[part], random)
    return spoilt


# Noise


def shot_noise(images: Images, random: np.random.Generator) -> Images:
    """Light comes in quanta: full ink is three of them on the average."""
    return pixels(random.poisson(ink(images) * 3) / 3)


def impulse_noise(images: Images, random: np.random.Generator) -> Images:
    """17% of the pixels become paper or full ink, as often the one as the other."""
    drawn = random.random(images.shape, np.float32)
    spoilt = np.where(drawn < 0.17 / 2, np.uint8(0), np.uint8(255))
    return np.where(drawn < 0.17, spoilt, images)


# Blur


def glass_blur(images: Images, random: np.random.Generator) -> Images:
    """Frosted glass: blurred (sigma 0.7), pixels exchanged with neighbours, blurred again.

    Twice over, each pixel in turn changes places, with a chance of one half, with one up to a
    pixel above or to the left of it.
    """
    spoilt = blur(ink(images), 0.7)
    count, height, width = spoilt.shape
    every = np.arange(count)
    for _ in range(2):
        for y in range(height - 1, 0, -1):
            for x in range(width - 1, 0, -1):
                dy, dx = random.integers(-1, 1, (2, count)) * random.integers(0, 2, count)
                here, there = (every, y, x), (every, y + dy, x + dx)
                spoilt[here], spoilt[there] = spoilt[there], spoilt[here]
    return pixels(blur(spoilt, 0.7))


def motion_blur(images: Images, random: np.random.Generator) -> Images:
    """Moved while it was taken: a trail in a direction within 45 degrees of the horizontal, which
    fades as a Gaussian of sigma 3 pixels.
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


# Another place, size or slant


def shear(images: Images, random: np.random.Generator) -> Images:
    """Slanted, to the left or to the right, by 0.4 pixels a row."""
    maps = np.zeros((len(images), 2, 2)) + np.eye(2)
    maps[:, 0, 1] = 0.4 * signs(len(images), random)
    return pixels(warp(ink(images), maps, np.zeros(2)))


def scale(images: Images, random: np.random.Generator) -> Images:
    """Shrunk to 70%."""
    return pixels(warp(ink(images), np.eye(2) / 0.7, np.zeros(2)))


def rotate(images: Images, random: np.random.Generator) -> Images:
    """Turned by 0.4 rad (23 degrees), either way."""
    angle = 0.4 * signs(len(images), random)
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)
    return pixels(warp(ink(images), maps, np.zeros(2)))


def translate(images: Images, random: np.random.Generator) -> Images:
    """Moved by 3 pixels along both axes, each either way."""
    shift = 3.0 * np.stack([signs(len(images), random), signs(len(images), random)], axis=1)
    return pixels(warp(ink(images), np.eye(2), shift))


# Light and weather


def brightness(images: Images, random: np.random.Generator) -> Images:
    """Half of full ink is added everywhere."""
    return pixels(ink(images) + 0.5)


def stripe(images: Images, random: np.random.Generator) -> Images:
    """The outer quarters, left and right, are inverted."""
    quarter = images.shape[2] // 4
    spoilt = images.copy()
    spoilt[:, :, :quarter] ^= 255
    spoilt[:, :, -quarter:] ^= 255
    return spoilt


def fog(images: Images, random: np.random.Generator) -> Images:
    """Fog three times as strong as ink is added, and the sum fitted into the range again.

    The fog is a sum of noise at seven scales: cells of 64, 32 ... 1 pixels, each scale half as
    strong as the one before.
    """
    height, width = images.shape[1:]
    clouds = np.zeros(images.shape, np.float32)
    for octave in range(7):
        cell = 64 >> octave
        size = 2 + max(height, width) // cell
        grid = random.uniform(-1, 1, (len(images), size, size)).astype(np.float32)
        # Where the picture lies in the grid, in cells, and the grid's values between its points.
        (y0, x0), steps = random.uniform(0, 1, 2), np.arange(max(height, width)) / cell
        rows, columns = tents(y0 + steps[:height], size), tents(x0 + steps[:width], size)
        clouds += 0.5**octave * (rows @ grid @ columns.T)
    thickness = (0.57 + 0.45 * clouds).clip(0, 1)
    return pixels((ink(images) + 3 * thickness) / (1 + 3))


def spatter(images: Images, random: np.random.Generator) -> Images:
    """Splashes of mud, a quarter as dark as ink, cover some of the picture."""
    wet = blur(random.normal(0.65, 0.3, images.shape).astype(np.float32), 1.0) > 0.65
    mud = blur(wet.astype(np.float32), 1.5)
    mud[mud < 0.8] = 0
    return pixels(ink(images) * (1 - mud) + 0.25 * mud)


# Strokes


def dotted_line(images: Images, random: np.random.Generator) -> Images:
    """A straight dotted line, 2 pixels on and 2 off, from a point of the left edge to the right."""
    height, width = images.shape[1:]
    left, right = random.integers(0, height - 1, (2, len(images), 1))
    columns = np.arange(width)
    rows = left + (right - left) * columns / (width - 1)
    return stroke(images, rows, columns // 2 % 2 == 1)


def zigzag(images: Images, random: np.random.Generator) -> Images:
    """A zigzag line across, of period 8 and height 4 pixels, about a straight line whose ends
    differ by up to 5 pixels in height.
    """
    height, width = images.shape[1:]
    left = random.integers(0, height - 1, (len(images), 1))
    fall = random.integers(-5, 5, (len(images), 1))
    columns = np.arange(width)
    wave = 2 - np.abs((columns + 4) % 8 - 4)
    rows = left + fall * columns / (width - 1) + wave
    return stroke(images, rows, (columns >= 2) & (columns < width - 2))


def canny_edges(images: Images, random: np.random.Generator) -> Images:
    """Only the edges are left, a pixel wide (Canny 1986): smoothed with sigma 1, the ridges of
    the gradient by Sobel above 0.2, and what hangs on to them above 0.1.
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
        grown = weak & neighbours(edges)
        if (grown == edges).all():
            return np.where(edges, np.uint8(255), np.uint8(0))
        edges = grown


CORRUPTIONS: dict[str, Corruption] = {
    corruption.__name__: corruption
    for corruption in (
        shot_noise,
        impulse_noise,
        glass_blur,
        motion_blur,
        shear,
        scale,
        rotate,
        brightness,
        translate,
        stripe,
        fog,
        spatter,
        dotted_line,
        zigzag,
        canny_edges,
    )
}


# What they are made of


def ink(images: Images) -> Values:
    """0 is paper, 1 is full ink."""
    return images.astype(np.float32) / 255


def pixels(values: Values) -> Images:
    """Ink as uint8, rounded."""
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def signs(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """-1 or 1, (count,)."""
    return 2 * random.integers(0, 2, count) - 1


def tents(positions: Values, size: int) -> Values:
    """Weights (..., P, size) of linear interpolation at positions (..., P) between the points
    0 .. size - 1; beyond them there is 0.
    """
    distance = np.abs(positions[..., None].astype(np.float32) - np.arange(size, dtype=np.float32))
    return (1 - distance).clip(0)


def blur(values: Values, sigma: float) -> Values:
    """Gaussian blur of (N, H, W); the edges go on beyond the picture."""
    return gaussian(values.shape[1], sigma) @ values @ gaussian(values.shape[2], sigma).T


def gaussian(size: int, sigma: float) -> Values:
    """The matrix (size, size) that blurs a row of pixels; the kernel ends at 4 sigma."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        rows = np.arange(size)
        matrix[rows, (rows + offset).clip(0, size - 1)] += weight
    return matrix.astype(np.float32)


def warp(values: Values, maps: Values, shifts: Values) -> Values:
    """Pictures (N, H, W) seen through p -> map p + shift, bilinear, paper outside.

    p = (x, y) in pixels about the centre; maps are (2, 2) or (N, 2, 2), shifts (2,) or (N, 2).
    """
    count, height, width = values.shape
    maps = np.broadcast_to(maps.astype(np.float32), (count, 2, 2))
    shifts = np.broadcast_to(shifts.astype(np.float32), (count, 2))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    points = np.stack([x.ravel(), y.ravel()]) - centre[:, None]
    seen = maps @ points + (shifts + centre)[:, :, None]
    return between(values, seen[:, 0], seen[:, 1]).reshape(values.shape)


def between(values: Values, x: Values, y: Values) -> Values:
    """Bilinear values (N, P) of pictures (N, H, W) at places x, y (N, P); 0 outside."""
    count, height, width = values.shape
    framed = np.pad(values, ((0, 0), (1, 1), (1, 1))).reshape(count, -1)
    # Beyond the frame of paper there is paper as well.
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
    """Adds a line about two pixels wide with soft edges.

    Args:
        images: uint8 (N, H, W).
        rows: where the line lies in each column, (N, W).
        drawn: in which columns there is one, (W,).
    """
    distance = np.abs(np.arange(images.shape[1])[:, None] - rows[:, None, :])
    return pixels(ink(images) + np.where(drawn, (1.5 - distance).clip(0, 1), 0))


def is_ridge(steepness: Values, gx: Values, gy: Values) -> NDArray[np.bool_]:
    """Where the gradient is at least as steep as one pixel up and one pixel down the slope."""
    height, width = steepness.shape[1:]
    length = np.maximum(np.hypot(gx, gy), 1e-12)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ridge = steepness > 0
    for side in (-1, 1):
        at = (x + side * gx / length, y + side * gy / length)
        flat = [place.reshape(len(steepness), -1) for place in at]
        ridge &= steepness >= between(steepness, *flat).reshape(steepness.shape) - 1e-6
    return ridge


def neighbours(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The marks and the eight pixels around each."""
    framed = np.pad(marks, ((0, 0), (1, 1), (1, 1)))
    rows = framed[:, :-2] | framed[:, 1:-1] | framed[:, 2:]
    return rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
