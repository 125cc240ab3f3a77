"""Figures of correctly classified and misclassified test images, drawn from plain arrays.

Each function returns matplotlib Figures that `style.render` draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.samples import Digits, misclassified, sample_correct
from lenet_sweep.report.style import DPI, QUIET, styled, titled_figure

Images = NDArray[np.uint8]  # (N, 28, 28), 0 is the background


def correct_samples_figure(
    images: Images,
    labels: Digits,
    predictions: Digits,
    *,
    subject: str = "",
    seed: int = 0,
    count: int = 10,
) -> Figure:
    """A random sample of `count` correctly classified test images, in rows of five.

    All of them are shown if there are fewer, and a sentence if there are none.

    images: uint8 (N, 28, 28), 0 is the background. labels, predictions: integers (N,). subject: the
    model that classified them. seed: of the random sample. Raises ValueError if an array has
    another type or shape, or if `count` is less than 1.
    """
    _check(images, labels, predictions, "count", count)
    indices, total = sample_correct(labels, predictions, seed, count)
    title = f"{len(indices)} of {total:,} correctly classified test images"
    note = f"Random sample, seed {seed}. Below each: digit, # index in the test set (from 0)"
    if not len(indices):
        title = "No test image was classified correctly"
        note = f"All {len(labels):,} were misclassified."
    note = f"{subject}\n{note}" if subject else note
    captions = [f"{labels[index]} \N{CHECK MARK}" for index in indices]
    return _tiled(
        images[indices],
        captions,
        indices,
        (title, note),
        COLORS[2],
        columns=5,
        scale=6,
    )


def misclassified_figures(
    images: Images,
    labels: Digits,
    predictions: Digits,
    *,
    subject: str = "",
    per_page: int = 100,
) -> list[Callable[[], Figure]]:
    """All misclassified test images, in pages of `per_page`, sorted by true and predicted digit.

    Returns one function per page, which draws it; no function if there are no such images.

    images: uint8 (N, 28, 28), 0 is the background. labels, predictions: integers (N,). subject: the
    model that classified them. Raises ValueError immediately if an array has another type or shape,
    or if `per_page` is less than 1.
    """
    _check(images, labels, predictions, "per_page", per_page)
    wrong = misclassified(labels, predictions)
    pages = math.ceil(len(wrong) / per_page)
    arrow = "\N{RIGHTWARDS ARROW}"
    note = f"Below each: true digit {arrow} predicted digit, # index in the test set (from 0)"
    note = f"{subject}\n{note}" if subject else note

    def draw_page(number: int) -> Figure:
        indices = wrong[number * per_page : (number + 1) * per_page]
        captions = [f"{labels[index]} {arrow} {predictions[index]}" for index in indices]
        title = f"{len(wrong):,} misclassified test image{'s' * (len(wrong) > 1)}"
        title += f" of {len(labels):,}, page {number + 1} of {pages}"
        return _tiled(
            images[indices],
            captions,
            indices,
            (title, note),
            COLORS[1],
            columns=10,
            scale=3,
        )

    return [partial(draw_page, number) for number in range(pages)]


def _check(images: Images, labels: Digits, predictions: Digits, name: str, count: int) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must be uint8 (N, 28, 28), not {images.dtype} {images.shape}")
    for digits in (labels, predictions):
        if digits.dtype.kind not in "iu" or digits.shape != images.shape[:1]:
            raise ValueError(
                f"images need one integer label and prediction each, shape ({len(images)},), "
                f"not {digits.dtype} {digits.shape}"
            )
    if count < 1:
        raise ValueError(f"{name} must be at least 1, not {count}")


def _tiled(
    images: Images,
    captions: Sequence[str],
    indices: NDArray[np.intp],
    header: tuple[str, str],
    color: str,
    *,
    columns: int,
    scale: int,
) -> Figure:
    """A figure of captioned images. header: title and note."""
    numbers = [f"#{index}" for index in indices]
    tiles = Tiles(images, captions, numbers, color, columns, scale)
    height, width, _ = np.array(tiles.raster.shape) / DPI
    with styled():
        figure, _ = titled_figure(width, height, *header)
        if len(images):
            figure.add_artist(tiles)
    return figure


class Tiles(Artist):
    """A grid of images at the bottom of a figure, each with two captions below it.

    Pillow draws all of it into one raster: matplotlib takes six times as long for two hundred texts
    as for everything else.
    """

    def __init__(
        self,
        images: Images,
        captions: Sequence[str],
        numbers: Sequence[str],
        color: str,
        columns: int,
        scale: int,  # pixels of the figure per pixel of an image, in each direction
    ) -> None:
        super().__init__()
        self.captions, self.numbers = captions, numbers
        side, gap, below = 28 * scale, 12, 58
        self.wide, self.high = side + 2 * gap, side + below
        # (x, y) of the upper left corner of each image
        self.corners = [
            (index % columns * self.wide + gap, index // columns * self.high)
            for index in range(len(images))
        ]
        rows = math.ceil(len(images) / columns)
        page = Image.new("RGB", (columns * self.wide, rows * self.high), "white")
        pen = ImageDraw.Draw(page)
        for image, caption, number, (x, y) in zip(
            images, captions, numbers, self.corners, strict=True
        ):
            gray = (238 - image * (238 / 255)).astype(np.uint8)  # dark on light gray saves ink
            tile = Image.fromarray(gray).resize((side, side), Image.Resampling.NEAREST)
            page.paste(tile.convert("RGB"), (x, y))
            middle, base = x + side / 2, y + side
            pen.text((middle, base + 21), caption, color, _font(10.5, "bold"), anchor="ms")
            pen.text((middle, base + 38), number, QUIET, _font(6.5, "normal"), anchor="ms")
        self.raster: NDArray[np.uint8] = np.asarray(page)  # (height, width, 3)

    def draw(self, renderer: RendererBase) -> None:
        opaque = np.full((*self.raster.shape[:2], 1), 255, np.uint8)
        # matplotlib expects the bottom row first.
        flipped = np.concatenate([self.raster, opaque], axis=2)[::-1]
        renderer.draw_image(renderer.new_gc(), 0, 0, np.ascontiguousarray(flipped))


@cache
def _font(points: float, weight: str) -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships with, at the resolution of the figures."""
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, points * DPI / 72)
