"""The initial weights of a seed, without importing torch.

With init=torch they are bit-identical to PyTorch's. The other initializations have the formulas of
torch.nn.init, and their random numbers come from NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

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


def initial_weights(seed: int, init: str = "torch") -> dict[str, NDArray[np.float32]]:
    """The weights and biases of LeNet5 by torch's names, for a seed from 0 to 2**32 - 1."""
    if init == "torch":
        return _torch_default(seed)
    initialized = initialize(init, seed, [shape for _, shape, _ in LAYERS])
    weights: dict[str, NDArray[np.float32]] = {}
    for (name, shape, _), weight in zip(LAYERS, initialized, strict=True):
        weights[f"{name}.weight"] = weight
        weights[f"{name}.bias"] = np.zeros(shape[:1], np.float32)
    return weights


def initialize(
    init: str, seed: int, shapes: Iterable[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """The weights of layers with these shapes (outputs, inputs, ...), for a choice of conf/init.

    RandomState is used because NumPy guarantees that its streams never change (NEP 19).
    """
    random = np.random.RandomState(seed)
    return [INITIALIZERS[init](random, shape).astype(np.float32) for shape in shapes]


def _torch_default(seed: int) -> dict[str, NDArray[np.float32]]:
    """PyTorch's default initialization.

    Weights and biases are uniform in +-1 / sqrt(fan-in): Kaiming initialization with a = sqrt(5),
    which is torch's default for convolutions and linear layers. torch uses the Mersenne Twister,
    like RandomState, and keeps 24 bits of each number.
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


Random = np.random.RandomState
Shape = tuple[int, ...]
Weights = NDArray[np.float64]


def _fans(shape: Shape) -> tuple[int, int]:
    """The numbers of inputs and outputs of a unit, as torch.nn.init counts them."""
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _xavier_uniform(random: Random, shape: Shape) -> Weights:
    bound = math.sqrt(6 / sum(_fans(shape)))
    return random.uniform(-bound, bound, shape)


def _xavier_normal(random: Random, shape: Shape) -> Weights:
    return random.standard_normal(shape) * math.sqrt(2 / sum(_fans(shape)))


def _kaiming_uniform(random: Random, shape: Shape) -> Weights:
    bound = math.sqrt(6 / _fans(shape)[0])
    return random.uniform(-bound, bound, shape)


def _kaiming_normal(random: Random, shape: Shape) -> Weights:
    return random.standard_normal(shape) * math.sqrt(2 / _fans(shape)[0])


def _orthogonal(random: Random, shape: Shape) -> Weights:
    rows, columns = shape[0], math.prod(shape[1:])
    normal = random.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diag(r))  # makes the decomposition unique
    return (q if rows >= columns else q.T).reshape(shape)


INITIALIZERS: Mapping[str, Callable[[Random, Shape], Weights]] = {
    "xavier_uniform": _xavier_uniform,
    "xavier_normal": _xavier_normal,
    "kaiming_uniform": _kaiming_uniform,
    "kaiming_normal": _kaiming_normal,
    "orthogonal": _orthogonal,
}
