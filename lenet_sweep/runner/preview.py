"""The dry run: finds out what a sweep would train and estimates how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lenet_sweep.config.search_space import SearchSpace
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import join_words
from lenet_sweep.executors import Executor
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.machine import devices, provenance
from lenet_sweep.results.estimate import MAX_THREADS, Estimate, estimate
from lenet_sweep.results.records import Record
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.runner.sampling_rounds import SamplingRounds
from lenet_sweep.runner.search_rounds import SearchState
from lenet_sweep.search import Search
from lenet_sweep.search.registry import make_search
from lenet_sweep.search.sampling import make_sampling
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import SearchPlan, describe_plan


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
    search: SearchPlan | None = None
    sampled: tuple[str, ...] = ()  # what a search would sample; the plan has its waves so far

    def lines(self) -> list[str]:
        """The lines that a dry run prints."""
        damaged = [f"{path} is damaged" for path in self.damaged]
        plan = describe_plan(self.plan, self.estimate, self.search)
        return [*self.sampled, *plan, *self.notes, *self._moved(), *damaged]

    def _moved(self) -> list[str]:
        if not self.moved:
            return []
        cells, them = ("cell was", "it") if self.moved == 1 else ("cells were", "them")
        before = f"{self.moved} {cells} trained by the torch engine in earlier sweeps"
        retrained = f"the native engine now supports {them} and will retrain {them}"
        return [f"{before}; {retrained} (engine=torch keeps the earlier results)"]


def preview(
    cells: Sequence[Cell],
    options: SweepOptions,
    executor: Executor | None,
    space: SearchSpace | None = None,
) -> Preview:
    """Plan the cells as `run_sweep` does, without training or writing anything.

    executor: None if it is not known how many runs train at the same time. space: of a search that
    samples settings, whose waves so far are planned.
    """
    table = ResultsTable(Store(options.out), options.person)
    searching = options.search.name != "grid"
    duration, search_plan = None, None
    sampled: tuple[str, ...] = ()
    rounds = None
    if space:
        rounds = SamplingRounds(make_sampling(options.search), space, table)
        planned, sampled = rounds.left, tuple(rounds.lines())
        training = planned
    else:
        planned = table.plan(cells, reuse=options.reuse, searching=searching)
        training = planned
    if search := make_search(options.search):
        state = SearchState(search, planned, table.records, table.store, options.data_root)
        training = replace(planned, runs=tuple(state.missing_runs()))
        search_plan = _search_plan(search, state, training)
    if training.runs:
        kinds = sorted({run.cell.device for run in planned.runs})
        workers = options.workers or (executor.capacity(kinds) if executor else None)
        threads = (workers or 1) * options.threads if options.threads else 1
        if executor is LOCAL and not options.threads:
            threads = devices.cpu_count()
        duration = estimate(
            training,
            table.store,
            workers,
            provenance.processor(),
            threads,
            options.threads or MAX_THREADS,
            search_plan.later if search_plan else (),
            retrain=not options.reuse,
        )
    damaged = tuple(dict.fromkeys(table.store.damaged))
    paired = (
        f"{join_words(pair, len(pair))} are paired: their values are used together, not in all "
        "combinations"
        for pair in options.pair
    )
    wave_notes = rounds.notes if rounds else ()
    notes = (*paired, *options.unused, *dict.fromkeys([*options.notes, *wave_notes]))
    records = tuple(table.records.values())
    moved = _count_moved(planned, table.store) if options.reuse else 0
    return Preview(planned, records, damaged, duration, notes, moved, search_plan, sampled)


def _search_plan(search: Search, state: SearchState, training: Plan) -> SearchPlan:
    trained = {run.id: len(state.results[run.id].accuracies) for run in training.runs}
    now = sum(max(0, run.cell.epochs - trained[run.id]) for run in training.runs)
    return SearchPlan(
        lines=tuple(search.describe(state.runs)),
        epochs=now + sum(runs * epochs for runs, epochs in state.decision.later),
        later=state.decision.later,
        at_most=state.decision.later_at_most,
    )


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
