"""Generated datasets: small, seeded, learnable."""

import struct

import numpy as np
from numpy.typing import NDArray

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """An array of any shape as an IDX file."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.tobytes()


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
