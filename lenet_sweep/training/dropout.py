"""Dropout: which units of the two hidden dense layers are dropped in a step.

The masks are made outside the engines, from the seed and the step, so that all engines drop the
same units and a resumed run continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return _keep_masks(cell, step, [batch])


def keep_masks(cell: Cell, step: int, images: int) -> NDArray[np.uint8]:
    """The masks of consecutive steps from `step` on, (images, units of both layers).

    The batches are those of the cell; the last may be smaller.
    """
    starts = range(0, images, cell.batch)
    return _keep_masks(cell, step, [min(cell.batch, images - start) for start in starts])


def _keep_masks(cell: Cell, step: int, batches: Sequence[int]) -> NDArray[np.uint8]:
    units = sum(layer_units(cell.width))
    masks = np.empty(sum(batches) * units, bool)
    least = np.uint16(round(cell.dropout * 2**16))
    generator = np.random.Philox(key=[cell.seed, step])
    state = generator.state
    done = 0
    for number, batch in enumerate(batches, step):
        # Changing the key of a generator takes a third of the time of making one.
        state["state"]["key"][1] = number
        generator.state = state
        words = generator.random_raw(-(-batch * units // 4))
        part = masks[done : done + batch * units]
        np.greater_equal(words.view(np.uint16)[: len(part)], least, out=part)
        done += len(part)
    return masks.view(np.uint8).reshape(-1, units)
