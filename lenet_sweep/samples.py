"""
Figures of test images, right and wrong, drawn from plain arrays.

Every function returns Figures for `style.save` to write.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet_sweep.style import COLOURS, DPI, QUIET, styled, titled

Images = NDArray[np.uint8]  # (N, 28, 28), 0 is background
Digits = NDArray[np.integer[Any]]  # (N,)


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
    right = np.flatnonzero(labels == predictions)
    shown = np.random.default_rng(seed).choice(right, min(count, len(right)), replace=False)
    shown = shown[np.lexsort((shown, labels[shown]))]
    title = f"{len(shown)} of {len(right):,} correctly classified test images"
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
        COLOURS[2],
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
    wrong = np.flatnonzero(labels != predictions)
    wrong = wrong[np.lexsort((wrong, predictions[wrong], labels[wrong]))]
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
            COLOURS[1],
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
    """All images as one array in one Axes, since a hundred Axes take seconds to draw."""
    gap, below = 12 // scale, 54 // scale  # image pixels, each `scale` pixels of the page
    high, wide = 28 + below, 28 + 2 * gap
    page = np.full((math.ceil(len(images) / columns) * high, columns * wide), 255, np.uint8)
    corners = [(at // columns * high, at % columns * wide + gap) for at in range(len(images))]
    for image, (y, x) in zip(images, corners, strict=True):
        page[y : y + 28, x : x + 28] = 238 - image * (238 / 255)  # dark on light grey: saves ink
    height, width = np.array(page.shape) * scale / DPI
    with styled():
        figure, part = titled(width, height, *header)
        if not len(images):
            return figure
        axes = figure.add_axes((0, 0, 1, part))
        axes.set_axis_off()
        axes.imshow(page, "gray", aspect="auto", interpolation="nearest", vmin=0, vmax=255)
        for (y, x), caption, place in zip(corners, captions, places, strict=True):
            at, base = x + 13.5, y + 28
            bold: dict[str, Any] = {"color": colour, "fontsize": 10.5, "weight": "bold"}
            axes.text(at, base + 19 / scale, caption, ha="center", **bold)
            axes.text(at, base + 34 / scale, f"#{place}", ha="center", color=QUIET, fontsize=6.5)
    return figure
