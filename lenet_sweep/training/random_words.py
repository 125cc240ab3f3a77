"""Random numbers of each training image in each epoch, which do not depend on other images.

NumPy's generators give a stream, from which the numbers of a single image cannot be taken without
those before it. Here, each number is a hash of the seed, the epoch, the image and its own index:
splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def image_keys(seed: int, epoch: int, indices: NDArray[np.int64]) -> Words:
    """A key for each training image in an epoch, (n,), for `random_words`.

    seed: less than 2^32. epoch: at least 1. indices: of the images, (n,).
    """
    base = _mix(np.array([(seed << 32) + epoch], np.uint64))
    return _mix(base + indices.astype(np.uint64) * _STEP)


def random_words(keys: Words, count: int) -> Words:
    """`count` random 64-bit integers for each key, (n, count)."""
    return _mix(keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP)


def fractions(words: Words) -> NDArray[np.float64]:
    """Random integers as numbers from 0 up to, but not including, 1, in the same shape."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(words: Words, limit: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Random integers as integers from 0 to limit - 1, in the same shape; limit: below 2^31."""
    high = (words >> np.uint64(32)).astype(np.int64)
    return high * limit >> 32
