"""Which marks are the digit, among specks, lines and frames, and how thick its strokes are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures import Box, Mask, Picture, crop, fit, outline, shrink
from lenet.reading.ink import NoDigitError

SPECK = 0.02  # of the largest mark's ink; smaller marks are dust
BRIDGE = 0.004  # of the picture's side, from both ends: gaps in a stroke that count as none
JOIN_GAP = 0.25  # of the digit's longer side: how far off a detached stroke may lie
LINE_LENGTH, LINE_WIDTH = 0.9, 0.1  # of the picture: ruled lines are longer and narrower than this
FRAME_REACH = 0.03  # of a frame's longer side: how far its lines stray from its box
FRAME_SIDE = 0.9  # of each side covered by its line
FRAME_COVER = 0.6  # of the picture's outline covered by one mark: a frame or the desk's edge
BESIDE_BORDER = 0.1  # of the largest mark's ink: so much off the border is preferred to one on it
MIN_SHARE = 0.35  # of all ink off lines and frames; with less, no digit stands out
PIECE, MAX_PIECES = 0.2, 8  # strokes of at least this share of the largest; more are text
MIN_MARK = 6  # pixels
# Stroke length over the box's longer side. MNIST: 2.1 on average, 3.7 at most; noise: 5.7 and up.
MAX_STROKE_LENGTH = 5.0
FIT = 20
# closer, would count as long outlines and make strokes look thin
PEN_PIXELS = 8  # and at which strokes are made thicker or thinner, and told from texture


def choose_marks(marks: Mask, ink: Picture) -> Mask:
    """The marks that make up the digit: the largest, with what lies close to it.

    Specks, ruled lines, frames and marks on the border (if one off the border is left) are not
    part of it. Raises NoDigitError if no digit stands out.
    """
    bridged, count = label(grow(marks, np.True_, round(BRIDGE * max(marks.shape))))
    labels = np.where(marks, bridged, 0)
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count + 1)[1:]
    mass = np.bincount(flat, weights=np.maximum(ink, 0).ravel(), minlength=count + 1)[1:]
    boxes = component_boxes(labels, count)
    height, width = marks.shape
    spans = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], 1) / (width, height)
    lines = (spans.max(1) >= LINE_LENGTH) & (spans.min(1) <= LINE_WIDTH)
    on_outline = outline(labels)
    cover = np.bincount(on_outline, minlength=count + 1)[1:] / on_outline.size
    frames = (cover >= FRAME_COVER) | enclosing_frames(labels, boxes, area, mass)
    if frames.all():
        raise NoDigitError("the marks are a frame along the picture's edges")
    lines &= ~frames
    if (lines | frames).all():
        lines[:] = False  # nothing but one long stroke: a 1
    strokes = ~lines & ~frames
    if mass[strokes].max() < SPECK * mass[lines].max(initial=0.0):
        strokes |= lines  # a line with dust beside it: a 1
    inner = strokes & (cover == 0)
    if inner.any() and mass[inner].max() >= BESIDE_BORDER * mass[strokes].max():
        strokes = inner
    main = int(np.argmax(np.where(strokes, mass, -1)))
    candidates = strokes & (mass >= SPECK * mass[main])
    chosen = join(boxes, main, candidates)
    if area[chosen].sum() < MIN_MARK:
        raise NoDigitError("there are only specks")
    pieces = (mass[chosen] > PIECE * mass[main]).sum()
    if mass[chosen].sum() < MIN_SHARE * mass[strokes].sum() or pieces > MAX_PIECES:
        raise NoDigitError("many marks and none stands out; crop the picture to one digit")
    digit = np.concatenate([[False], chosen])[labels]
    drawn = shrink(crop(digit, bounding_box(digit)).astype(np.float32), PEN_PIXELS * FIT)
    if drawn.sum() / stroke_thickness(drawn) > MAX_STROKE_LENGTH * max(drawn.shape):
        raise NoDigitError("the picture looks like noise or texture")
    return digit


def enclosing_frames(
    labels: NDArray[np.int64],
    boxes: NDArray[np.int64],
    area: NDArray[np.int64],
    mass: NDArray,
) -> Mask:
    """Which components are the box of a form: along their own bounding box, with a mark inside."""
    frames = np.zeros(len(boxes), bool)
    for n in np.flatnonzero(mass >= SPECK * mass.max()):
        left, top, right, bottom = boxes[n]
        reach = math.ceil(FRAME_REACH * max(right - left, bottom - top))
        own = labels[top:bottom, left:right] == n + 1
        if min(own.shape) <= 4 * reach or area[n] > own.size / 2:
            continue
        sides = [
            own[:reach].any(0),
            own[-reach:].any(0),
            own[:, :reach].any(1),
            own[:, -reach:].any(1),
        ]
        if min(side.mean() for side in sides) < FRAME_SIDE:
            continue
        inside = (boxes[:, :2] > boxes[n, :2]).all(1) & (boxes[:, 2:] < boxes[n, 2:]).all(1)
        frames[n] = mass[inside].max(initial=0.0) > SPECK * mass[n]
    return frames


def join(boxes: NDArray[np.int64], main: int, candidates: Mask) -> Mask:
    """Starts with component `main` and adds candidates near the growing box until none is near."""
    chosen = np.zeros(len(boxes), bool)
    chosen[main] = True
    while True:
        left, top = boxes[chosen, :2].min(0)
        right, bottom = boxes[chosen, 2:].max(0)
        gap_x = np.maximum(boxes[:, 0] - right, left - boxes[:, 2])
        gap_y = np.maximum(boxes[:, 1] - bottom, top - boxes[:, 3])
        near = np.maximum(gap_x, gap_y) <= JOIN_GAP * max(right - left, bottom - top)
        new = candidates & near & ~chosen
        if not new.any():
            return chosen
        chosen |= new


def label(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Numbers the 8-connected components of `mask` from 1 in reading order; 0 is background.

    Works on the runs of each row: runs of neighbouring rows that touch are joined by lowering
    both roots to the smaller until nothing changes.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    row, start = np.nonzero(steps == 1)
    stop = np.nonzero(steps == -1)[1]  # excluded
    # A run touches the runs of the row above that end at or after its start and start at or
    # before its stop. Rows are laid one after the other, with room that keeps them apart.
    stride = width + 2
    starts, stops = row * stride + start, row * stride + stop
    first = np.searchsorted(stops, starts - stride, "left")
    last = np.searchsorted(starts, stops - stride, "right")
    touching = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(row)), touching)
    offset = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching)
    above = np.repeat(first, touching) + offset
    root = np.arange(len(row))
    while True:
        a, b = root[above], root[below]
        if (a == b).all():
            break
        low = np.minimum(a, b)
        np.minimum.at(root, a, low)
        np.minimum.at(root, b, low)
        while not (root[root] == root).all():
            root = root[root]
    names, numbers = np.unique(root, return_inverse=True)
    # Each run writes its number at its start and takes it back after its stop.
    change = np.zeros((height, width + 1), np.int64)
    np.add.at(change, (row, start), numbers + 1)
    np.add.at(change, (row, stop), -(numbers + 1))
    return np.cumsum(change, axis=1)[:, :-1], len(names)


def component_boxes(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(left, top, right, bottom) of the components 1 .. count: (count, 4)."""
    y, x = np.nonzero(labels)
    of = labels[y, x] - 1
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2] = labels.size
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], of, x)
    np.minimum.at(boxes[:, 1], of, y)
    np.maximum.at(boxes[:, 2], of, x + 1)
    np.maximum.at(boxes[:, 3], of, y + 1)
    return boxes


def grow(mask: Mask, allowed: Mask | np.bool_, reach: int) -> Mask:
    """Adds the `allowed` pixels that can be reached from `mask` in `reach` steps, 8-connected."""
    for _ in range(reach):
        wide = mask.copy()
        wide[1:] |= mask[:-1]
        wide[:-1] |= mask[1:]
        tall = wide.copy()
        tall[:, 1:] |= wide[:, :-1]
        tall[:, :-1] |= wide[:, 1:]
        mask = mask | (tall & allowed)
    return mask


def extent(mask: Mask) -> tuple[int, int]:
    left, top, right, bottom = bounding_box(mask)
    return right - left, bottom - top


def bounding_box(mask: Mask) -> Box:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def stroke_thickness(ink: Picture) -> float:
    """Mean thickness of the strokes in pixels: 2 * ink / length of the outline.

    A stroke of length l and thickness t holds l * t ink and has an outline of 2 l. The outline of
    a grey picture is the sum of its gradient (the coarea formula).
    """
    gradient_y, gradient_x = np.gradient(np.pad(ink, 2))
    outline = float(np.hypot(gradient_x, gradient_y).sum())
    return 2 * float(ink.sum()) / max(outline, 1e-6)


def change_thickness(ink: Picture, change: float) -> Picture:
    """Makes strokes thicker by `change` pixels of the 20x20 box (thinner if negative)."""
    pen = fit(ink, PEN_PIXELS * FIT)
    radius = abs(change) / 2 * PEN_PIXELS
    margin = math.ceil(radius) + 1
    pen = np.pad(pen, margin)
    changed = dilate(pen, radius) if change > 0 else 1 - dilate(1 - pen, radius)
    visible = changed > 0.1
    return crop(changed, bounding_box(visible)) if visible.any() else ink


def dilate(picture: Picture, radius: float) -> Picture:
    """The largest value within `radius` pixels."""
    whole = math.floor(radius)
    padded = np.pad(picture, whole, mode="edge")
    height, width = picture.shape
    result = picture.copy()
    for y in range(-whole, whole + 1):
        for x in range(-whole, whole + 1):
            if x * x + y * y <= radius * radius:
                moved = padded[whole + y : whole + y + height, whole + x : whole + x + width]
                np.maximum(result, moved, out=result)
    return result
