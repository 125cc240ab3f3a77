"""Training histories of a setting: its seeds side by side, their mean, and their range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell

Series: TypeAlias = NDArray[np.float64]


def trajectory_setting(cell: Cell) -> Cell:
    """What a cell shares with all cells that differ only in seed and number of epochs.

    Cells of fewer epochs are part of a longer training, so they do not get a curve of their own.
    """
    return replace(cell, seed=0, epochs=1)


def stack_seeds(
    seeds: Sequence[tuple[Sequence[float] | Series, Sequence[float] | Series]],
) -> Series:
    """Costs and accuracies of the seeds as (2, seeds, epochs), padded with NaN at the end."""
    epochs = max(len(costs) for costs, _ in seeds)
    stacked = np.full((2, len(seeds), epochs), np.nan)
    for index, (costs, accuracies) in enumerate(seeds):
        stacked[:, index, : len(costs)] = costs, accuracies
    return stacked


def mean_and_range(values: Series) -> Series:
    """Mean, minimum, and maximum (3, epochs) of `values` (seeds, epochs), ignoring NaN.

    NaN for epochs without any value.
    """
    known = ~np.isnan(values).all(axis=0)
    result = np.full((3, values.shape[1]), np.nan)
    columns = values[:, known]
    if columns.size:
        result[:, known] = np.nanmean(columns, 0), np.nanmin(columns, 0), np.nanmax(columns, 0)
    return result
