"""Lines of writing in a picture's foreground, each brought to the same height and upright.

A line is one number, as far as gaps can tell. Boxes are [left, top, right, bottom], right and
bottom excluded.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.reading.foreground import Bits, Foreground, Picture, find_foreground, quantile

HEIGHT = 40  # pixels of a digit in a normalised line
MARGIN, SIDE_MARGIN = 10, 8  # above and below, left and right of it
WIDEST = 1600  # pixels; a longer line is no number
NEAR = 0.3  # of the picture's height: lower lines are looked at again
REST = 0.15  # of the ink: less is left where frames and rules were all there was
GAP = 2.2  # digit heights between two numbers
FIELD = 200  # pixels; higher pictures have more than one line
LEAST_INK, LEAST_BAND = 0.03, 0.5  # of the line with most ink: its ink and its height
LEAST_HEIGHT = 7  # pixels of foreground: lower digits cannot be read
SLANTS = np.arange(-0.3, 1.01, 0.1)


@dataclass(frozen=True)
class Line:
    """A normalised line: `ink` float32 (60, width), 0..1, digits HEIGHT high.

    Attributes:
        matrix: float64 (2, 3), from the line's coordinates to those of the picture.
        slant: of the writing, removed: horizontal shift per unit of height.
        picture_size: (height, width) of the picture.
    """

    ink: Picture
    matrix: NDArray[np.float64]
    slant: float
    picture_size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Line pixels per pixel of the picture."""
        return float(1 / self.matrix[1, 1])

    def in_size(self, height: int, width: int) -> "Line":
        """The same line of the same picture in another size."""
        factors = np.array([[width / self.picture_size[1]], [height / self.picture_size[0]]])
        matrix = self.matrix * factors
        matrix[:, 2:] += (factors - 1) / 2  # centres of pixels
        return Line(self.ink, matrix, self.slant, (height, width))

    def box(self, left: float, top: float, right: float, bottom: float) -> list[int]:
        """The box in the picture, [left, top, right, bottom], about a box of the line's."""
        columns, rows = (left, right - 1, left, right - 1), (top, top, bottom - 1, bottom - 1)
        return self.box_of(np.array(columns), np.array(rows))

    def box_of(self, columns: NDArray, rows: NDArray) -> list[int]:
        """The box in the picture about pixels of the line."""
        (a, slope, shift), (_, b, drop) = self.matrix
        x, y = a * columns + slope * rows + shift, b * rows + drop
        height, width = self.picture_size
        half = b / 2  # of a line's pixel, which is as wide as it is high
        sides = (x.min() - half, y.min() - half, x.max() + half, y.max() + half)
        limits = (width, height, width, height)
        return [
            min(max(round(float(side) + 0.5), 0), limit)
            for side, limit in zip(sides, limits, strict=True)
        ]


def locate_lines(picture: Picture) -> tuple[list[Line], bool]:
    """Lines of a picture in reading order, and whether frames and rules were nearly all its ink."""
    foreground = find_foreground(picture)
    if foreground is None:
        return [], False
    lines = find_lines(foreground, picture.shape)
    return [look_closer(picture, line) for line in lines], foreground.rest < REST


def look_closer(picture: Picture, line: Line) -> Line:
    """The same line, of a picture much higher than it, found again in the part around it: with a
    paper and a resolution of its own."""
    columns = np.flatnonzero((line.ink > 0).any(0))
    left, top, right, bottom = line.box(columns[0], MARGIN, columns[-1] + 1, MARGIN + HEIGHT)
    band = bottom - top
    if band > NEAR * picture.shape[0]:
        return line
    left, top = max(0, left - band), max(0, top - round(0.7 * band))
    part = picture[top : bottom + round(0.7 * band), left : right + band]
    foreground = find_foreground(part)
    lines = find_lines(foreground, part.shape) if foreground else []
    if not lines:
        return line
    found = max(lines, key=lambda line: float(line.ink.sum()) / line.scale**2)
    shift = np.array([[0, 0, left], [0, 0, top]])
    return Line(found.ink, found.matrix + shift, found.slant, line.picture_size)


def find_lines(foreground: Foreground, picture_size: tuple[int, int]) -> list[Line]:
    """Lines in reading order: rows from the top, in a row from the left."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(foreground.mask, connectivity=8)
    lines = []
    for top, bottom, members in group(stats[1:], foreground.mask.shape):
        chosen = np.concatenate([[0], members]).astype(np.uint8)[labels]
        line = normalise(foreground, chosen, top, bottom, picture_size)
        if line is not None:
            lines.append(((top + bottom) / 2, bottom - top, np.flatnonzero(chosen.any(0))[0], line))
    rows: list[list[tuple[float, float, int, Line]]] = []
    for entry in sorted(lines, key=lambda entry: entry[0]):
        if rows and entry[0] - rows[-1][0][0] < 0.5 * min(entry[1], rows[-1][0][1]):
            rows[-1].append(entry)
        else:
            rows.append([entry])
    return [entry[3] for row in rows for entry in sorted(row, key=lambda entry: entry[2])]


def group(
    stats: NDArray[np.int32], shape: tuple[int, ...]
) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Components that make up each line: (top, bottom, members), the line with most ink first."""
    height, width = shape
    x, y, w, h, area = stats.T
    bottom = y + h
    touches = (y <= 0) | (bottom >= height)
    size = min(height, FIELD)  # of a picture with one line, as far as can be told
    small = (area < max(6, 0.0004 * size * min(width, 8 * size))) | (np.maximum(w, h) < 0.05 * size)
    outer = (w > 0.75 * width) & (h > 0.5 * height) & (area < 0.25 * w * h) & (width > 1.2 * height)
    outer &= area < 0.6 * area.sum()
    weight = area * np.where(touches, 0.3, 1.0) * ~small * ~outer * np.where(w > 4 * h, 0.1, 1)
    # Upright bars at the sides are what is left of a cell, or a 1: no measure of the line.
    bar = (w <= 0.22 * h + 2) & (h > 0.3 * height) & ((x + w <= 0.15 * width) | (x >= 0.85 * width))
    digits = weight[~bar & (h > 0.3 * h[bar].max(initial=1))].sum()
    if digits > 0.12 * weight.sum():
        weight[bar] *= 0.1
    else:
        bar[:] = False
    lines = []
    heaviest = first_band = 0.0
    while weight.sum() > LEAST_INK * heaviest:
        best = (0.0, 0.0, 0.0, np.zeros(len(x), bool))
        for seed in np.argsort(-weight)[:12]:
            if weight[seed] <= 0:
                break
            overlap = np.minimum(bottom, bottom[seed]) - np.maximum(y, y[seed])
            row = (overlap > 0.5 * np.minimum(h, h[seed])) & (h < 1.9 * h[seed]) & (weight > 0)
            row = chain(row, x, x + w, seed, GAP * h[seed])
            total = weight[row].sum()
            if total > best[0] * 1.02:
                tall = row & (h >= 0.55 * h[seed])
                limits = (middle(v[tall], weight[tall]) for v in (y, bottom))
                best = (total, *limits, row)
        total, low, high, row = best
        heaviest = heaviest or total
        band = high - low
        overlap = np.minimum(bottom, high) - np.maximum(y, low)
        beside = (x < (x + w)[row].max() + 1.5 * band) & (x + w > x[row].min() - 1.5 * band)
        members = (overlap >= 0.35 * h) & beside & ~outer & (area >= 4) & (h <= 2.6 * band)
        members &= ~(
            bar & ((h > 1.25 * band) | (y < low - 0.25 * band) | (bottom > high + 0.25 * band))
        )
        members &= ~(touches & (h < 0.45 * band) & (overlap < 0.8 * h))  # print that is cut off
        members &= (weight > 0) | small | bar
        weight[members | row] = 0
        small[members] = bar[members] = False
        first_band = first_band or band
        if total < LEAST_INK * heaviest or band < max(LEAST_HEIGHT, LEAST_BAND * first_band):
            continue
        if not members.any():
            continue
        if lines and touches[row].all():
            continue
        lines.append((low, high, members))
    return lines


def chain(row, left, right, seed, gap):
    """Those members of a row that no gap separates from the seed."""
    order = np.flatnonzero(row)
    order = order[np.argsort(left[order])]
    reach = np.maximum.accumulate(right[order])
    part = np.concatenate([[0], np.cumsum(left[order][1:] - reach[:-1] > gap)])
    kept = np.zeros(len(row), bool)
    kept[order[part == part[order == seed]]] = True
    return kept


def middle(values: NDArray, weights: NDArray) -> float:
    """Weighted median."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def normalise(
    foreground: Foreground, mask: Bits, top: float, bottom: float, picture_size: tuple[int, int]
) -> Line | None:
    """The line of what `mask` holds: deslanted, digits that reach from `top` to `bottom` of the
    foreground HEIGHT high. None where nothing is left or the line is too long."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if cv2.countNonZero(mask) < 10:
        return None
    left, right = int(columns[0]), int(columns[-1]) + 1
    first, last = int(rows[0]), int(rows[-1]) + 1
    scale = HEIGHT / max(4.0, bottom - top)
    width = round((right - left) * scale) + 2 * SIDE_MARGIN
    if width > WIDEST:
        return None
    # Soft ink: 1 well inside, 0 outside the surroundings of the mask.
    window = (slice(max(0, first - 2), last + 2), slice(max(0, left - 2), right + 2))
    strength, inside = foreground.strength[window], mask[window]
    level = quantile(strength[inside > 0], 0.5)
    soft = np.clip((strength / level - 0.3) / 0.5, 0, 1) * cv2.dilate(inside, np.ones((3, 3)))
    soft = np.maximum(soft, inside * np.float32(0.6)).astype(np.float32)
    if scale < 1:
        soft = cv2.GaussianBlur(soft, (0, 0), max(0.3, 0.4 / scale))
    origin = (window[1].start, window[0].start)

    def warp(slant: float, extra: int) -> tuple[Picture, NDArray[np.float64]]:
        centre = MARGIN + HEIGHT / 2
        matrix = np.array(
            [
                [1 / scale, -slant / scale, left + (slant * centre - SIDE_MARGIN - extra) / scale],
                [0, 1 / scale, top - MARGIN / scale],
            ]
        )
        inside_window = matrix.copy()
        inside_window[:, 2] -= origin
        size = (width + 2 * extra, HEIGHT + 2 * MARGIN)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(soft, inside_window, size, flags=flags), matrix

    ink, matrix = warp(0, 0)
    slant = find_slant(ink)
    if abs(slant) > 0.01:
        ink, matrix = warp(slant, int(abs(slant) * (HEIGHT / 2 + MARGIN)))
    matrix = matrix / foreground.scale
    matrix[:, 2] += 0.5 / foreground.scale - 0.5  # centres of pixels, as cv2.resize has them
    return Line(ink, matrix, slant, picture_size)


def find_slant(ink: Picture) -> float:
    """The slant whose removal gathers the ink in the fewest columns."""
    ink = cv2.resize(ink, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    height, width = ink.shape
    best = (-1.0, 0.0)
    for slant in SLANTS:
        matrix = np.array([[1, slant, -slant * height / 2], [0, 1, 0]])
        turned = cv2.warpAffine(ink, matrix, (width, height), flags=cv2.INTER_NEAREST)
        gathered = cv2.norm(cv2.reduce(turned, 0, cv2.REDUCE_SUM), cv2.NORM_L2SQR)
        gathered *= 1 - 0.08 * abs(slant) - 0.3 * max(0.0, abs(slant) - 0.6)
        best = max(best, (gathered, float(slant)))
    return best[1]


def row_of(line: Line) -> NDArray[np.uint8]:
    """The line as the replicated network has it: half the size, 28 rows."""
    height, width = line.ink.shape
    half = cv2.resize(line.ink, (max(28, width // 2), height // 2), interpolation=cv2.INTER_AREA)
    extra = (height // 2 - 28) // 2
    return (np.clip(half[extra : extra + 28], 0, 1) * 255).astype(np.uint8)
