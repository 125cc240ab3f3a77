"""Packs many test images into one PNG (a CSS sprite), which is smaller than one file per image."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lenet_sweep.data.images import Pixels

COLUMNS = 20
MAX_SIDE = 64  # pixels of a tile


@dataclass(frozen=True)
class Sprite:
    """A PNG as a data URI (`uri`), with the number of images per row and per column."""

    uri: str
    columns: int
    rows: int

    def position(self, index: int) -> tuple[int, int]:
        """The column and row of an image."""
        return index % self.columns, index // self.columns


def make_sprite(images: Pixels, *, inverted: bool = True) -> Sprite:
    """Pack images (N, height, width), N >= 1, into a sprite of square tiles.

    Images larger than MAX_SIDE are reduced. inverted: 0 is the background; draw dark on light.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    shown = ~images if inverted else images
    side = min(max(images.shape[1:]), MAX_SIDE)
    sheet = Image.new("L", (columns * side, rows * side), 255)
    for index, pixels in enumerate(shown):
        tile = fit(Image.fromarray(pixels), side)
        left, top = (side - tile.width) // 2, (side - tile.height) // 2
        sheet.paste(tile, (index % columns * side + left, index // columns * side + top))
    content = io.BytesIO()
    # 16 gray levels halve the size and look the same at this scale. Color 0 is white.
    picture = Image.frombytes("P", sheet.size, ((255 - np.asarray(sheet)) >> 4).tobytes())
    picture.putpalette([255 - 17 * color for color in range(16) for _ in range(3)])
    # Level 9 (optimize=True) would take ten times as long and save 3%.
    picture.save(content, format="PNG", compress_level=6)
    uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    return Sprite(uri, columns, rows)


def fit(picture: Image.Image, side: int) -> Image.Image:
    """The picture, scaled so that its longer side has this many pixels."""
    factor = side / max(picture.size)
    width, height = (max(1, round(length * factor)) for length in picture.size)
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return picture if factor == 1 else picture.resize((width, height), how)
