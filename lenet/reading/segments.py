"""A line's ink between cuts, and what one to four neighbouring pieces of it look like as a digit.

A cut is a seam: the path of least ink from top to bottom through a column. More cuts are made than
there are digits; which pieces belong together is for the lattice to decide.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.reading.foreground import Picture
from lenet.reading.lines import HEIGHT, Line

STEP = 0.03  # cost of a seam's sidestep, in pixels of ink
INK = 0.45  # of full ink: a stroke
FREE = 0.3  # a seam of less ink goes through a gap
THICKEST = 2.7  # strokes; through more ink nothing is cut
CLOSEST = 4  # pixels between two cuts
MOST_PIECES = 4
WIDEST = 1.7  # line heights; a wider union is no digit
SIDE, FIT = 28, 20  # of a segment's picture, and of the digit in it, as in MNIST
AROUND = 0.3  # of full ink: what lies around a segment in the line


@dataclass(frozen=True)
class Segments:
    """What could be a digit of a line, in the order of their first piece.

    Attributes:
        pieces: how many pieces the line has.
        ends: int (N, 2): segment n is the pieces ends[n, 0] to ends[n, 1] - 1.
        bounds: int (N, 2): the same in regions, of which some are too small for a piece.
        boxes: int (N, 4): left, top, right, bottom in the line.
        images: uint8 (N, 28, 28).
        strokes: float64 (N,): length of a segment's strokes, in digit heights.
        thickness: of the line's strokes, in pixels.
        regions: int16 (60, width): each pixel's piece; -1 outside ink.
        seams: int (cuts, 60): each cut's column in each row.
    """

    pieces: int
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]
    boxes: NDArray[np.int64]
    images: NDArray[np.uint8]
    strokes: NDArray[np.float64]
    thickness: float
    regions: NDArray[np.int16]
    seams: NDArray[np.int64]


def find_seams(ink: Picture) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The seam through each column at half height: its ink (width,) and columns (width, height)."""
    height, width = ink.shape
    half = height // 2
    # Upper and lower half side by side, both from the edge to the middle; a wall between them.
    cost = np.full((half, 2 * width + 1), np.inf)
    cost[:, :width] = ink[:half]
    cost[0, width + 1 :] = 0
    cost[1:, width + 1 :] = ink[:half:-1]
    inked = np.flatnonzero(ink.any(1)).tolist() or [half]
    first = min(inked[0], height - 1 - inked[-1], half - 1)  # straight before it
    cost += 0.004
    total = np.zeros(2 * width + 1)
    choices = np.full((3, 2 * width + 1), np.inf)
    steps = np.empty(cost.shape, np.int64)
    for row in range(first, half):
        total += cost[row]
        choices[0, 1:], choices[1], choices[2, :-1] = total[:-1] + STEP, total, total[1:] + STEP
        steps[row] = choices.argmin(0) - 1
        total = choices.min(0)
    places = np.arange(2 * width + 1)
    seams = np.empty((height, width), np.int64)
    seams[half] = places[:width]
    for row in reversed(range(half)):
        if row >= first:
            places = places + steps[row][places]
        seams[row] = places[:width]
        seams[-row] = places[width + 1 :] - width - 1  # overwritten by row 0 in the end
    seams[0] = places[:width]
    return ink[np.arange(height)[:, None], seams].sum(0).astype(np.float64), seams.T


def stroke_thickness(ink: Picture) -> float:
    """Pixels: twice the area of ink over the length of its outline."""
    x, y = cv2.Sobel(ink, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(ink, cv2.CV_32F, 0, 1) / 8
    return 2 * float(ink.sum()) / max(float(cv2.magnitude(x, y).sum()), 1e-6)


def choose_cuts(ink: Picture, thickness: float) -> NDArray[np.int64]:
    """Seams (cuts, height) at which to cut, from the left: one in each gap, and those of locally
    least ink."""
    height, width = ink.shape
    cost, seams = find_seams(ink)
    left = np.diff(cv2.integral(ink), axis=0)
    area = left[np.arange(height), seams].sum(1)  # ink to the left of each seam
    means = seams.mean(1)
    free = cost < FREE
    gaps = choose_gaps(free, area, np.abs(seams - np.arange(width)[:, None]).mean(1))
    smooth = cv2.GaussianBlur(cost[None], (0, 0), 0.8)[0]
    valley = (smooth[1:-1] <= smooth[:-2]) & (smooth[1:-1] < smooth[2:])
    valley &= ~free[1:-1] & (cost[1:-1] < THICKEST * thickness)
    valleys = np.flatnonzero(valley) + 1
    valleys = valleys[np.argsort(cost[valleys])]
    least = thickness**2  # ink between a cut and a gap; between two cuts half as much again
    blocked = (np.abs(area[valleys, None] - area[gaps]) < least).any(1)
    near = np.abs(area[valleys, None] - area[valleys]) < 1.5 * least
    near |= np.abs(means[valleys, None] - means[valleys]) < CLOSEST
    for n in range(len(valleys)):
        if not blocked[n]:
            blocked[n + 1 :] |= near[n, n + 1 :]
    chosen = np.concatenate([gaps, valleys[~blocked]])
    order = chosen[np.argsort(means[chosen], kind="stable")]
    return np.maximum.accumulate(seams[order], 0)


def choose_gaps(
    free: NDArray[np.bool_], area: NDArray[np.float64], bend: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Columns, one in each gap, of the straightest and most central seam."""
    chosen: list[int] = []
    opened, areas = [*free.tolist(), False], [*area.tolist(), 0.0]
    start = 0
    for end in range(1, len(opened)):
        if opened[start] and opened[end] and areas[end] - areas[start] < 4:
            continue
        if opened[start]:
            off = np.abs(np.arange(start, end) - (start + end - 1) / 2)
            best = start + int(np.argmin(bend[start:end] + 0.3 * off))
            if not chosen or areas[best] - areas[chosen[-1]] >= 4:
                chosen.append(best)
        start = end
    return np.array(chosen, np.int64)


def find_segments(line: Line) -> Segments | None:
    """Cuts a line and draws every segment; None for a line without ink."""
    ink = line.ink
    height, width = ink.shape
    mask = (ink > INK).view(np.uint8)
    if cv2.countNonZero(mask) < 10:
        return None
    thickness = max(2.0, stroke_thickness(ink))
    seams = choose_cuts(ink, thickness)
    count = len(seams) + 1
    cuts = np.arange(height) * (width + 1) + seams
    regions = np.bincount(cuts.ravel(), minlength=height * (width + 1)).reshape(height, width + 1)
    regions = np.cumsum(regions[:, :width], 1, np.int16)
    give_back(regions, mask, count)
    regions[ink <= 0.1] = -1
    inked = np.flatnonzero(regions >= 0)
    y, x = np.divmod(inked, width)
    owner, values = regions.ravel()[inked].astype(np.int64), ink.ravel()[inked]
    kept = np.flatnonzero(np.bincount(owner, values > INK, count) >= 5)
    if not len(kept):
        return None
    weights = (values, values * x, values * y)
    sums = np.stack([np.bincount(owner, w, count)[kept].astype(float) for w in weights], 1)
    limits = np.empty((len(kept), 4), np.int64)
    for side, (places, length) in enumerate(((x, width), (y, height))):
        seen = np.bincount(owner * length + places, minlength=count * length)
        seen = seen.reshape(count, length)[kept] > 0
        limits[:, side] = seen.argmax(1)
        limits[:, side + 2] = length - seen[:, ::-1].argmax(1)
    ends, boxes, totals = unions(limits, sums)
    bounds = np.stack([kept[ends[:, 0]], kept[ends[:, 1] - 1] + 1], 1)
    images = draw(ink, regions, bounds, boxes, totals)
    strokes = totals[:, 0] / thickness / HEIGHT
    return Segments(
        *(len(kept), ends, bounds, boxes, images, strokes, thickness, regions, seams),
    )


def unions(
    limits: NDArray[np.int64], sums: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Ends, boxes and sums of one to MOST_PIECES neighbouring pieces, given those of the pieces."""
    places = np.arange(len(limits))
    low, high, total = limits[:, :2], limits[:, 2:], sums
    parts = []
    for more in range(min(MOST_PIECES, len(limits))):
        if more:
            low = np.minimum(low[:-1], limits[more:, :2])
            high = np.maximum(high[:-1], limits[more:, 2:])
            total = total[:-1] + sums[more:]
        first = places[: len(low)]
        fits = (high[:, 0] - low[:, 0] <= WIDEST * HEIGHT) | (more == 0)
        ends = np.stack([first, first + more + 1], 1)
        parts.append([array[fits] for array in (ends, np.concatenate([low, high], 1), total)])
    ends, boxes, totals = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    return ends[order], boxes[order], totals[order]


def give_back(regions: NDArray[np.int16], mask: NDArray[np.uint8], count: int) -> None:
    """Gives small parts of a component that a seam cut off back to the component's main side."""
    components, labels = cv2.connectedComponents(mask, connectivity=8)
    table = np.bincount((labels * count + regions).ravel(), minlength=components * count)
    table = table.reshape(components, count)
    for n in np.flatnonzero((table[1:] > 0).sum(1) > 1) + 1:
        parts = np.flatnonzero(table[n])
        for part in parts[table[n, parts] < max(6, 0.03 * table[n].sum())]:
            others = parts[parts != part]
            near = others[np.lexsort((-table[n, others], np.abs(others - part)))[0]]
            if table[n, near] > table[n, part]:
                regions[(labels == n) & (regions == part)] = near


def draw(ink, regions, bounds, boxes, totals) -> NDArray[np.uint8]:
    """Every segment as MNIST has digits: 20 pixels at most, the centre of mass in the middle; what
    lies around it in the line is drawn faintly."""
    images = np.empty((len(bounds), SIDE, SIDE), np.uint8)
    smooth = cv2.convertScaleAbs(
        cv2.GaussianBlur(ink, (0, 0), 0.6), alpha=255
    )  # HEIGHT becomes FIT
    faint = cv2.convertScaleAbs(smooth, alpha=AROUND)
    left, top, right, bottom = boxes.T
    scales = FIT / np.maximum(right - left, bottom - top)
    centres = totals[:, 1:] / totals[:, :1] + 0.5
    # The centre of mass in the middle, as far as the box then fits.
    low, high = -scales[:, None] * boxes[:, :2], SIDE - scales[:, None] * boxes[:, 2:]
    shifts = np.minimum(np.maximum(SIDE / 2 - scales[:, None] * centres, low), high)
    starts = np.maximum(0, (-shifts[:, 0] / scales).astype(np.int64) - 1)
    stops = ((SIDE - shifts[:, 0]) / scales).astype(np.int64) + 2
    matrices = np.zeros((len(bounds), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scales
    matrices[:, :, 2] = shifts + 0.5 * scales[:, None] - 0.5
    matrices[:, 0, 2] += scales * starts
    for image, matrix, (first, after), start, stop in zip(
        *(images, matrices, bounds.tolist(), starts.tolist(), stops.tolist()), strict=True
    ):
        own = cv2.inRange(regions[:, start:stop], first, after - 1)
        shown = cv2.max(faint[:, start:stop], cv2.bitwise_and(smooth[:, start:stop], own))
        cv2.warpAffine(shown, matrix, (SIDE, SIDE), dst=image)
    return images
