"""The two drawings of LeNet-5 (1998): the connections of C3, and the codes of the ten digits.

Also the groups of maps of C3 of LeNet5s, which are the columns of the first drawing.
"""

import numpy as np
from numpy.typing import NDArray

# Table I of the paper. A column is a map of C3, a row is a map of S2, X is a connection.
C3_DRAWING = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""

# Figure 3 of the paper, the ten digits: 7 pixels wide, 12 high. # is +1 (ink), . is -1.
# The bars above 0, 2, 4 and 5 are in the paper.
DIGIT_DRAWING = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""

# LeNet5s: the groups of maps of S2 that each set of kernels of C3 reads. Neighbours wrap around.
C3_PARTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "three": tuple(tuple((i + d) % 6 for d in (0, 1, 2)) for i in range(6)),
    "four": tuple(tuple((i + d) % 6 for d in (0, 1, 2, 3)) for i in range(6)),
    "gap": tuple(tuple((i + d) % 6 for d in (0, 1, 3, 4)) for i in range(3)),
    "all": ((0, 1, 2, 3, 4, 5),),
}

GLYPH_HEIGHT, GLYPH_WIDTH = 12, 7

BACKGROUND, FOREGROUND = -0.1, 1.175  # LeNet5: the input of no ink and full ink
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # LeNet5s: of pixels in 0..1, for normalisation


def c3_table() -> NDArray[np.bool_]:
    """Table I as booleans of shape (16, 6): [map of C3, map of S2]; 60 are true."""
    rows = C3_DRAWING.split()
    return np.array([[mark == "X" for mark in row] for row in rows]).T


def c3_groups() -> tuple[tuple[tuple[int, ...]], ...]:
    """Table I as the input maps of each map of C3, each a group of its own."""
    return tuple((tuple(row.nonzero()[0].tolist()),) for row in c3_table())


def digit_glyphs() -> NDArray[np.float32]:
    """The glyphs of the digits 0..9 as +1 and -1, shape (10, 12, 7)."""
    rows = [line.split() for line in DIGIT_DRAWING.strip().splitlines()]
    ink = [[[mark == "#" for mark in row[digit]] for row in rows] for digit in range(10)]
    return np.where(ink, 1, -1).astype(np.float32)


def digit_codes() -> NDArray[np.float32]:
    """The target of F6 for each digit: its glyph read row by row, shape (10, 84)."""
    return digit_glyphs().reshape(10, GLYPH_HEIGHT * GLYPH_WIDTH)
