"""Dropout: which units of the two hidden dense layers are dropped in a step.

The masks are made outside the engines, from the seed and the step, so that all engines drop the
same units and a resumed run continues as if it had not been interrupted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell


def layer_units(width: float) -> tuple[int, int]:
    """The numbers of units of the layers with dropout: 120 and 84, multiplied by the width."""
    return scaled(120, width), scaled(84, width)


def scaled(units: int, width: float) -> int:
    """A number of units or channels multiplied by the width, rounded, and at least 1."""
    return max(round(units * width), 1)


def keep_masks(cell: Cell, step: int, images: int) -> NDArray[np.uint8]:
    """1 for each unit that is kept and 0 for the others, (images, units of both layers).

    The images are those of consecutive steps from `step` on, which is counted from 0 over the whole
    run. The batches are those of the cell; the last may be smaller. Philox is used because NumPy
    guarantees that the streams of its bit generators never change (NEP 19). Probabilities are
    rounded to 2^-16.
    """
    units = sum(layer_units(cell.width))
    masks = np.empty(images * units, bool)
    least = np.uint16(round(cell.dropout * 2**16))
    generator = np.random.Philox(key=[cell.seed, step])
    state = generator.state
    for number, start in enumerate(range(0, images, cell.batch), step):
        # Changing the key of a generator takes a third of the time of making one.
        state["state"]["key"][1] = number
        generator.state = state
        part = masks[start * units : (start + cell.batch) * units]
        words = generator.random_raw(-(-len(part) // 4))
        np.greater_equal(words.view(np.uint16)[: len(part)], least, out=part)
    return masks.view(np.uint8).reshape(-1, units)
