"""Distortions: whole batches of images moved, turned, stretched, sheared, bent, shaded, spotted."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

KNOT_SPACING = 7  # pixels between the knots of an elastic displacement
# Mean over the image of the variance of a cubic B-spline in two dimensions whose knots have
# variance 1: the square of the integral of the squared basis function.
SPLINE_VARIANCE = (151 / 315) ** 2
SPOILT = 4  # one image in so many has other shades and noise
CERTAIN = 2**31  # the chance of noise that is 1


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

    def __getitem__(self, which: NDArray[np.int64] | slice) -> "Warps":
        knots, shades = (None if x is None else x[which] for x in (self.knots, self.shades))
        noise = None if self.noise is None else self.noise[which]
        return Warps(self.maps[which], knots, shades, noise)


@dataclass(frozen=True)
class Distortion:
    """Ranges of random distortions. Those of the affine map are drawn uniformly about "none".

    Attributes:
        shift: pixels, along each axis.
        rotation: degrees.
        scale: natural logarithm of the factor by which the image is enlarged.
        squeeze: natural logarithm of the factor by which it is widened and flattened.
        shear: slope of the horizontal shear.
        flip: mirror left to right with probability 1/2.
        elastic: standard deviation in pixels of a smooth random displacement of each pixel along
            each axis (Simard, Steinkraus and Platt, "Best practices for convolutional neural
            networks", 2003). Its smoothness is that of noise under a Gaussian of 4.04 pixels.
        paper: with probability 1/4 paper becomes darker, by up to this share of full ink.
        fade: the same images lose up to this share of the contrast of ink to paper.
        noise: up to this share of the same images' pixels becomes 0 or 255, as often the one as
            the other.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    squeeze: float = 0.0
    shear: float = 0.0
    flip: bool = False
    elastic: float = 0.0
    paper: float = 0.0
    fade: float = 0.0
    noise: float = 0.0

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
        spoilt = generator.integers(0, SPOILT, count) == 0
        shades = self.draw_shades(spoilt, generator) if self.paper or self.fade else None
        noise = self.draw_noise(spoilt, generator) if self.noise else None
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
        self, spoilt: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        paper = spoilt * generator.uniform(0, self.paper, len(spoilt))
        contrast = (1 - paper) * (1 - spoilt * generator.uniform(0, self.fade, len(spoilt)))
        return np.stack([255 * paper, contrast], axis=1).astype(np.float32)

    def draw_noise(
        self, spoilt: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        seeds = generator.integers(0, 2**32, len(spoilt))
        shares = spoilt * generator.uniform(0, self.noise, len(spoilt))
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


def warp(images: Tensor, warps: Warps) -> Tensor:
    """Distorted images, bilinear, 0 outside.

    Args:
        images: uint8 (N, H, H).
        warps: a distortion for each.

    Returns:
        uint8 (N, H, H), rounded.
    """
    given = {
        name: torch.from_numpy(array).to(images.device)
        for name, array in vars(warps).items()
        if array is not None
    }
    basis = torch.from_numpy(spline_basis(images.shape[1])).to(images.device)
    return warp_on_device(images, basis=basis, **given)


def warp_on_device(
    images: Tensor,
    maps: Tensor,
    knots: Tensor | None = None,
    shades: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    basis: Tensor,
) -> Tensor:
    """`warp` by the arrays of `Warps` and `spline_basis`, all on the images' device already."""
    count, side, _ = images.shape
    # grid_sample measures both axes from -1 to 1 between the outer edges of the image.
    unit = side / 2
    theta = torch.cat([maps[:, :, :2], maps[:, :, 2:] / unit], dim=2)
    grid = F.affine_grid(theta, [count, 1, side, side], align_corners=False)
    if knots is not None:
        grid = grid + torch.einsum("yj,xi,naji->nyxa", basis, basis, knots) / unit
    warped = F.grid_sample(images[:, None].float(), grid, align_corners=False)
    if shades is not None:
        shades = shades[..., None, None, None]
        warped = shades[:, 0] + shades[:, 1] * warped
    warped = warped[:, 0].round_().to(torch.uint8)
    if noise is not None:
        seeds, chances = noise[:, :1], noise[:, 1:]
        drawn = scramble(seeds + torch.arange(side * side, device=noise.device))
        spots = (255 * (drawn & 1)).to(torch.uint8).view_as(warped)
        warped = torch.where((drawn < 2 * chances).view_as(warped), spots, warped)
    return warped


def scramble(numbers: Tensor) -> Tensor:
    """Random-looking numbers from 0 to 2^32 - 1 of the last 32 bits of any, int64.

    A number with neighbours gives numbers that have nothing to do with each other (the hash of
    Mueller, with the finest multiplier that keeps every product within 63 bits).
    """
    x = numbers & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
