"""Packs many test images into one PNG (a CSS sprite), which is smaller than one file per image."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLUMNS = 20


@dataclass(frozen=True)
class Sprite:
    """A PNG as a data URI (`uri`), with the number of images per row and per column."""

    uri: str
    columns: int
    rows: int

    def position(self, index: int) -> tuple[int, int]:
        """The column and row of an image."""
        return index % self.columns, index // self.columns


def make_sprite(images: NDArray[np.uint8]) -> Sprite:
    """Pack images (N, 28, 28), N >= 1, 0 the background, into a sprite, dark on light."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    padded = np.zeros((rows * columns, 28, 28), np.uint8)
    padded[: len(images)] = images
    sheet = padded.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)
    content = io.BytesIO()
    # 16 gray levels halve the size and look the same at this scale.
    picture = Image.fromarray(255 - (sheet >> 4) * 17, "L").quantize(16)
    picture.save(content, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    return Sprite(uri, columns, rows)
