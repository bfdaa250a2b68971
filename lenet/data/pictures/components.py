"""Which connected components of the foreground are the digit, among specks, rules and frames."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures.decoding import Box, Gray, Mask, crop, outline, shrink
from lenet.data.pictures.foreground import NoDigitError, above

SPECK = 0.02  # of the largest component's pixels; smaller ones are dust
BRIDGE = 0.004  # of the picture's side, from both ends: gaps in a stroke that are closed
JOIN_GAP = 0.25  # of the digit's longer side: the largest distance to a detached stroke
RULE_RUN, RULE_LENGTH, RULE_WIDTH = 1 / 8, 0.9, 0.04  # of the picture: rules are long and narrow
RULE_EXCESS = 0.02  # of the picture: how much farther than the digit rules reach
FRAME_SQUARE, FRAME_HOLE = 0.92, 0.6  # of a frame's rectangle: its hull, and its holes
FRAME_SIDE = 16  # pixels; in smaller pictures a zero has the shape of a box
FRAME_COVER = 0.6  # of the picture's outline covered by one component: a frame or the desk's edge
BESIDE_BORDER = 0.1  # of the largest component: one of this size off the border is preferred to it
MIN_SHARE = 0.35  # of all ink outside frames; with less, no digit stands out
PIECE, MAX_PIECES = 0.2, 8  # strokes of at least this share of the largest; more are text
# Components are several digits if they have this share of the largest's pixels and of the tallest's
# height, and are this far apart, in heights: side by side, or one above the other. This is true of
# 0.02% of MNIST: the bar of a 5 is not tall, and the halves of a broken digit are close.
DIGIT_AREA, MAX_DIGITS = 0.1, 12
BESIDE_HEIGHT, BESIDE_GAP = 0.5, 0.05
ABOVE_HEIGHT, ABOVE_GAP = 0.7, 0.35
MIN_AREA = 6  # pixels
# Stroke length over the box's longer side. MNIST: 2.1 on average, 3.7 at most; noise: 5.7 and up.
MAX_STROKE_LENGTH = 5.0
STROKE_SIDE = 160  # pixels; closer, a texture's rough edges would not count


Labels = NDArray[Any]  # int32 (height, width), 0 background; Any as in `decoding.Gray`


def find_digit(ink: Gray, threshold: float) -> Mask:
    """255 in the components of the digit: the largest, and those close to it.

    Specks, frames and components on the border (if another is left) are not part of it. Raises
    NoDigitError if no digit or several stand out.
    """
    marks = above(ink, threshold)
    reach = round(BRIDGE * max(marks.shape))
    labels, area, boxes = components(cv2.dilate(marks, square(reach)) if reach else marks)
    if not len(area):
        raise NoDigitError("empty")
    on_outline = outline(labels) * (outline(marks) > 0)
    cover = np.bincount(on_outline, minlength=len(area) + 1)[1:] / on_outline.size
    strokes = np.ones(len(area), bool)
    if min(marks.shape) >= FRAME_SIDE:
        strokes = cover < FRAME_COVER
        for n in np.flatnonzero(strokes & (area >= SPECK * area.max())):
            strokes[n] = not is_frame(labels, int(n) + 1, boxes[n])
    if not strokes.any() or area[strokes].max() < SPECK * area.max():
        raise NoDigitError("empty")
    inner = strokes & (cover == 0)
    if inner.any() and area[inner].max() >= BESIDE_BORDER * area[strokes].max():
        strokes = inner
    main = int(np.argmax(np.where(strokes, area, -1)))
    if are_several(boxes[strokes], area[strokes]):
        # Pale ink joins the pieces of one digit.
        _, pale_area, pale_boxes = components(above(ink, threshold / 2))
        if are_several(pale_boxes, pale_area):
            raise NoDigitError("several digits")
    chosen = join(boxes, main, strokes & (area >= SPECK * area[main]))
    pieces = (area[chosen] > PIECE * area[main]).sum()
    if area[chosen].sum() < MIN_SHARE * area[strokes].sum() or pieces > MAX_PIECES:
        raise NoDigitError("not a digit")
    left, top, right, bottom = *boxes[chosen, :2].min(0), *boxes[chosen, 2:].max(0)
    part = slice(top, bottom), slice(left, right)
    digit = np.zeros_like(marks)
    for n in np.flatnonzero(chosen).tolist():
        digit[part] |= cv2.inRange(labels[part], n + 1, n + 1)
    digit &= marks
    if cv2.countNonZero(digit) < MIN_AREA:
        raise NoDigitError("empty")
    drawn = shrink(crop(digit, bounding_box(digit)), STROKE_SIDE)
    length = drawn.sum() / 255 / stroke_thickness(drawn)
    if length > MAX_STROKE_LENGTH * max(drawn.shape):
        raise NoDigitError("not a digit")
    return digit


def components(mask: Mask) -> tuple[Labels, NDArray[np.int64], NDArray[np.int64]]:
    """Labels 1 .. count of the 8-connected components, their pixels (count,), boxes (count, 4)."""
    algorithm = cv2.connectedComponentsWithStatsWithAlgorithm
    _, labels, stats, _ = algorithm(mask, 8, cv2.CV_32S, cv2.CCL_BBDT)
    stats = stats[1:].astype(np.int64)
    boxes = np.hstack([stats[:, :2], stats[:, :2] + stats[:, 2:4]])
    return labels, stats[:, cv2.CC_STAT_AREA], boxes


def is_frame(labels: Labels, number: int, box: NDArray[np.int64]) -> bool:
    """Whether a component is the box of a form: its hull is a rectangle, and hollow."""
    own = (crop(labels, tuple(box)) == number).astype(np.uint8)
    contours, tree = cv2.findContours(own, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))
    rectangle = np.prod(cv2.minAreaRect(hull)[1])
    holes = sum(
        cv2.contourArea(contour)
        for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True)
        if parent >= 0
    )
    is_hollow = holes > FRAME_HOLE * rectangle
    return bool(is_hollow and cv2.contourArea(hull) > FRAME_SQUARE * rectangle)


def are_several(boxes: NDArray[np.int64], area: NDArray[np.int64]) -> bool:
    """Whether at least two components have the size of a digit and are apart from each other."""
    boxes = boxes[area >= DIGIT_AREA * area.max()]
    heights = boxes[:, 3] - boxes[:, 1]
    tallest = heights.max()
    boxes = boxes[heights >= BESIDE_HEIGHT * tallest]
    if not 2 <= len(boxes) <= MAX_DIGITS:
        return False
    first, second = boxes[:, None], boxes[None]
    gaps = np.maximum(first[..., :2] - second[..., 2:], second[..., :2] - first[..., 2:])
    heights = boxes[:, 3] - boxes[:, 1]
    lower = np.minimum(heights, heights[:, None])
    beside = (-gaps[..., 1] >= lower / 2) & (gaps[..., 0] > BESIDE_GAP * tallest)
    stacked = (lower >= ABOVE_HEIGHT * tallest) & (gaps[..., 1] > ABOVE_GAP * tallest)
    return bool((beside | stacked).any())


def without_rules(ink: Gray, threshold: float) -> Gray:
    """The ink without the dark lines of ruled paper, except where strokes cross them.

    Raises NoDigitError if there is nothing but such lines.
    """
    marks = above(ink, threshold)
    rules: Mask = rules_across(marks) | rules_across(marks.T).T
    if not rules.any():
        return ink
    strokes: Mask = marks & ~rules
    return cv2.subtract(ink, cv2.dilate(rules, square(1)) & ~strokes)


def rules_across(marks: Mask) -> Mask:
    """255 where there are only lines that run from the left to the right of the picture."""
    rules = np.zeros_like(marks)
    height, width = marks.shape
    if not (marks[:, :2].any() and marks[:, -2:].any()):
        return rules
    # Thickened, so that a line that is not quite level has long runs in every row it crosses.
    thicker = cv2.dilate(np.pad(marks, ((2, 2), (0, 0))), np.ones((5, 1), np.uint8))
    run = np.ones((1, max(round(RULE_RUN * width), 1)), np.uint8)
    runs = cv2.morphologyEx(thicker, cv2.MORPH_OPEN, run)
    labels, _, boxes = components(runs)
    count = 0
    for n in np.flatnonzero(boxes[:, 2] - boxes[:, 0] >= RULE_LENGTH * width):
        left, top, right, bottom = boxes[n]
        own = labels[top:bottom, left:right] == n + 1
        thickness = own.sum(0)
        usual = float(np.median(thickness))
        if usual - 4 > RULE_WIDTH * max(height, width):
            continue
        x = np.flatnonzero((thickness > 0) & (thickness <= usual + 2))
        if len(x) < 3:  # too few for a curve
            continue
        centre = (own * np.arange(top - 2, bottom - 2)[:, None]).sum(0)[x] / thickness[x]
        course = np.polyval(np.polyfit(x + left, centre, 2), np.arange(width))
        if np.abs(course[x + left] - centre).mean() > 2:
            continue
        half = (usual - 4) / 2 + 1
        y = np.arange(height)[:, None] - course
        band = np.abs(y) <= half
        around = (np.abs(y) <= half + 2) & ~band & (marks > 0)
        crossed = np.convolve(around.any(0), np.ones(3), "same") > 0
        rules[band & ~crossed & (marks > 0)] = 255
        count += 1
    if not count:
        return rules
    _, area, boxes = components(marks & ~rules)
    if not len(area) or area.max() < SPECK * cv2.countNonZero(rules):
        if count > 1:
            raise NoDigitError("empty")
        return np.zeros_like(rules)  # nothing but one long stroke: a 1
    left, _, right, _ = boxes[area.argmax()]
    reach = RULE_EXCESS * width
    return rules if left >= reach and right <= width - reach else np.zeros_like(rules)


def join(boxes: NDArray[np.int64], main: int, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Adds candidates near the box of what is chosen, at first component `main`, until none is."""
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


def square(reach: int) -> Gray:
    """A square structuring element that reaches that far from its centre."""
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def grow(mask: Mask, allowed: Mask, reach: int) -> Mask:
    """Adds the `allowed` pixels that can be reached from the mask in about `reach` pixels."""
    step = math.ceil(reach / 4)
    for _ in range(0, reach, max(step, 1)):
        mask = mask | cv2.dilate(mask, square(step)) & allowed
    return mask


def bounding_box(mask: Mask) -> Box:
    left, top, width, height = cv2.boundingRect(mask)
    return left, top, left + width, top + height


def stroke_thickness(ink: Gray) -> float:
    """Mean thickness of the strokes in pixels: 2 * ink / length of the outline.

    A stroke of length l and thickness t holds l * t ink and has an outline of 2 l. The outline of
    a grey picture is the sum of its gradient (the coarea formula).
    """
    padded = np.pad(ink, 2).astype(np.float32)
    slopes = (cv2.Sobel(padded, cv2.CV_32F, *axis, ksize=1, scale=0.5) for axis in ((1, 0), (0, 1)))
    return 2 * float(ink.sum()) / max(cv2.sumElems(cv2.magnitude(*slopes))[0], 1e-6)
