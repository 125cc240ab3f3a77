"""Runs, which train the cells of a sweep, and the plan of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lenet_sweep.core.cells import Cell


@dataclass(frozen=True)
class Run:
    """One training trajectory to train, and the epochs at which to save a snapshot.

    `cell` is the run's longest cell. `snapshot_epochs` is ascending and ends with `cell.epochs`.
    """

    cell: Cell
    snapshot_epochs: tuple[int, ...]

    @property
    def id(self) -> str:
        """The run id, which all cells of the run share."""
        return self.cell.run_id

    def cells(self) -> list[Cell]:
        """The cells that this run trains, shortest first."""
        return [replace(self.cell, epochs=epochs) for epochs in self.snapshot_epochs]

    def to_json(self) -> dict[str, Any]:
        """The run as JSON values; `run_from_json` is the inverse."""
        return {"cell": self.cell.to_json(), "snapshot_epochs": list(self.snapshot_epochs)}


@dataclass(frozen=True)
class Plan:
    """The distinct cells of a sweep, and the runs that are needed for the unfinished ones.

    `duplicates` counts the cells that equal another cell, `finished` those already in the store.
    """

    cells: tuple[Cell, ...]
    duplicates: int
    finished: int
    runs: tuple[Run, ...]

    @property
    def epochs(self) -> int:
        """The number of epochs to train, at most: an interrupted run needs fewer."""
        return sum(run.cell.epochs for run in self.runs)

    @property
    def grid_epochs(self) -> int:
        """The epochs of all runs if none of them were in the store."""
        return sum(run.cell.epochs for run in runs_of(self.cells))

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by id."""
        return {run.id: run for run in self.runs}


def join_plans(first: Plan, second: Plan) -> Plan:
    """The plan of both. They must not share a run."""
    return Plan(
        first.cells + second.cells,
        first.duplicates + second.duplicates,
        first.finished + second.finished,
        first.runs + second.runs,
    )


def runs_of(cells: Iterable[Cell]) -> list[Run]:
    """The runs of distinct cells, each up to its last epoch, in the order of their first cells."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.run_id, []).append(cell)
    return [
        Run(max(group, key=lambda c: c.epochs), tuple(sorted(c.epochs for c in group)))
        for group in groups.values()
    ]


def make_plan(cells: Iterable[Cell], is_finished: Callable[[Cell], bool]) -> Plan:
    """Merge equal cells, drop finished ones, and group the rest into runs, longest run first."""
    all_cells = list(cells)
    distinct = list(dict.fromkeys(all_cells))
    runs = longest_first(runs_of(cell for cell in distinct if not is_finished(cell)))
    finished = len(distinct) - sum(len(run.snapshot_epochs) for run in runs)
    return Plan(tuple(distinct), len(all_cells) - len(distinct), finished, tuple(runs))


def longest_first(runs: Iterable[Run]) -> list[Run]:
    """The runs in the order in which to start them, which keeps all workers busy until the end.

    This is LPT scheduling (Graham 1969).
    """
    # At a small learning rate more units stay active, which makes the native engine up to a sixth
    # slower, so among equally long runs the smallest rate comes first.
    return sorted(runs, key=lambda run: (-run.cell.epochs * relative_epoch(run.cell), run.cell.lr))


def relative_epoch(cell: Cell) -> float:
    """The duration of an epoch relative to that of other cells, in arbitrary units.

    Measured on one core: a step costs as much as about 16 images in addition to its own images.
    With average pooling, the native engine takes twice as long.
    """
    images = (cell.dataset.limit or 60_000) - (cell.dataset.holdout or 0)
    pooling = 2 if cell.engine == "native" and cell.pool.name == "avg" else 1
    return images * (1 + 16 / cell.batch) * pooling
