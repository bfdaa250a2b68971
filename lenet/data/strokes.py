"""Digits as the world writes them, drawn from nothing: strokes of a pen, in MNIST's manner.

A variant of a digit (the 7 with a bar, the 1 with a long upstroke) is a function that places the
control points of a few strokes at random, for a whole batch at once; `lenet.data.pen` has the rest.
docs/strokes.md shows all variants.
"""

from collections.abc import Callable

import numpy as np

from lenet.data.pen import (
    FIELD,
    Hand,
    Number,
    Point,
    Stroke,
    Style,
    arc,
    between,
    corner,
    draw,
)
from lenet.data.splits import Split

Variant = Callable[[Hand], list[Stroke]]
VARIANTS: tuple[list[tuple[float, Variant]], ...] = tuple([] for _ in range(10))


def variant(digit: int, weight: float) -> Callable[[Variant], Variant]:
    """Adds a variant that a share of the digits, in proportion to `weight`, is written in."""

    def add(function: Variant) -> Variant:
        VARIANTS[digit].append((weight, function))
        return function

    return add


# 0


def ring(h: Hand, turn: Number, grow: Number, points: int = 12) -> tuple[list[Point], Number]:
    """The points of a ring from about its top, and the half of its width."""
    width = h.u(0.2, 0.6)
    side = np.where(h.p(0.8), -1, 1)
    return arc((0, 0.5), (width, 0.5), h.u(-150, -30), side * turn, points, grow), width


@variant(0, 5)
def zero(h: Hand) -> list[Stroke]:
    return [h.curve(*ring(h, h.u(335, 400), h.u(0.85, 1.15))[0])]


@variant(0, 1)
def zero_open(h: Hand) -> list[Stroke]:
    gap = h.u(10, 60)
    width = h.u(0.25, 0.55)
    return [h.curve(*arc((0, 0.5), (width, 0.5), -90 + h.n(40), gap - 360, 11, h.u(0.9, 1.25)))]


@variant(0, 1)
def zero_slashed(h: Hand) -> list[Stroke]:
    points, width = ring(h, h.u(340, 390), h.u(0.9, 1.1))
    reach, steep = h.u(0.7, 1.4), h.u(0.35, 0.6)
    slash = h.line((width * reach, 0.5 - steep * reach), (-width * reach, 0.5 + steep * reach))
    return [h.curve(*points), slash]


@variant(0, 1)
def zero_twice_round(h: Hand) -> list[Stroke]:
    return [h.curve(*ring(h, h.u(430, 720), h.u(0.75, 1.15), 18)[0])]


@variant(0, 2)
def zero_with_arm(h: Hand) -> list[Stroke]:
    """As a sigma: the end of the ring runs on to the right, above it."""
    width, top, reach = h.u(0.15, 0.55), h.u(-0.05, 0.15), h.u(0.05, 0.9)
    points = arc((0, 0.5), (width, 0.5), h.u(-110, -40), -h.u(310, 380), 11, h.u(0.85, 1.05))
    arm = [(reach * 0.5, top + h.n(0.03)), (reach + 0.1, top - h.u(-0.08, 0.15))]
    return [h.curve(*points, *arm)]


@variant(0, 1)
def zero_with_entry(h: Hand) -> list[Stroke]:
    """The pen comes from the left or from above before the ring."""
    points, _ = ring(h, h.u(320, 390), h.u(0.9, 1.1))
    x, y = points[0]
    return [h.curve((x + h.n(0.25), y - h.u(0.0, 0.2)), *points)]


@variant(0, 1.2)
def zero_spiral(h: Hand) -> list[Stroke]:
    """The end of the ring turns into it, or passes its beginning outside."""
    width, inwards = h.u(0.3, 0.55), h.p(0.6)
    turn = np.where(inwards, h.u(380, 450), h.u(370, 420))
    grow = np.where(inwards, h.u(0.45, 0.8), h.u(1.1, 1.4))
    side = np.where(h.p(0.85), -1, 1)
    return [h.curve(*arc((0, 0.5), (width, 0.5), h.u(-170, -60), side * turn, 13, grow))]


# 1


@variant(1, 2)
def one_bar(h: Hand) -> list[Stroke]:
    return [h.line((h.n(0.03), 0), (0, 1))]


@variant(1, 0.5)
def one_bar_with_foot(h: Hand) -> list[Stroke]:
    return [h.line((0, 0), (0, 1)), h.line((-h.u(0.1, 0.4), 1), (h.u(0.1, 0.4), 1))]


def upstroke(h: Hand, length: Number, rise: Number) -> tuple[Point, Point, Point]:
    """Where an upstroke starts, the top of the 1 and its foot. `rise` is the upstroke's angle."""
    lean = h.u(-0.25, 0.4)
    top, foot = (lean / 2, 0.0), (-lean / 2, 1.0)
    angle = np.deg2rad(rise)
    return (top[0] - length * np.cos(angle), np.minimum(length * np.sin(angle), 1.05)), top, foot


@variant(1, 2.5)
def one_short_upstroke(h: Hand) -> list[Stroke]:
    start, top, foot = upstroke(h, h.u(0.15, 0.5), h.u(15, 70))
    return [corner(h.line(start, top), h.line(top, foot))]


@variant(1, 2.5)
def one_long_upstroke(h: Hand) -> list[Stroke]:
    start, top, foot = upstroke(h, h.u(0.45, 1.2), h.u(28, 75))
    return [corner(h.line(start, top, 0.04), h.line(top, foot))]


@variant(1, 1.2)
def one_upstroke_with_foot(h: Hand) -> list[Stroke]:
    start, top, foot = upstroke(h, h.u(0.15, 0.7), h.u(20, 70))
    serif = h.line((foot[0] - h.u(0.1, 0.45), 1), (foot[0] + h.u(0.1, 0.45), 1))
    return [corner(h.line(start, top), h.line(top, foot)), serif]


@variant(1, 1.5)
def one_round_top(h: Hand) -> list[Stroke]:
    start, top, foot = upstroke(h, h.u(0.2, 0.8), h.u(25, 70))
    round_ = h.u(0.03, 0.12)
    over = (top[0] + round_ * 0.3, 0.25 * round_)
    return [
        h.curve(
            start,
            between(start, top),
            (top[0] - round_, round_ * 0.4),
            over,
            between(top, foot, 0.25),
            between(top, foot, 0.6),
            foot,
        )
    ]


@variant(1, 0.8)
def one_hooked(h: Hand) -> list[Stroke]:
    """An upstroke that starts with a hook, or a foot that ends in one."""
    start, top, foot = upstroke(h, h.u(0.25, 0.8), h.u(25, 65))
    hook = (start[0] - h.u(-0.12, 0.12), start[1] - h.u(0.02, 0.14))
    end = (foot[0] + h.u(-0.2, 0.3), 1 - h.u(-0.03, 0.1))
    return [
        corner(h.curve(hook, start, between(start, top), top), h.line(top, foot)),
        h.maybe(0.5, h.line(foot, end)),
    ]


@variant(1, 0.6)
def one_wave(h: Hand) -> list[Stroke]:
    """A bar that starts and ends with a swing."""
    swing = h.u(0.03, 0.15)
    return [h.curve((-swing, 0.08), (0, 0), (0.02, 0.5), (0, 0.95), (swing, 1 - h.u(0, 0.1)))]


@variant(1, 1.8)
def one_arch(h: Hand) -> list[Stroke]:
    """The upstroke is an arch as long as the stem, soft or sharp at the top."""
    start, top, foot = upstroke(h, h.u(0.4, 1.1), h.u(12, 60))
    bulge = h.u(0, 0.12)
    middle = between(start, top)
    way = [start, (middle[0] - bulge, middle[1] - bulge), (top[0] - 0.1, h.u(0, 0.06))]
    soft = h.curve(
        *way, top, (top[0] + h.u(-0.02, 0.05), h.u(0.1, 0.2)), between(top, foot, 0.6), foot
    )
    return [soft]


# 2


def head(h: Hand, width: Number) -> list[Point]:
    """The bow at the top of a 2, from its left end to its right side."""
    start = (-width * h.u(0.6, 1.15), h.u(0.08, 0.38))
    top = (h.n(0.06), h.u(-0.02, 0.04))
    return [
        start,
        (0.6 * start[0], top[1] + h.u(0.02, 0.1)),
        top,
        (width * h.u(0.7, 1), h.u(0.18, 0.34)),
    ]


@variant(2, 3)
def two(h: Hand) -> list[Stroke]:
    width = h.u(0.2, 0.5)
    left, right = (-width * h.u(0.6, 1.1), h.u(0.82, 1)), (width * h.u(0.6, 1.6), 1 + h.n(0.05))
    return [
        corner(
            h.curve(*head(h, width), (width * h.u(-0.05, 0.4), h.u(0.5, 0.65)), left),
            h.line(left, right),
        )
    ]


@variant(2, 3)
def two_looped(h: Hand) -> list[Stroke]:
    width, loop = h.u(0.2, 0.5), h.u(0.05, 0.2)
    x, y = -width * h.u(0.6, 1), h.u(0.85, 1)
    return [
        h.curve(
            *head(h, width),
            (width * h.u(0, 0.4), h.u(0.5, 0.65)),
            (x + 0.1, y),
            (x - loop * 0.4, y - loop * 0.3),
            (x + loop * 0.6, y - loop),
            (x + loop * 2, y - loop * h.u(0, 0.4)),
            (width * h.u(0.6, 1.7), 1 + h.u(-0.08, 0.08)),
        )
    ]


@variant(2, 1.5)
def two_soft(h: Hand) -> list[Stroke]:
    """As a swan: no corner at the bottom."""
    width = h.u(0.2, 0.5)
    x = -width * h.u(0.5, 1)
    return [
        h.curve(
            *head(h, width),
            (width * h.u(-0.1, 0.4), h.u(0.5, 0.65)),
            (x + 0.04, h.u(0.85, 0.94)),
            (x + h.u(0.08, 0.16), 1 + h.n(0.02)),
            (width * h.u(0.5, 1.5), 1 + h.u(-0.12, 0.03)),
        )
    ]


@variant(2, 1.2)
def two_like_z(h: Hand) -> list[Stroke]:
    width = h.u(0.2, 0.5)
    a, b = (-width * h.u(0.6, 1.1), h.u(-0.02, 0.2)), (width * h.u(0.6, 1), h.u(0, 0.2))
    left = (-width * h.u(0.6, 1.1), h.u(0.82, 1))
    top = h.curve(a, (h.n(0.05), np.minimum(a[1], b[1]) - h.u(0, 0.1)), b)
    return [corner(top, h.line(b, left), h.line(left, (width * h.u(0.6, 1.6), 1 + h.n(0.05))))]


@variant(2, 1)
def two_curled(h: Hand) -> list[Stroke]:
    """The head starts with a curl inside."""
    width = h.u(0.2, 0.5)
    start, left_of_top, top, right = head(h, width)
    left = (-width * h.u(0.6, 1.1), h.u(0.82, 1))
    curl = (start[0] + h.u(0.08, 0.25), start[1] + h.u(-0.04, 0.12))
    base = h.curve(left, (0, 1 + h.n(0.05)), (width * h.u(0.6, 1.6), 1 + h.n(0.06)))
    down = (width * h.u(-0.05, 0.4), h.u(0.5, 0.65))
    return [
        corner(
            h.curve(curl, (start[0], start[1] + 0.04), left_of_top, top, right, down, left), base
        )
    ]


@variant(2, 1.5)
def two_ringed(h: Hand) -> list[Stroke]:
    """The head is a ring, or nearly, as in a 9 whose tail turns into a base."""
    width = h.u(0.18, 0.42)
    down = (width * h.u(0.1, 0.6), h.u(0.45, 0.62))
    start = (width * h.u(-0.3, 0.6), h.u(0.28, 0.48))
    left = (-width * h.u(0.6, 1.2), h.u(0.85, 1))
    head = [
        start,
        (-width * h.u(0.4, 0.9), start[1] + h.u(-0.05, 0.06)),
        (-width * h.u(0.8, 1.1), h.u(0.12, 0.26)),
        (width * h.u(-0.2, 0.3), h.n(0.02)),
        (width * h.u(0.75, 1), h.u(0.12, 0.28)),
    ]
    loop = h.u(-0.05, 0.16)
    base = h.curve(
        left,
        (left[0] + 0.4 * width, left[1] - loop),
        (width * h.u(0.1, 0.5), 1 + h.u(-0.08, 0.06)),
        (width * h.u(0.7, 1.8), 1 + h.u(-0.12, 0.08)),
    )
    return [corner(h.curve(*head, down, left), base)]


@variant(2, 0.8)
def two_short_base(h: Hand) -> list[Stroke]:
    """A bow, a long way down, and hardly a base."""
    width = h.u(0.2, 0.45)
    left = (-width * h.u(0.2, 0.9), h.u(0.88, 1))
    base = h.line(left, (left[0] + h.u(0.12, 0.45), 1 + h.u(-0.06, 0.06)))
    return [corner(h.curve(*head(h, width), (width * h.u(0.1, 0.6), 0.55), left), base)]


@variant(2, 0.8)
def two_hardly_a_head(h: Hand) -> list[Stroke]:
    """A stem leaning to the right and a base; of the bow there is a hook or nothing."""
    width = h.u(0.15, 0.45)
    top, left = (width * h.u(-0.2, 1), h.u(-0.03, 0.04)), (-width * h.u(0.5, 1), h.u(0.8, 1))
    hook = (top[0] - h.u(0, 0.28), top[1] + h.u(-0.02, 0.14))
    base = h.line(left, (width * h.u(0.6, 1.7), 1 + h.u(-0.12, 0.05)))
    stem = h.curve(
        hook, (top[0] - 0.04, top[1]), (top[0], top[1] + 0.1), between(top, left, 0.6), left
    )
    return [corner(stem, base)]


@variant(2, 1.2)
def two_ring_topped(h: Hand) -> list[Stroke]:
    """The head nearly a ring, the base a small loop, a wave, or short, as with fountain pens."""
    width, height = h.u(0.18, 0.42), h.u(0.17, 0.32)
    head = arc((0, height), (width, height), h.u(70, 180), h.u(210, 300), 9)
    foot = (-width * h.u(0.2, 1.2), h.u(0.88, 1.0))
    neck = between(head[-1], foot, h.u(0.35, 0.6))
    loop = h.p(0.6) * h.u(0.03, 0.16)
    middle = (foot[0] + (width - foot[0]) * h.u(0.3, 0.5), foot[1] - h.u(-0.03, 0.06) - loop / 2)
    end = (width * h.u(0.3, 1.6), h.u(0.86, 1.06))
    back = (foot[0] + loop * 0.3, foot[1] - loop)
    return [h.curve(*head, (neck[0] + h.u(0, 0.08), neck[1]), foot, back, middle, end)]


# 3


def belly(h: Hand, width: Number, hook: float = 0.15) -> list[Point]:
    """The lower bow of a 3 or a 5, from its right side to its left end."""
    end = (-width * h.u(0.4, 1.3), 1 - h.u(-0.04, 0.22))
    curl = h.p(hook)
    last = (end[0] + curl * h.u(-0.02, 0.1), end[1] - curl * h.u(0.04, 0.15))
    return [(width * h.u(0.8, 1.15), h.u(0.62, 0.8)), (h.n(0.08), 1 + h.n(0.02)), end, last]


@variant(3, 3)
def three(h: Hand) -> list[Stroke]:
    width = h.u(0.2, 0.5)
    waist = (width * h.u(-0.5, 0.3), h.u(0.36, 0.54))
    top = [
        (-width * h.u(0.4, 1.2), h.u(0.02, 0.25)),
        (h.n(0.08), h.n(0.02)),
        (width * h.u(0.4, 1), h.u(0.13, 0.27)),
        waist,
    ]
    low = belly(h, width)
    shoulder = (0.4 * waist[0] + 0.6 * low[0][0], waist[1] + h.u(0, 0.08))
    return [corner(h.curve(*top), h.curve(waist, shoulder, *low))]


@variant(3, 2)
def three_flat_top(h: Hand) -> list[Stroke]:
    width = h.u(0.2, 0.5)
    waist = (width * h.u(-0.6, 0.3), h.u(0.32, 0.5))
    a, b = (-width * h.u(0.5, 1.2), h.u(-0.03, 0.12)), (width * h.u(0.4, 1.1), h.u(-0.08, 0.1))
    low = belly(h, width)
    shoulder = (0.4 * waist[0] + 0.6 * low[0][0], waist[1] + h.u(-0.02, 0.07))
    return [corner(h.line(a, b), h.line(b, waist), h.curve(waist, shoulder, *low))]


@variant(3, 1.5)
def three_looped_waist(h: Hand) -> list[Stroke]:
    width, loop = h.u(0.2, 0.5), h.u(0.04, 0.16)
    x, y = width * h.u(-0.4, 0.2), h.u(0.38, 0.52)
    return [
        h.curve(
            (-width * h.u(0.4, 1.1), h.u(0.0, 0.22)),
            (h.n(0.06), h.n(0.02)),
            (width * h.u(0.5, 1), h.u(0.15, 0.25)),
            (x + 0.02, y - 0.02),
            (x - loop, y + h.n(0.02)),
            (x - loop * 0.5, y + loop * 0.6),
            (x + loop * 1.2, y + loop * 0.2),
            *belly(h, width),
        )
    ]


@variant(3, 1)
def three_soft(h: Hand) -> list[Stroke]:
    """The waist is a bend, not a corner."""
    width = h.u(0.2, 0.5)
    low = belly(h, width)
    return [
        h.curve(
            (-width * h.u(0.3, 1.1), h.u(0.03, 0.25)),
            (h.n(0.08), h.n(0.02)),
            (width * h.u(0.5, 1), h.u(0.13, 0.27)),
            (width * h.u(0, 0.5), h.u(0.38, 0.5)),
            *low,
        )
    ]


@variant(3, 1)
def three_hooked(h: Hand) -> list[Stroke]:
    """A stroke down at the left of the top, as in a 5, or a serif."""
    width = h.u(0.15, 0.45)
    a, b = (-width * h.u(0.3, 1), h.u(-0.06, 0.06)), (width * h.u(0.4, 1), h.u(-0.05, 0.1))
    waist = (width * h.u(-0.5, 0.3), h.u(0.34, 0.5))
    low = belly(h, width)
    serif = h.line((a[0] + h.u(-0.06, 0.06), a[1] + h.u(0.08, 0.26)), a)
    shoulder = (0.4 * waist[0] + 0.6 * low[0][0], waist[1] + h.u(-0.02, 0.07))
    return [corner(serif, h.line(a, b), h.line(b, waist), h.curve(waist, shoulder, *low))]


@variant(3, 0.8)
def three_nearly_closed(h: Hand) -> list[Stroke]:
    """Both bows come far round to the left."""
    width = h.u(0.25, 0.5)
    waist = (width * h.u(-0.3, 0.3), h.u(0.4, 0.52))
    upper = arc(
        (0, waist[1] / 2), (width * h.u(0.6, 0.95), waist[1] / 2), h.u(-220, -180), h.u(235, 275), 7
    )
    lower = arc(
        (0, 0.5 + waist[1] / 2), (width, 0.5 - waist[1] / 2), h.u(-70, -40), h.u(220, 265), 7
    )
    return [corner(h.curve(*upper, waist), h.curve(waist, *lower))]


@variant(3, 0.8)
def three_second_bow_wider(h: Hand) -> list[Stroke]:
    """A small, pointed top over a wide or deep bow."""
    width, small = h.u(0.2, 0.5), h.u(0.08, 0.25)
    y = h.u(0.25, 0.42)
    top = h.curve(
        (-small * h.u(0.5, 1.5), h.u(-0.05, 0.12)),
        (small, h.u(-0.05, 0.1)),
        (-small * h.u(0, 1), y),
    )
    return [
        corner(
            top, h.curve((-small * 0.5, y), (width * 0.5, y + h.u(-0.02, 0.08)), *belly(h, width))
        )
    ]


# 4


@variant(4, 2)
def four_open(h: Hand) -> list[Stroke]:
    width, bar = h.u(0.25, 0.55), h.u(0.48, 0.72)
    a, c = (width * h.u(-0.9, 0.4), h.u(-0.05, 0.15)), (-width, bar)
    e, stem = (width * h.u(0.7, 1.4), bar + h.u(-0.14, 0.08)), width * h.u(0.1, 0.7)
    down = h.line((stem + h.u(-0.02, 0.14), h.u(-0.05, 0.5)), (stem - h.u(-0.03, 0.18), 1))
    return [corner(h.line(a, c), h.line(c, e)), down]


@variant(4, 2.0)
def four_closed(h: Hand) -> list[Stroke]:
    width, bar = h.u(0.25, 0.55), h.u(0.5, 0.74)
    stem = width * h.u(0, 0.6)
    c, e = (-width, bar), (width * h.u(0.7, 1.4), bar + h.u(-0.06, 0.06))
    first = corner(h.line((stem, 0), c), h.line(c, e))
    return [first, h.line((stem + h.u(-0.06, 0.06), h.u(-0.06, 0.1)), (stem + h.n(0.05), 1))]


@variant(4, 1.0)
def four_cup(h: Hand) -> list[Stroke]:
    """As an h upside down or a y with a straight stem: a cup and a stem to its right."""
    width, bar = h.u(0.2, 0.45), h.u(0.42, 0.7)
    a = (-width + h.u(-0.08, 0.2), h.u(-0.05, 0.12))
    stem = width * h.u(0.5, 1)
    cup = h.curve(
        a,
        (-width + h.n(0.03), bar * 0.6),
        (-width * h.u(0.6, 0.95), bar),
        (0, bar + h.u(-0.06, 0.08)),
        (stem, bar - h.u(-0.02, 0.16)),
    )
    return [cup, h.line((stem + h.u(-0.05, 0.12), h.u(-0.05, 0.3)), (stem - h.u(-0.08, 0.25), 1))]


@variant(4, 0.8)
def four_lightning(h: Hand) -> list[Stroke]:
    """In one go: down, to the right and up a little, down."""
    width, bar = h.u(0.25, 0.55), h.u(0.42, 0.72)
    a, c = (width * h.u(0.1, 1.1), h.u(-0.03, 0.1)), (-width, bar)
    e = (width * h.u(0.4, 1.2), bar + h.u(-0.25, 0.03))
    return [corner(h.line(a, c), h.line(c, e), h.line(e, (width * h.u(-0.4, 0.7), 1)))]


@variant(4, 0.4)
def four_rounded_lightning(h: Hand) -> list[Stroke]:
    width, bar = h.u(0.2, 0.5), h.u(0.45, 0.7)
    a, e = (width * h.u(0, 1.1), h.u(-0.05, 0.12)), (width * h.u(0.5, 1.1), bar + h.u(-0.25, 0.02))
    foot = (width * h.u(-0.4, 0.9), 1)
    first = h.curve(
        a,
        (-width * h.u(0.3, 0.7), h.u(0.15, 0.3)),
        (-width, bar - h.u(0.02, 0.14)),
        (-width * h.u(0.5, 0.85), bar + h.u(-0.01, 0.06)),
        (width * 0.3, (bar + e[1]) / 2),
        e,
    )
    return [corner(first, h.line(e, foot))]


@variant(4, 2)
def four_short_stem(h: Hand) -> list[Stroke]:
    """A long first stroke, a low bar, and a short stem across it: German and Austrian."""
    width, bar = h.u(0.2, 0.5), h.u(0.55, 0.85)
    a, c = (width * h.u(-0.5, 0.8), h.u(-0.05, 0.05)), (-width * h.u(0.6, 1), bar)
    e = (width * h.u(0.8, 1.9), bar + h.u(-0.16, 0.06))
    x, above = width * h.u(0.1, 1), h.u(0.08, 0.38)
    stem = h.line((x + h.u(-0.03, 0.1), bar - above), (x - h.u(-0.05, 0.12), bar + h.u(0.15, 0.45)))
    return [corner(h.line(a, c), h.line(c, e)), stem]


@variant(4, 1)
def four_soft_elbow(h: Hand) -> list[Stroke]:
    """The first stroke turns into the bar without a corner; the stem may curl at its foot."""
    width, bar = h.u(0.2, 0.5), h.u(0.48, 0.8)
    a, e = (
        (width * h.u(-0.6, 0.8), h.u(-0.05, 0.08)),
        (width * h.u(0.7, 1.6), bar + h.u(-0.14, 0.06)),
    )
    first = h.curve(
        a,
        (-width * h.u(0.5, 0.9), bar * 0.6),
        (-width * 0.9, bar - 0.04),
        (0, bar + h.u(-0.04, 0.05)),
        e,
    )
    x, foot = width * h.u(0.1, 0.9), h.u(-0.05, 0.12)
    curl = h.p(0.25) * h.u(0.05, 0.25)
    stem = h.curve(
        (x + h.u(-0.04, 0.12), bar - h.u(0.1, 0.5)),
        (x - foot / 2, bar + 0.1),
        (x - foot, 0.98),
        (x - foot - curl, 1 - curl / 4),
    )
    return [first, stem]


@variant(4, 1.5)
def four_narrow_low(h: Hand) -> list[Stroke]:
    """Narrow; the bar near the base line, and a short stem from its right half."""
    width, bar = h.u(0.1, 0.3), h.u(0.66, 0.95)
    a, c = (width * h.u(-0.4, 1), h.u(-0.05, 0.05)), (-width * h.u(0.5, 1), bar)
    e = (width * h.u(0.7, 1.9), bar + h.u(-0.22, 0.04))
    x, above = width * h.u(0.3, 1.1), h.u(0.1, 0.4)
    stem = h.line((x + h.u(-0.03, 0.08), bar - above), (x - h.u(-0.04, 0.1), h.u(0.98, 1.2)))
    return [h.curve(a, between(a, c, 0.6), c, between(c, e), e), stem]


@variant(4, 0.4)
def four_round(h: Hand) -> list[Stroke]:
    """A bow that closes over the stem, as in a phi or a g."""
    width, bar = h.u(0.25, 0.5), h.u(0.5, 0.72)
    stem = width * h.u(-0.1, 0.5)
    bow = h.curve(
        (-width * h.u(0.2, 0.8), h.u(-0.05, 0.15)),
        (-width, bar * 0.5),
        (-width * h.u(0.6, 0.9), bar * 0.95),
        (stem, bar + h.u(-0.03, 0.05)),
        (width * h.u(0.8, 1.2), bar - h.u(0.02, 0.2)),
        (width * h.u(0.6, 1.1), h.u(0.1, 0.35)),
        (stem + 0.02, h.u(0, 0.2)),
    )
    return [bow, h.line((stem + h.u(-0.02, 0.08), h.u(-0.05, 0.3)), (stem - h.u(-0.05, 0.2), 1))]


# 5


@variant(5, 2.5)
def five(h: Hand) -> list[Stroke]:
    """In one stroke, from the right end of the bar."""
    width = h.u(0.2, 0.5)
    bar, left = (width * h.u(0.4, 1.8), h.u(-0.12, 0.1)), (-width * h.u(0.4, 0.9), h.u(0, 0.06))
    waist = (left[0] + h.u(-0.1, 0.04), h.u(0.34, 0.5))
    low = belly(h, width)
    return [
        corner(
            h.line(bar, left),
            h.line(left, waist),
            h.curve(waist, (h.n(0.06), waist[1] - h.u(-0.02, 0.1)), *low),
        )
    ]


@variant(5, 1)
def five_like_s(h: Hand) -> list[Stroke]:
    width = h.u(0.2, 0.5)
    left, y = -width * h.u(0.4, 0.9), h.u(0.3, 0.46)
    return [
        h.curve(
            (width * h.u(0.4, 1.7), h.u(-0.06, 0.12)),
            (left + 0.12, 0.01),
            (left - 0.02, 0.1),
            (left + h.u(-0.03, 0.06), y),
            (0, y + h.u(-0.04, 0.08)),
            *belly(h, width),
        )
    ]


@variant(5, 2.5)
def five_bar_apart(h: Hand) -> list[Stroke]:
    """The body, then the bar from where it began, touching it or not."""
    width = h.u(0.2, 0.5)
    left = (-width * h.u(0.4, 0.9), h.u(0, 0.08))
    waist = (left[0] + h.u(-0.1, 0.04), h.u(0.34, 0.5))
    bar = (left[0] + h.u(-0.08, 0.16), left[1] + h.u(-0.12, 0.06))
    body = h.curve(waist, (h.n(0.06), waist[1] - h.u(-0.02, 0.1)), *belly(h, width))
    end = (width * h.u(0.5, 1.9), bar[1] + h.u(-0.2, 0.08))
    return [corner(h.line(left, waist), body), h.line(bar, end)]


@variant(5, 1.5)
def five_soft_body(h: Hand) -> list[Stroke]:
    """No corner between stem and bow."""
    width = h.u(0.15, 0.5)
    left = (-width * h.u(0.1, 0.9), h.u(0, 0.08))
    body = h.curve(
        left,
        (left[0] - h.u(-0.02, 0.06), h.u(0.25, 0.4)),
        (width * h.u(-0.2, 0.3), h.u(0.34, 0.5)),
        *belly(h, width),
    )
    bar = (left[0] + h.u(-0.25, 0.12), left[1] + h.u(-0.08, 0.05))
    return [body, h.line(bar, (width * h.u(0.5, 1.9), bar[1] + h.u(-0.2, 0.1)))]


@variant(5, 0.8)
def five_small_belly(h: Hand) -> list[Stroke]:
    """A long stem and a flat bow, or a bow that hardly bulges."""
    width = h.u(0.1, 0.4)
    left = (-width * h.u(0.1, 0.9), h.u(0, 0.06))
    waist = (left[0] + h.u(-0.08, 0.05), h.u(0.3, 0.62))
    low = [
        (width * h.u(0.3, 1), h.u(0.66, 0.85)),
        (h.n(0.06), 1),
        (-width * h.u(0.4, 1.6), 1 - h.u(-0.03, 0.15)),
    ]
    bar = h.line(
        (left[0] + h.u(-0.1, 0.1), left[1] + h.u(-0.08, 0.03)),
        (width * h.u(0.5, 2.2), h.u(-0.16, 0.1)),
    )
    return [corner(h.line(left, waist), h.curve(waist, *low)), bar]


@variant(5, 0.3)
def five_closed_belly(h: Hand) -> list[Stroke]:
    """The bow comes round to the stem; the bar rises steeply."""
    width = h.u(0.2, 0.42)
    left, y = (-width * h.u(0.3, 0.9), h.u(0, 0.08)), h.u(0.36, 0.5)
    bow = arc((0, (1 + y) / 2), (width, (1 - y) / 2), h.u(-170, -120), h.u(230, 310), 8)
    bar = h.line((left[0] + h.u(-0.05, 0.08), left[1]), (width * h.u(0.6, 2), h.u(-0.35, 0)))
    return [corner(h.line(left, bow[0]), h.curve(*bow)), bar]


@variant(5, 0.7)
def five_like_root(h: Hand) -> list[Stroke]:
    """As a root sign or an r: a hook or none, the stem upwards, a long bar."""
    foot = (h.u(-0.2, 0.1), 1.0)
    top = (foot[0] + h.u(0, 0.35), h.u(0, 0.12))
    hook = (foot[0] - h.u(0.02, 0.35), h.u(0.45, 0.95))
    bar = (top[0] + h.u(0.25, 0.9), top[1] + h.u(-0.15, 0.08))
    return [corner(h.line(hook, foot, 0.04), h.line(foot, top, 0.04), h.line(top, bar, 0.05))]


# 6


@variant(6, 3)
def six(h: Hand) -> list[Stroke]:
    width, height = h.u(0.2, 0.42), h.u(0.16, 0.34)
    low = 1 - height
    start = (h.u(-0.1, 0.5), h.u(-0.05, 0.05))
    loop = arc((0, low), (width, height), 180 + h.u(-10, 10), -h.u(290, 400), 9, h.u(0.65, 1))
    middle = ((start[0] - width) / 2 - h.u(0, 0.08), h.u(0.2, 0.3))
    return [h.curve(start, middle, (-width - h.u(-0.02, 0.06), low - h.u(0.12, 0.25)), *loop)]


@variant(6, 1.5)
def six_straight_back(h: Hand) -> list[Stroke]:
    width, height = h.u(0.12, 0.4), h.u(0.12, 0.3)
    low = 1 - height
    loop = arc((0, low), (width, height), 180 + h.u(-10, 10), -h.u(280, 400), 9, h.u(0.65, 1.05))
    return [h.curve((h.u(-0.25, 0.4), 0), (-width * h.u(0.5, 1.05), h.u(0.3, 0.5)), *loop)]


@variant(6, 0.8)
def six_open(h: Hand) -> list[Stroke]:
    """The ring does not close, or is a mere hook."""
    width, height = h.u(0.15, 0.4), h.u(0.13, 0.3)
    low = 1 - height
    loop = arc((0, low), (width, height), 170, -h.u(190, 300), 7, h.u(0.7, 1.1))
    return [h.curve((h.u(-0.15, 0.45), 0), (-width * h.u(0.5, 1.1), h.u(0.25, 0.5)), *loop)]


@variant(6, 0.7)
def six_hooked(h: Hand) -> list[Stroke]:
    """The back starts with a hook at the top."""
    width, height = h.u(0.2, 0.4), h.u(0.15, 0.3)
    low, start = 1 - height, (h.u(0, 0.4), h.u(-0.03, 0.05))
    loop = arc((0, low), (width, height), 185, -h.u(300, 390), 9, h.u(0.7, 1))
    hook = (start[0] + h.u(0.05, 0.2), start[1] + h.u(0.03, 0.2))
    return [h.curve(hook, start, (-width * 0.75, h.u(0.15, 0.3)), (-width, low - 0.15), *loop)]


@variant(6, 0.7)
def six_wide_ring(h: Hand) -> list[Stroke]:
    """The ring is nearly all of it."""
    width, height = h.u(0.35, 0.6), h.u(0.3, 0.42)
    loop = arc((0, 1 - height), (width, height), 200, -h.u(290, 380), 9, h.u(0.75, 1))
    return [h.curve((h.u(-0.1, 0.5), h.u(-0.03, 0.1)), (-width * 0.7, h.u(0.2, 0.35)), *loop)]


# 7


def roof(h: Hand, width: Number) -> tuple[Point, Point, Point]:
    """Left and right end of the 7's first stroke, and the foot of the second."""
    a = (-width, h.u(-0.02, 0.1))
    b = (width * h.u(0.7, 1.1), a[1] + h.u(-0.3, 0.2) * width)
    return a, b, (np.minimum(-width * h.u(-0.5, 0.9), b[0] - h.u(0.02, 0.2)), 1.0)


def crossbar(h: Hand, b: Point, foot: Point) -> Stroke:
    y = h.u(0.36, 0.66)
    x = b[0] + (y - b[1]) / (1 - b[1]) * (foot[0] - b[0])
    tilt = h.u(-0.2, 0.13)
    return h.line((x - h.u(0.1, 0.45), y - tilt / 2), (x + h.u(0.1, 0.45), y + tilt / 2))


@variant(7, 1.5)
def seven(h: Hand) -> list[Stroke]:
    a, b, foot = roof(h, h.u(0.2, 0.5))
    return [corner(h.line(a, b), h.line(b, foot, 0.04))]


@variant(7, 2.5)
def seven_barred(h: Hand) -> list[Stroke]:
    a, b, foot = roof(h, h.u(0.15, 0.5))
    return [corner(h.line(a, b), h.line(b, foot, 0.04)), crossbar(h, b, foot)]


@variant(7, 2)
def seven_serif(h: Hand) -> list[Stroke]:
    """The roof starts with a short stroke, up to it or down to it."""
    a, b, foot = roof(h, h.u(0.2, 0.5))
    serif = (a[0] + h.u(-0.1, 0.06), a[1] + np.where(h.p(0.75), h.u(0.06, 0.3), -h.u(0.04, 0.18)))
    body = corner(h.line(serif, a), h.line(a, b), h.line(b, foot, 0.04))
    return [body, h.maybe(0.6, crossbar(h, b, foot))]


@variant(7, 1.5)
def seven_wavy(h: Hand) -> list[Stroke]:
    """A roof that is a wave, and often a bar."""
    width = h.u(0.2, 0.5)
    a, b, foot = roof(h, width)
    start = (a[0] + h.u(-0.03, 0.06), a[1] + h.u(0.02, 0.2))
    wave = h.curve(
        start, (a[0] + 0.25 * width, a[1] - h.u(0, 0.08)), (0.2 * width, a[1] + h.u(-0.02, 0.12)), b
    )
    return [corner(wave, h.line(b, foot, 0.05)), h.maybe(0.6, crossbar(h, b, foot))]


@variant(7, 1.5)
def seven_round(h: Hand) -> list[Stroke]:
    """No corner between roof and stem."""
    width = h.u(0.12, 0.5)
    a, b, foot = roof(h, width)
    start = (a[0], a[1] + h.u(0, 0.22))
    shoulder = (b[0] - 0.05, b[1] + h.u(-0.03, 0.03))
    body = h.curve(
        start,
        between(a, b, 0.45),
        shoulder,
        (b[0] + h.n(0.02), b[1] + h.u(0.06, 0.14)),
        between(b, foot, 0.55),
        foot,
    )
    return [body, h.maybe(0.6, crossbar(h, b, foot))]


@variant(7, 0.7)
def seven_footed(h: Hand) -> list[Stroke]:
    a, b, foot = roof(h, h.u(0.2, 0.5))
    toe = (foot[0] + h.u(-0.2, 0.25), 1 - h.u(-0.03, 0.08))
    body = corner(h.line(a, b), h.line(b, foot, 0.05), h.line(foot, toe))
    return [body, h.maybe(0.6, crossbar(h, b, foot))]


@variant(7, 0.4)
def seven_without_lifting(h: Hand) -> list[Stroke]:
    """From the foot the pen runs on into the bar."""
    a, b, foot = roof(h, h.u(0.2, 0.5))
    y = h.u(0.4, 0.62)
    x = b[0] + y * (foot[0] - b[0])
    back = h.curve(
        foot,
        (x - h.u(0.2, 0.4), y + 0.12),
        (x - h.u(0.05, 0.2), y),
        (x + h.u(0.1, 0.4), y + h.n(0.05)),
    )
    return [corner(h.line(a, b), h.line(b, foot, 0.04), back)]


@variant(7, 0.8)
def seven_small_roof(h: Hand) -> list[Stroke]:
    """A long leaning stem, hardly a roof, and a bar."""
    a, b, foot = roof(h, h.u(0.06, 0.2))
    foot = (foot[0] - h.u(0, 0.4), foot[1])
    start = (a[0], a[1] + h.u(-0.05, 0.15))
    return [corner(h.line(start, b), h.line(b, foot, 0.04)), crossbar(h, b, foot)]


# 8


@variant(8, 4)
def eight(h: Hand) -> list[Stroke]:
    """In one stroke: an S down, and back up to where it began."""
    upper, lower, waist = h.u(0.14, 0.34), h.u(0.18, 0.44), h.u(0.38, 0.55)
    shift, side = h.n(0.06), np.where(h.p(0.8), 1, -1)
    top = [(shift + side * x * upper, y * waist) for x, y in ((0.8, 0.2), (0, 0), (-1, 0.5))]
    low = [(side * x * lower, waist + y * (1 - waist)) for x, y in ((1, 0.5), (0.1, 1), (-1, 0.5))]
    top[0] = (shift + side * upper * h.u(0.3, 1.4), waist * h.u(-0.05, 0.35))
    end = (shift + side * upper * h.u(0.4, 1.3), waist * h.u(-0.1, 0.45))
    cross = (0.3 * shift + h.n(0.03), waist + h.n(0.02))
    right = (shift + side * upper * h.u(0.7, 1), waist * 0.6)
    return [h.curve(*top, cross, *low, (h.n(0.04), waist + h.n(0.03)), right, end)]


@variant(8, 1.5)
def eight_two_rings(h: Hand) -> list[Stroke]:
    upper, lower, waist = h.u(0.12, 0.34), h.u(0.16, 0.42), h.u(0.35, 0.55)
    shift = h.n(0.05)
    a = arc((shift, waist / 2), (upper, waist / 2), h.u(0, 360), -h.u(335, 390), 9, h.u(0.9, 1.1))
    b = arc(
        (0, 0.5 + waist / 2),
        (lower, 0.5 - waist / 2),
        h.u(0, 360),
        -h.u(335, 390),
        9,
        h.u(0.9, 1.1),
    )
    return [h.curve(*a), h.curve(*b)]


@variant(8, 1)
def eight_open_top(h: Hand) -> list[Stroke]:
    """Two arms that cross above a ring, as in a gamma or a ribbon."""
    upper, lower, waist = h.u(0.15, 0.4), h.u(0.15, 0.4), h.u(0.35, 0.55)
    rest = arc((0, 0.5 + waist / 2), (lower, 0.5 - waist / 2), 200, -220, 6)
    left = (-upper * h.u(0.3, 1.2), h.u(-0.05, 0.2))
    right = (upper * h.u(0.5, 1.4), h.u(-0.05, 0.15))
    return [
        h.curve(right, (0.3 * right[0], waist * 0.6), *rest, (0.4 * left[0], waist * 0.7), left)
    ]


@variant(8, 1)
def eight_from_waist(h: Hand) -> list[Stroke]:
    """From the middle round the upper ring, then round the lower one."""
    upper, lower, waist = h.u(0.12, 0.32), h.u(0.16, 0.42), h.u(0.35, 0.55)
    side = np.where(h.p(0.5), 1, -1)
    ring1 = arc((0, waist / 2), (side * upper, waist / 2), 70, -h.u(310, 350), 8)
    ring2 = arc((0, 0.5 + waist / 2), (side * lower, 0.5 - waist / 2), -110, h.u(310, 380), 8)
    return [h.curve(*ring1, *ring2)]


@variant(8, 1)
def eight_half_closed(h: Hand) -> list[Stroke]:
    """An S with the way back left short."""
    upper, lower, waist = h.u(0.14, 0.34), h.u(0.18, 0.42), h.u(0.38, 0.54)
    top = arc((0, waist / 2), (upper, waist / 2), -h.u(20, 70), -h.u(170, 210), 6)
    low = arc((0, 0.5 + waist / 2), (lower, 0.5 - waist / 2), -40, h.u(200, 240), 7)
    return [
        h.curve(
            *top,
            (0, waist),
            *low,
            (h.n(0.06), waist + h.n(0.04)),
            (upper * h.u(0.3, 0.9), waist * h.u(0.3, 0.7)),
        )
    ]


@variant(8, 2)
def eight_flat_top(h: Hand) -> list[Stroke]:
    """The pen starts at the top left and goes to the right; the upper ring is open on the left."""
    upper, lower, waist = h.u(0.12, 0.32), h.u(0.18, 0.4), h.u(0.36, 0.52)
    start = (-upper * h.u(0.3, 1.3), h.u(-0.04, 0.2))
    low = arc((0, 0.5 + waist / 2), (lower, 0.5 - waist / 2), 240, -h.u(300, 350), 8)
    top = [start, (h.n(0.04), h.n(0.03)), (upper, waist * h.u(0.3, 0.6)), (h.n(0.04), waist)]
    end = (-upper * h.u(0.2, 1), waist * h.u(0.3, 0.8))
    return [h.curve(*top, *low, (h.n(0.04), waist + h.n(0.02)), end)]


@variant(8, 1)
def eight_open_right(h: Hand) -> list[Stroke]:
    """As an ampersand: the way back ends short of the beginning, at the top right."""
    upper, lower, waist = h.u(0.1, 0.3), h.u(0.15, 0.4), h.u(0.36, 0.54)
    top = arc((0, waist / 2), (upper, waist / 2), -h.u(0, 60), -h.u(150, 200), 6)
    low = arc((0, 0.5 + waist / 2), (lower, 0.5 - waist / 2), -50, h.u(230, 270), 8)
    end = (upper * h.u(0.5, 2), waist * h.u(0, 0.7))
    return [h.curve(*top, (0, waist), *low, (0.02, waist + h.n(0.03)), end)]


# 9


def loop_of_nine(h: Hand, width: Number, height: Number) -> list[Point]:
    """The ring of a 9, from its right side round to its right side."""
    return arc((0, height), (width, height), h.u(-70, 0), -360 + h.u(-25, 50), 9, h.u(0.85, 1.1))


@variant(9, 2)
def nine(h: Hand) -> list[Stroke]:
    width, height = h.u(0.15, 0.38), h.u(0.12, 0.3)
    foot = (width - h.u(-0.12, 0.5), 1.0)
    loop = loop_of_nine(h, width, height)
    return [h.curve(*loop, ((width + foot[0]) / 2 + h.n(0.04), 0.6), foot)]


@variant(9, 2)
def nine_hooked(h: Hand) -> list[Stroke]:
    width, height = h.u(0.15, 0.38), h.u(0.12, 0.3)
    left = (width - h.u(0.3, 0.8), 1 - h.u(-0.05, 0.2))
    return [
        h.curve(
            *loop_of_nine(h, width, height),
            (width + h.u(-0.06, 0.06), h.u(0.5, 0.68)),
            (width - h.u(0.03, 0.2), h.u(0.85, 0.95)),
            ((left[0] + width) / 2 - 0.03, 1 + h.n(0.02)),
            left,
        )
    ]


@variant(9, 2.5)
def nine_bowed(h: Hand) -> list[Stroke]:
    """The tail swings out to the right and ends in a bow: an Austrian 9."""
    width, height, bow = h.u(0.13, 0.36), h.u(0.12, 0.28), h.u(0.13, 0.42)
    waist = (width * h.u(-0.6, 1.0), 2 * height + h.u(-0.05, 0.06))
    end = (-bow * h.u(0.4, 1.5), 1 - h.u(-0.03, 0.24))
    curl = h.p(0.25)
    return [
        h.curve(
            *loop_of_nine(h, width * 0.9, height * 0.95),
            waist,
            (bow * h.u(0.7, 1.15), h.u(0.66, 0.84)),
            (h.n(0.08), 1 + h.n(0.02)),
            end,
            (end[0] + curl * h.u(-0.03, 0.1), end[1] - curl * h.u(0.05, 0.18)),
        )
    ]


@variant(9, 0.7)
def nine_looped_tail(h: Hand) -> list[Stroke]:
    """As a g."""
    width, height, bow = h.u(0.15, 0.36), h.u(0.12, 0.26), h.u(0.1, 0.28)
    return [
        h.curve(
            *loop_of_nine(h, width, height),
            (width, h.u(0.55, 0.65)),
            (width - h.u(0.02, 0.1), h.u(0.82, 0.92)),
            (width - bow, 1),
            (width - 2 * bow, h.u(0.83, 0.93)),
            (width - bow, h.u(0.66, 0.8)),
            (width + h.u(-0.1, 0.25), h.u(0.55, 0.72)),
        )
    ]


@variant(9, 1)
def nine_ring_and_stem(h: Hand) -> list[Stroke]:
    width, height = h.u(0.15, 0.36), h.u(0.13, 0.3)
    loop = h.curve(*arc((0, height), (width, height), h.u(-90, 20), -h.u(320, 390), 9))
    foot = (width - h.u(-0.1, 0.4), 1)
    top = (width + h.u(-0.05, 0.08), h.u(-0.06, 0.2))
    return [loop, h.line(top, foot, 0.05)]


@variant(9, 1.2)
def nine_cup(h: Hand) -> list[Stroke]:
    """The ring is open at the top, as in a y; the tail is curved."""
    width, height = h.u(0.15, 0.36), h.u(0.15, 0.28)
    a, b = (-width * h.u(0.4, 1.1), h.u(-0.05, 0.1)), (width * h.u(0.8, 1.15), h.u(-0.05, 0.12))
    cup = h.curve(
        a,
        (-width, height * 1.1),
        (-width * 0.3, 2 * height + h.u(-0.03, 0.04)),
        (width * 0.6, height * 1.5),
        b,
    )
    hook = h.u(0, 0.5)
    tail = h.curve(
        b,
        (width + h.n(0.04), 0.5),
        (width - h.u(0, 0.14), 0.82),
        (width - 0.12 - 0.3 * hook, 1),
        (width - 0.2 - hook, 1 - h.u(-0.02, 0.18) * hook),
    )
    return [corner(cup, tail)]


@variant(9, 1)
def nine_spiral(h: Hand) -> list[Stroke]:
    """Begun within the ring or at its stem, once round and down."""
    width, height = h.u(0.15, 0.36), h.u(0.13, 0.28)
    loop = arc(
        (0, height), (0.75 * width, 0.75 * height), h.u(-30, 80), -h.u(340, 420), 10, h.u(1.1, 1.6)
    )
    bow = h.u(0, 0.5)
    return [
        h.curve(
            *loop,
            (width * h.u(0.7, 1.1), 2 * height + 0.05),
            (width - h.u(-0.1, 0.15), 0.75),
            (width - 0.1 - 0.4 * bow, 1 + h.n(0.02)),
            (width - 0.15 - bow, 1 - h.u(-0.03, 0.25) * bow),
        )
    ]


@variant(9, 0.8)
def nine_tail_from_left(h: Hand) -> list[Stroke]:
    """As a rho or a mirrored P: the tail leaves the ring on the left or below."""
    width, height = h.u(0.15, 0.36), h.u(0.13, 0.3)
    start = h.u(60, 190)
    loop = arc((0, height), (width, height), start, np.where(h.p(0.5), 1, -1) * h.u(335, 390), 10)
    foot = (loop[0][0] + h.u(-0.3, 0.4), 1.0)
    hook = h.p(0.4) * h.u(0.05, 0.35)
    return [
        h.curve(
            *loop,
            ((loop[-1][0] + foot[0]) / 2 + h.n(0.05), 0.65),
            foot,
            (foot[0] - hook, 1 - hook * h.u(0, 0.5)),
        )
    ]


@variant(9, 0.7)
def nine_hardly_closed(h: Hand) -> list[Stroke]:
    """As a question mark: of the ring only the top and a hook on the left."""
    width, height = h.u(0.15, 0.35), h.u(0.14, 0.28)
    start = (width * h.u(-0.5, 0.6), 2 * height + h.u(-0.12, 0.04))
    foot = (width - h.u(-0.1, 0.4), 1.0)
    loop = arc((0, height), (width, height), h.u(120, 190), h.u(170, 230), 7)
    return [h.curve(start, *loop, ((width + foot[0]) / 2 + h.n(0.05), 0.6), foot)]


def variants(digit: int) -> list[Variant]:
    """The ways in which a digit is written."""
    return [function for _, function in VARIANTS[digit]]


def make(count: int, seed: int, style: Style | None = None) -> Split:
    """Draws digits, about as many of each, in random order.

    The same count and seed give the same pictures.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    images = np.empty((count, FIELD, FIELD), np.uint8)
    for digit, choices in enumerate(VARIANTS):
        weights = np.array([weight for weight, _ in choices])
        mine = np.flatnonzero(labels == digit)
        ways = generator.choice(len(choices), len(mine), p=weights / weights.sum())
        for way, (_, function) in enumerate(choices):
            chosen = mine[ways == way]
            if len(chosen):
                hand = Hand(len(chosen), generator)
                images[chosen] = draw(function(hand), style or Style(), hand)
    return Split(images, labels)
