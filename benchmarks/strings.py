"""Strings of MNIST test digits, by length, digits apart or touching: whole strings right.

    python benchmarks/strings.py [--weights DIR] [--count N] [--seed N]

Digits stand side by side on white, each pair one to six pixels of MNIST apart; with touching pairs,
one pair in three touches or overlaps by a pixel.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet import data
from lenet.reading.reader import Reader
from lenet.tables import table

LENGTHS = (2, 4, 6, 8, 10)


def string(images: NDArray[np.uint8], touching: bool, generator: np.random.Generator):
    """A picture of the digits in a row."""
    field = np.zeros((28 + 16, 30 * len(images) + 24), np.uint8)
    right = np.full(28, 10)  # end of the ink so far, by row
    for n, image in enumerate(images):
        inked = image > 60
        rows = np.flatnonzero(inked.any(1))
        left = inked.argmax(1)
        apart = generator.integers(1, 7)
        if n and touching and generator.random() < 1 / 3:
            apart = -generator.integers(0, 2)
        near = [right[max(0, r - 2) : r + 3].max() - left[r] for r in rows]
        x = max(0, int(max(near)) + int(apart))
        part = field[8:36, x : x + 28]
        np.maximum(part, image[:, : part.shape[1]], out=part)
        ends = x + 28 - inked[:, ::-1].argmax(1)
        right[rows] = np.maximum(right[rows], ends[rows])
        right[:] = np.maximum(right, x + 2)
    return 255 - field[:, : right.max() + 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    reader, rows = Reader(arguments.weights), []
    test = data.load("mnist").test
    for touching in (False, True):
        row = ["touching pairs" if touching else "apart"]
        for length in LENGTHS:
            generator = np.random.default_rng(arguments.seed)
            right = 0
            for _ in range(arguments.count):
                chosen = generator.integers(0, len(test.labels), length)
                picture = string(test.images[chosen], touching, generator)
                text = "".join(number.text for number in reader.read(picture).numbers)
                right += text == "".join(map(str, test.labels[chosen]))
            row.append(f"{100 * right / arguments.count:.1f}")
        rows.append(row)
    print(table("Whole strings right, %", ["digits", *map(str, LENGTHS)], rows))


if __name__ == "__main__":
    main()
