"""Resampling of images after an affine map or an elastic deformation.

The native extension does this if it exists; otherwise, NumPy does, with the same bytes. Both are
exact: they compute with integers, or with floats that hold integers below 2^24, whose sums do not
depend on their order. The results are therefore the same on all machines.

Positions are in pixels, with x to the right and y down, and (0, 0) is the center of the first
pixel. Values between pixels are interpolated bilinearly, and everything outside an image is black.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lenet_sweep.data.images import Pixels
from lenet_sweep.training.engines.support import unavailable_reason
from lenet_sweep.training.random_words import random_words

SIDE = 28  # pixels
STRIDE = 32  # of a row, with padding
CHUNK = 256  # images that NumPy resamples at a time, so that they fit the caches
ONE = 1 << 16  # in the fixed-point numbers of a map

Ints = NDArray[np.int32]


def _extension() -> ModuleType | None:
    if unavailable_reason():
        return None
    from lenet_sweep.training.engines import _native  # noqa: PLC0415 - may be missing

    return _native


def shift(images: Pixels, order: NDArray[np.int64], shifts: NDArray[np.int64]) -> Pixels:
    """Move the images (N, 28, 28) with these indices (n,); the result is (n, 28, 28).

    shifts: (2, n), pixels to the right and down, from -28 to 28.
    """
    if native := _extension():
        maps = np.tile(np.array([ONE, 0, 0, 0, ONE, 0], np.int32), (len(order), 1))
        maps[:, [2, 5]] = -ONE * shifts.T
        result: Pixels = native.affine(images, order, maps)
        return result
    return shift_in_numpy(images, order, shifts)


def shift_in_numpy(images: Pixels, order: NDArray[np.int64], shifts: NDArray[np.int64]) -> Pixels:
    """Like `shift`, with NumPy alone, where it is much faster than an affine map."""
    right, down = SIDE - shifts
    padded = np.zeros((CHUNK, 3 * SIDE, 3 * SIDE), np.uint8)
    windows = sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    result = np.empty((len(order), SIDE, SIDE), np.uint8)
    for start in range(0, len(order), CHUNK):
        part = slice(start, start + CHUNK)
        count = len(order[part])
        padded[:count, SIDE : 2 * SIDE, SIDE : 2 * SIDE] = images[order[part]]
        result[part] = windows[np.arange(count), down[part], right[part]]
    return result


def affine(images: Pixels, order: NDArray[np.int64], maps: NDArray[np.float64]) -> Pixels:
    """Resample the images (N, 28, 28) with these indices (n,) into (n, 28, 28).

    maps: (n, 2, 3); the value of the pixel at (x, y) comes from the position maps @ (x, y, 1) in
    the original image. Coefficients are rounded to 2^-16, and must be less than 1,000.
    """
    fixed = np.rint(maps * ONE).astype(np.int32).reshape(-1, 6)
    if native := _extension():
        result: Pixels = native.affine(images, order, fixed)
        return result
    return affine_in_numpy(images, order, fixed)


def affine_in_numpy(images: Pixels, order: NDArray[np.int64], maps: Ints) -> Pixels:
    """Like the extension's function of this name. maps: (n, 6), in units of 2^-16."""
    result = np.empty((len(order), SIDE, SIDE), np.uint8)
    y, x = np.indices((SIDE, SIDE), np.int32)
    for start in range(0, len(order), CHUNK):
        part = slice(start, start + CHUNK)
        m = maps[part, :, None, None]
        positions = [(m[:, i] * x + m[:, i + 1] * y + m[:, i + 2]) >> 8 for i in (0, 3)]
        result[part] = _sample(images[order[part]], *positions)
    return result


def elastic(
    images: Pixels,
    order: NDArray[np.int64],
    keys: NDArray[np.uint64],
    alpha: float,
    sigma: float,
) -> Pixels:
    """Resample the images (N, 28, 28) with these indices (n,) into (n, 28, 28).

    Each pixel comes from a position whose x and y are displaced by `alpha` times smoothed noise
    (Simard, Steinkraus and Platt, 2003, "Best practices for convolutional neural networks applied
    to visual document analysis"): independent numbers from -1 to 1, filtered by a Gaussian with the
    standard deviation `sigma` (in pixels) that wraps around at the borders.

    keys: (n,), for the random numbers of each image.
    """
    smooth, scale, shift = smoothing(alpha, sigma)
    if native := _extension():
        result: Pixels = native.elastic(images, order, keys, smooth, scale, shift)
        return result
    return elastic_in_numpy(images, order, keys, smooth, scale, shift)


def elastic_in_numpy(
    images: Pixels,
    order: NDArray[np.int64],
    keys: NDArray[np.uint64],
    smooth: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: int,
) -> Pixels:
    """Like the extension's function of this name; see `smoothing` for the last three arguments."""
    result = np.empty((len(order), SIDE, SIDE), np.uint8)
    y, x = 256 * np.indices((SIDE, SIDE), np.int32)
    for start in range(0, len(order), CHUNK):
        part = slice(start, start + CHUNK)
        by_x, by_y = displacements(keys[part], smooth, scale, shift)
        result[part] = _sample(images[order[part]], x + by_x, y + by_y)
    return result


def smoothing(alpha: float, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """What `displacements` needs: two matrices (28, 32), and a number of bits.

    The first matrix smooths rows, the second smooths columns and multiplies by alpha, both as
    integers. Rounding makes the last bits of `exp`, which vary between machines, irrelevant.
    """
    distances = np.arange(SIDE) + SIDE * np.arange(-8, 9)[:, None]  # to all copies of a pixel
    weights = np.exp(-((distances / sigma) ** 2) / 2).sum(axis=0)
    weights /= weights.sum()
    bits = 14 - max(math.frexp(alpha)[1], -6)  # alpha * 2^bits is less than 2^14
    columns = (np.arange(SIDE)[:, None] - np.arange(SIDE)) % SIDE
    smooth, scale = (
        np.pad(np.rint(factor * weights)[columns], ((0, 0), (0, STRIDE - SIDE))).astype(np.float32)
        for factor in (2.0**14, alpha * 2.0**bits)
    )
    return smooth, scale, bits + 2


def displacements(
    keys: NDArray[np.uint64], smooth: NDArray[np.float32], scale: NDArray[np.float32], shift: int
) -> tuple[Ints, Ints]:
    """The displacement of each pixel in x and in y, each (n, 28, 28), in 1/256 pixels.

    The noise has 8 bits: it is an odd number from -255 to 255 in units of 1/256. Its smoothed rows
    are in units of 1/1024, and what is then smoothed along the columns is shifted by `shift` bits.
    """
    words = random_words(keys, 2 * SIDE * SIDE // 8).astype("<u8")
    noise = words.view(np.uint8).reshape(-1, SIDE).astype(np.float32) * 2 - 255
    rows = (noise @ smooth[:, :SIDE]).astype(np.int32)
    rows = (rows + (1 << 11)) >> 12
    fields = scale[:, :SIDE] @ rows.reshape(-1, 2, SIDE, SIDE).astype(np.float32)
    rounded = (fields.astype(np.int32) + (1 << (shift - 1))) >> shift
    return rounded[:, 0], rounded[:, 1]


def _sample(images: Pixels, x: Ints, y: Ints) -> Pixels:
    """The interpolated values at these positions, in 1/256 pixels. All arrays are (n, 28, 28)."""
    padded = np.zeros((len(images), SIDE + 3, STRIDE), np.int32)
    padded[:, 1 : SIDE + 1, 1 : SIDE + 1] = images
    x, y = (np.clip(position, -256, 256 * SIDE) + 256 for position in (x, y))
    right, lower = x & 255, y & 255
    where = (y >> 8) * STRIDE + (x >> 8)
    where += np.arange(len(images), dtype=np.int32)[:, None, None] * padded[0].size
    upper_row, lower_row = (
        padded.take(where + at) * (256 - right) + padded.take(where + at + 1) * right
        for at in (0, STRIDE)
    )
    result: Pixels = (upper_row * (256 - lower) + lower_row * lower + (1 << 15) >> 16).astype(
        np.uint8
    )
    return result
