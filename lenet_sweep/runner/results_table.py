"""The results table of a sweep while it runs: records from the store, and from each event."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import CellFinished, Event, Failed
from lenet_sweep.core.plans import Plan, make_plan
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.results.csv_file import read_records_csv, write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import Record, load_record, stopped_record, stored_record
from lenet_sweep.search import Stop
from lenet_sweep.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

FINAL = ("ok", "diverged")  # training again would give the same result
# A search decides as if a run had not diverged before it has trained it that far.
FINAL_IN_SEARCH = ("ok",)
# The pause between two writes of results.csv, in durations of the last write: a write takes longer
# the more rows there are, and should take at most about a tenth of the time.
WRITE_PAUSE = 10.0


class ResultsTable:
    """The records of a sweep, by cell.

    records: from results in the store. csv_records: from the results.csv of an earlier launch; they
    count for cells without a record. failed_again: the cells that failed in this launch, but keep
    the row of an earlier one.
    """

    def __init__(self, store: Store, person: str) -> None:
        self.store = store
        self.person = person
        self.records: dict[Cell, Record] = {}
        self.csv_records: dict[Cell, Record] = {}
        self.failed_again: set[Cell] = set()
        self._reuse = True  # finished cells are not trained again
        self._changed = False  # since the last write
        self._due = 0.0  # the earliest time of the next write

    def plan(self, cells: Sequence[Cell], *, reuse: bool, searching: bool = False) -> Plan:
        """Plan the runs that these cells still need, and add the records of finished cells.

        reuse: False plans every cell as if the store were empty. searching: whether a search
        decides how far to train.
        """
        self._reuse = reuse
        if not reuse:
            return make_plan(cells, lambda _: False)
        final = FINAL_IN_SEARCH if searching else FINAL
        try:
            stored = self.store.run_ids()
        except OSError:  # files may be readable in a folder that cannot be listed
            return make_plan(cells, lambda cell: self._is_final(cell, final))
        return make_plan(cells, lambda cell: cell.run_id in stored and self._is_final(cell, final))

    def has_lost_runs(self) -> bool:
        """Whether the folder of a run with a record was removed after the record was read."""
        if not self.records:
            return False
        try:
            return not {cell.run_id for cell in self.records} <= self.store.run_ids()
        except OSError:  # as in `plan`
            return False

    def _is_final(self, cell: Cell, final: Collection[str]) -> bool:
        try:
            record = stored_record(cell, self.store, self.person)
        except StoreError:  # training this run meets the same error and reports it in the table
            return False
        if record is None or record["status"] not in final:
            self.records.pop(cell, None)  # a failure of an earlier launch
            return False
        self.records[cell] = record
        return True

    def add_stored(self, cells: Iterable[Cell]) -> None:
        """Add the records that the store has for these cells, including failed ones."""
        for cell in cells:
            if cell not in self.records and (
                record := load_record(cell, self.store, self.csv_records, self.person)
            ):
                self.records[cell] = record

    def add_stops(self, stops: Mapping[str, Stop], cells: Iterable[Cell]) -> None:
        """Add the records of the cells that a search stopped. stops: by run id."""
        for cell in cells:
            stop = stops.get(cell.run_id)
            if stop and cell not in self.records and not self._is_finished(cell):
                # A run with patience may have ended before it was stopped, and an earlier sweep may
                # have trained it further.
                stored = stored_record(cell, self.store, self.person)
                self.records[cell] = (
                    stored
                    if stored and stored["status"] in FINAL
                    else stopped_record(cell, self.store, stop.epoch, stop.reason, self.person)
                )

    def read_csv(self, folder: Path, cells: Iterable[Cell]) -> None:
        """Read the folder's results.csv, whose records count until these cells have new ones."""
        self.csv_records = read_records_csv(folder, cells)

    def forget_stops(self, cells: Iterable[Cell]) -> None:
        """Forget that an earlier search stopped these cells, because this launch decides again."""
        for cell in cells:
            if self.csv_records.get(cell, {}).get("status") == STOPPED:
                del self.csv_records[cell]

    def update(self, event: Event, planned: Plan) -> bool:
        """Add the records that an event completes, and return whether to write the table now.

        Call it with every event: also an event that completes no record can make a write due.
        """
        if isinstance(event, (CellFinished, Failed)):
            run = planned.by_id[event.run_id]
            failure = event.failure if isinstance(event, Failed) else None
            epochs = [event.epoch] if isinstance(event, CellFinished) else run.snapshot_epochs
            epochs = [number for number in epochs if number in run.snapshot_epochs]  # else a rung
            for cell in (replace(run.cell, epochs=number) for number in epochs):
                if failure and self._is_finished(cell):
                    if cell not in self.records:
                        self.failed_again.add(cell)
                    continue
                self.failed_again.discard(cell)
                if record := stored_record(cell, self.store, self.person, failure):
                    self.records[cell] = record
            self._changed = True
        return self._changed and time.monotonic() >= self._due

    def _is_finished(self, cell: Cell) -> bool:
        """Whether the cell has an accuracy, which no later failure or stop takes away."""
        records = [self.records, self.csv_records] if self._reuse else [self.records]
        return any(known.get(cell, {}).get("status") == "ok" for known in records)

    def write(self, folder: Path) -> pd.DataFrame:
        """Write the ranked table to results.csv, and return it. Raises StoreError."""
        start = time.monotonic()
        frame = ranked_table((self.csv_records | self.records).values())
        try:
            write_csv(frame, folder / "results.csv")
            self._changed = False
        finally:
            end = time.monotonic()
            self._due = end + WRITE_PAUSE * (end - start)
        return frame
