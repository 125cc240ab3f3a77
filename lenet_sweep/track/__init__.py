"""Trackers write sweeps to TensorBoard, MLflow and other tools, during a sweep or afterwards.

May import every subpackage from core to serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch

RUNNING, UNFINISHED = "running", "unfinished"


@dataclass(frozen=True)
class TrackedSweep:
    """What a tracker learns about a sweep.

    folder: where results.csv is. store: the folder of the store, which other sweeps share. id: of
    the sweep, unique (hex). started: seconds since 1970. person: who started it. cells: all of
    them. is_running: whether this process runs the sweep; otherwise, all of this may come from
    someone else.
    """

    folder: Path
    store: Path
    id: str
    started: float
    person: str
    cells: tuple[Cell, ...]
    is_running: bool = field(default=True, compare=False)

    @property
    def name(self) -> str:
        """The name of the sweep, which is that of its folder."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class TrackedCell:
    """A cell and its results so far.

    name: the settings in which the cells of the sweep differ: 'lr 0.1, batch 64'. settings: all
    settings and options of the cell, as in the columns of results.csv. history: the epochs so far.
    status: as in results.csv; RUNNING, or UNFINISHED after an interruption. error: the reason of a
    failure. accuracy: of a finished cell, the percentage that ranks it. person: who trained it.
    figures: PNG files of this cell, once they are drawn.
    """

    cell: Cell
    name: str
    settings: Mapping[str, str | float]
    history: tuple[Epoch, ...]
    status: str
    error: str = ""
    accuracy: float | None = None
    person: str = ""
    figures: tuple[Path, ...] = ()

    def times(self, started: float) -> list[float]:
        """The time of the end of each epoch, as if the run had trained from `started` without a
        pause. The actual times are not recorded.
        """
        times = []
        for epoch in self.history:
            started += epoch.seconds + epoch.test_seconds
            times.append(started)
        return times


class Tracker:
    """Writes a sweep to a tracking tool. A subclass overrides these methods.

    Calls come from one thread. A tracker must write the same result when a sweep is written twice:
    it looks for what an earlier call or process has written, and adds only the rest. If a method
    raises an exception, the tracker is not called again, the user gets a message, and the sweep
    continues.
    """

    def open(self, sweep: TrackedSweep) -> None:
        """Called first. The sweep may have been written before, completely or in part."""

    def log(self, cell: TrackedCell) -> None:
        """Called whenever a cell has new epochs, a new status or new figures, and at the end once
        for each cell that has been trained.
        """

    def close(self, files: Sequence[Path], *, complete: bool) -> None:
        """Called last. files: the tables, the page and figures of the sweep. complete: whether all
        of its cells have an outcome.
        """


def metrics(epoch: Epoch) -> dict[str, float]:
    """The numbers of an epoch by name. Accuracies are in percent, losses are means per image."""
    values = {
        "accuracy": epoch.accuracy,
        "train_loss": epoch.cost,
        "test_loss": epoch.test_cost,
        "holdout_accuracy": epoch.holdout_accuracy,
        "holdout_loss": epoch.holdout_cost,
        "seconds": epoch.seconds,
    }
    return {name: value for name, value in values.items() if value is not None}
