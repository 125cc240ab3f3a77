"""Find the digits on a scanned page: its connected strokes, in reading order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lenet_sweep.core.errors import DataError
from lenet_sweep.inference.preprocess import (
    Floats,
    Gray,
    NoDigitError,
    find_ink,
    label_strokes,
    limit_side,
    threshold,
)

MAX_PAGE_SIDE = 4096  # pixels; a larger page is scaled down first
MAX_STROKES = 5000  # on a page; more are noise or a picture
MAX_DIGITS = 1000
MIN_SIZE = 8  # pixels of a digit, and at least this share of the page's longer side:
MIN_SHARE = 0.01
MIN_RELATIVE = 0.4  # of the usual height; smaller spots are not digits
MAX_RELATIVE = 3.0  # of the usual height; larger strokes are frames, lines or shadows
MAX_GAP = 0.15  # of the usual height, between the parts of a digit


@dataclass(frozen=True, eq=False)
class FoundDigit:
    """A digit on a page: its ink, and its box in the page's pixels: left, top, right, bottom."""

    ink: Floats
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class _Part:
    """Strokes that belong together: their numbers, and their box."""

    strokes: tuple[int, ...]
    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def merged(self, other: _Part) -> _Part:
        return _Part(
            self.strokes + other.strokes,
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def find_digits(gray: Gray) -> list[list[FoundDigit]]:
    """The digits on a page (height, width), by lines from top to bottom, each from left to right.

    A digit is a stroke, or strokes above each other that almost touch. Spots, long lines and frames
    are left out. Digits that touch each other are not separated. Raises NoDigitError if there are
    none, and DataError if there are too many.
    """
    page = limit_side(gray, MAX_PAGE_SIDE)
    scale = gray.shape[0] / page.shape[0]
    ink = threshold(find_ink(page, window=0.25)[0])
    labels, count = label_strokes(ink)
    if count > MAX_STROKES:
        raise DataError(f"more than {MAX_STROKES:,} strokes; this is not a page of digits")
    boxes = ndimage.find_objects(labels)
    parts = [
        _Part((number,), box[1].start, box[0].start, box[1].stop, box[0].stop)
        for number, box in enumerate(boxes, 1)
    ]
    least = max(MIN_SIZE, MIN_SHARE * max(page.shape))
    heights = [part.height for part in parts if part.height >= least]
    if not heights:
        raise NoDigitError("no digit found: nothing is large enough to be a digit")
    usual = float(np.median(heights))
    parts = [part for part in parts if max(part.height, part.width) >= least]
    parts = _merge([p for p in parts if max(p.height, p.width) <= MAX_RELATIVE * usual], usual)
    parts = [part for part in parts if part.height >= MIN_RELATIVE * usual]
    if not parts:
        raise NoDigitError("no digit found: nothing has the shape of a digit")
    if len(parts) > MAX_DIGITS:
        raise DataError(f"more than {MAX_DIGITS:,} digits; cut the page into smaller ones")
    return [[_found(part, ink, labels, scale) for part in line] for line in _lines(parts)]


def _merge(parts: list[_Part], usual: float) -> list[_Part]:
    """Join parts of a digit, such as the bar of a 5, with the part that they belong to."""
    whole = [part for part in parts if part.height >= 2 * MIN_RELATIVE * usual]
    for small in (part for part in parts if part.height < 2 * MIN_RELATIVE * usual):
        for index, large in enumerate(whole):
            overlap = min(small.right, large.right) - max(small.left, large.left)
            gap = max(small.top, large.top) - min(small.bottom, large.bottom)
            if overlap >= 0.5 * min(small.width, large.width) and gap <= MAX_GAP * usual:
                whole[index] = large.merged(small)
                break
        else:
            whole.append(small)
    return whole


def _lines(parts: list[_Part]) -> list[list[_Part]]:
    """Lines of parts: a part belongs to a line if it covers half of its height, or the reverse."""
    lines: list[list[_Part]] = []
    for part in sorted(parts, key=lambda part: part.left):
        for line in lines:
            last = line[-1]
            overlap = min(part.bottom, last.bottom) - max(part.top, last.top)
            if overlap >= 0.5 * min(part.height, last.height):
                line.append(part)
                break
        else:
            lines.append([part])
    return sorted(lines, key=lambda line: float(np.mean([part.top + part.bottom for part in line])))


def _found(part: _Part, ink: Floats, labels: np.ndarray, scale: float) -> FoundDigit:
    place = (slice(part.top, part.bottom), slice(part.left, part.right))
    own = np.isin(labels[place], part.strokes)
    box = (part.left, part.top, part.right, part.bottom)
    left, top, right, bottom = (round(n * scale) for n in box)
    return FoundDigit(np.where(own, ink[place], 0), (left, top, right, bottom))
