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
        regions: int (60, width): each pixel's piece; -1 outside ink.
        seams: int (cuts, 60): each cut's column in each row.
    """

    pieces: int
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]
    boxes: NDArray[np.int64]
    images: NDArray[np.uint8]
    strokes: NDArray[np.float64]
    thickness: float
    regions: NDArray[np.int64]
    seams: NDArray[np.int64]


def find_seams(ink: Picture) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The seam through each column at half height: its ink (width,) and columns (width, height)."""
    height, width = ink.shape
    cost = ink.astype(np.float64) + 0.004
    half = height // 2
    seams = np.empty((width, height), np.int64)
    start = np.arange(width)
    seams[:, half] = start
    for rows in (range(half), range(height - 1, half, -1)):
        total = np.zeros(width)
        back = {}
        choices = np.full((3, width), np.inf)
        for row in rows:  # from the edge towards the middle
            total += cost[row]
            choices[0, 1:], choices[1], choices[2, :-1] = total[:-1] + STEP, total, total[1:] + STEP
            back[row] = choices.argmin(0) - 1
            total = choices.min(0)
        place = start
        for row in reversed(rows):
            place = place + back[row][place]
            seams[:, row] = place
    return ink[np.arange(height), seams].sum(1).astype(np.float64), seams


def stroke_thickness(ink: Picture) -> float:
    """Pixels: twice the area of ink over the length of its outline."""
    x, y = cv2.Sobel(ink, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(ink, cv2.CV_32F, 0, 1) / 8
    return 2 * float(ink.sum()) / max(float(cv2.magnitude(x, y).sum()), 1e-6)


def choose_cuts(ink: Picture, thickness: float) -> NDArray[np.int64]:
    """Seams (cuts, height) at which to cut, from the left: one in each gap, and those of locally
    least ink."""
    height, width = ink.shape
    cost, seams = find_seams(ink)
    left = np.concatenate([np.zeros((height, 1)), np.cumsum(ink, 1)], 1)
    area = left[np.arange(height), seams].sum(1)  # ink to the left of each seam
    means = seams.mean(1)
    bend = np.abs(seams - np.arange(width)[:, None]).mean(1)
    free = cost < FREE
    chosen: list[int] = []
    start = 0
    for end in range(1, width + 1):
        if end < width and free[end] and free[start] and area[end] - area[start] < 4:
            continue
        if free[start]:
            middle = (start + end - 1) / 2
            straight = bend[start:end] + 0.3 * np.abs(np.arange(start, end) - middle)
            best = start + int(np.argmin(straight))
            if not chosen or area[best] - area[chosen[-1]] >= 4:
                chosen.append(best)
        start = end
    gaps = len(chosen)
    smooth = cv2.GaussianBlur(cost[None], (0, 0), 0.8)[0]
    valley = (smooth[1:-1] <= smooth[:-2]) & (smooth[1:-1] < smooth[2:])
    valley &= ~free[1:-1] & (cost[1:-1] < THICKEST * thickness)
    valleys = np.flatnonzero(valley) + 1
    for cut in valleys[np.argsort(cost[valleys])]:
        apart = np.abs(area[cut] - area[chosen])
        inner = chosen[gaps:]
        if (
            (apart >= thickness**2).all()
            and (apart[gaps:] >= 1.5 * thickness**2).all()
            and (np.abs(means[cut] - means[inner]) >= CLOSEST).all()
        ):
            chosen.append(int(cut))
    order = sorted(chosen, key=lambda cut: means[cut])
    return np.maximum.accumulate(seams[order].reshape(-1, height), 0)


def find_segments(line: Line) -> Segments | None:
    """Cuts a line and draws every segment; None for a line without ink."""
    ink = line.ink
    height, width = ink.shape
    mask = (ink > 0.45).astype(np.uint8)
    if mask.sum() < 10:
        return None
    thickness = max(2.0, stroke_thickness(ink))
    seams = choose_cuts(ink, thickness)
    regions = np.zeros((height, width + 1), np.int64)
    np.add.at(regions, (np.arange(height), np.minimum(seams, width)), 1)
    regions = np.cumsum(regions, 1)[:, :width]
    give_back(regions, mask, len(seams) + 1)
    regions[ink <= 0.1] = -1
    y, x = np.nonzero(ink > 0.1)
    owner, values = regions[y, x], ink[y, x]
    count = len(seams) + 1
    kept = np.flatnonzero(np.bincount(owner, mask[y, x], count) >= 5)
    if not len(kept):
        return None
    sums = np.stack(
        [
            np.bincount(owner, v, count)[kept].astype(np.float64)
            for v in (values, values * x, values * y)
        ],
        1,
    )
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], kept)
    stops = np.searchsorted(owner[order], kept, "right")
    limits = np.empty((len(kept), 4), np.int64)
    for n, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        own = order[start:stop]
        limits[n] = x[own].min(), y[own].min(), x[own].max() + 1, y[own].max() + 1
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


def give_back(regions: NDArray[np.int64], mask: NDArray[np.uint8], count: int) -> None:
    """Gives small parts of a component that a seam cut off back to the component's main side."""
    components, labels = cv2.connectedComponents(mask, connectivity=8)
    table = np.bincount((labels * count + regions).ravel(), minlength=components * count)
    table = table.reshape(components, count)
    for n in np.flatnonzero((table[1:] > 0).sum(1) > 1) + 1:
        parts = np.flatnonzero(table[n])
        for part in parts:
            others = parts[parts != part]
            near = others[np.lexsort((-table[n, others], np.abs(others - part)))[0]]
            if table[n, part] < max(6, 0.03 * table[n].sum()) and table[n, near] > table[n, part]:
                regions[(labels == n) & (regions == part)] = near


def draw(ink, regions, bounds, boxes, totals) -> NDArray[np.uint8]:
    """Every segment as MNIST has digits: 20 pixels at most, the centre of mass in the middle; what
    lies around it in the line is drawn faintly."""
    images = np.empty((len(bounds), SIDE, SIDE), np.uint8)
    smooth = cv2.convertScaleAbs(
        cv2.GaussianBlur(ink, (0, 0), 0.6), alpha=255
    )  # HEIGHT becomes FIT
    faint = cv2.convertScaleAbs(smooth, alpha=AROUND)
    owner = regions.astype(np.int16)
    centres = totals[:, 1:] / totals[:, :1] + 0.5
    for image, (first, after), centre, box in zip(
        images, bounds.tolist(), centres.tolist(), boxes.tolist(), strict=True
    ):
        left, top, right, bottom = box
        scale = FIT / max(right - left, bottom - top)
        # The centre of mass in the middle, as far as the box then fits.
        x = min(max(SIDE / 2 - scale * centre[0], -scale * left), SIDE - scale * right)
        y = min(max(SIDE / 2 - scale * centre[1], -scale * top), SIDE - scale * bottom)
        reach = int(SIDE / scale) + 1
        start, stop = max(0, left - reach), min(ink.shape[1], right + reach)
        shown = faint[:, start:stop].copy()
        own = cv2.inRange(owner[:, start:stop], first, after - 1)
        cv2.copyTo(smooth[:, start:stop], own, shown)
        half = 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, x + scale * start + half], [0, scale, y + half]])
        cv2.warpAffine(shown, matrix, (SIDE, SIDE), dst=image)
    return images
