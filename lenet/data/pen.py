"""A pen: random strokes for a whole batch of pictures at once, and their drawing as MNIST has them.

Splines through control points, slant, aspect and tremor make handwriting of a few strokes. A pen
of random width draws it at four times MNIST's resolution, into MNIST's box of 20x20 pixels, whose
centre of mass goes to the middle of 28x28.

Coordinates are (x, y), x to the right and y down; a digit is about 1 high. Angles are in degrees,
0 to the right and 90 down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Number = float | NDArray[np.float64]  # the same for all digits of a batch, or one for each
Point = tuple[Number, Number]
Stroke = NDArray[np.float64]  # (N, points, 2); NaN in the digits that lack it

SPAN = 8  # points of a polyline from one control point to the next
JITTER = 0.02  # standard deviation of a control point, of the digit's height
FINE = 4  # drawn at so many times the resolution, then averaged
BOX, FIELD = 20, 28  # MNIST's box for the digit, and its field

_T = np.arange(SPAN)[:, None] / SPAN
# Catmull-Rom: weights of the four control points around a span, for each of its points
BASIS = np.concatenate(
    [
        -_T / 2 + _T**2 - _T**3 / 2,
        1 - 2.5 * _T**2 + 1.5 * _T**3,
        _T / 2 + 2 * _T**2 - 1.5 * _T**3,
        -(_T**2) / 2 + _T**3 / 2,
    ],
    axis=1,
)


class Hand:
    """Random numbers and strokes for a batch of `count` digits."""

    def __init__(self, count: int, generator: np.random.Generator) -> None:
        self.count, self.generator = count, generator

    def u(self, low: Number, high: Number) -> NDArray[np.float64]:
        """Uniform numbers, one a digit."""
        return low + (high - low) * self.generator.random(self.count)

    def n(self, sigma: float) -> NDArray[np.float64]:
        """Normal numbers about 0, one a digit."""
        return sigma * self.generator.standard_normal(self.count)

    def p(self, share: float) -> NDArray[np.bool_]:
        """Which digits of the batch are in a random share of it."""
        return self.generator.random(self.count) < share

    def curve(self, *points: Point) -> Stroke:
        """A smooth stroke through points."""
        knots = np.stack(
            [np.stack(np.broadcast_arrays(x, y, np.empty(self.count))[:2], -1) for x, y in points],
            axis=1,
        )
        knots = knots + JITTER * self.generator.standard_normal(knots.shape)
        ends = 2 * knots[:, :1] - knots[:, 1:2], 2 * knots[:, -1:] - knots[:, -2:-1]
        padded = np.concatenate([ends[0], knots, ends[1]], axis=1)
        spans = np.stack([padded[:, i : i + 4] for i in range(len(points) - 1)], axis=1)
        smooth = np.einsum("tk,nskx->nstx", BASIS, spans).reshape(self.count, -1, 2)
        return np.concatenate([smooth, knots[:, -1:]], axis=1)

    def line(self, start: Point, end: Point, bend: float = 0.03) -> Stroke:
        """A nearly straight stroke."""
        middle = tuple((a + b) / 2 + self.n(bend) for a, b in zip(start, end, strict=True))
        return self.curve(start, (middle[0], middle[1]), end)

    def maybe(self, share: float, stroke: Stroke) -> Stroke:
        """The stroke, in a share of the digits."""
        return np.where(self.p(share)[:, None, None], stroke, np.nan)


def corner(*strokes: Stroke) -> Stroke:
    """Strokes written without lifting the pen, with a corner between them."""
    return np.concatenate(strokes, axis=1)


def arc(
    centre: Point, radii: Point, start: Number, turn: Number, points: int = 9, grow: Number = 1.0
) -> list[Point]:
    """Points on an ellipse from the angle `start`, clockwise if `turn` is positive; the radii
    become `grow` times as large on the way."""
    steps = np.linspace(0, 1, points)
    angles = [np.deg2rad(start + step * turn) for step in steps]
    sizes = [1 + step * (grow - 1) for step in steps]
    return [
        (centre[0] + s * radii[0] * np.cos(a), centre[1] + s * radii[1] * np.sin(a))
        for a, s in zip(angles, sizes, strict=True)
    ]


def between(a: Point, b: Point, share: Number = 0.5) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


@dataclass(frozen=True)
class Style:
    """How strokes become pictures; standard deviations but for the pen.

    Attributes:
        aspect: natural logarithm of width over height.
        slant: slope of the stems.
        turn: degrees.
        tremor: of the pen about its way, of the digit's height.
        pen: mean width of the pen and the standard deviation of its logarithm, pixels of MNIST.
        blur: largest of the picture, a Gaussian's standard deviation in pixels of MNIST, that one
            picture in three has.
    """

    aspect: float = 0.18
    slant: float = 0.18
    turn: float = 4.0
    tremor: float = 0.008
    pen: tuple[float, float] = (2.5, 0.28)
    blur: float = 1.0


def draw(strokes: Sequence[Stroke], style: Style, hand: Hand) -> NDArray[np.uint8]:
    """Pictures (N, 28, 28) of a batch's strokes: 20x20 pixels, centre of mass in the middle."""
    ends = np.cumsum([stroke.shape[1] for stroke in strokes])[:-1]
    points = shake(np.concatenate(strokes, axis=1), style, hand)
    pens = np.clip(style.pen[0] * np.exp(hand.n(style.pen[1])), 1.2, 5.5)
    blurs = np.where(hand.p(1 / 3), hand.u(0, style.blur), 0)
    return rasterise(np.split(points, ends, axis=1), pens, blurs)


def shake(points: Stroke, style: Style, hand: Hand) -> Stroke:
    """Tremor, then stretched, slanted and turned."""
    way = np.linspace(0, 1, points.shape[1])[:, None]
    for waves in (hand.u(2, 5), hand.u(5, 12)):
        phases = hand.generator.uniform(0, 2 * np.pi, (hand.count, 1, 2))
        size = np.abs(hand.n(style.tremor * 1.4))[:, None, None]
        points = points + size * np.sin(2 * np.pi * waves[:, None, None] * way + phases)
    x = (points[..., 0] + hand.n(style.slant)[:, None] * (0.5 - points[..., 1])) * np.exp(
        hand.n(style.aspect)
    )[:, None]
    y, angle = points[..., 1], np.deg2rad(hand.n(style.turn))[:, None]
    return np.stack(
        [x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1
    )


def rasterise(
    strokes: Sequence[Stroke], pens: NDArray[np.float64], blurs: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Draws polylines with pens of the given widths, in pixels of MNIST, as MNIST has them."""
    points = np.concatenate(strokes, axis=1)
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    # Ends are round: the pen's width belongs to the box.
    scale = FINE * (BOX - pens) / np.maximum((high - low).max(1), 1e-3)
    margin = FINE * pens / 2
    size = (high - low) * scale[:, None] + 2 * margin[:, None]
    corner_ = (FINE * BOX - size) / 2 + margin[:, None]  # centred in the box
    fixed = [
        np.rint(16 * ((s - low[:, None]) * scale[:, None, None] + corner_[:, None]))
        for s in strokes
    ]
    present = [~np.isnan(s[:, 0, 0]) for s in strokes]
    fixed = [np.nan_to_num(s).astype(np.int32) for s in fixed]
    widths = np.maximum(np.rint(FINE * pens), 1).astype(int).tolist()
    small = np.empty((len(pens), BOX, BOX), np.uint8)
    for i, width in enumerate(widths):
        canvas = np.zeros((FINE * BOX, FINE * BOX), np.uint8)
        lines = [s[i] for s, here in zip(fixed, present, strict=True) if here[i]]
        cv2.polylines(canvas, lines, False, 255, width, cv2.LINE_8, 4)
        cv2.resize(canvas, (BOX, BOX), dst=small[i], interpolation=cv2.INTER_AREA)
        if blurs[i] > 0.3:
            cv2.GaussianBlur(small[i], (0, 0), blurs[i], dst=small[i])
    peaks = np.maximum(small.max((1, 2), keepdims=True), 1)
    return centred(np.rint(small * (255 / peaks)).astype(np.uint8))


def fit_box(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is in a picture of any size, in the middle of MNIST's box (20, 20)."""
    x, y, width, height = cv2.boundingRect(picture)
    scale = BOX / max(width, height, 1)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    part = picture[y : y + max(height, 1), x : x + max(width, 1)]
    top, left = (BOX - h) // 2, (BOX - w) // 2
    box = np.zeros((BOX, BOX), np.uint8)
    box[top : top + h, left : left + w] = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
    return box


def centred(boxes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Boxes (N, 20, 20) in fields (N, 28, 28), centres of mass in the middle."""
    mass = boxes.sum((1, 2), dtype=np.float64)
    place = np.arange(BOX)
    rows = boxes.sum(2, dtype=np.float64) @ place / np.maximum(mass, 1)
    columns = boxes.sum(1, dtype=np.float64) @ place / np.maximum(mass, 1)
    images = np.zeros((len(boxes), FIELD, FIELD), np.uint8)
    down, right = (
        np.clip(np.rint(FIELD / 2 - c), 0, FIELD - BOX).astype(int) for c in (rows, columns)
    )
    for image, box, y, x in zip(images, boxes, down.tolist(), right.tolist(), strict=True):
        image[y : y + BOX, x : x + BOX] = box
    return images
