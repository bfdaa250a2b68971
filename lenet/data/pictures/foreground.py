"""The foreground of a photograph or scan: what stands out from the background, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures.decoding import Gray, outline, shrink

LIGHTING_SIDE = 64  # pixels; enough to tell paper, shadows and strokes apart
SURFACE_SIDE = 32  # pixels; enough for a surface with six coefficients
SURFACE_ROUNDS = 5  # of the reweighted fit; more change little
RIDGE = 1e-5 * np.eye(6, dtype=np.float32)  # keeps the fit solvable when few pixels are left
STROKE_LIMIT = 0.35  # of the side: strokes are narrower, shadows wider
NEARLY_AS_GOOD = 0.05  # difference in separation up to which a simpler guess is preferred ...
SMALL_SIDE, NEARLY_IN_SMALL = 64, 0.25  # ... and in small pictures, with little room for shadows
BORDER_BAND = 0.08  # of the side: where background is likelier than ink ...
BORDER_WEIGHT = 4.0  # ... by about this factor
MIN_LIGHT = 25  # grey levels; bounds the division by the background in black shadows
NOISE_SIGMAS = 4.0  # what exceeds the background's noise by this factor is foreground
MIN_CONTRAST = 15  # of 255, from background to full ink; less is made by JPEG and sensors
MIN_SEPARATION = 4.5  # foreground / noise; Gaussian noise above 4 sigmas is 4.2 on average


class NoDigitError(Exception):
    """There is not one digit; the message is one of `lenet.data.pictures.preprocess.REASONS`."""


@dataclass(frozen=True, eq=False)
class Foreground:
    """What stands out in a picture."""

    ink: Gray  # uint8 (height, width): 0 background, 255 farthest from it: black on white paper
    threshold: float  # of `ink`; what exceeds it is foreground
    noise: float  # standard deviation of the background, in grey levels of `ink`
    polarity: str  # "dark on light" or "light on dark"


def find_foreground(gray: Gray) -> Foreground:
    """Separates ink from background in uint8 (height, width). Raises NoDigitError if none is."""
    background, polarity = find_background(gray)
    if polarity == "light on dark":
        gray, background = 255 - gray, 255 - background
    background = np.maximum(background, MIN_LIGHT)
    ink = 255 - cv2.divide(gray, background, scale=255)
    noise = noise_level(cv2.subtract(gray, background)) * 255 / float(background.mean())
    threshold = max(otsu(ink), NOISE_SIGMAS * noise)
    if ink.max() < MIN_CONTRAST:
        raise NoDigitError("empty")
    level = cv2.mean(ink, above(ink, threshold))[0]
    if level < MIN_SEPARATION * noise:
        raise NoDigitError("not a digit")
    if level < MIN_CONTRAST:
        raise NoDigitError("empty")
    return Foreground(ink, threshold, noise, polarity)


def find_background(gray: Gray) -> tuple[Gray, str]:
    """The background's luminance, and the polarity: "dark on light" or "light on dark".

    Tries even light, smooth light and light with shadows. The best guess splits the picture most
    cleanly into two levels and leaves the least ink on the picture's outline.
    """
    small = shrink(gray, LIGHTING_SIDE)
    smooth = smooth_lighting(small)
    if cv2.norm(small, smooth, cv2.NORM_INF) < 2:  # nothing but light: no guess can do better
        return cv2.resize(smooth, gray.shape[::-1]), "dark on light"
    dark = small <= cv2.threshold(small, 0, 255, cv2.THRESH_OTSU)[0]
    guesses = [
        (np.full_like(small, commonest(small[~dark])), "dark on light"),
        (np.full_like(small, commonest(small[dark])), "light on dark"),
        (smooth, polarity_on(smooth, small)),
        without_strokes(small, smooth),
    ]
    scores = [separation(small, *guess) for guess in guesses]
    # The simplest of the guesses that are about as good as the best.
    order = (0, 1, 2, 3) if scores[0] >= scores[1] else (1, 0, 2, 3)
    margin = NEARLY_AS_GOOD
    if max(gray.shape) <= SMALL_SIDE:
        margin = NEARLY_IN_SMALL
        if on_every_side(dark) and on_every_side(~dark):  # a digit cropped to its ink
            margin = 1.0
            # A digit is in one piece, its background in several.
            pieces = [cv2.connectedComponents(m.astype(np.uint8))[0] for m in (dark, ~dark)]
            more = pieces[1] - pieces[0]
            if abs(more) > 1 or abs(scores[0] - scores[1]) < NEARLY_IN_SMALL:
                order = (0,) if more > 0 else (1,) if more < 0 else order
    best = next(n for n in order if scores[n] >= max(scores) - margin)
    background, polarity = guesses[best]
    return cv2.resize(background, gray.shape[::-1]), polarity


def on_every_side(mask: NDArray[np.bool_]) -> bool:
    """Whether it touches all four borders."""
    return all(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def commonest(values: Gray) -> int:
    """The most common grey level, about."""
    bins = values >> 3
    peak = int(np.bincount(bins).argmax())
    return int(np.median(values[abs(bins.astype(int) - peak) <= 1]))


def smooth_lighting(gray: Gray) -> Gray:
    """A quadratic surface fitted to most of the picture: a lamp on one side, a lens's vignette.

    Least absolute deviations by reweighting, with a larger weight on the border, where ink is rare;
    then least squares on what is within the noise.
    """
    small = shrink(gray, SURFACE_SIDE)
    terms = surface_terms(*small.shape)
    values = small.ravel().astype(np.float32)
    x, y = (np.abs(axis) / max(float(np.abs(axis).max()), 1e-6) for axis in terms[1:3])
    border = np.maximum(x, y) >= 1 - 2 * BORDER_BAND
    prior = np.where(border, BORDER_WEIGHT, 1.0).astype(np.float32)
    residual: NDArray[np.float32] = np.abs(values - float(np.median(values[border])))
    for _ in range(SURFACE_ROUNDS):
        weights = (prior / residual.clip(1)).astype(np.float32)
        surface = weighted_fit(terms, values, weights) @ terms
        residual = np.abs(values - surface)
    noise = max(1.4826 * float(np.median(residual)), 1.0)
    within = (residual < 3 * noise).astype(np.float32)
    surface = weighted_fit(terms, values, within) @ surface_terms(*gray.shape)
    return surface.clip(0, 255).round().astype(np.uint8).reshape(gray.shape)


@lru_cache(64)
def surface_terms(height: int, width: int) -> NDArray[np.float32]:
    """1, x, y, x^2, xy, y^2 at the pixels' centres, x and y in -1..1: (6, pixels)."""
    rows, columns = ((2 * np.arange(side) + 1) / side - 1 for side in (height, width))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    return terms.reshape(6, -1).astype(np.float32)


def weighted_fit(
    terms: NDArray[np.float32], values: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Coefficients (6,) of the surface with the least sum of weighted squares."""
    weighted = terms * weights
    return np.linalg.solve(weighted @ terms.T + RIDGE * weights.sum(), weighted @ values)


def without_strokes(gray: Gray, smooth: Gray) -> tuple[Gray, str]:
    """The paper under the ink, with its shadows, and the polarity.

    A closing fills the strokes, as all that is dark and narrower than the window, and keeps the
    edges of shadows.
    """
    difference = gray.astype(np.int16) - smooth
    around = np.sort(outline(difference))
    low, high = around[len(around) // 10], around[len(around) * 9 // 10]
    if difference.max() - high > low - difference.min():  # lighter than its outline, not darker
        return 255 - without_dark_strokes(255 - gray), "light on dark"
    return without_dark_strokes(gray), "dark on light"


def without_dark_strokes(gray: Gray) -> Gray:
    reach = round(STROKE_LIMIT * max(gray.shape) / 2)
    # Slopes continue beyond the border, so that a dark corner is not taken for ink.
    padded = np.pad(gray.astype(np.int16), reach, mode="reflect", reflect_type="odd")
    np.clip(padded, 0, gray.max(), out=padded)
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, window)[reach:-reach, reach:-reach]
    # Noise raises the closing. More than half is paper, where the least was filled.
    filled = np.sort((gray - closed).ravel())
    return np.clip(closed + filled[len(filled) * 3 // 4], 0, 255).astype(np.uint8)


def polarity_on(background: Gray, gray: Gray) -> str:
    """The polarity: whether what differs from the background is mostly darker or lighter."""
    difference = gray.astype(np.int32) - background
    limit = max(3 * 1.4826 * float(np.median(np.abs(difference))), 2.0)
    lighter = difference[difference > limit].sum()
    darker = -difference[difference < -limit].sum()
    return "light on dark" if lighter > darker else "dark on light"


def separation(gray: Gray, background: Gray, polarity: str) -> float:
    """How well a background explains a picture: 0 (ink and paper mixed) .. 1 (two levels).

    Between-class variance of the ink and the paper over the whole, less the outline's ink.
    """
    if polarity == "light on dark":
        gray, background = 255 - gray, 255 - background
    # Below 0 where the picture is lighter than the background, which is not explained either.
    paper = np.maximum(background, MIN_LIGHT)
    ink = 255 - cv2.divide(gray, paper, scale=255, dtype=cv2.CV_32F)
    marks = above(ink, otsu(np.maximum(ink, 0).astype(np.uint8))).astype(np.uint8)
    share = cv2.countNonZero(marks) / marks.size
    if not 0 < share < 1:
        return 0.0
    mean, spread = (float(value[0, 0]) for value in cv2.meanStdDev(ink))
    upper = cv2.mean(ink, marks)[0]
    clean = share / (1 - share) * (upper - mean) ** 2 / spread**2
    return clean * (1 - cv2.countNonZero(outline(marks)) / outline(marks).size)


def noise_level(lighter: Gray) -> float:
    """Standard deviation of the background, measured where it is lighter than its estimate, as
    there is no ink."""
    if cv2.countNonZero(lighter) < lighter.size / 10:
        return 0.0
    counts = cv2.calcHist([lighter], [0], None, [256], [0, 256]).ravel()
    counts[0] = 0
    # The median, between grey levels.
    return 1.4826 * float(np.interp(counts.sum() / 2, np.cumsum(counts), np.arange(256) + 0.5))


def otsu(ink: Gray) -> float:
    """The middle between the means of the two classes of Otsu's threshold.

    Empty bins between the classes make all thresholds there equally good.
    """
    _, upper = cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)
    share, high = cv2.countNonZero(upper) / upper.size, cv2.mean(ink, upper)[0]
    low = (cv2.mean(ink)[0] - share * high) / (1 - share) if share < 1 else high
    return (low + high) / 2


def above(ink: Gray, threshold: float) -> Gray:
    """255 where the ink exceeds the threshold, else 0."""
    return cv2.threshold(ink, threshold, 255, cv2.THRESH_BINARY)[1]
