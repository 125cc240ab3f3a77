"""Trains the runs that a search asks for, in rounds: decide, train, and decide again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell, Plan, Run, runs_of
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Dropped, Event, Failed, RungStarted
from lenet_sweep.core.patience import is_exhausted, ranking_accuracies
from lenet_sweep.core.text import pluralize
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.results.records import Record
from lenet_sweep.search import Decision, RunResult, Search
from lenet_sweep.storage.store import Store


class SearchRounds:
    """A search over the cells of a sweep.

    planned: its cells, and the runs that are needed for the unfinished ones.
    records: the cells with a result, kept up to date by the caller while it iterates.
    decision: the last decision of the search.
    """

    def __init__(
        self,
        search: Search,
        planned: Plan,
        records: Mapping[Cell, Record],
        context: RunContext,
    ) -> None:
        self._search = search
        self._records = records
        self._context = context
        self._store = Store(context.out)
        self._images = lru_cache(maxsize=1)(load_dataset)  # reading them verifies their digest
        self._planned = planned
        self._runs = runs_of(planned.cells)
        known = (cell for cell in planned.cells if cell in records)
        self._failed = {cell.run_id for cell in known if records[cell]["status"] != "ok"}
        self._shown: Counter[str] = Counter()  # messages
        for line in search.describe(self._runs):
            context.on_message(line)
        self.decision = Decision({})
        self._decide()

    def train(self, executor: Executor) -> Iterator[Event]:
        """Train round after round until the search has ended, yielding the events."""
        yield from self._dropped(Decision({}))
        before: list[Run] = []
        while (runs := self.missing_runs()) and runs != before:
            for run in runs:
                yield RungStarted(run.id, run.cell.epochs)
            for event in executor.execute(runs, self._context):
                if isinstance(event, Failed):
                    self._failed.add(event.run_id)
                yield event
            if self._context.stop.is_set():
                return
            before, previous = runs, self.decision
            self._decide()
            yield from self._dropped(previous)
        if runs:
            self._context.on_message(
                f"search: {pluralize(len(runs), 'run')} made no progress, so the search has ended "
                "without a decision; the same command continues it"
            )

    def missing_runs(self) -> list[Run]:
        """The runs of the next round, each up to the epoch that the search needs."""
        runs = []
        for run in self._runs:
            needed = self.decision.epochs.get(run.id, 0)
            epochs = {e for e in run.snapshot_epochs if e <= needed and not self._has(run, e)}
            if not self._results[run.id].has_ended(needed):
                epochs.add(needed)
            if epochs and run.id in self._planned.by_id and run.id not in self._failed:
                last = max(epochs)
                runs.append(Run(replace(run.cell, epochs=last), tuple(sorted(epochs))))
        return runs

    def _has(self, run: Run, epochs: int) -> bool:
        return replace(run.cell, epochs=epochs) in self._records

    def _decide(self) -> None:
        self._results = {run.id: self._result(run) for run in self._runs}
        self.decision = self._search.decide(self._runs, self._results)
        for message in self.decision.messages:
            if self._shown[message] < self.decision.messages.count(message):
                self._shown[message] += 1
                self._context.on_message(f"search: {message}")

    def _result(self, run: Run) -> RunResult:
        try:
            snapshot = self._store.run_folder(run.id).latest(until=run.cell.epochs)
        except StoreError:  # training this run meets the same error and reports it
            snapshot = None
        history = snapshot.history if snapshot else ()
        predictions = snapshot.predictions if snapshot else None

        def correct() -> NDArray[np.bool_] | None:
            if predictions is None:
                return None
            images = self._images(run.cell.dataset, self._context.data_root)
            tested = len(images.test_labels)
            if held_out:
                return np.asarray(predictions[tested:] == images.holdout_labels)
            return np.asarray(predictions[:tested] == images.test_labels)

        held_out = bool(run.cell.dataset.holdout)
        return RunResult(
            accuracies=ranking_accuracies(history),
            losses=[epoch.holdout_cost if held_out else epoch.test_cost for epoch in history],
            seconds=sum(epoch.seconds + epoch.test_seconds for epoch in history),
            failed=run.id in self._failed,
            ended_early=is_exhausted(history, run.cell.patience),
            correct=correct,
        )

    def _dropped(self, previous: Decision) -> Iterator[Event]:
        for run_id, stop in self.decision.stops.items():
            if run_id not in previous.stops and run_id in self._planned.by_id:
                yield Dropped(run_id, stop.epoch, stop.reason)
