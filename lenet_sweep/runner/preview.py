"""The dry run: finds out what a sweep would train and estimates how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell, Plan, runs_of
from lenet_sweep.core.text import join_words
from lenet_sweep.executors import Executor
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.machine import devices, provenance
from lenet_sweep.results.estimate import MAX_THREADS, Estimate, estimate
from lenet_sweep.results.records import Record
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.search.registry import make_search
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import describe_plan


@dataclass(frozen=True)
class Preview:
    """What a sweep would do.

    records: the results that the store already has. damaged: files of these cells that cannot be
    used. estimate: None if there is nothing to train. notes: on how the cells are trained.
    moved: the number of cells that the native engine would train although the store has results of
    the torch engine, which trained them before the native engine supported them.
    """

    plan: Plan
    records: tuple[Record, ...]
    damaged: tuple[Path, ...]
    estimate: Estimate | None
    notes: tuple[str, ...]
    moved: int = 0
    search: tuple[str, ...] = ()  # what the search would do

    def lines(self) -> list[str]:
        """The lines that a dry run prints."""
        damaged = [f"{path} is damaged" for path in self.damaged]
        plan = describe_plan(self.plan, self.estimate)
        if self.search and self.estimate:
            plan[1] += "; less with a search"
        return [*plan, *self.search, *self.notes, *self._moved(), *damaged]

    def _moved(self) -> list[str]:
        if not self.moved:
            return []
        cells, them = ("cell was", "it") if self.moved == 1 else ("cells were", "them")
        before = f"{self.moved} {cells} trained by the torch engine in earlier sweeps"
        retrained = f"the native engine now supports {them} and will retrain {them}"
        return [f"{before}; {retrained} (engine=torch keeps the earlier results)"]


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
    records = tuple(table.records.values())
    moved = _count_moved(planned, table.store) if options.reuse else 0
    search = make_search(options.search)
    described = tuple(search.describe(runs_of(planned.cells))) if search else ()
    return Preview(planned, records, damaged, duration, notes, moved, described)


def _count_moved(planned: Plan, store: Store) -> int:
    """The cells that the native engine trains, and of which the store has results by torch."""
    try:
        stored = store.run_ids()
    except OSError:  # the folder cannot be listed
        return 0
    moved = 0
    for run in planned.runs if stored else ():
        before = replace(run.cell, engine="torch").run_id
        if run.cell.engine == "native" and before in stored:
            folder = store.run_folder(before)
            moved += sum(len(folder.history(epoch)) == epoch for epoch in run.snapshot_epochs)
    return moved
