"""The rows of a sweep while it runs: what the store has, and what each event adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lenet_sweep.core.cells import Cell, Plan, make_plan
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import CellFinished, Event, Failed
from lenet_sweep.results import records
from lenet_sweep.results.csv_file import kept_rows, write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import Record
from lenet_sweep.storage.store import Store

FINAL = ("ok", "diverged")  # the same settings give the same result again
WRITE_PAUSE = 10.0  # results.csv is rewritten after this many times the duration of the last write


class ResultsTable:
    """The rows of a sweep as its cells end."""

    def __init__(self, store: Store, person: str) -> None:
        self.store = store
        self.person = person
        self.rows: dict[Cell, Record] = {}
        self.kept: dict[Cell, Record] = {}  # of results.csv, until there is a row
        self._changed = False  # since it was written
        self._due = 0.0  # not written before: how long that takes grows with the table

    def plan(self, cells: Sequence[Cell], *, reuse: bool) -> Plan:
        """What is missing for these cells; rows of those that are finished are taken in."""
        if not reuse:
            return make_plan(cells, lambda _: False)
        try:
            stored = self.store.run_ids()
        except OSError:  # a folder that cannot be listed may still be read
            return make_plan(cells, self._is_final)
        return make_plan(cells, lambda cell: cell.run_id in stored and self._is_final(cell))

    def _is_final(self, cell: Cell) -> bool:
        try:
            row = records.record(cell, self.store, self.person)
        except StoreError:  # it cannot be read: whoever trains it finds out, and is a row
            return False
        if row is None or row["status"] not in FINAL:
            return False
        self.rows[cell] = row
        return True

    def complete(self, cells: Iterable[Cell]) -> None:
        """Take in every row that the store has of these cells, failed ones included."""
        for cell in cells:
            if cell not in self.rows and (
                row := records.known_record(cell, self.store, self.kept, self.person)
            ):
                self.rows[cell] = row

    def keep(self, folder: Path, cells: Iterable[Cell]) -> None:
        """Keep what the folder's results.csv says of these cells until they are trained again."""
        self.kept = kept_rows(folder, cells)

    def update(self, event: Event, planned: Plan) -> bool:
        """Take in what an event says; whether the table should be written now.

        That is asked with every event, so that a row is never long without being written.
        """
        if isinstance(event, (CellFinished, Failed)):
            run = planned.by_id[event.run_id]
            failure = event.failure if isinstance(event, Failed) else None
            epochs = [event.epoch] if isinstance(event, CellFinished) else run.snapshot_epochs
            for cell in (replace(run.cell, epochs=number) for number in epochs):
                if row := records.record(cell, self.store, self.person, failure):
                    self.rows[cell] = row
            self._changed = True
        return self._changed and time.monotonic() >= self._due

    def write(self, folder: Path) -> pd.DataFrame:
        began = time.monotonic()
        frame = ranked_table((self.kept | self.rows).values())
        write_csv(frame, folder / "results.csv")
        ended = time.monotonic()
        self._changed, self._due = False, ended + WRITE_PAUSE * (ended - began)
        return frame
