"""Generated datasets: small, seeded, learnable."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: NDArray[Any]) -> bytes:
    """An array of any shape, of bytes or of integers of 16 or 32 bits, as an IDX file."""
    code = {1: 0x08, 2: 0x0B, 4: 0x0C}[array.itemsize]
    header = struct.pack(f">{1 + array.ndim}I", 0x100 * code + array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def learnable(train: int, test: int, seed: int) -> dict[str, bytes]:
    """The four IDX files of a dataset: each class is a fixed random pattern with added noise."""
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 156, (10, 28, 28))

    def part(count: int) -> tuple[bytes, bytes]:
        labels = random.permutation(np.arange(count) % 10).astype(
            np.uint8
        )  # so that every class occurs
        noise = random.integers(0, 100, (count, 28, 28))
        return idx_bytes((patterns[labels] + noise).astype(np.uint8)), idx_bytes(labels)

    return dict(zip(FILE_NAMES, (*part(train), *part(test)), strict=True))
