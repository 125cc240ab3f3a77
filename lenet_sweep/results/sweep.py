"""Load a sweep: its folder, its cells, and the ranked table of their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.core.cells import Cell
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.results.csv_file import read_records_csv
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import Record, load_record
from lenet_sweep.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep: its folder, its manifest, and its ranked table.

    store: contains its runs. data_root: the folder of the images; None: the user's cache. table:
    one row for each cell with an outcome, best first, as `results.ranking.ranked_table` returns it.
    """

    folder: Path
    manifest: Manifest
    store: Store
    data_root: Path | None
    table: pd.DataFrame

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the sweep, including those without an outcome."""
        return self.manifest.cells

    @cached_property
    def test_images(self) -> ImageCache:
        """The test images of its cells; each dataset is read on first use."""
        return ImageCache()

    @cached_property
    def cells_by_id(self) -> Mapping[str, Cell]:
        """The cells by id, as in the column `cell` of the table."""
        return {cell.id: cell for cell in self.cells}

    def cells_of(self, rows: pd.DataFrame) -> list[Cell]:
        """The cells of these rows of the table, in order."""
        return [self.cells_by_id[name] for name in rows["cell"]]

    def stopped_cells(self) -> list[Cell]:
        """The cells that a search stopped before their last epoch."""
        return self.cells_of(self.table[self.table["status"] == STOPPED])

    def finished_cells(self) -> list[Cell]:
        """The cells with an accuracy, best first."""
        return self.cells_of(self.table[self.table["status"] == "ok"])


def load_sweep(folder: Path) -> Sweep:
    """Read a sweep from its folder and the store.

    Raises FileNotFoundError if there is no sweep, StoreError if its sweep.json is damaged or was
    written by another version.
    """
    manifest = read_manifest(folder)
    table = ranked_table(read_records(folder, manifest).values())
    return Sweep(folder, manifest, manifest.store, manifest.data_root, table)


def read_records(folder: Path, manifest: Manifest) -> dict[Cell, Record]:
    """The records of a sweep's cells, from the store, otherwise from results.csv in its folder."""
    earlier = read_records_csv(folder, manifest.cells)
    records = ((cell, load_record(cell, manifest.store, earlier)) for cell in manifest.cells)
    return {cell: record for cell, record in records if record}
