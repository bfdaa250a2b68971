"""Ink of a picture that may hold any number of numbers: on paper that is printed, ruled, shadowed,
pale, or dark, without the frames and rules around them.

Pictures are float32 (height, width), 0 (black) .. 1 (white); masks are uint8, 0 or 1.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[Any]  # float32: luminance or ink, 0..1
Bits = NDArray[np.uint8]

SMALL, LARGE = 80, 1400  # pixels: lower pictures are enlarged, larger ones shrunk
ENLARGED = 3.0  # at most
BLUR = 0.016  # of the height: less than a stroke
STROKE_HEIGHT = 120  # pixels; higher pictures are blurred as if they had this height
PAPER = 40  # pixels: the paper is looked at this small
WINDOW = 0.3  # of the paper's shorter side: wider than a stroke
NOISE = 3.0  # standard deviations
LEAST_INK = 0.0002  # of the picture
LEAST_CONTRAST = 0.04  # of white; less is noise in the dark
FAINT = 0.06  # of the way from paper to black; below it there is no ink
WEAK = 0.72  # of the threshold: what is connected to ink
LOCAL = 0.5  # of the darkest nearby: ends a blurred stroke
LIGHT_ON_DARK = 1.3  # so much further do the light values reach from the paper than the dark ones

SIDE_STRIP = 0.16  # of the width: where a cell's sides are
LINE_INK, LINE_COVER = 0.35, 0.85  # strength of a cell's side, and share of it that has it


@dataclass(frozen=True)
class Foreground:
    """Ink of a picture: `strength`, float32 (height, width), 0 on paper, and the `mask` of what
    counts as ink. `scale`: their pixels per pixel of the picture. `rest`: the share of the ink that
    frames and rules left."""

    strength: Picture
    mask: Bits
    scale: float
    rest: float


def find_foreground(picture: Picture) -> Foreground | None:
    """Ink of a picture without frames and rules; None where nothing stands out from the paper."""
    height, width = picture.shape
    scale = min(ENLARGED, SMALL / height) if height < SMALL else 1.0
    scale = min(scale, LARGE / max(height, width))
    if scale != 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = np.clip(cv2.resize(picture, shape, interpolation=method), 0, 1)
    strength, ink = separate(picture)
    if ink is None:
        return None
    mask = remove_rules(remove_cell(remove_frames(ink), strength))
    rest = cv2.countNonZero(mask) / cv2.countNonZero(ink)
    return Foreground(strength, mask, scale, rest)


def separate(picture: Picture) -> tuple[Picture, Bits | None]:
    """Strength of the ink, and its mask: None where nothing stands out."""
    seen = min(min(picture.shape), STROKE_HEIGHT)
    smooth = cv2.GaussianBlur(picture, (0, 0), max(0.6, BLUR * seen))
    if is_dark(smooth):
        picture, smooth = 1 - picture, 1 - smooth
    paper = paper_of(picture)
    deeper = paper - smooth
    ink = deeper / np.clip(paper, 0.1, 1)
    below = ink[::2, ::2]
    below = below[below < 0]
    noise = -1.4826 * quantile(below, 0.5) if below.size > ink.size / 40 else 0.0
    threshold = max(otsu(ink), NOISE * noise)
    dark = (ink > max(FAINT, threshold)) & (deeper > LEAST_CONTRAST)
    if np.count_nonzero(dark) < LEAST_INK * ink.size:
        return ink, None
    # Half way to the darkest nearby: blurred strokes stay thin.
    side = odd(max(5, 0.12 * seen))
    darkest = cv2.GaussianBlur(cv2.dilate(ink, np.ones((side, side))), (0, 0), side / 2)
    strength = ink / np.maximum(darkest, threshold)
    weak = (ink > WEAK * threshold) & (strength > LOCAL)
    count, labels = cv2.connectedComponents(weak.view(np.uint8), connectivity=8)
    kept = np.zeros(count, np.uint8)
    kept[labels[weak & (ink > threshold)]] = 1
    return strength, kept[labels] if kept.any() else None


def is_dark(picture: Picture) -> bool:
    """Whether the paper is darker than the ink."""
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    low, middle, high = (quantile(small, share) for share in (0.02, 0.5, 0.98))
    return bool(high - middle > LIGHT_ON_DARK * (middle - low) + 0.1 and middle < 0.6)


def paper_of(picture: Picture) -> Picture:
    """The paper under dark ink: the closing of a small copy."""
    height, width = picture.shape
    scale = min(1.0, PAPER / min(height, width))
    shape = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.medianBlur(cv2.resize(picture, shape, interpolation=cv2.INTER_AREA), 3)
    side = odd(max(7, WINDOW * min(small.shape)))
    border = cv2.BORDER_REFLECT_101
    closed = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((side, side)), borderType=border)
    closed = cv2.GaussianBlur(closed, (0, 0), side / 3, borderType=border)
    # Noise lifts the closing. Paper makes up the better half, where least was filled.
    closed += np.float32(quantile(small - closed, 0.75))
    return cv2.resize(closed, (width, height), interpolation=cv2.INTER_LINEAR)


def otsu(ink: Picture) -> float:
    """Otsu's threshold; what is lighter than paper counts as paper."""
    top = max(float(ink.max()), 1e-6)
    levels = cv2.convertScaleAbs(np.maximum(ink, 0), alpha=255 / top)
    return cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0] / 255 * top


def odd(size: float) -> int:
    return int(size) // 2 * 2 + 1


def quantile(values: NDArray[Any], share: float) -> float:
    """The value that so many are below; much faster than NumPy's, which goes between values."""
    place = round(share * (values.size - 1))
    return float(np.partition(values, place, axis=None)[place])


def runs(mask: Bits, axis: int) -> NDArray[np.int32]:
    """Length of the run of ink along `axis` that each pixel lies in; 0 outside ink."""
    lines = mask if axis == 0 else mask.T
    places = np.arange(len(lines), dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(lines, np.int32(-1), places), 0)
    after = np.where(lines, np.int32(len(lines)), places)
    after = np.minimum.accumulate(after[::-1], 0)[::-1]
    length = np.where(lines, after - before - 1, 0)
    return length if axis == 0 else length.T


def remove_frames(mask: Bits) -> Bits:
    """Removes the lines of components that run along all four sides of their bounding box; what
    touches the lines stays."""
    height, width = mask.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = (
        (stats[:, 2] >= 24) & (stats[:, 3] >= 20) & (stats[:, 4] <= 0.6 * stats[:, 2] * stats[:, 3])
    )
    large &= (stats[:, 2] >= 0.45 * width) | (stats[:, 3] >= 0.3 * height)
    for n in np.flatnonzero(large[1:]) + 1:
        x, y, w, h, _ = stats[n]
        own = labels[y : y + h, x : x + w] == n
        edge = max(2, int(0.06 * min(w, h)) + 2)
        sides = (own[:edge], own[-edge:], own[:, :edge].T, own[:, -edge:].T)
        if any(side.any(0).mean() < 0.85 for side in sides):
            continue
        bits = own.astype(np.uint8)
        vertical, horizontal = runs(bits, 0), runs(bits, 1)
        thin = np.minimum(vertical, horizontal)
        thickness = max(2.0, quantile(thin[own], 0.5))
        border = np.ones_like(own)
        inner = edge + int(thickness)
        border[inner:-inner, inner:-inner] = False
        line = (vertical > 0.6 * h) | (horizontal > min(0.5 * w, 1.2 * h))
        line |= border & (thin <= 1.7 * thickness)
        mask = mask.copy()
        mask[y : y + h, x : x + w][own & line] = 0
    return mask


def remove_rules(mask: Bits) -> Bits:
    """Removes horizontal lines that cross most of the picture, vertical ones that are much higher
    than what else there is, and those near its sides that run from edge or line to edge or line."""
    height, width = mask.shape
    without = mask.copy()
    remove_long(without, int(max(0.45 * width, min(height, 0.6 * width))))
    heights = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, 3]
    tall = heights[heights > 0.2 * heights.max(initial=0)] if len(heights) < 4 else heights
    usual = quantile(tall, 0.75) if len(tall) else height
    remove_long(without.T, int(max(0.2 * height, 5 * usual)))
    remove_sides(without, mask & ~without)
    return without


def remove_long(mask: Bits, length: int) -> None:
    """Removes horizontal lines of at least this length, within a fitted parabola only: removing
    every long run takes the tops of 7s and the feet of 2s."""
    if length >= mask.shape[1]:
        return
    bits = np.ascontiguousarray(mask)
    fat = cv2.dilate(bits, np.ones((3, 1), np.uint8))
    lines = cv2.morphologyEx(fat, cv2.MORPH_OPEN, np.ones((1, length), np.uint8)) & bits
    if not lines.any():
        return
    joined = cv2.dilate(lines, np.ones((3, 9), np.uint8))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    for n in range(1, count):
        remove_rule(mask, lines & (labels == n).astype(np.uint8), length)


def remove_rule(mask: Bits, line: Bits, length: int) -> None:
    """Removes one horizontal line: its thin places along the parabola through them."""
    height, width = mask.shape
    columns = np.flatnonzero(line.any(0))
    y, x = np.nonzero(line & mask)
    if len(columns) < max(length, 10) or len(y) < 10:
        return
    thick = runs(mask, 0)
    thickness = max(1.0, quantile(thick[y, x], 0.3))
    if thickness > 0.14 * height:
        return
    sample = slice(None, None, len(y) // 500 + 1)  # enough for three coefficients
    y, x = y[sample], x[sample]
    thin = thick[y, x] <= 1.5 * thickness + 1
    weights = thin.astype(np.float64)
    degree = 2 if len(columns) > 0.6 * width else 1
    powers = np.vander(x / width, degree + 1)
    curve = np.zeros(degree + 1)
    distance = np.zeros(len(y))
    for _ in range(6):  # least squares, reweighted: digits that touch count little
        weighted = powers.T * weights
        curve = np.linalg.lstsq(weighted @ powers, weighted @ y)[0]
        distance = np.abs(y - powers @ curve)
        weights = thin / (1 + (distance / max(1.0, thickness / 2)) ** 2)
    on_curve = np.unique(x[distance <= thickness / 2 + 1.5])
    if len(on_curve) < 0.75 * len(np.unique(x)):
        return
    centre = np.polyval(curve, np.arange(width) / width)
    near = np.abs(np.arange(height)[:, None] - centre) <= thickness / 2 + 1
    near[:, : max(0, columns[0] - 3)] = False
    near[:, columns[-1] + 4 :] = False
    mask[near & (thick <= 1.5 * thickness + 1)] = 0


def remove_cell(mask: Bits, strength: Picture) -> Bits:
    """Removes what the mask has of a cell's sides: straight lines along the picture's sides that
    the strength of the ink shows from end to end, if there is an upright one and another."""
    lines = {}
    inked = (strength > LINE_INK).view(np.uint8)
    for side in range(4):
        turned = np.rot90(inked, side)  # the side is on the left
        strip = turned[:, : max(4, int(SIDE_STRIP * turned.shape[1]))]
        line = find_line(np.ascontiguousarray(strip))
        if line is not None:
            lines[side] = line
    if len(lines) < 2 or not {0, 2} & set(lines):
        return mask
    mask = mask.copy()
    for side, (column, lean) in lines.items():
        turned = np.rot90(mask, side)
        height, width = turned.shape
        centre = column + lean * np.linspace(-0.5, 0.5, height)
        thick = runs(np.ascontiguousarray(turned), 1)
        distance = np.abs(np.arange(width) - centre[:, None])
        along = thick[(distance <= 1.5) & (turned > 0)]
        if not len(along):
            continue
        usual = min(quantile(along, 0.3), 0.08 * min(mask.shape))
        line = (distance <= usual / 2 + 3) & (thick <= max(1.6 * usual, usual + 2))
        turned[line] = 0  # a view of the mask
    return mask


def find_line(strip: Bits) -> tuple[float, float] | None:
    """A nearly upright line of ink from the top of a strip to its bottom: its column at half
    height, and how far it leans."""
    height, width = strip.shape
    if strip.any(1).mean() < LINE_COVER:
        return None
    inked = cv2.dilate(strip, np.ones((1, 3), np.uint8))
    best = (LINE_COVER, -1.0, 0.0)
    for lean in np.linspace(-0.06, 0.06, 7) * height:
        matrix = np.array([[1, lean / height, -lean / 2], [0, 1, 0]])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(inked, matrix, (width, height), flags=flags)
        cover = cv2.reduce(turned, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F)
        _, most, _, (column, _) = cv2.minMaxLoc(cover)
        best = max(best, (most / height, float(column), float(lean)))
    return best[1:] if best[1] >= 0 else None


def remove_sides(mask: Bits, removed: Bits) -> None:
    """Removes what is left of a cell's sides: upright lines near the picture's sides whose both
    ends are at the picture's edge or at a removed line."""
    height, width = mask.shape
    ends = np.zeros((height + 6, width), bool)
    ends[:5] = ends[-5:] = True
    ends[3:-3] |= cv2.dilate(removed, np.ones((7, 5), np.uint8)) > 0
    side, reach = max(3, int(0.14 * width)), int(0.4 * width)
    fat = cv2.dilate(mask, np.ones((1, 3), np.uint8))
    lines = cv2.morphologyEx(fat, cv2.MORPH_OPEN, np.ones((int(0.4 * height), 1), np.uint8))
    lines[:, reach : width - reach] = 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    for n in range(1, count):
        x, y, w, h, _ = stats[n]
        if w > max(5, 0.12 * width) or not (x + w <= side or x >= width - side or removed.any()):
            continue
        above, below = max(3, y + 2), min(y + h + 3, height + 5)
        if not (ends[above, x : x + w].any() and ends[below, x : x + w].any()):
            continue
        line = (labels == n) & (mask > 0)
        length = runs(mask, 1)
        usual = quantile(length[line], 0.5) if line.any() else 0.0
        widest = max(1.6 * usual, usual + 2)
        line &= length <= widest
        line |= (cv2.dilate(line.astype(np.uint8), np.ones((1, 3))) > 0) & (length <= widest)
        mask[line] = 0
