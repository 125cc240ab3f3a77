"""Replays of the searches of lenet-sweep, of the full grid, and of random search."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import Curves
from benchmarks.search.replays import Outcome, Problem, choose
from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.core.plans import Run
from lenet_sweep.search import NO_RESULT, RunResult, Search, is_complete

Values = NDArray[np.float64]


class Recording:
    """The recorded curves as runs and results of a sweep.

    values: (settings, seeds, epochs), what the search sees instead of the held-out accuracy.
    """

    def __init__(self, curves: Curves, values: Values | None = None) -> None:
        self.curves = curves
        self.values = curves.holdout_accuracy if values is None else values
        self.epochs = self.values.shape[2]
        # The median, because other programs ran during the recording.
        self.seconds: Values = np.median(curves.seconds + curves.test_seconds, axis=2)

    @cached_property
    def runs(self) -> list[list[Run]]:
        """The run of each setting and seed."""
        cells = [
            [cell_from_json(setting | {"seed": seed}) for seed in self.curves.seeds]
            for setting in self.curves.settings
        ]
        return [[Run(cell, (cell.epochs,)) for cell in row] for row in cells]

    @cached_property
    def _curves(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """The values and losses of each run, by its id."""
        return {
            run.id: (tuple(self.values[i, k]), tuple(self.curves.holdout_loss[i, k]))
            for i, row in enumerate(self.runs)
            for k, run in enumerate(row)
        }

    def result(self, run_id: str, epoch: int) -> RunResult:
        """The result of a run that was trained up to an epoch."""
        values, losses = self._curves[run_id]
        return RunResult(values[:epoch], losses[:epoch])


def replay(problem: Problem, recording: Recording, search: Search, workers: int) -> Outcome:
    """Drive `search.decide` as a sweep does: train what it asks for, and ask again."""
    places = {
        recording.runs[i][k].id: (i, k) for i in problem.settings for k in problem.seeds
    }  # a run without an entry in a decision is not trained
    runs = [recording.runs[i][k] for i, k in places.values()]
    results: dict[str, RunResult] = {}
    makespan = 0.0
    while not is_complete(decision := search.decide(runs, results), results):
        jobs = []
        for run_id, epochs in decision.epochs.items():
            trained = len(results.get(run_id, NO_RESULT).accuracies)
            if epochs > trained:
                jobs.append((epochs - trained) * float(recording.seconds[places[run_id]]))
                results[run_id] = recording.result(run_id, epochs)
        makespan += list_schedule(jobs, workers)
    epochs = [
        len(results.get(recording.runs[i][problem.seeds[0]].id, NO_RESULT).accuracies)
        for i in problem.settings
    ]
    rows = np.ix_(problem.settings, problem.seeds)
    chosen = choose(recording.curves.holdout_accuracy[rows].mean(axis=1), epochs)
    trained_epochs = dict(zip(problem.settings, epochs, strict=True))
    return Outcome(problem.index, problem.settings[chosen], trained_epochs, makespan)


def list_schedule(jobs: Sequence[float], workers: int) -> float:
    """The seconds that workers take for these jobs, the longest first."""
    ends = [0.0] * workers
    for job in sorted(jobs, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + job)
    return max(ends)


def random_search(
    problem: Problem, recording: Recording, budget: Callable[[int], int], workers: int
) -> Outcome:
    """The first settings of the random order at full length; budget: how many of so many."""
    number = budget(len(problem.settings))
    rows = np.ix_(problem.settings[:number], problem.seeds)
    values = recording.curves.holdout_accuracy[rows].mean(axis=1)
    last = recording.epochs
    jobs = [last * float(s) for s in recording.seconds[rows].ravel()]
    epochs = {s: last if i < number else 0 for i, s in enumerate(problem.settings)}
    chosen = problem.settings[choose(values, [last] * number)]
    return Outcome(problem.index, chosen, epochs, list_schedule(jobs, workers))
