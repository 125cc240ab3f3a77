"""Curves and images to draw, and what a figure shows."""

import math

import numpy as np
from matplotlib.text import Text

from lenet_sweep.report import style
from lenet_sweep.report.histories import Curve

NAN, INF = math.nan, math.inf
WIDE = "W" * 60
BROKEN_FORMULA = r"$\frac{lr$ batch_size_64"  # as mathtext this is a syntax error


def decay(label="lr 0.1, batch 64", epochs=10, best=99.0, final=0.01):
    steps = np.arange(1, epochs + 1)
    trace = [(0.1 * k, 2.3 * math.exp(-0.3 * k)) for k in range(1, 10 * epochs)]
    return Curve(
        label,
        steps.tolist(),
        (final + 0.4 * np.exp(-steps / 2)).tolist(),
        (best - 8 * np.exp(-steps / 2)).tolist(),
        trace,
    )


def sweep(count, epochs=10):
    # Neither the first nor the last curve is the best one, so the order shows that they are ranked.
    order = np.random.default_rng(1).permutation(count)
    return [decay(f"cell {k}", epochs, 99.5 - 0.1 * k, 0.01 * 1.1**k) for k in order]


def digits(count, wrong_every=3):
    """Images filled with their own index (modulo 256), labels, and predictions."""
    indices = np.arange(count)
    images = np.broadcast_to((indices % 256).astype(np.uint8)[:, None, None], (count, 28, 28))
    labels = indices * 7 % 10
    return images, labels, (labels + (indices % wrong_every == 0) * (1 + indices % 9)) % 10


def drawn_texts(figure, monkeypatch):
    """Text and extent of all texts on the canvas, without ticks outside the limits of the axes."""
    texts = []
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            texts.append(self)
        return draw(self, renderer, *args, **kwargs)

    with monkeypatch.context() as patch, style.styled():
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
        return [(text.get_text(), text.get_window_extent()) for text in texts]


def all_text(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def series(axes, label=None):
    return [
        np.column_stack(line.get_data())
        for line in axes.lines
        if label is None or line.get_label().startswith(label)
    ]


def tiles_of(figure):
    """(caption, index, value of one pixel) of every image of the figure."""
    (tiles,) = figure.artists
    return [
        (caption, int(number.removeprefix("#")), tiles.raster[y + 5, x + 5, 0])
        for caption, number, (x, y) in zip(
            tiles.captions, tiles.numbers, tiles.corners, strict=True
        )
    ]
