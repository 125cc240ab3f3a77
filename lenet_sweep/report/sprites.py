"""Many small test images as one PNG, for `background-position` to show one of."""

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
    """uri: the PNG as a data URI. columns, rows: how many images it has, side by side."""

    uri: str
    columns: int
    rows: int

    def place(self, number: int) -> tuple[int, int]:
        """Column and row of an image."""
        return number % self.columns, number // self.columns


def sprite(images: NDArray[np.uint8]) -> Sprite:
    """One picture of (N, 28, 28) images, N at least 1, dark on light."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    every = np.zeros((rows * columns, 28, 28), np.uint8)
    every[: len(images)] = images
    sheet = every.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)
    content = io.BytesIO()
    # Sixteen greys are as many as an eye tells apart at this size, and half the bytes.
    picture = Image.fromarray(255 - (sheet >> 4) * 17, "L").quantize(16)
    picture.save(content, format="PNG", optimize=True)
    return Sprite(
        "data:image/png;base64," + base64.b64encode(content.getvalue()).decode(), columns, rows
    )
