"""Load the results of table rows: predictions from the store, labels from the datasets."""

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

MAX_ROWS = 2000  # rows to compare and show; results.csv has all of them


@dataclass(frozen=True)
class Source:
    """Where a row of a table comes from.

    data_root: the folder of its images; None: the user's cache.
    """

    cell: Cell
    store: Store
    data_root: Path | None


def load_first_results(sweep: Sweep) -> tuple[Result, ...]:
    """The results of the first MAX_ROWS rows of a sweep's table, from the store."""
    first = sweep.table.head(MAX_ROWS)
    return load_results_of(first, sources(sweep, first), sweep.test_images)


def load_results_of(
    table: pd.DataFrame, sources: Sequence[Source], sets: ImageCache
) -> tuple[Result, ...]:
    """The result of each row, in order. sources: where each row comes from.

    If the labels of the test images are not available, a result has an accuracy, but neither
    `correct` nor `predictions`; if its run is not available, it has no history either.
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
    folder = source.store.run_folder(cell.run_id)
    try:
        snapshot = folder.result(cell)
    except StoreError:  # the disk cannot be read
        snapshot = None
    if snapshot is None:  # only results.csv has the accuracy
        held_out = None if held_out is None or math.isnan(held_out) else held_out
        return Result(cell, "ok", float(accuracy), holdout_accuracy=held_out)
    tests = sets.get(cell.dataset, source.data_root)
    if tests is not None:
        try:
            return Result.of(cell, snapshot, tests.labels, tests.class_names)
        except ValueError:  # the labels are of other images: a file was edited or is outdated
            pass
    last = snapshot.history[-1].holdout_accuracy if snapshot.history else None
    return Result(cell, "ok", float(accuracy), None, None, snapshot.history, last)


def sources(sweep: Sweep, rows: pd.DataFrame) -> list[Source]:
    """The source of each of these rows of a sweep's table."""
    return [Source(cell, sweep.store, sweep.data_root) for cell in sweep.cells_of(rows)]
