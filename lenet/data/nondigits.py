"""What is no digit: letters, words, signs, shapes, scribbles, several digits, textures, noise.

Everything is drawn, as digits are in `lenet.data.strokes`, fitted into MNIST's box and centred.
A network that learns from them beside the digits can say that a picture shows none.
"""

import itertools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.pen import FIELD, Hand, Stroke, Style, centred, corner, draw, fit_box

# Strokes on a grid, 4 wide and 8 high: places are pairs of digits, x and y. Points of a stroke
# that starts with ~ are joined smoothly, others by straight lines. Letters that are written like a
# digit are not here: O o I l i Z z S s b g q y.
LETTERS: dict[str, str] = {
    "A": "08 20 48, 15 35",
    "B": "00 08, ~00 31 32 04, ~04 35 37 08",
    "C": "~41 20 02 06 28 47",
    "D": "00 08, ~00 32 36 08",
    "E": "40 00 08 48, 04 34",
    "F": "40 00 08, 04 34",
    "G": "~41 20 02 06 28 47 45, 25 45",
    "H": "00 08, 40 48, 04 44",
    "J": "~40 46 28 07, 20 40",
    "K": "00 08, 40 04 48",
    "L": "00 08 48",
    "M": "08 00 25 40 48",
    "N": "08 00 48 40",
    "P": "08 00, ~00 31 33 04",
    "Q": "~20 03 06 28 46 42 20, 25 48",
    "R": "08 00, ~00 31 33 04, 14 48",
    "T": "00 40, 20 28",
    "U": "~00 06 28 46 40",
    "V": "00 28 40",
    "W": "00 18 22 38 40",
    "X": "00 48, 40 08",
    "Y": "00 24 40, 24 28",
    "a": "~44 24 06 28 46 44, ~44 47 58",
    "c": "~43 23 06 28 47",
    "d": "~44 24 06 28 46, 40 48",
    "e": "~06 45 33 14 06 28 47",
    "f": "~40 20 12 18, 03 33",
    "h": "00 08, ~05 24 45 48",
    "j": "~34 37 19, 32 32",
    "k": "00 08, 33 05 38",
    "m": "04 08, ~05 14 25 28, ~25 34 45 48",
    "n": "04 08, ~05 24 45 48",
    "p": "04 0:, ~04 34 46 28 07",
    "r": "04 08, ~06 14 34",
    "t": "~20 27 38 47, 03 43",
    "u": "~04 07 28 46, 44 48",
    "v": "04 28 44",
    "w": "04 18 24 38 44",
    "x": "04 48, 44 08",
    "ss": "~08 01 20 32 24 45 37 18",
    "and": "~48 12 20 31 05 17 38 45",
    "at": "~35 25 16 27 35 36 46 43 20 03 06 28 47",
    "number": "10 08, 30 28, 03 43, 05 45",
    "percent": "40 08, ~10 01 12 21 10, ~37 26 37 48 37",
    "question": "~01 20 42 24 25, 27 28",
    "plus": "04 44, 22 26",
    "equals": "03 43, 05 45",
    "minus": "04 44",
    "less": "41 04 47",
    "greater": "01 44 07",
    "star": "20 28, 02 46, 42 06",
    "euro": "~41 20 03 05 28 47, 03 33, 05 35",
    "tick": "05 18 40",
    "bracket": "~20 02 06 28",
    "brace": "~20 12 14 04 16 28",
    "square": "00 40 48 08 00",
    "triangle": "20 48 08 20",
    "rhombus": "20 44 28 04 20",
    "house": "08 03 20 43 48 08",
    "arrow": "04 44, 22 44 26",
    "grid": "10 18, 30 38, 02 42, 06 46",
    "table": "00 40 48 08 00, 04 44, 20 28",
    "crossed": "00 40 48 08 00, 00 48, 08 40",
    "heart": "~28 03 10 22 30 43 28",
    "smile": "~20 03 06 28 46 42 20, 12 13, 32 33, ~15 26 35",
    "zigzag": "08 10 18 20 28 30 38",
    "spring": "~02 20 25 12 20 42 45 32 40",
}
LOOSE = Style(aspect=0.25, slant=0.15, turn=6.0, tremor=0.01, pen=(2.4, 0.35))


def sign(hand: Hand, name: str, left: float = 0.0) -> list[Stroke]:
    """The strokes of a letter or sign, 0.5 wide and 1 high, whose left edge is at `left`."""
    strokes = []
    for text in LETTERS[name].split(", "):
        smooth = text.startswith("~")
        places = [
            (left + (ord(x) - ord("0")) / 8, (ord(y) - ord("0")) / 8)
            for x, y in text.lstrip("~").split()
        ]
        if smooth:
            strokes.append(hand.curve(*places))
        else:
            pairs = itertools.pairwise(places)
            strokes.append(corner(*(hand.line(a, b, 0.015) for a, b in pairs)))
    return strokes


def letters(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Single letters and signs."""
    return in_groups(count, generator, lambda hand, name: sign(hand, name[0]), 1)


def words(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Two or three letters beside each other."""
    halves = count // 2, count - count // 2
    return np.concatenate(
        [
            in_groups(
                part,
                generator,
                lambda hand, names: [
                    stroke for i, name in enumerate(names) for stroke in sign(hand, name, 0.62 * i)
                ],
                length,
            )
            for part, length in zip(halves, (2, 3), strict=True)
        ]
    )


def in_groups(
    count: int,
    generator: np.random.Generator,
    strokes: Callable[[Hand, tuple[str, ...]], list[Stroke]],
    length: int,
) -> NDArray[np.uint8]:
    """Pictures of random choices of `length` signs, 32 pictures of each choice."""
    names = list(LETTERS)
    images = []
    for start in range(0, count, 32):
        hand = Hand(min(32, count - start), generator)
        chosen = tuple(names[i] for i in generator.integers(0, len(names), length))
        images.append(draw(strokes(hand, chosen), LOOSE, hand))
    return np.concatenate([np.empty((0, FIELD, FIELD), np.uint8), *images])


def scribbles(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Curves through random points, or hatching to and fro."""
    images = []
    for start in range(0, count, 32):
        hand = Hand(min(32, count - start), generator)
        points = int(generator.integers(5, 16))
        if generator.random() < 0.7:
            path = [(hand.u(0, 1), hand.u(0, 1)) for _ in range(points)]
        else:
            path = [
                (i / points + hand.u(-0.1, 0.1), i % 2 + hand.u(-0.2, 0.2)) for i in range(points)
            ]
        images.append(draw([hand.curve(*path)], LOOSE, hand))
    return np.concatenate([np.empty((0, FIELD, FIELD), np.uint8), *images])


def several(
    count: int, generator: np.random.Generator, digits: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Two to four digits beside each other, touching or not."""
    pictures = []
    for _ in range(count):
        chosen = digits[generator.integers(0, len(digits), generator.choice((2, 2, 2, 3, 4)))]
        gap = int(generator.integers(-3, 5))
        cut = []
        for digit in chosen:
            x, _, width, _ = cv2.boundingRect(digit)
            cut.append(np.roll(digit, generator.integers(-2, 3), axis=0)[:, x : x + width])
        field = np.zeros((FIELD, sum(part.shape[1] + 5 for part in cut)), np.uint8)
        place = 0
        for part in cut:
            there = field[:, place : place + part.shape[1]]
            np.maximum(there, part, out=there)
            place = max(place + part.shape[1] + gap, place + 2)
        # They will be shrunk: a wider pen keeps the strokes as wide as a digit's.
        wider = int(generator.integers(1, len(chosen) + 2))
        pictures.append(fit_box(np.asarray(cv2.dilate(field, np.ones((wider, wider))), np.uint8)))
    return centred(np.stack(pictures))


def textures(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Blots and noise of all sizes, stripes, filled shapes, and empty pictures; not centred."""
    images = np.zeros((count, FIELD, FIELD), np.uint8)
    ys, xs = np.mgrid[:FIELD, :FIELD]
    for image, kind in zip(images, generator.integers(0, 6, count), strict=True):
        noise = generator.random((FIELD, FIELD), np.float32)
        if kind <= 1:  # blots: a face or a crumpled paper after thresholding
            smooth = cv2.GaussianBlur(noise, (0, 0), generator.uniform(0.6, 4))
            level = np.quantile(smooth, generator.uniform(0.3, 0.9))
            soft = (smooth - level) / max(float(smooth.std()), 1e-6) * generator.uniform(100, 2000)
            image[:] = np.clip(soft, 0, 255)
        elif kind == 2:  # grains
            image[:] = 255 * noise * (generator.random((FIELD, FIELD)) < generator.uniform(0.02, 1))
        elif kind == 3:  # stripes and ramps
            angle, wave = generator.uniform(0, np.pi), generator.uniform(0.05, 1.5)
            way = xs * np.cos(angle) + ys * np.sin(angle)
            image[:] = 255 * np.clip(0.5 + generator.uniform(0.5, 3) * np.sin(wave * way), 0, 1)
        elif kind == 4:  # filled shapes and thick bars
            centre, axes = (
                generator.uniform(10, 18, 2).tolist(),
                generator.uniform(4, 22, 2).tolist(),
            )
            angle = float(generator.uniform(0, 180))
            if generator.random() < 0.5:
                cv2.ellipse(image, (centre, axes, angle), 255, -1)
            else:
                corners = cv2.boxPoints((centre, axes, angle))
                cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], 255)
        elif generator.random() < 0.5:  # empty, or one shade
            image[:] = generator.integers(0, 256) if generator.random() < 0.5 else 0
        else:  # specks
            for x, y in generator.integers(2, 26, (generator.integers(1, 9), 2)):
                cv2.circle(image, (int(x), int(y)), int(generator.integers(0, 3)), 255, -1)
    return images


def make(count: int, seed: int, digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (count, 28, 28) of what is no digit, in random order.

    Args:
        count: pictures.
        seed: the same count, seed and digits give the same pictures.
        digits: uint8 (N, 28, 28), single digits of which pictures of several are made.
    """
    generator = np.random.default_rng(seed)
    shares = {"letters": 0.4, "words": 0.1, "scribbles": 0.12, "several": 0.2}
    sizes = {name: round(share * count) for name, share in shares.items()}
    images = np.concatenate(
        [
            letters(sizes["letters"], generator),
            words(sizes["words"], generator),
            scribbles(sizes["scribbles"], generator),
            several(sizes["several"], generator, digits),
            textures(count - sum(sizes.values()), generator),
        ]
    )
    return images[generator.permutation(count)]
