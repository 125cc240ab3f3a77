"""Trains the runs that a search asks for, in rounds: decide, train, and decide again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Event, Failed, Failure, SearchRound, Stopped
from lenet_sweep.core.patience import is_exhausted, ranking_accuracies
from lenet_sweep.core.plans import Plan, Run, longest_first, runs_of
from lenet_sweep.core.text import pluralize
from lenet_sweep.data.datasets import load_dataset
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.results.records import Record
from lenet_sweep.search import Decision, RunResult, Search
from lenet_sweep.storage.store import Store


class SearchState:
    """What a search over the cells of a sweep decides from the results in the store.

    planned: its cells, and the runs that are needed for the unfinished ones. records: the cells
    with a result, kept up to date by the caller. runs: all runs of the cells. results: by run id.
    decision: the decision for these results.
    """

    def __init__(
        self,
        search: Search,
        planned: Plan,
        records: Mapping[Cell, Record],
        store: Store,
        data_root: Path | None,
    ) -> None:
        self.runs = runs_of(planned.cells)
        self.results: dict[str, RunResult] = {}
        self.decision = Decision({})
        self._search = search
        self._planned = planned
        self._records = records
        self._store = store
        self._data_root = data_root
        self._images = lru_cache(maxsize=1)(load_dataset)  # reading them verifies their digest
        self._failed: set[str] = set()  # in this sweep
        self._divergences = {  # in earlier sweeps; they would diverge again
            run.id: failure for run in planned.runs if (failure := self._divergence(run))
        }
        self.decide()

    def decide(self) -> None:
        """Read the results and decide again."""
        self.results = {run.id: self._result(run) for run in self.runs}
        self.decision = self._search.decide(self.runs, self.results)

    def add_failure(self, run_id: str) -> None:
        """A run has failed, and will not be trained further in this sweep."""
        self._failed.add(run_id)

    def missing_runs(self) -> list[Run]:
        """The runs of the next round, each up to the epoch that the search needs."""
        runs = []
        for run in self.runs:
            needed = self.decision.epochs.get(run.id, 0)
            epochs = {e for e in run.snapshot_epochs if e <= needed and not self._has(run, e)}
            if not self.results[run.id].has_ended(needed):
                epochs.add(needed)
            if divergence := self._divergences.get(run.id):
                epochs = {epoch for epoch in epochs if epoch < divergence.epoch}
            if epochs and run.id in self._planned.by_id and run.id not in self._failed:
                last = max(epochs)
                runs.append(Run(replace(run.cell, epochs=last), tuple(sorted(epochs))))
        return longest_first(runs)

    def divergences(self) -> dict[str, Failure]:
        """By run id, why runs diverged in earlier sweeps before an epoch that is now needed."""
        training = {run.id for run in self.missing_runs()}
        return {
            run_id: failure
            for run_id, failure in self._divergences.items()
            if self.decision.epochs.get(run_id, 0) >= failure.epoch
            and run_id not in training | self._failed
        }

    def _has(self, run: Run, epochs: int) -> bool:
        return replace(run.cell, epochs=epochs) in self._records

    def _divergence(self, run: Run) -> Failure | None:
        failure = self._store.run_folder(run.id).failure()
        diverged = failure and failure.status == "diverged" and failure.epoch <= run.cell.epochs
        return failure if diverged else None

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
            images = self._images(run.cell.dataset, self._data_root)
            tested = len(images.test_labels)
            if held_out:
                return np.asarray(predictions[tested:] == images.holdout_labels)
            return np.asarray(predictions[:tested] == images.test_labels)

        held_out = bool(run.cell.dataset.holdout)
        divergence = self._divergences.get(run.id)
        return RunResult(
            accuracies=ranking_accuracies(history),
            losses=[epoch.holdout_cost if held_out else epoch.test_cost for epoch in history],
            seconds=sum(epoch.seconds + epoch.test_seconds for epoch in history),
            failed=run.id in self._failed or divergence is not None,
            failed_in=divergence.epoch if divergence and run.id not in self._failed else 0,
            ended_early=is_exhausted(history, run.cell.patience),
            correct=correct,
        )


class SearchRounds:
    """Trains a sweep in the rounds of a search.

    decision: the last decision of the search.
    """

    def __init__(
        self,
        search: Search,
        planned: Plan,
        records: Mapping[Cell, Record],
        context: RunContext,
    ) -> None:
        self._planned = planned
        self._context = context
        self._shown: Counter[str] = Counter()  # messages
        self._state = SearchState(search, planned, records, Store(context.out), context.data_root)
        self._show_messages()

    @property
    def decision(self) -> Decision:
        """The last decision of the search."""
        return self._state.decision

    @property
    def results(self) -> Mapping[str, RunResult]:
        """The results by run id, on which the decision is based."""
        return self._state.results

    def train(self, executor: Executor, on_round: Callable[[SearchRound], None]) -> Iterator[Event]:
        """Train round after round until the search has ended, yielding the events."""
        state = self._state
        yield from self._outcomes(Decision({}))
        before: list[Run] = []
        with executor.session():
            while (runs := state.missing_runs()) and runs != before:
                on_round(self._round(runs))
                for event in executor.execute(runs, self._context):
                    if isinstance(event, Failed):
                        state.add_failure(event.run_id)
                    yield event
                if self._context.stop.is_set():
                    return
                before, previous = runs, state.decision
                state.decide()
                self._show_messages()
                yield from self._outcomes(previous)
        if runs:
            self._context.on_message(
                f"search: {pluralize(len(runs), 'run')} made no progress, so the search has ended "
                "without a decision; the same command continues it"
            )

    def _round(self, runs: list[Run]) -> SearchRound:
        decision = self.decision
        trained = {
            run.id: min(run.cell.epochs, len(self._state.results[run.id].accuracies))
            for run in runs
        }
        stage = decision.stage or pluralize(len(runs), "run")
        return SearchRound(stage, tuple(runs), trained, decision.later, decision.later_at_most)

    def _show_messages(self) -> None:
        for message in self.decision.messages:
            if self._shown[message] < self.decision.messages.count(message):
                self._shown[message] += 1
                self._context.on_message(f"search: {message}")

    def _outcomes(self, previous: Decision) -> Iterator[Event]:
        """The runs that end without training: those stopped since `previous`, and divergences."""
        for run_id, stop in self.decision.stops.items():
            if run_id not in previous.stops and run_id in self._planned.by_id:
                yield Stopped(run_id, stop.epoch, stop.reason)
        for run_id, failure in self._state.divergences().items():
            self._state.add_failure(run_id)
            yield Failed(run_id, failure)
