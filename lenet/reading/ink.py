"""Where the ink is: the background of a photograph or scan, and what stands out from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lenet.data.pictures import Mask, Picture, enlarge, outline, shrink

LIGHTING_SIDE = 64  # pixels; enough for a surface with six coefficients
LIGHTING_ROUNDS = 12  # the reweighted fit changes by less than a grey level after this many
STROKE_LIMIT = 0.35  # of the side: strokes are narrower, shadows wider
NEARLY_AS_GOOD = 0.05  # of a separation of 1; between guesses at the light
BORDER_BAND = 0.08  # of the side: where background is likelier than ink ...
BORDER_WEIGHT = 4.0  # ... by about this much
GREY_LEVEL = 1 / 255
MIN_LIGHT = 0.1  # keeps the division by the background bounded in black shadows
NOISE_SIGMAS = 4.0  # what exceeds the background's noise by this is a mark
MIN_CONTRAST = 0.06  # of the way from background to full ink; below, JPEG and sensors make "ink"
MIN_SEPARATION = 4.5  # mark level / noise; Gaussian noise above 4 sigmas is 4.2 on average


class NoDigitError(Exception):
    """Ends the work; the message is the reason."""


def find_background(gray: Picture) -> tuple[Picture, str]:
    """The background's luminance, and the polarity: "dark on light" or "light on dark".

    Tries even light, smooth light and light with shadows. The best guess is the one that splits
    the picture most cleanly in two levels and leaves the least ink on the picture's outline.
    """
    small = shrink(gray, LIGHTING_SIDE)
    smooth = smooth_lighting(small)
    if np.abs(small - smooth).max() < 2 * GREY_LEVEL:  # light alone: no guess can do better
        return enlarge(smooth, gray.shape), "dark on light"
    split = small.min() + otsu(small - small.min())
    darker, lighter = beyond_outline(small - smooth)
    guesses = [
        (np.full_like(small, commonest(small[small > split])), "dark on light"),
        (np.full_like(small, commonest(small[small <= split])), "light on dark"),
        (smooth, polarity_on(smooth, small)),
        (without_strokes(small), "dark on light")
        if darker >= lighter
        else (1 - without_strokes(1 - small), "light on dark"),
    ]
    scores = []
    for background, polarity in guesses:
        ink = extract_ink(small, background, polarity)
        marks = ink > otsu(ink)
        scores.append(separation(ink, marks) * float(1 - outline(marks).mean()))
    # The first, and so simplest, of those that are about as good as the best.
    best = next(n for n, score in enumerate(scores) if score >= max(scores) - NEARLY_AS_GOOD)
    background, polarity = guesses[best]
    return enlarge(background, gray.shape), polarity


def commonest(values: Picture) -> float:
    """The value around which most values lie."""
    bins = np.minimum((values * 32).astype(np.int64), 31)
    peak = int(np.argmax(np.bincount(bins)))
    return float(np.median(values[abs(bins - peak) <= 1]))


def beyond_outline(gray: Picture) -> tuple[float, float]:
    """How much darker and how much lighter than its outline a picture gets inside."""
    low, high = gray.min(), gray.max()
    outline_low, outline_high = np.percentile(outline(gray), (10, 90))
    return float(outline_low - low), float(high - outline_high)


def smooth_lighting(gray: Picture) -> Picture:
    """A quadratic surface fitted to most of the picture: a lamp to one side, a lens's vignette.

    Robust: least absolute deviations by reweighting, the border (where ink is rare) counting
    more, then least squares on what lies within the noise.
    """
    height, width = gray.shape
    surfaces = surface_terms(height, width)
    terms = surfaces.reshape(6, -1).T
    values = gray.ravel().astype(np.float64)
    x, y = np.abs(surfaces[1:3])  # scaled below so that the outermost pixels reach 1
    x, y = x * width / max(width - 1, 1), y * height / max(height - 1, 1)
    border = (np.maximum(x, y) >= 1 - 2 * BORDER_BAND).ravel()
    prior = np.where(border, BORDER_WEIGHT, 1.0)
    residual = values - np.median(values[border])
    for _ in range(LIGHTING_ROUNDS):
        weights = prior / np.maximum(np.abs(residual), GREY_LEVEL)
        coefficients = weighted_fit(terms, values, weights)
        residual = values - terms @ coefficients
    noise = max(1.4826 * float(np.median(np.abs(residual))), GREY_LEVEL)
    within = (np.abs(residual) < 3 * noise).astype(np.float64)
    coefficients = weighted_fit(terms, values, within)
    surface = np.tensordot(coefficients, surfaces, 1)
    return np.clip(surface, 0, 1).astype(np.float32)


def without_strokes(gray: Picture) -> Picture:
    """The paper under dark ink, with its shadows: the closing of the picture.

    The closing (highest value in a window, then lowest of those) fills everything dark that is
    narrower than the window, the strokes, and keeps the edges of shadows.
    """
    reach = round(STROKE_LIMIT * max(gray.shape) / 2)
    closed = -highest(-highest(gray, reach), reach)
    # Noise lifts the closing. Paper makes up the better half, where least was filled.
    return np.clip(closed + np.float32(np.quantile(gray - closed, 0.75)), 0, 1)


def highest(picture: Picture, reach: int) -> Picture:
    """The highest value in the square of pixels up to `reach` away."""
    top = picture.max()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        # Slopes go on beyond the border, so that a dark corner is not taken for something dark.
        padded = np.minimum(np.pad(picture, pad, mode="reflect", reflect_type="odd"), top)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis)
        picture = windows.max(-1)
    return picture


def surface_terms(height: int, width: int) -> NDArray[np.float64]:
    """1, x, y, x^2, xy, y^2 at the pixels' centres, x and y in -1..1: (6, height, width)."""
    y, x = np.meshgrid(
        (2 * np.arange(height) + 1) / height - 1,
        (2 * np.arange(width) + 1) / width - 1,
        indexing="ij",
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def weighted_fit(
    terms: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    weighted = terms.T * weights
    # The small ridge keeps the system solvable when few pixels are left.
    ridge = 1e-9 * weights.sum() * np.eye(terms.shape[1])
    return np.linalg.solve(weighted @ terms + ridge, weighted @ values)


def polarity_on(background: Picture, gray: Picture) -> str:
    """Whether what differs from the background is mostly darker or lighter than it."""
    difference = gray - background
    noise = 1.4826 * float(np.median(np.abs(difference)))
    limit = max(3 * noise, 2 * GREY_LEVEL)
    lighter = difference[difference > limit].sum()
    darker = -difference[difference < -limit].sum()
    return "light on dark" if lighter > darker else "dark on light"


def extract_ink(gray: Picture, background: Picture, polarity: str) -> Picture:
    """How far each pixel is from the background (0) towards full ink (1); noise may be below 0."""
    if polarity == "dark on light":
        return (background - gray) / np.clip(background, MIN_LIGHT, 1)
    return (gray - background) / np.clip(1 - background, MIN_LIGHT, 1)


def noise_level(ink: Picture) -> float:
    """Standard deviation of the background: from what lies below it, where no ink can be."""
    below = ink[ink < 0]
    if below.size < ink.size / 10:
        return 0.0
    return 1.4826 * float(np.median(-below))


def find_threshold(ink: Picture, noise: float) -> float:
    """Otsu's threshold, above the noise. Raises NoDigitError if nothing stands out."""
    threshold = max(otsu(ink), NOISE_SIGMAS * noise)
    marks = ink > threshold
    peak = float(ink.max())
    if peak < MIN_CONTRAST:
        raise NoDigitError("too little contrast between ink and background")
    if not marks.any() or float(ink[marks].mean()) < MIN_SEPARATION * noise:
        raise NoDigitError("the picture looks like noise or texture")
    if float(ink[marks].mean()) < MIN_CONTRAST:
        raise NoDigitError("too little contrast between ink and background")
    return threshold


def otsu(values: Picture) -> float:
    """The level that splits the values into two classes of greatest between-class variance.

    Values below 0, background that is brighter than itself, count as 0.
    """
    top = max(float(values.max()), 1e-6)
    bins = (np.clip(values, 0, None) * (255.99 / top)).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)[:-1]
    sum_below = np.cumsum(counts * np.arange(256))[:-1]
    mean = float(counts @ np.arange(256)) / values.size
    between = (sum_below - below * mean) ** 2 / np.maximum(below * (values.size - below), 1)
    # Empty bins between the classes make a plateau; its middle is the fairest choice.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return ((best[0] + best[-1]) / 2 + 1) / 256 * top


def separation(values: Picture, upper: Mask) -> float:
    """Between-class variance of two classes over the whole: 0 (mixed) .. 1 (two levels)."""
    share = float(upper.mean())
    if not 0 < share < 1:
        return 0.0
    difference = float(values[upper].mean() - values[~upper].mean())
    return share * (1 - share) * difference**2 / float(values.var())
