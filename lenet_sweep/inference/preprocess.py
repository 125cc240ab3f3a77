"""Turn a scan or a photo of a digit into an image like those of MNIST, step by step.

LeCun describes how MNIST was made (http://yann.lecun.com/exdb/mnist/): the black and white images
of NIST were "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio",
which gave gray levels by anti-aliasing, and were centered in 28 x 28 pixels "by computing the
center of mass of the pixels, and translating the image so as to position this point at the center".
The steps before these find the ink, since a photo has uneven light, and its background is paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lenet_sweep.core.errors import DataError

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE, BOX = 28, 20  # pixels: of an image of MNIST, and of the box that its digit fits
CENTER = 14.5  # pixels from the edge; where the digits of MNIST have their center of mass
MAX_WORK_SIDE = 1024  # pixels; a larger picture of one digit is scaled down first
BACKGROUND_SIDE = 64  # pixels; the background is estimated at this size
BACKGROUND_PERCENTILE = 65  # so that ink may cover more than half of a tightly cropped picture
MIN_CONTRAST = 0.1  # between ink and background, from 0 to 1; noise of a blank page has less
MIN_BRIGHT = 100  # levels above a dark background, from 255; ink that is as bright is full ink
MIN_SPOT = 0.03  # of the largest stroke's area; smaller spots are removed
MIN_STRENGTH = 0.6  # of the largest stroke's ink; fainter spots are removed
MIN_INSIDE = 0.2  # of the largest spot's area, so that the spots at the edge are removed
THIN = 1.5  # pixels in the box of 20 x 20; MNIST's strokes are about 2.5 pixels wide
THICK = 2.2


class NoDigitError(DataError):
    """A picture has nothing that differs from its background."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step of the preparation: what was done, and the image after it, uint8 (height, width)."""

    name: str
    image: Gray


def mnist_steps(gray: Gray) -> tuple[Step, ...]:
    """The steps from a gray picture of one digit (height, width) to an image of MNIST.

    The last image is what the network sees. Raises NoDigitError.
    """
    gray = limit_side(gray, MAX_WORK_SIDE)
    ink, is_light = find_ink(gray, window=0.4)
    found = "light background: inverted" if is_light else "dark background"
    steps = [Step("gray", gray), Step(f"{found}, background removed", _to_bytes(ink))]
    ink = remove_spots(threshold(ink))
    steps.append(Step("ink separated, spots removed", _to_bytes(ink)))
    return (*steps, *box_steps(ink))


def box_steps(ink: Floats) -> tuple[Step, ...]:
    """The steps from the ink of one digit, from 0 to 1, to an image of MNIST."""
    ink = crop(ink)
    steps = [Step(f"cropped to {ink.shape[1]} x {ink.shape[0]}", _to_bytes(ink))]
    thick = thicken(ink)
    if thick is not ink:
        steps.append(Step("thin strokes widened", _to_bytes(thick)))
    scaled = fit_box(_to_bytes(thick))
    steps.append(Step(f"scaled to {scaled.shape[1]} x {scaled.shape[0]}", scaled))
    return (*steps, Step("centered by mass", center_by_mass(scaled)))


def limit_side(gray: Gray, side: int) -> Gray:
    """The picture, scaled down if a side has more than this number of pixels."""
    longest = max(gray.shape)
    if longest <= side:
        return gray
    height, width = (max(round(n * side / longest), 1) for n in gray.shape)
    picture = Image.fromarray(gray).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture)


def find_ink(gray: Gray, window: float) -> tuple[Floats, bool]:
    """How much each pixel differs from the background, from 0 to 1, and whether that is light.

    The background is a percentile in a window, a fraction of the shorter side, which follows uneven
    light and shadows. The picture is divided by a light background, since shadows scale the light
    that paper reflects; a dark background is subtracted.
    """
    pixels = gray.astype(np.float32)
    is_light = _is_light(pixels)
    if is_light:
        background = np.maximum(_background(pixels, window), 1)
        return np.clip(1 - pixels / background, 0, 1), True
    background = 255 - _background(255 - pixels, window)
    ink = np.clip(pixels - background, 0, None)
    return ink / max(float(ink.max()), MIN_BRIGHT), False


def _is_light(pixels: Floats) -> bool:
    """Whether the ink is darker than the background.

    The ink covers less than the background, so it is the longer tail of the differences from a
    smooth background: a quadratic function of the position, fitted to the pixels twice, the second
    time without the pixels that differ most.
    """
    small = _shrink(pixels, 64)
    y, x = (np.linspace(-1, 1, n) for n in small.shape)
    x, y = (values.ravel() for values in np.meshgrid(x, y))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    values = small.ravel().astype(np.float64)
    kept = np.ones(len(values), bool)
    for _ in range(2):
        coefficients = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        rest = values - terms @ coefficients
        kept = np.abs(rest) <= np.quantile(np.abs(rest), 0.7)
    return float((rest**3).sum()) <= 0


def _background(pixels: Floats, window: float) -> Floats:
    """The local background of dark ink: a percentile filter, computed on a smaller picture."""
    small = _shrink(pixels, BACKGROUND_SIDE)
    size = max(int(window * min(small.shape)) | 1, 3)
    background = ndimage.percentile_filter(small, BACKGROUND_PERCENTILE, size=size)
    background = ndimage.gaussian_filter(background, 1.0)
    resized = Image.fromarray(background).resize(pixels.shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def _shrink(pixels: Floats, side: int) -> Floats:
    """Scale down so that no side has more pixels than `side`, by area averages."""
    factor = max(pixels.shape) / side
    if factor <= 1:
        return pixels
    height, width = (max(round(n / factor), 1) for n in pixels.shape)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def threshold(ink: Floats) -> Floats:
    """Separate ink from background: 0 for the background, 1 for ink, gray levels at the edges.

    The threshold is Otsu's (1979). Raises NoDigitError if the ink has too little contrast.
    """
    blurred = ndimage.gaussian_filter(ink, max(ink.shape) / 400, mode="nearest")
    level, low, high = otsu(blurred)
    if high - low < MIN_CONTRAST:
        raise NoDigitError("no digit found: nothing differs from the background")
    soft = np.clip((blurred - level / 2) / max(high - level / 2, 1e-6), 0, 1)
    near = ndimage.binary_dilation(blurred > level)  # noise elsewhere is not ink
    return np.where(near, soft, 0).astype(np.float32)


def otsu(values: Floats) -> tuple[float, float, float]:
    """Otsu's threshold of values from 0 to 1, and the means of the values below and above it."""
    counts, edges = np.histogram(values, 256, (0, 1))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centers)
    mean_below = total / np.maximum(below, 1)
    mean_above = (total[-1] - total) / np.maximum(above, 1)
    between = below * above * (mean_above - mean_below) ** 2
    # Between two peaks, many thresholds are equally good: take the middle.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    at = int(best[len(best) // 2])
    return float(edges[at + 1]), float(mean_below[at]), float(mean_above[at])


def remove_spots(ink: Floats) -> Floats:
    """The ink without the spots that are not strokes of the digit.

    Removed are spots that are small or faint compared with the largest stroke, and, unless it
    leaves only small ones, those that touch the edge of the picture, such as shadows.
    """
    labels, count = label_strokes(ink)
    if count < 2:
        return ink
    numbers = np.arange(count + 1)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inside = np.where(np.isin(numbers, edge), 0, areas)
    if inside.max() >= MIN_INSIDE * areas.max():
        areas = inside
    strength = ndimage.mean(ink, labels, numbers)
    keep = (areas >= MIN_SPOT * areas.max()) & (strength >= MIN_STRENGTH * strength[areas.argmax()])
    cleaned: Floats = np.where(keep[labels] & (labels > 0), ink, 0)
    return cleaned


def label_strokes(ink: Floats) -> tuple[NDArray[np.int32], int]:
    """The connected strokes: their numbers by pixel, from 1 (0 for no ink), and their count."""
    labels, count = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    return labels, count


def crop(ink: Floats) -> Floats:
    """The smallest rectangle with all ink. Raises NoDigitError if there is none."""
    rows, columns = (np.flatnonzero((ink > 0.25).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise NoDigitError("no digit found: the picture is empty")
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def thicken(ink: Floats) -> Floats:
    """Widen strokes that would almost vanish in the box of MNIST; other digits stay as they are."""
    scale = BOX / max(ink.shape)
    if scale > 0.5:  # already about as small as the box
        return ink
    strokes = np.pad(ink > 0.5, 1)
    depth = ndimage.distance_transform_edt(strokes)
    ridge = strokes & (depth >= ndimage.maximum_filter(depth, 3))
    if not ridge.any():
        return ink
    width = 2 * float(np.median(depth[ridge]))
    if width * scale >= THIN:
        return ink
    radius = (THICK / scale - width) / 2
    margin = int(radius) + 1
    outside = ndimage.distance_transform_edt(np.pad(ink <= 0.5, margin, constant_values=True))
    wide: Floats = np.clip(radius + 1 - outside, 0, 1).astype(np.float32)
    return wide


def fit_box(ink: Gray) -> Gray:
    """Scale so that the longer side has 20 pixels, keeping the aspect ratio."""
    longest = max(ink.shape)
    height, width = (max(round(n * BOX / longest), 1) for n in ink.shape)
    return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))


def center_by_mass(digit: Gray) -> Gray:
    """Place a digit of at most 20 x 20 pixels in 28 x 28, centered by mass."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    place: list[slice] = []
    for axis, length in enumerate(digit.shape):
        mass = digit.sum(axis=1 - axis, dtype=np.float64)
        center = float((mass * (np.arange(length) + 0.5)).sum() / max(mass.sum(), 1))
        start = min(max(round(CENTER - center), 0), SIDE - length)
        place.append(slice(start, start + length))
    image[tuple(place)] = digit
    return image


def _to_bytes(ink: NDArray[Any]) -> Gray:
    pixels: Gray = np.rint(255 * ink).astype(np.uint8)
    return pixels
