"""Pictures of MNIST's digits as people make them: photos, and scanned pages."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]


def photo(digit: Pixels, seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A photo of dark ink on light paper: larger, turned slightly, off center, noisy, and with
    light from one side.
    """
    random = np.random.default_rng(seed)
    side = int(random.integers(130, 230))
    turned = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    turned = turned.rotate(float(random.uniform(-10, 10)), Image.Resampling.BICUBIC)
    ink = np.zeros(size[::-1])
    x, y = (int(random.integers(0, n - side)) for n in size)
    ink[y : y + side, x : x + side] = np.clip((np.asarray(turned, float) - 100) / 60, 0, 1)
    right, down = np.meshgrid(*(np.linspace(-1, 1, n) for n in size))
    angle = random.uniform(0, 2 * np.pi)
    light = 175 + 45 * (np.cos(angle) * right + np.sin(angle) * down) - 20 * (right**2 + down**2)
    pixels = light * (1 - 0.65 * ink) + random.normal(0, 6, ink.shape)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(1))


def page(lines: Sequence[Sequence[Pixels]], seed: int = 0) -> Image.Image:
    """A scanned page with lines of digits that are not quite straight, a ruled line, and dust."""
    random = np.random.default_rng(seed)
    ink = np.zeros((140 * len(lines) + 40, 105 * max(map(len, lines)) + 40))
    for row, line in enumerate(lines):
        for column, digit in enumerate(line):
            side = int(random.integers(60, 80))
            y = 30 + 140 * row + int(random.integers(-8, 8))
            x = 30 + 105 * column + int(random.integers(-8, 8))
            large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
            place = ink[y : y + side, x : x + side]
            np.maximum(place, np.clip((np.asarray(large, float) - 100) / 60, 0, 1), out=place)
    ink[125:128, 10:-10] = 1
    for y, x in random.integers(5, min(ink.shape) - 5, (8, 2)):
        ink[y : y + 3, x : x + 3] = 1
    pixels = np.linspace(230, 160, ink.shape[1]) * (1 - 0.7 * ink)
    pixels += random.normal(0, 4, ink.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
