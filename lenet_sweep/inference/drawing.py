"""Show what the network saw: as text, and as a picture of all steps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from lenet_sweep.inference.preprocess import Gray, Step

SHADES = " .:-=+*#%@"  # from dark to bright
MAX_COLUMNS = 56  # of text
PANEL = 196  # pixels of a step's picture
MARGIN, CAPTION = 8, 26  # pixels


def text_art(image: Gray) -> list[str]:
    """An image as lines of text. A character is twice as high as wide, so it stands for two pixels.

    Bright pixels have dense characters, as on a terminal with a dark background.
    """
    height, width = image.shape
    columns = min(width, MAX_COLUMNS)
    rows = max(round(columns * height / width / 2), 1)
    small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX)
    shades = np.asarray(small, np.uint16) * len(SHADES) // 256
    return ["".join(SHADES[shade] for shade in row).rstrip() for row in shades]


def steps_picture(steps: tuple[Step, ...]) -> bytes:
    """A PNG with the images of all steps side by side, each above what was done."""
    width = len(steps) * (PANEL + MARGIN) + MARGIN
    picture = Image.new("L", (width, PANEL + 2 * MARGIN + CAPTION), 255)
    draw = ImageDraw.Draw(picture)
    for number, step in enumerate(steps):
        left = MARGIN + number * (PANEL + MARGIN)
        panel = _fit(step.image)
        picture.paste(panel, (left, MARGIN))
        draw.rectangle(
            (left - 1, MARGIN - 1, left + panel.width, MARGIN + panel.height), outline=160
        )
        for line, text in enumerate(_wrapped(step.name)):
            draw.text((left, MARGIN + PANEL + 4 + 11 * line), text, fill=0)
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _fit(image: Gray) -> Image.Image:
    """An image with a longer side of PANEL pixels; enlarged pixels stay sharp."""
    height, width = image.shape
    factor = PANEL / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return Image.fromarray(image).resize(size, how)


def _wrapped(text: str) -> list[str]:
    """At most two lines, at a space near the middle if the text is long."""
    if len(text) <= 32:
        return [text]
    cut = text.rfind(" ", 0, 33)
    return [text[:cut], text[cut + 1 :]]
