"""Select a row of a sweep's table, and find the weights of its network in the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.core.text import format_value, one_line, replace_unprintable
from lenet_sweep.results.columns import EPOCHS_TRAINED, STOPPED
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.storage.files import UNREADABLE
from lenet_sweep.storage.snapshots import Snapshot

if TYPE_CHECKING:
    import pandas as pd

SHOWN_REASON = 200  # characters of the reason why a row failed


@dataclass(frozen=True, eq=False)
class TrainedRow:
    """A row of a sweep's table that has a trained network.

    number: the position in the table, from 1. record: its values by column. snapshot: the state of
    its run after the epochs that the row is about.
    """

    sweep: Sweep
    number: int
    cell: Cell
    record: dict[str, Any]
    snapshot: Snapshot

    @property
    def is_stopped(self) -> bool:
        """Whether a search stopped the cell before its last epoch."""
        return bool(self.record["status"] == STOPPED)

    @property
    def description(self) -> str:
        """The row in one line: 'Row 1 of outputs/sweeps/it: nll + adam, lr 0.001, ...'."""
        accuracy = self.record["accuracy"]
        if self.is_stopped:
            outcome = f"stopped by the search after epoch {self.snapshot.epoch}"
        else:
            outcome = f"{accuracy:.2f}% accuracy on the test images"
        folder = replace_unprintable(str(self.sweep.folder))
        return f"Row {self.number} of {folder}: {one_line(self.cell.description)}; {outcome}"


def latest_sweep(folder: Path) -> Path:
    """The sweep in a folder whose sweep.json was written last. Raises UsageError."""
    found = [(path.stat().st_mtime, path.parent) for path in folder.glob("*/sweep.json")]
    if not found:
        raise UsageError(f"--sweep: there is no sweep in {folder}; give the folder of a sweep")
    return max(found)[1]


def select_row(
    folder_or_table: str | Path | pd.DataFrame, rank: int = 1, cell: str | None = None
) -> TrainedRow:
    """The row of a table at `rank`, or of the cell with this id, with the state of its run.

    For the arguments and errors, see `lenet_sweep.load_model`.
    """
    folder, selected = _folder_of(folder_or_table)
    sweep = load_checked_sweep(folder)
    table = sweep.table if selected is None else selected
    if cell is None:
        cell_id = _cell_at(table, rank)
    elif rank != 1:
        raise UsageError(f"rank={rank}, cell={format_value(cell)}: give only one of them")
    else:
        cell_id = str(cell)
    if cell_id not in sweep.cells_by_id:
        raise UsageError(
            f"cell={format_value(cell_id)}: must be a cell of {folder}, as in the column `cell` of "
            "its results.csv"
        )
    places = sweep.table.index[sweep.table["cell"] == cell_id]
    if not len(places):
        raise UsageError(
            f"cell={cell_id}: has no result yet; to finish the sweep, run its command again"
        )
    place = int(places[0])
    record = {str(name): value for name, value in sweep.table.iloc[place].items()}
    selected_cell = sweep.cells_by_id[cell_id]
    snapshot = _snapshot(sweep, selected_cell, record, f"row {place + 1} of {folder} ({cell_id})")
    return TrainedRow(sweep, place + 1, selected_cell, record, snapshot)


def load_checked_sweep(folder: Path) -> Sweep:
    """The sweep in a folder, which may come from someone else.

    Raises StoreError if values in its sweep.json have wrong types, and the errors of `load_sweep`.
    """
    wrong = f"{folder / 'sweep.json'} contains a value of the wrong type; get another copy of it"
    try:
        sweep = load_sweep(folder)
    except UNREADABLE as error:
        raise StoreError(wrong) from error
    cells_are_right = all(
        isinstance(cell.lr, (int, float))
        and all(isinstance(n, int) for n in (cell.batch, cell.epochs, cell.seed))
        for cell in sweep.cells
    )
    if not (cells_are_right and all(isinstance(each, dict) for each in sweep.manifest.launches)):
        raise StoreError(wrong)
    return sweep


def _folder_of(folder_or_table: str | Path | pd.DataFrame) -> tuple[Path, pd.DataFrame | None]:
    if isinstance(folder_or_table, (str, Path)):
        return Path(folder_or_table), None
    folder = getattr(folder_or_table, "attrs", {}).get("folder")
    if folder is None or "cell" not in folder_or_table:
        raise UsageError(
            "folder_or_table: must be the folder of a sweep, outputs/sweeps/<name>, or a table "
            "that sweep() or load_results() returned"
        )
    return Path(folder), folder_or_table


def _cell_at(table: pd.DataFrame, rank: int) -> str:
    is_whole = isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)
    if not is_whole or not 1 <= rank <= len(table):
        rows = f"a whole number from 1 to {len(table)}, the number of a row"
        allowed = rows if len(table) else "the number of a row, but the table has none"
        raise UsageError(f"rank={format_value(rank)}: must be {allowed}")
    return str(table["cell"].iloc[rank - 1])


def _snapshot(sweep: Sweep, cell: Cell, record: dict[str, Any], row: str) -> Snapshot:
    """The state of the run after the epochs of a row. row: starts the messages."""
    status, run = record["status"], sweep.store.run_folder(cell.run_id)
    if status == STOPPED:
        epochs = int(record[EPOCHS_TRAINED])
        if not epochs:
            raise UsageError(f"{row}: the search did not train it; choose another row")
        path = run.snapshot_path(epochs)
        snapshot = run.read(path)
    elif status == "ok":
        path = run.snapshot_path(cell.epochs)
        snapshot = run.result(cell)
    else:
        reason = one_line(str(record["error"]))[:SHOWN_REASON]
        raise UsageError(f"{row}: {status}, so it has no result: {reason}; choose another row")
    if snapshot:
        return snapshot
    if damaged := sweep.store.damaged:
        raise StoreError(
            f"{row}: {damaged[-1]} is damaged; run the command of the sweep again to repair it"
        )
    raise StoreError(
        f"{row}: its weights are not in the store: there is no {path}; copy the folder of the run "
        "into the store, or run the command of the sweep again"
    )
