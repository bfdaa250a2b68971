"""Distortions by PyTorch, on any device: the same as those of the kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(
    images: Tensor,
    maps: Tensor,
    knots: Tensor | None = None,
    shades: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    basis: Tensor,
) -> Tensor:
    """Distorted images, bilinear, 0 outside.

    Args:
        images: uint8 (N, H, H) or (N, C, H, H).
        maps, knots, shades, noise: the arrays of `lenet.data.distortion.Warps`, on their device.
        basis: `lenet.data.distortion.spline_basis(H)`, there too.

    Returns:
        uint8 of that shape, rounded; all channels of an image are changed alike.
    """
    count, side = len(images), images.shape[-1]
    # grid_sample measures both axes from -1 to 1 between the outer edges of the image.
    unit = side / 2
    theta = torch.cat([maps[:, :, :2], maps[:, :, 2:] / unit], dim=2)
    grid = F.affine_grid(theta, [count, 1, side, side], align_corners=False)
    if knots is not None:
        grid = grid + torch.einsum("yj,xi,naji->nyxa", basis, basis, knots) / unit
    planes = images.view(count, -1, side, side)
    warped = F.grid_sample(planes.float(), grid, align_corners=False)
    if shades is not None:
        shades = shades[..., None, None, None]
        warped = shades[:, 0] + shades[:, 1] * warped
    warped = warped.round_().to(torch.uint8)
    if noise is not None:
        seeds, chances = noise[:, :1], noise[:, 1:]
        drawn = scramble(seeds + torch.arange(side * side, device=noise.device))
        one_plane = (count, 1, side, side)
        spots = (255 * (drawn & 1)).to(torch.uint8).view(one_plane)
        warped = torch.where((drawn < 2 * chances).view(one_plane), spots, warped)
    return warped.view_as(images)


def scramble(numbers: Tensor) -> Tensor:
    """Random-looking numbers from 0 to 2^32 - 1 of the last 32 bits of any, int64.

    A number with neighbours gives numbers that have nothing to do with each other (the hash of
    Mueller, with the finest multiplier that keeps every product within 63 bits).
    """
    x = numbers & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
