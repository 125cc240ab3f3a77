"""
Figures of test images, right and wrong, drawn from plain arrays.

Every function returns Figures for `style.save` to write.
"""

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
from lenet_sweep.report.style import DPI, QUIET, styled, titled

Images = NDArray[np.uint8]  # (N, 28, 28), 0 is background


def correct_samples_figure(
    images: Images,
    labels: Digits,
    predictions: Digits,
    *,
    subject: str = "",
    seed: int = 0,
    count: int = 10,
) -> Figure:
    """
    `count` correctly classified test images, drawn at random by `seed`, in rows of five; all of
    them if there are fewer, and a sentence if there are none. `subject` says who classified them.

    `images` are uint8 (N, 28, 28), 0 the background; `labels` and `predictions` are integers (N,).
    `ValueError` if they are anything else, or if `count` is less than 1.
    """
    _check(images, labels, predictions, count)
    shown, right = sample_correct(labels, predictions, seed, count)
    title = f"{len(shown)} of {right:,} correctly classified test images"
    note = f"Drawn at random, seed {seed}. Below each: digit, # place in the test set (from 0)"
    if not len(shown):
        title, note = "No test image was classified correctly", f"All {len(labels):,} were wrong."
    note = f"{subject}\n{note}" if subject else note
    captions = [f"{labels[at]} \N{CHECK MARK}" for at in shown]
    return _tiled(
        images[shown],
        captions,
        shown,
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
    """
    Every misclassified test image, in pages of `per_page`, each of which is made when it is
    called; no page if there is none. Ordered by true digit, then predicted digit, then place.
    `subject` says who classified them.

    `images` are uint8 (N, 28, 28), 0 the background; `labels` and `predictions` are integers (N,).
    `ValueError`, at once, if they are anything else, or if `per_page` is less than 1.
    """
    _check(images, labels, predictions, per_page)
    wrong = misclassified(labels, predictions)
    pages = math.ceil(len(wrong) / per_page)
    arrow = "\N{RIGHTWARDS ARROW}"
    note = f"Below each: true digit {arrow} predicted digit, # place in the test set (from 0)"
    note = f"{subject}\n{note}" if subject else note

    def page(number: int) -> Figure:
        shown = wrong[number * per_page : (number + 1) * per_page]
        captions = [f"{labels[at]} {arrow} {predictions[at]}" for at in shown]
        title = f"{len(wrong):,} misclassified test image{'s' * (len(wrong) > 1)}"
        title += f" of {len(labels):,}, page {number + 1} of {pages}"
        return _tiled(
            images[shown],
            captions,
            shown,
            (title, note),
            COLORS[1],
            columns=10,
            scale=3,
        )

    return [partial(page, number) for number in range(pages)]


def _check(images: Images, labels: Digits, predictions: Digits, count: int) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must be uint8 (N, 28, 28), not {images.dtype} {images.shape}")
    for digits in (labels, predictions):
        if digits.dtype.kind not in "iu" or digits.shape != images.shape[:1]:
            found = f"{digits.dtype} {digits.shape}"
            raise ValueError(
                f"{len(images)} images need an integer label and prediction each, not {found}"
            )
    if count < 1:
        raise ValueError(f"at least 1 image at a time, not {count}")


def _tiled(
    images: Images,
    captions: Sequence[str],
    places: NDArray[np.intp],
    header: tuple[str, str],
    colour: str,
    *,
    columns: int,
    scale: int,
) -> Figure:
    numbers = [f"#{place}" for place in places]
    tiles = Tiles(images, captions, numbers, colour, columns, scale)
    height, width, _ = np.array(tiles.raster.shape) / DPI
    with styled():
        figure, _ = titled(width, height, *header)
        if len(images):
            figure.add_artist(tiles)
    return figure


class Tiles(Artist):
    """
    Images side by side with two captions each, at the foot of a figure of DPI.

    One raster, made with Pillow: two hundred texts take matplotlib six times as long as all else.
    """

    def __init__(
        self,
        images: Images,
        captions: Sequence[str],
        numbers: Sequence[str],
        colour: str,
        columns: int,
        scale: int,  # pixels of the page for a pixel of an image
    ) -> None:
        super().__init__()
        self.captions, self.numbers = captions, numbers
        side, gap, below = 28 * scale, 12, 58
        self.wide, self.high = side + 2 * gap, side + below
        # (x, y) of each image's upper left corner
        self.corners = [
            (at % columns * self.wide + gap, at // columns * self.high) for at in range(len(images))
        ]
        rows = math.ceil(len(images) / columns)
        page = Image.new("RGB", (columns * self.wide, rows * self.high), "white")
        pen = ImageDraw.Draw(page)
        for image, caption, number, (x, y) in zip(
            images, captions, numbers, self.corners, strict=True
        ):
            grey = (238 - image * (238 / 255)).astype(np.uint8)  # dark on light grey: saves ink
            tile = Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST)
            page.paste(tile.convert("RGB"), (x, y))
            middle, base = x + side / 2, y + side
            pen.text((middle, base + 21), caption, colour, _font(10.5, "bold"), anchor="ms")
            pen.text((middle, base + 38), number, QUIET, _font(6.5, "normal"), anchor="ms")
        self.raster: NDArray[np.uint8] = np.asarray(page)  # (height, width, 3)

    def draw(self, renderer: RendererBase) -> None:
        opaque = np.full((*self.raster.shape[:2], 1), 255, np.uint8)
        upwards = np.concatenate([self.raster, opaque], axis=2)[::-1]  # as matplotlib counts rows
        renderer.draw_image(renderer.new_gc(), 0, 0, np.ascontiguousarray(upwards))


@cache
def _font(points: float, weight: str) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along, at DPI."""
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, points * DPI / 72)
