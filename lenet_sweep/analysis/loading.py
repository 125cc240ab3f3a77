"""From the rows of a table to results: predictions out of the store, labels out of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.analysis.statistics import Result
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.results.columns import HOLDOUT
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 2000  # rows that are compared and shown: nobody reads more, and all are in results.csv


@dataclass(frozen=True)
class Source:
    """Where a row of a table is from. data_root: where its images lie; None: the user's cache."""

    cell: Cell
    store: Store
    data_root: Path | None


def load_results_of(
    table: pd.DataFrame, sources: Sequence[Source], sets: ImageCache
) -> tuple[Result, ...]:
    """The result of each row, in order; sources: where each is from.

    Without the labels of its test images a result has its accuracy, but not which are right;
    without its run neither a history.
    """
    held_out = table[HOLDOUT] if HOLDOUT in table else [None] * len(table)
    outcomes = zip(table["status"], table["accuracy"], held_out, sources, strict=True)
    return tuple(_result(*outcome, sets) for outcome in outcomes)


def _result(
    status: str, accuracy: float, held_out: float | None, source: Source, sets: ImageCache
) -> Result:
    cell = source.cell
    if status != "ok":
        return Result(cell, status)
    folder = source.store.run(cell.run_id)
    try:
        snapshot = folder.read(folder.snapshot_path(cell.epochs))
    except StoreError:  # it cannot be read
        snapshot = None
    if snapshot is None:  # only results.csv has it
        kept = None if held_out is None or math.isnan(held_out) else held_out
        return Result(cell, "ok", float(accuracy), holdout_accuracy=kept)
    tests = sets.get(cell.dataset, source.data_root)
    if tests is not None:
        try:
            return Result.of(cell, snapshot, tests.labels)
        except ValueError:  # written by hand, or by another version
            pass
    last = snapshot.history[-1].holdout_accuracy if snapshot.history else None
    return Result(cell, "ok", float(accuracy), None, None, snapshot.history, last)


def sources(sweep: Sweep, rows: pd.DataFrame) -> list[Source]:
    """Where each of these rows of a sweep's table is from."""
    return [Source(cell, sweep.store, sweep.data_root) for cell in sweep.cells_of(rows)]
