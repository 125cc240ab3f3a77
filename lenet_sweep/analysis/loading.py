"""From the rows of a table to results: predictions out of the store, labels out of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet_sweep import datasets
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.cells import Cell
from lenet_sweep.datasets import Dataset
from lenet_sweep.errors import DataError, UsageError
from lenet_sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

MOST = 2000  # rows that are compared and shown: nobody reads more, and all are in results.csv


@dataclass(frozen=True)
class Source:
    """Where a row of a table is from. data_root: where its images lie; None: the user's cache."""

    cell: Cell
    store: Store
    data_root: Path | None


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The test images of a dataset: (N, 28, 28) and (N,), uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass
class ImageSets:
    """Test images by dataset, each read once. `missing`: why some could not be had, a line each."""

    missing: dict[str, None] = field(default_factory=dict)
    _known: dict[tuple[str, Path | None], ImageSet | None] = field(default_factory=dict)

    def get(self, dataset: Dataset, data_root: Path | None) -> ImageSet | None:
        """The test images that a cell of this dataset saw; None where they are not here."""
        key = (dataset.digest, data_root)
        if key not in self._known:
            whole = replace(dataset, limit=None, holdout=None)
            try:
                images = datasets.load(whole, data_root)
            except (DataError, UsageError) as error:
                self.missing[f"{dataset.name}: {str(error).splitlines()[0]}"] = None
                self._known[key] = None
            else:
                self._known[key] = ImageSet(images.test_images.copy(), images.test_labels.copy())
        return self._known[key]


def load(table: pd.DataFrame, sources: Sequence[Source], sets: ImageSets) -> tuple[Result, ...]:
    """The result of each row, in order; sources: where each is from.

    Without the labels of its test images a result has its accuracy, but not which are right.
    """
    outcomes = zip(table["status"], table["accuracy"], sources, strict=True)
    return tuple(_result(status, accuracy, source, sets) for status, accuracy, source in outcomes)


def _result(status: str, accuracy: float, source: Source, sets: ImageSets) -> Result:
    cell = source.cell
    if status != "ok":
        return Result(cell, status)
    folder = source.store.run(cell.run_id)
    snapshot = folder.read(folder.readout(cell.epochs))
    if snapshot is None:  # damaged since the table was made
        return Result(cell, "damaged")
    tests = sets.get(cell.dataset, source.data_root)
    if tests is not None:
        try:
            return Result.of(cell, snapshot, tests.labels)
        except ValueError:  # written by hand, or by another version
            pass
    held_out = snapshot.history[-1].holdout_accuracy if snapshot.history else None
    return Result(cell, "ok", float(accuracy), None, None, snapshot.history, held_out)


def sources(
    table: pd.DataFrame, cells: Sequence[Cell], store: Store, data_root: Path | None
) -> list[Source]:
    """Where each row of one sweep's table is from."""
    by_id: Mapping[str, Cell] = {cell.id: cell for cell in cells}
    return [Source(by_id[name], store, data_root) for name in table["cell"]]
