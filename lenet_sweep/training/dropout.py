"""Dropout: which units of the two hidden dense layers are dropped in a step.

The masks are made outside the engines, from the seed and the step, so that all engines drop the
same units and a resumed run continues as if it had not been interrupted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell


def layer_units(width: float) -> tuple[int, int]:
    """The number of units of the layers with dropout: 120 and 84, multiplied by the width."""
    units1, units2 = (max(round(units * width), 1) for units in (120, 84))
    return units1, units2


def keep_mask(cell: Cell, step: int, batch: int) -> NDArray[np.uint8]:
    """1 for each unit that a step keeps and 0 for the others, (batch, units of both layers).

    step: counted from 0 over the whole run. Philox is used because NumPy guarantees that the
    streams of its bit generators never change (NEP 19). Probabilities are rounded to 2^-16.
    """
    units = sum(layer_units(cell.width))
    words = np.random.Philox(key=[cell.seed, step]).random_raw(-(-batch * units // 4))
    bits = words.view(np.uint16)[: batch * units]
    keep: NDArray[np.uint8] = (bits >= round(cell.dropout * 2**16)).view(np.uint8)
    return keep.reshape(batch, units)
