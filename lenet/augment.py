"""Distortions: whole batches of images moved, turned, stretched and sheared at random."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Distortion:
    """Ranges of random affine distortions, each drawn uniformly about "none".

    Attributes:
        shift: pixels, along each axis.
        rotation: degrees.
        scale: natural logarithm of the factor by which the image is enlarged.
        squeeze: natural logarithm of the factor by which it is widened and flattened.
        shear: slope of the horizontal shear.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    squeeze: float = 0.0
    shear: float = 0.0

    def __bool__(self) -> bool:
        return any((self.shift, self.rotation, self.scale, self.squeeze, self.shear))

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Affine maps (count, 2, 3) from a pixel of the distorted image to one of the original.

        Coordinates are (x, y) in pixels about the centre of the image; the map is A p + t.
        """
        shift, angle, scale, squeeze, shear = (
            generator.uniform(-limit, limit, (count, size))
            for limit, size in (
                (self.shift, 2),
                (np.deg2rad(self.rotation), 1),
                (self.scale, 1),
                (self.squeeze, 1),
                (self.shear, 1),
            )
        )
        cos, sin = np.cos(angle), np.sin(angle)
        # The inverse of "shear, turn, widen and enlarge, shift".
        turn_back = np.stack([cos, sin, -sin, cos], axis=2).reshape(count, 2, 2)
        shear_back = np.zeros((count, 2, 2)) + np.eye(2)
        shear_back[:, 0, 1] = -shear[:, 0]
        shrink = np.exp(np.concatenate([-scale - squeeze, -scale + squeeze], axis=1))
        linear = shear_back @ turn_back * shrink[:, None, :]
        return np.concatenate([linear, -linear @ shift[:, :, None]], axis=2).astype(np.float32)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Images seen through affine maps, bilinear, 0 outside.

    Args:
        images: uint8 (N, H, W).
        maps: float32 (N, 2, 3), as `Distortion.draw` gives them.

    Returns:
        uint8 (N, H, W), rounded.
    """
    count, height, width = images.shape
    # grid_sample measures both axes from -1 to 1 between the outer edges of the image.
    unit = maps.new_tensor([width / 2, height / 2])
    linear = maps[:, :, :2] * unit / unit[:, None]
    theta = torch.cat([linear, maps[:, :, 2:] / unit[:, None]], dim=2)
    grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
    warped = F.grid_sample(images[:, None].float(), grid, align_corners=False)
    return warped[:, 0].round_().to(torch.uint8)
