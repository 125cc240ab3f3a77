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
from lenet_sweep.data.images import Pixels, class_noun
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
from lenet_sweep.report.style import DPI, QUIET, SCREEN, Layout, styled, titled_figure

Caption = tuple[str, ...]  # one or two lines
NUMBER = 6.5  # points of the number below a caption
LINE = 20  # pixels of a line of a caption
PER_PAGE = {"screen": 100, "single": 30, "double": 80}  # misclassified images by layout


def correct_samples_figure(
    images: Pixels,
    labels: Classes,
    predictions: Classes,
    *,
    names: Sequence[str] = DIGITS,
    inverted: bool = True,
    subject: str = "",
    seed: int = 0,
    count: int = 10,
    layout: Layout = SCREEN,
    as_raster: bool = True,
) -> Figure:
    """A random sample of `count` correctly classified test images, in rows of five.

    All of them are shown if there are fewer, and a sentence if there are none.

    images: uint8 (N, height, width). labels, predictions: integers (N,). names: of the classes.
    inverted: 0 is the background; draw dark on light. subject: the model that classified them.
    seed: of the random sample. layout: its width decides how many images are in a row. as_raster:
    draw the captions as pixels, which is faster, instead of as text; only for SCREEN.

    Raises ValueError if an array has another type or shape, or if `count` is less than 1.
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
        layout,
        inverted=inverted,
        as_raster=as_raster,
        columns=5,
        side=84 if layout.name == "single" else 168,
        width=108 if layout.name == "single" else 192,
    )


def misclassified_figures(
    images: Pixels,
    labels: Classes,
    predictions: Classes,
    *,
    names: Sequence[str] = DIGITS,
    inverted: bool = True,
    subject: str = "",
    per_page: int | None = None,
    layout: Layout = SCREEN,
    as_raster: bool = True,
) -> list[Callable[[], Figure]]:
    """All misclassified test images, in pages of `per_page`, sorted by true and predicted class.

    per_page: by default 100 or, for papers, as many as fit on a page of A4 or US Letter.

    Returns one function per page, which draws it; no function if there are no such images.

    The arguments are those of `correct_samples_figure`. Raises ValueError immediately if an array
    has another type or shape, or if `per_page` is less than 1.
    """
    per_page = PER_PAGE[layout.name] if per_page is None else per_page
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
        title += f" out of {len(labels):,}, page {number + 1} of {pages}"
        columns = 10 if short else 8
        return _tiled(
            images[indices],
            captions,
            indices,
            (title, note),
            COLORS[1],
            layout,
            inverted=inverted,
            as_raster=as_raster,
            columns=columns // 2 if layout.name == "single" else columns,
            side=84,
            width=108 if short else 135,  # 1080 pixels in all
        )

    return [partial(draw_page, number) for number in range(pages)]


def _check(images: Pixels, labels: Classes, predictions: Classes, name: str, count: int) -> None:
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
    images: Pixels,
    captions: Sequence[Caption],
    indices: NDArray[np.intp],
    header: tuple[str, str],
    color: str,
    layout: Layout,
    *,
    inverted: bool,
    as_raster: bool,
    columns: int,
    side: int,
    width: int,
) -> Figure:
    """A figure of captioned images. header: title and note."""
    numbers = [f"#{index}" for index in indices]
    pictures = [_picture(image, side, inverted=inverted) for image in images]
    as_raster &= layout is SCREEN
    tiles = Tiles(pictures, captions, numbers, color, columns, side, width, with_text=as_raster)
    high, wide, _ = np.array(tiles.raster.shape) / DPI
    scale = layout.width / wide if layout.width else 1.0
    if not len(images) and not layout.titled:
        high = 0.4  # for the sentence
    with styled(layout.style):
        figure, top = titled_figure(wide * scale, high * scale, *header, layout)
        if len(images) and as_raster:
            figure.add_artist(tiles)
        elif len(images):
            tiles.add_to(figure, top, layout)
        elif not layout.titled:
            figure.text(0.5, 0.5, header[0], ha="center", va="center")
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
    a column, also in pixels. with_text: whether the raster contains the captions and numbers; if
    not, `add_to` draws them.
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
        *,
        with_text: bool = True,
    ) -> None:
        super().__init__()
        self.captions = ["\n".join(caption) for caption in captions]
        self.numbers = numbers
        self.color = color
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
        self.points = font.size * 72 / DPI  # of the captions
        self.texts: list[tuple[float, float, str, bool]] = []  # x, baseline, text, is a caption
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
                self.texts.append((middle, base + 1, _shorten(line, font, self.wide - 8), True))
            self.texts.append((middle, base + 18, number, False))
        for center, bottom, text, is_caption in self.texts if with_text else ():
            ink, face = (color, font) if is_caption else (QUIET, _font(NUMBER, "normal"))
            pen.text((center, bottom), text, ink, face, anchor="ms")
        self.raster: NDArray[np.uint8] = np.asarray(page)  # (height, width, 3)

    def add_to(self, figure: Figure, top: float, layout: Layout) -> None:
        """Draw the pictures and the texts as parts of a figure, below `top` (a share of it)."""
        high, wide, _ = self.raster.shape
        axes = figure.add_axes((0, 0, 1, top))
        axes.set_axis_off()
        axes.imshow(self.raster, interpolation="none", aspect="auto", extent=(0, wide, high, 0))
        scale = figure.get_figwidth() * DPI / wide
        for x, y, text, is_caption in self.texts:
            size = (self.points if is_caption else NUMBER) * scale
            size = size if layout.titled else min(size, layout.font + 1)
            color, weight = (self.color, "bold") if is_caption else (QUIET, "normal")
            axes.text(x, y, text, color=color, size=size, weight=weight, ha="center")

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
