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

from lenet_sweep.data.catalog import DIGITS
from lenet_sweep.data.images import class_noun
from lenet_sweep.report.encodings import COLORS
from lenet_sweep.report.samples import (
    ARROW,
    CHECK,
    Classes,
    has_short_names,
    misclassified,
    sample_correct,
)
from lenet_sweep.report.sprites import fit
from lenet_sweep.report.style import DPI, QUIET, styled, titled_figure

Images = NDArray[np.uint8]  # (N, height, width)
Caption = tuple[str, ...]  # one or two lines
LINE = 20  # pixels of a line of a caption


def correct_samples_figure(
    images: Images,
    labels: Classes,
    predictions: Classes,
    *,
    names: Sequence[str] = DIGITS,
    inverted: bool = True,
    subject: str = "",
    seed: int = 0,
    count: int = 10,
) -> Figure:
    """A random sample of `count` correctly classified test images, in rows of five.

    All of them are shown if there are fewer, and a sentence if there are none.

    images: uint8 (N, height, width). labels, predictions: integers (N,). names: of the classes.
    inverted: 0 is the background; draw dark on light. subject: the model that classified them.
    seed: of the random sample. Raises ValueError if an array has another type or shape, or if
    `count` is less than 1.
    """
    _check(images, labels, predictions, "count", count)
    indices, total = sample_correct(labels, predictions, seed, count)
    title = f"{len(indices)} of {total:,} correctly classified test images"
    below = f"Below each: {class_noun(names)}, # index in the test set (from 0)"
    note = f"Random sample, seed {seed}. {below}"
    if not len(indices):
        title = "No test image was classified correctly"
        note = f"All {len(labels):,} were misclassified."
    note = f"{subject}\n{note}" if subject else note
    captions = [(f"{names[labels[index]]} {CHECK}",) for index in indices]
    return _tiled(
        images[indices],
        captions,
        indices,
        (title, note),
        COLORS[2],
        inverted=inverted,
        columns=5,
        side=168,
        width=192,
    )


def misclassified_figures(
    images: Images,
    labels: Classes,
    predictions: Classes,
    *,
    names: Sequence[str] = DIGITS,
    inverted: bool = True,
    subject: str = "",
    per_page: int = 100,
) -> list[Callable[[], Figure]]:
    """All misclassified test images, in pages of `per_page`, sorted by true and predicted class.

    Returns one function per page, which draws it; no function if there are no such images.

    The arguments are those of `correct_samples_figure`. Raises ValueError immediately if an array
    has another type or shape, or if `per_page` is less than 1.
    """
    _check(images, labels, predictions, "per_page", per_page)
    wrong = misclassified(labels, predictions)
    pages = math.ceil(len(wrong) / per_page)
    short = has_short_names(names)
    noun = class_noun(names)
    note = f"Below each: true {noun} {ARROW} predicted {noun}, # index in the test set (from 0)"
    note = f"{subject}\n{note}" if subject else note

    def draw_page(number: int) -> Figure:
        indices = wrong[number * per_page : (number + 1) * per_page]
        pairs = [(names[labels[index]], names[predictions[index]]) for index in indices]
        captions = [_error_caption(*pair, short=short) for pair in pairs]
        title = f"{len(wrong):,} misclassified test image{'s' * (len(wrong) > 1)}"
        title += f" of {len(labels):,}, page {number + 1} of {pages}"
        return _tiled(
            images[indices],
            captions,
            indices,
            (title, note),
            COLORS[1],
            inverted=inverted,
            columns=10 if short else 8,
            side=84,
            width=108 if short else 135,  # 1080 pixels in all
        )

    return [partial(draw_page, number) for number in range(pages)]


def _check(images: Images, labels: Classes, predictions: Classes, name: str, count: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            f"images must be uint8 (N, height, width), not {images.dtype} {images.shape}"
        )
    for classes in (labels, predictions):
        if classes.dtype.kind not in "iu" or classes.shape != images.shape[:1]:
            raise ValueError(
                f"images need one integer label and prediction each, shape ({len(images)},), "
                f"not {classes.dtype} {classes.shape}"
            )
    if count < 1:
        raise ValueError(f"{name} must be at least 1, not {count}")


def _error_caption(true: str, predicted: str, *, short: bool) -> Caption:
    return (f"{true} {ARROW} {predicted}",) if short else (true, f"{ARROW} {predicted}")


def _tiled(
    images: Images,
    captions: Sequence[Caption],
    indices: NDArray[np.intp],
    header: tuple[str, str],
    color: str,
    *,
    inverted: bool,
    columns: int,
    side: int,
    width: int,
) -> Figure:
    """A figure of captioned images. header: title and note."""
    numbers = [f"#{index}" for index in indices]
    pictures = [_picture(image, side, inverted=inverted) for image in images]
    tiles = Tiles(pictures, captions, numbers, color, columns, side, width)
    high, wide, _ = np.array(tiles.raster.shape) / DPI
    with styled():
        figure, _ = titled_figure(wide, high, *header)
        if len(images):
            figure.add_artist(tiles)
    return figure


def _picture(image: NDArray[np.uint8], side: int, *, inverted: bool) -> Image.Image:
    """An image (height, width) as a picture that fits a square."""
    # Dark on light gray saves ink.
    pixels = (238 - image * (238 / 255)).astype(np.uint8) if inverted else image
    return fit(Image.fromarray(pixels), side)


class Tiles(Artist):
    """A grid of pictures at the bottom of a figure, each with a caption and a number below it.

    Pillow draws all of it into one raster: matplotlib takes six times as long for two hundred texts
    as for everything else. side: of the square of each picture, in pixels of the figure. width: of
    a column, also in pixels.
    """

    def __init__(
        self,
        pictures: Sequence[Image.Image],
        captions: Sequence[Caption],
        numbers: Sequence[str],
        color: str,
        columns: int,
        side: int,
        width: int,
    ) -> None:
        super().__init__()
        self.captions = ["\n".join(caption) for caption in captions]
        self.numbers = numbers
        lines = max(map(len, captions), default=1)
        self.wide, self.high = width, side + 38 + LINE * lines
        gap = (width - side) // 2
        font = _caption_font(captions, width - 8)
        # (x, y) of the upper left corner of each picture
        self.corners = [
            (index % columns * self.wide + gap, index // columns * self.high)
            for index in range(len(pictures))
        ]
        rows = math.ceil(len(pictures) / columns)
        page = Image.new("RGB", (columns * self.wide, rows * self.high), "white")
        pen = ImageDraw.Draw(page)
        for picture, caption, number, (x, y) in zip(
            pictures, captions, numbers, self.corners, strict=True
        ):
            left, top = (side - picture.width) // 2, (side - picture.height) // 2
            page.paste(picture.convert("RGB"), (x + left, y + top))
            middle, base = x + side / 2, y + side
            for line in caption:
                base += LINE
                text = _shorten(line, font, self.wide - 8)
                pen.text((middle, base + 1), text, color, font, anchor="ms")
            pen.text((middle, base + 18), number, QUIET, _font(6.5, "normal"), anchor="ms")
        self.raster: NDArray[np.uint8] = np.asarray(page)  # (height, width, 3)

    def draw(self, renderer: RendererBase) -> None:
        opaque = np.full((*self.raster.shape[:2], 1), 255, np.uint8)
        # matplotlib expects the bottom row first.
        flipped = np.concatenate([self.raster, opaque], axis=2)[::-1]
        renderer.draw_image(renderer.new_gc(), 0, 0, np.ascontiguousarray(flipped))


def _caption_font(captions: Sequence[Caption], width: float) -> ImageFont.FreeTypeFont:
    """The largest of three fonts in which all lines of the captions fit, or the smallest one."""
    lines = {line for caption in captions for line in caption}
    fonts = [_font(points, "bold") for points in (10.5, 9.0, 7.5)]
    fitting = (font for font in fonts if all(font.getlength(line) <= width for line in lines))
    return next(fitting, fonts[-1])


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, without its middle if it is too wide, since names may differ only at the end."""
    shown, kept = text, len(text)
    while kept > 2 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(kept // 2) :]}"
    return shown


@cache
def _font(points: float, weight: str) -> ImageFont.FreeTypeFont:
    """The font that matplotlib ships with, at the resolution of the figures."""
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, points * DPI / 72)
