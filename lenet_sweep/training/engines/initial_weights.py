"""The initial weights of a seed, bit-identical to PyTorch's but without importing torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Name, shape and fan-in of each layer, in the order in which torch initializes them.
LAYERS = (
    ("conv1", (6, 1, 5, 5), 25),
    ("conv2", (16, 6, 5, 5), 150),
    ("conv3", (120, 16, 5, 5), 400),
    ("linear1", (84, 120), 120),
    ("linear2", (10, 84), 84),
)


def initial_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    """The weights and biases of LeNet5 by torch's names, for a seed from 0 to 2**32 - 1.

    Both are uniform in +-1 / sqrt(fan-in): Kaiming initialization with a = sqrt(5), which is
    torch's default for convolutions and linear layers. torch uses the Mersenne Twister, like
    RandomState, and keeps 24 bits of each number.
    """
    random = np.random.RandomState(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape, inputs in LAYERS:
        kaiming = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(inputs))
        weights[f"{name}.weight"] = _uniform(random, kaiming, shape)
        weights[f"{name}.bias"] = _uniform(random, 1 / math.sqrt(inputs), shape[:1])
    return weights


def _uniform(
    random: np.random.RandomState, bound: float, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    bits = random.randint(0, 2**32, size=math.prod(shape), dtype=np.uint32) & 0xFFFFFF
    low, high = np.float32(-bound), np.float32(bound)
    # torch rounds once after multiplying and adding. In double precision the product is exact.
    values = bits * 2.0**-24 * np.float64(high - low) + np.float64(low)
    return values.astype(np.float32).reshape(shape)
