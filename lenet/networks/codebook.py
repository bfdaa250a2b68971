"""Drawings: which maps are connected, and the codes of the ten digits of LeNet-5 (1998).

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

# LeNet1989, a guess: H2's maps see 8 of H1's 12 each, by a scheme that the paper keeps to itself.
H2_DRAWING = """
X....XXXXXXX
XX....XXXXXX
XXX....XXXXX
XXXX....XXXX
XXXXX....XXX
XXXXXX....XX
XXXXXXX....X
XXXXXXXX....
.XXXXXXXX...
..XXXXXXXX..
...XXXXXXXX.
....XXXXXXXX
"""

# LeNet1, C3, a guess. Its 20 crosses follow from the 2,578 parameters and 98,442 connections that
# were printed in 1990.
LENET1_DRAWING = """
XXX.XX......
.XXXXX......
......XXX.XX
.......XXXXX
"""

# LeNet4, C3, a guess in the manner of Table I; two neighbours read the same map of C1. 60 crosses
# make the paper's 260,000 connections.
LENET4_DRAWING = """
X.....XXX..XX..X
XX.....XX..XX.XX
XXX.....XX...XXX
.XXX....XX...X.X
..XXX....XX.X..X
...XXX...XX.X.XX
....XXX...XX.XXX
.....XXX..XX.X.X
"""

# LeNet4, C5, a guess: 15 of its 120 units; the others repeat them. 70 crosses of kernels 5x5 make
# the paper's 17,000 parameters.
LENET4_C5_DRAWING = """
X......X..X..X.
.X......X..X..X
..X...X..X..X..
X..X...X..X..X.
.X..X...X..X..X
..X..X...X..X..
X..X..X...X..X.
.X..X..X...X..X
..X..X..X...X..
X..X..X..X...X.
.X..X..X..X...X
..X..X..X..X...
...X..X..X..X..
....X..X..X..X.
.....X..X..X..X
...X..X..X..X..
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


def groups(drawing: str) -> tuple[tuple[tuple[int, ...]], ...]:
    """The input maps that each column of a drawing marks, each a group of its own."""
    columns = zip(*drawing.split(), strict=True)
    return tuple((tuple(i for i, mark in enumerate(c) if mark == "X"),) for c in columns)


def digit_glyphs() -> NDArray[np.float32]:
    """The glyphs of the digits 0..9 as +1 and -1, shape (10, 12, 7)."""
    rows = [line.split() for line in DIGIT_DRAWING.strip().splitlines()]
    ink = [[[mark == "#" for mark in row[digit]] for row in rows] for digit in range(10)]
    return np.where(ink, 1, -1).astype(np.float32)


def digit_codes() -> NDArray[np.float32]:
    """The target of F6 for each digit: its glyph read row by row, shape (10, 84)."""
    return digit_glyphs().reshape(10, GLYPH_HEIGHT * GLYPH_WIDTH)
