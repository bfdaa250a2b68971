"""Distortions: batches of images shifted, rotated, scaled, sheared, bent, shaded and speckled."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet import fields

KNOT_SPACING = 7  # pixels between the knots of an elastic displacement
# Mean over the image of the variance of a cubic B-spline in two dimensions whose knots have
# variance 1: the square of the integral of the squared basis function.
SPLINE_VARIANCE = (151 / 315) ** 2
CORRUPTED = 4  # one image in this many has other shades and noise
CERTAIN = 2**31  # the integer that stands for probability 1
LARGEST_SHIFT = 100.0  # pixels; more moves every image out of the field

Floats = NDArray[np.float32]
Arrays = tuple[Floats, Floats | None, Floats | None, NDArray[np.int64] | None]


@dataclass(frozen=True)
class Warps:
    """Distortions of N images: out(p) = a + b image(A p + t + d(p)), then noise.

    Coordinates are (x, y) in pixels about the centre of the image.

    Attributes:
        maps: float32 (N, 2, 3), A and t.
        knots: float32 (N, 2, K, K), or None for d = 0. d is the cubic B-spline, x and then y, over
            a grid of knots 7 pixels apart about the centre of the image, in rows from the top.
        shades: float32 (N, 2), a and b, such that 0 and 255 stay in 0..255; None for 0 and 1.
        noise: int64 (N, 2), a seed from 0 to 2^32 - 1 and a probability c / 2^31: pixel number i,
            in rows from the top, becomes 0 or 255, by its last bit, if scramble(seed + i) < 2 c.
            None for no noise.
    """

    maps: Floats
    knots: Floats | None = None
    shades: Floats | None = None
    noise: NDArray[np.int64] | None = None

    @property
    def arrays(self) -> Arrays:
        """All four, in the order of the kernels' arguments."""
        return self.maps, self.knots, self.shades, self.noise

    def __getitem__(self, which: NDArray[np.int64] | slice) -> "Warps":
        return Warps(*(None if array is None else array[which] for array in self.arrays))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Ranges of random distortions, all uniform."""

    shift: float = 0.0
    """Shift by up to this many pixels each way. All ranges are uniform."""
    rotation: float = 0.0
    """Rotate by up to this many degrees each way."""
    scale: float = 0.0
    """Enlarge or shrink by up to this share (by factors from e^-scale to e^scale)."""
    squeeze: float = 0.0
    """Widen and flatten by up to this share, or the reverse."""
    shear: float = 0.0
    """Shear horizontally by up to this slope."""
    flip: bool = False
    """Mirror half of the images left to right."""
    elastic: float = 0.0
    """Bend smoothly: the standard deviation in pixels of each pixel's shift along each axis
    (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", 2003). As
    smooth as noise under a Gaussian of 4.04 pixels."""
    paper: float = 0.0
    """In one image of four, darken the paper by up to this share of full ink."""
    fade: float = 0.0
    """In the same images, remove up to this share of the contrast."""
    noise: float = 0.0
    """In the same images, turn up to this share of the pixels into paper or full ink."""

    def __post_init__(self) -> None:
        fields.check(self)
        fields.require(
            self,
            shift=0 <= self.shift <= LARGEST_SHIFT,
            rotation=0 <= self.rotation <= 180,
            scale=0 <= self.scale < 1,
            squeeze=0 <= self.squeeze < 1,
            shear=0 <= self.shear <= 10,
            elastic=0 <= self.elastic <= LARGEST_SHIFT,
            paper=0 <= self.paper < 1,
            fade=0 <= self.fade < 1,
            noise=0 <= self.noise <= 1,
        )

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def draw(self, count: int, side: int, generator: np.random.Generator) -> Warps:
        """Draws distortions of `count` images of `side` x `side` pixels."""
        affine = (self.shift, self.shift, np.deg2rad(self.rotation))
        right, down, angle, scale, squeeze, shear = (
            generator.uniform(-limit, limit, count)
            for limit in (*affine, self.scale, self.squeeze, self.shear)
        )
        mirror = generator.choice((-1.0, 1.0), count) if self.flip else 1.0
        # The inverse of "mirror, shear, rotate, squeeze and scale, shift".
        cos, sin = np.cos(angle), np.sin(angle)
        narrow, flatten = np.exp(-scale - squeeze), np.exp(-scale + squeeze)
        maps = np.empty((count, 2, 3), np.float32)
        maps[:, 0, 0] = mirror * (cos + shear * sin) * narrow
        maps[:, 0, 1] = mirror * (sin - shear * cos) * flatten
        maps[:, 1, 0] = -sin * narrow
        maps[:, 1, 1] = cos * flatten
        maps[:, :, 2] = -maps[:, :, 0] * right[:, None] - maps[:, :, 1] * down[:, None]
        knots = shades = noise = None
        if self.elastic:
            # Uniform, as that is fast; the 16 knots that reach a pixel make it nearly normal.
            knots = generator.random((count, 2, knot_count(side), knot_count(side)), np.float32)
            knots -= np.float32(0.5)
            knots *= np.float32(self.elastic * math.sqrt(12 / SPLINE_VARIANCE))
        if self.paper or self.fade or self.noise:
            corrupted = generator.integers(0, CORRUPTED, count) == 0
            if self.paper or self.fade:
                paper = corrupted * generator.uniform(0, self.paper, count)
                contrast = (1 - paper) * (1 - corrupted * generator.uniform(0, self.fade, count))
                shades = np.stack([255 * paper, contrast], axis=1).astype(np.float32)
            if self.noise:
                seeds = generator.integers(0, 2**32, count)
                shares = corrupted * generator.uniform(0, self.noise, count)
                noise = np.stack([seeds, (CERTAIN * shares).astype(np.int64)], axis=1)
        return Warps(maps, knots, shades, noise)


def knot_count(side: int) -> int:
    """Knots along each side of an image, such that four reach every pixel."""
    return (side - 1) // KNOT_SPACING + 4


def spline_basis(side: int) -> NDArray[np.float32]:
    """The cubic B-spline of each knot at each pixel of a row or column: (side, knots)."""
    count = knot_count(side)
    pixels = (np.arange(side) - (side - 1) / 2) / KNOT_SPACING
    x = np.abs(pixels[:, None] - (np.arange(count) - (count - 1) / 2))
    near, far = 2 / 3 - x**2 + x**3 / 2, (2 - x).clip(min=0) ** 3 / 6
    return np.where(x < 1, near, far).astype(np.float32)
