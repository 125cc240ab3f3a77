"""The dry run: finds out what a sweep would train and estimates how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell, Plan
from lenet_sweep.core.text import join_words
from lenet_sweep.executors import Executor
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.machine import devices, provenance
from lenet_sweep.results.estimate import MAX_THREADS, Estimate, estimate
from lenet_sweep.results.records import Record
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import describe_plan


@dataclass(frozen=True)
class Preview:
    """What a sweep would do.

    records: the results that the store already has. damaged: files of these cells that cannot be
    used. estimate: None if there is nothing to train. notes: on how the cells are trained.
    """

    plan: Plan
    records: tuple[Record, ...]
    damaged: tuple[Path, ...]
    estimate: Estimate | None
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The lines that a dry run prints."""
        damaged = [f"{path} is damaged" for path in self.damaged]
        return [*describe_plan(self.plan, self.estimate), *self.notes, *damaged]


def preview(cells: Sequence[Cell], options: SweepOptions, executor: Executor | None) -> Preview:
    """Plan the cells as `run_sweep` does, without training or writing anything.

    executor: None if it is not known how many runs train at the same time.
    """
    table = ResultsTable(Store(options.out), options.person)
    planned = table.plan(cells, reuse=options.reuse)
    duration = None
    if planned.runs:
        kinds = sorted({run.cell.device for run in planned.runs})
        workers = options.workers or (executor.capacity(kinds) if executor else None)
        threads = (workers or 1) * options.threads if options.threads else 1
        if executor is LOCAL and not options.threads:
            threads = devices.cpu_count()
        duration = estimate(
            planned,
            table.store,
            workers,
            provenance.processor(),
            threads,
            options.threads or MAX_THREADS,
        )
    damaged = tuple(dict.fromkeys(table.store.damaged))
    paired = (
        f"{join_words(pair, len(pair))} are paired: their values are used together, not in all "
        "combinations"
        for pair in options.pair
    )
    notes = (*paired, *options.unused, *options.notes)
    return Preview(planned, tuple(table.records.values()), damaged, duration, notes)
