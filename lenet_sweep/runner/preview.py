"""A dry run: what a sweep would train, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_sweep.config.validation import Options
from lenet_sweep.core.cells import Cell, Plan
from lenet_sweep.executors import Executor
from lenet_sweep.machine import provenance
from lenet_sweep.results.estimate import Estimate, estimate
from lenet_sweep.results.records import Record
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import describe_plan


@dataclass(frozen=True)
class Preview:
    """What a sweep would do.

    rows: of cells that are in the store. damaged: files of them. estimate: None if the plan has
    nothing to train.
    """

    plan: Plan
    rows: tuple[Record, ...]
    damaged: tuple[Path, ...]
    estimate: Estimate | None
    notes: tuple[str, ...]  # on how the cells are trained

    def lines(self) -> list[str]:
        """What a dry run prints."""
        damaged = [f"{path} is damaged" for path in self.damaged]
        return [*describe_plan(self.plan, self.estimate), *self.notes, *damaged]


def preview(cells: Sequence[Cell], options: Options, executor: Executor | None) -> Preview:
    """What `run_sweep` would do. executor: None where it is not known how many runs train at once.

    Writes nothing.
    """
    table = ResultsTable(Store(options.out), options.person)
    planned = table.plan(cells, reuse=options.reuse)
    expected = None
    if planned.runs:
        kinds = sorted({run.cell.device for run in planned.runs})
        workers = options.workers or (executor.room(kinds) if executor else None)
        expected = estimate(planned, table.store, workers, provenance.processor())
    damaged = tuple(dict.fromkeys(table.store.damaged))
    notes = (*options.unused, *options.notes)
    return Preview(planned, tuple(table.rows.values()), damaged, expected, notes)
