"""Training histories as curves, prepared once for the PNG figures and for the charts of the page.

The longest history of each run counts, and the seeds of a setting become one curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch

DIVERGED_COST: Final = 1e38  # about the largest float32; larger values make matplotlib overflow

Series: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The training history of a cell, or the mean over the seeds of a setting (`mean_curve`).

    A cost that is not a finite float32 marks a diverged run, which is drawn up to that epoch.
    Raises ValueError if there is no epoch, or if `epochs`, `cost` and `accuracy` differ in length.
    """

    label: str  # e.g. "lr 0.1, batch 64"; shown as typed
    epochs: Sequence[int]  # 1, 2, ..., E
    cost: Sequence[float] | Series  # (E,) mean training loss of each epoch
    accuracy: Sequence[float] | Series  # (E,) percent of the test set, after each epoch
    # (position in epochs, loss of one batch) as pairs or as an array (k, 2)
    trace: Sequence[tuple[float, float]] | NDArray[np.floating[Any]] = ()
    seeds: int = 1  # the number of seeds in the mean
    cost_band: tuple[Series, Series] | None = None  # lowest and highest seed in each epoch
    accuracy_band: tuple[Series, Series] | None = None
    sd: float | None = None  # points: standard deviation of the final accuracy over the seeds
    ended_early: bool = False  # its run ended because of its patience, and its result is final

    def __post_init__(self) -> None:
        lengths = [len(self.epochs), len(self.cost), len(self.accuracy)]
        if not lengths[0] or len(set(lengths)) > 1:
            epochs, costs, accuracies = lengths
            raise ValueError(
                f"curve {self.label!r} has {epochs} epochs, {costs} costs and {accuracies} "
                "accuracies; pass the same number of each, at least 1"
            )

    @classmethod
    def of(
        cls, label: str, history: Sequence[Epoch], trace: NDArray[np.floating[Any]] | None = None
    ) -> Curve:
        """The curve of a history of at least one epoch."""
        return cls(
            label=label,
            epochs=[epoch.epoch for epoch in history],
            cost=[epoch.cost for epoch in history],
            accuracy=[epoch.accuracy for epoch in history],
            trace=() if trace is None else trace,
        )

    @property
    def diverged_in(self) -> int | None:
        """The first epoch whose cost is not a finite float32, or None."""
        pairs = zip(self.epochs, self.cost, strict=True)
        return next((epoch for epoch, cost in pairs if not abs(cost) < DIVERGED_COST), None)

    def before_divergence(self) -> Series:
        """Epochs, costs and accuracies (3, n) up to the first cost that is not finite."""
        table = np.array([self.epochs, self.cost, self.accuracy], float)
        return table[:, np.logical_and.accumulate(abs(table[1]) < DIVERGED_COST)]


def curves_by_setting(
    histories: Iterable[tuple[Cell, Sequence[Epoch]]],
) -> list[tuple[Cell, Curve]]:
    """One curve per setting, each with the cell of its first seed; labels are empty.

    histories: of cells, in the order that the curves will have. Of the cells that share a run, the
    one with the most epochs counts. Settings that differ only in the number of epochs are one.
    """
    longest: dict[str, tuple[Cell, Sequence[Epoch]]] = {}
    for cell, history in histories:
        if cell.run_id not in longest or len(history) > len(longest[cell.run_id][1]):
            longest[cell.run_id] = cell, history
    groups: dict[Cell, list[tuple[Cell, Curve]]] = {}
    for cell, history in longest.values():
        group = groups.setdefault(replace(cell, seed=0, epochs=1), [])
        ended_early = len(history) < cell.epochs
        group.append((cell, replace(Curve.of("", history), ended_early=ended_early)))
    return [
        (group[0][0], mean_curve("", [curve for _, curve in group])) for group in groups.values()
    ]


def mean_curve(label: str, seeds: Sequence[Curve]) -> Curve:
    """The mean over the seeds of a setting, with bands from the lowest to the highest seed.

    Diverged seeds are left out. If all seeds diverged, the result is the first one. A seed that
    ended early counts with its last values in later epochs.
    """
    converged = [curve for curve in seeds if curve.diverged_in is None] or [*seeds[:1]]
    if len(converged) == 1:
        return replace(converged[0], label=label, trace=())
    longest = max(converged, key=lambda curve: len(curve.epochs))
    costs, accuracies = _stack(converged)
    (cost, *cost_band), (accuracy, *accuracy_band) = map(_mean_and_range, (costs, accuracies))
    final = accuracies[:, -1]
    final = final[np.isfinite(final)]
    if len(final):
        accuracy[-1] = fmean(final)  # bit-identical to the tables, so that both round alike
    return Curve(
        label=label,
        epochs=longest.epochs,
        cost=cost,
        accuracy=accuracy,
        seeds=len(converged),
        cost_band=(cost_band[0], cost_band[1]),
        accuracy_band=(accuracy_band[0], accuracy_band[1]),
        sd=float(final.std(ddof=1)) if len(final) > 1 else None,
    )


def finite_points(points: Series) -> Series:
    """The columns of `points` (2, n) that matplotlib can draw."""
    return points[:, (abs(points) < DIVERGED_COST).all(axis=0)]


def _stack(seeds: Sequence[Curve]) -> Series:
    """Costs and accuracies of the seeds as (2, seeds, epochs).

    Shorter seeds are padded at the end: with NaN, or with their last values if they ended early.
    """
    stacked = np.full((2, len(seeds), max(len(seed.epochs) for seed in seeds)), np.nan)
    for index, seed in enumerate(seeds):
        stacked[:, index, : len(seed.epochs)] = seed.cost, seed.accuracy
        if seed.ended_early:
            stacked[:, index, len(seed.epochs) :] = [[seed.cost[-1]], [seed.accuracy[-1]]]
    return stacked


def _mean_and_range(values: Series) -> Series:
    """Mean, minimum, and maximum (3, epochs) of `values` (seeds, epochs), ignoring NaN.

    NaN for epochs without any value.
    """
    known = ~np.isnan(values).all(axis=0)
    result = np.full((3, values.shape[1]), np.nan)
    columns = values[:, known]
    if columns.size:
        result[:, known] = np.nanmean(columns, 0), np.nanmin(columns, 0), np.nanmax(columns, 0)
    return result
