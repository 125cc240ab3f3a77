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
from lenet_sweep.results.columns import HOLDOUT, STOPPED
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 2000  # rows to compare and show; results.csv has all of them
MAX_FAILED = 100  # of them, rows of settings that failed, if there are more than fit


@dataclass(frozen=True)
class Source:
    """Where a row of a table comes from.

    data_root: the folder of its images; None: the user's cache.
    """

    cell: Cell
    store: Store
    data_root: Path | None


def choose_rows(table: pd.DataFrame, cells: Sequence[Cell]) -> list[int]:
    """The indices of the rows to compare and show, in order.

    In a table of up to MAX_ROWS, these are all rows. In a longer one, they are up to MAX_FAILED
    rows of settings that failed, and the settings with the best rows, as far as they fit; failed
    rows fill the rest. A setting with an accuracy has all its rows or none, because a mean over its
    best seeds alone would be too high.

    cells: the cell of each row.
    """
    if len(cells) <= MAX_ROWS:
        return list(range(len(cells)))
    settings: dict[Cell, list[int]] = {}
    for index, cell in enumerate(cells):
        settings.setdefault(cell.setting, []).append(index)
    has_failed = (~table["status"].isin(["ok", STOPPED])).to_list()
    failed: list[int] = []
    others: list[list[int]] = []  # best setting first
    for rows in settings.values():
        if all(has_failed[row] for row in rows):
            failed += rows
        else:
            others.append(rows)
    chosen = failed[:MAX_FAILED]
    for rows in others:
        if rows is not others[0] and len(chosen) + len(rows) > MAX_ROWS:
            break
        chosen += rows
    chosen += failed[MAX_FAILED:][: max(0, MAX_ROWS - len(chosen))]
    return sorted(chosen)


def load_compared_results(sweep: Sweep) -> tuple[Result, ...]:
    """The results of the rows of a sweep's table that `choose_rows` chooses, from the store."""
    rows = sweep.table.iloc[choose_rows(sweep.table, sweep.cells_of(sweep.table))]
    return load_results_of(rows, sources(sweep, rows), sweep.test_images)


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
