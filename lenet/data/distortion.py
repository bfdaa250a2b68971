"""Distortions: whole batches of images moved, turned, stretched, sheared, bent, shaded, spotted."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet import fields

KNOT_SPACING = 7  # pixels between the knots of an elastic displacement
# Mean over the image of the variance of a cubic B-spline in two dimensions whose knots have
# variance 1: the square of the integral of the squared basis function.
SPLINE_VARIANCE = (151 / 315) ** 2
CORRUPTED = 4  # one image in so many has other shades and noise
CERTAIN = 2**31  # the chance of noise that is 1
LARGEST_SHIFT = 100.0  # pixels; more moves every image out of sight


Floats = NDArray[np.float32]
Arrays = tuple[Floats, Floats | None, Floats | None, NDArray[np.int64] | None]


@dataclass(frozen=True)
class Warps:
    """How each of N images is distorted: out(p) = a + b image(A p + t + d(p)), then noise.

    Coordinates are (x, y) in pixels about the centre of the image.

    Attributes:
        maps: float32 (N, 2, 3), A and t.
        knots: float32 (N, 2, K, K), or None for d = 0. d is the cubic B-spline, x and then y, over
            a grid of knots 7 pixels apart about the centre of the image, in rows from the top.
        shades: float32 (N, 2), a and b, so that 0 and 255 stay in 0..255; None for 0 and 1.
        noise: int64 (N, 2), a seed from 0 to 2^32 - 1 and a chance c from 0 to 2^31: pixel number
            i, in rows from the top, becomes 0 or 255 if scramble(seed + i) < 2 c, and which is
            its last bit. None for no noise.
    """

    maps: NDArray[np.float32]
    knots: NDArray[np.float32] | None = None
    shades: NDArray[np.float32] | None = None
    noise: NDArray[np.int64] | None = None

    @property
    def arrays(self) -> Arrays:
        """All four, as the kernels take them."""
        return self.maps, self.knots, self.shades, self.noise

    def __getitem__(self, which: NDArray[np.int64] | slice) -> "Warps":
        knots, shades = (None if x is None else x[which] for x in (self.knots, self.shades))
        noise = None if self.noise is None else self.noise[which]
        return Warps(self.maps[which], knots, shades, noise)


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Ranges of random distortions. Those of the affine map are drawn uniformly about "none"."""

    shift: float = 0.0
    """Shift by up to so many pixels each way. All ranges are uniform."""
    rotation: float = 0.0
    """Rotate by up to so many degrees each way."""
    scale: float = 0.0
    """Enlarge or shrink by up to this share (as a factor, e^-scale to e^scale)."""
    squeeze: float = 0.0
    """Widen by up to this share and flatten as much, or the other way round."""
    shear: float = 0.0
    """Shear horizontally by up to this slope."""
    flip: bool = False
    """Mirror half of the images left to right."""
    elastic: float = 0.0
    """Bend smoothly: the standard deviation in pixels of each pixel's shift along each axis
    (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", 2003). As
    smooth as noise under a Gaussian of 4.04 pixels."""
    paper: float = 0.0
    """In one image of four, make the paper darker, by up to this share of full ink."""
    fade: float = 0.0
    """In the same images, take up to this share of the contrast away."""
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
        """Distortions of `count` images of `side` x `side` pixels."""
        right, down, angle, scale, squeeze, shear = (
            generator.uniform(-limit, limit, count)
            for limit in (
                *(self.shift, self.shift, np.deg2rad(self.rotation)),
                *(self.scale, self.squeeze, self.shear),
            )
        )
        mirror = generator.choice((-1.0, 1.0), count) if self.flip else 1.0
        # The inverse of "mirror, shear, turn, widen and enlarge, shift".
        cos, sin = np.cos(angle), np.sin(angle)
        narrow, flatten = np.exp(-scale - squeeze), np.exp(-scale + squeeze)
        maps = np.empty((count, 2, 3), np.float32)
        maps[:, 0, 0] = mirror * (cos + shear * sin) * narrow
        maps[:, 0, 1] = mirror * (sin - shear * cos) * flatten
        maps[:, 1, 0] = -sin * narrow
        maps[:, 1, 1] = cos * flatten
        maps[:, :, 2] = -maps[:, :, 0] * right[:, None] - maps[:, :, 1] * down[:, None]
        knots = self.draw_knots(count, side, generator) if self.elastic else None
        if not (self.paper or self.fade or self.noise):
            return Warps(maps, knots)
        corrupted = generator.integers(0, CORRUPTED, count) == 0
        shades = self.draw_shades(corrupted, generator) if self.paper or self.fade else None
        noise = self.draw_noise(corrupted, generator) if self.noise else None
        return Warps(maps, knots, shades, noise)

    def draw_knots(
        self, count: int, side: int, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        # Uniform, as that is fast; the 16 knots that reach a pixel make it nearly normal.
        knots = generator.random((count, 2, knot_count(side), knot_count(side)), np.float32)
        knots -= np.float32(0.5)
        knots *= np.float32(self.elastic * math.sqrt(12 / SPLINE_VARIANCE))
        return knots

    def draw_shades(
        self, corrupted: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        paper = corrupted * generator.uniform(0, self.paper, len(corrupted))
        contrast = (1 - paper) * (1 - corrupted * generator.uniform(0, self.fade, len(corrupted)))
        return np.stack([255 * paper, contrast], axis=1).astype(np.float32)

    def draw_noise(
        self, corrupted: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        seeds = generator.integers(0, 2**32, len(corrupted))
        shares = corrupted * generator.uniform(0, self.noise, len(corrupted))
        return np.stack([seeds, (CERTAIN * shares).astype(np.int64)], axis=1)


def knot_count(side: int) -> int:
    """Knots along each side of an image, so that four reach every pixel."""
    return (side - 1) // KNOT_SPACING + 4


def spline_basis(side: int) -> NDArray[np.float32]:
    """(side, knots): the cubic B-spline of each knot at each pixel of a row or column."""
    count = knot_count(side)
    pixels = (np.arange(side) - (side - 1) / 2) / KNOT_SPACING
    x = np.abs(pixels[:, None] - (np.arange(count) - (count - 1) / 2))
    near, far = 2 / 3 - x**2 + x**3 / 2, (2 - x).clip(min=0) ** 3 / 6
    return np.where(x < 1, near, far).astype(np.float32)
