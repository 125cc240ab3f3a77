"""Successive halving within a budget of epochs, or for about a number of minutes."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.plans import Run
from lenet_sweep.core.text import pluralize
from lenet_sweep.machine import devices
from lenet_sweep.search import NO_RESULT, Decision, RunResult, Stop
from lenet_sweep.search.competitors import competitors, decide_each
from lenet_sweep.search.halving import LEAST, Halving


@dataclass(frozen=True)
class BudgetedHalving:
    """Successive halving that trains at most `epochs` epochs, over all runs.

    See `within_budget`. Settings that do not compete with each other get parts of the budget, in
    proportion to their epochs in the full grid.
    """

    halving: Halving
    epochs: int

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """See `Search`. Raises UsageError if the budget is too small."""
        full = _epochs(runs)

        def decide(settings: Sequence[Sequence[Run]]) -> Decision:
            group = [run for runs in settings for run in runs]
            return self._fitted(settings, full).decide(group, results)

        return decide_each(runs, decide)

    def describe(self, runs: Sequence[Run]) -> list[str]:
        """See `Search`. Raises UsageError if the budget is too small."""
        full = _epochs(runs)
        return [
            line
            for settings in competitors(runs)
            for line in self._fitted(settings, full).describe([r for rs in settings for r in rs])
        ]

    def _fitted(self, settings: Sequence[Sequence[Run]], full: int) -> Halving:
        """The search for settings that compete. full: the epochs of the full grid, of all runs."""
        group = sum(_epochs(runs) for runs in settings)
        search = within_budget(self.halving, settings, self.epochs * group / full)
        if search is None:
            smallest = candidates(self.halving, settings)[-1].most_epochs(settings)
            needed = math.ceil(smallest * full / group)
            raise UsageError(
                f"search.epochs={self.epochs}: must be at least {needed} for "
                f"{pluralize(len(settings), 'setting')} with epochs={settings[0][0].cell.epochs}"
            )
        return search


class TimedHalving:
    """Successive halving that takes about this many minutes from its creation.

    Each decision takes the best of the candidates whose remaining epochs fit in the time left, or
    the one with the fewest if none does, so the decisions depend on the speed of the machine. The
    speed is measured during the search; before, it is estimated from stored runs or, without any,
    the first rung is epoch 1. Stopped settings stay stopped, and the others are next compared at
    a later rung. Even with no time left, at least one setting is trained to its last epoch.
    """

    def __init__(
        self, halving: Halving, minutes: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._halving = halving
        self._minutes = minutes
        self._clock = clock
        self._start = clock()
        self._trained_before: int | None = None
        self._stops: dict[str, Stop] = {}  # by run id

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """See `Search`; also a function of the time and of the earlier decisions."""
        elapsed = self._clock() - self._start
        left = max(0.0, 60 * self._minutes - elapsed)
        epochs_left = left * self._speed(elapsed, [results[r.id] for r in runs if r.id in results])
        full = self._untrained(runs, results)

        def decide(settings: Sequence[Sequence[Run]]) -> Decision:
            untrained = self._untrained([run for runs in settings for run in runs], results)
            budget = epochs_left * untrained / full if full else 0.0
            return self._decide(settings, results, untrained, budget)

        return decide_each(runs, decide)

    def describe(self, runs: Sequence[Run]) -> list[str]:  # noqa: ARG002 - see `Search`
        """See `Search`."""
        line = f"halving for about {self._minutes:g} min; the training speed determines the rungs "
        return [line + "and how many settings continue"]

    def _decide(
        self,
        settings: Sequence[Sequence[Run]],
        results: Mapping[str, RunResult],
        untrained: int,
        budget: float,
    ) -> Decision:
        """The decision for settings that compete with each other."""
        ids = [run.id for runs in settings for run in runs]
        decision = Decision({})
        if active := [runs for runs in settings if runs[0].id not in self._stops]:
            group = [run for runs in active for run in runs]

            def remaining(search: Halving) -> int:
                return min(untrained, _remaining(search.decide(group, results), results))

            searches = self._candidates(active, results, self._last_stop(ids))
            decision = _first_within(budget, searches, remaining).decide(group, results)
        self._stops |= decision.stops
        stops = {run_id: self._stops[run_id] for run_id in ids if run_id in self._stops}
        stage = decision.stage
        if stage:
            number = sum(runs[0].id not in stops for runs in settings)
            stage = f"epoch {max(decision.epochs.values())}: {number} of "
            stage += pluralize(len(settings), "setting")
        epochs = {run_id: stop.epoch for run_id, stop in stops.items()}
        return replace(decision, epochs={**epochs, **decision.epochs}, stops=stops, stage=stage)

    def _candidates(
        self, active: Sequence[Sequence[Run]], results: Mapping[str, RunResult], last_stop: int
    ) -> list[Halving]:
        """Searches for the settings that have not been stopped, from the best to the cheapest."""
        if last_stop:  # after this epoch, the first rung is the one that follows it
            search = replace(self._halving, first=last_stop + 1, margin=0.0)
            return [replace(search, keep=keep) for keep in range(len(active), 0, -1)]
        epochs = active[0][0].cell.epochs
        known = [results.get(run.id, NO_RESULT) for runs in active for run in runs]
        first = self._halving.rungs(epochs)[0]
        for rung in self._halving.rungs(epochs):
            if all(result.has_ended(rung) for result in known):
                first = rung
        return candidates(replace(self._halving, first=first), active)

    def _last_stop(self, ids: Sequence[str]) -> int:
        """The last epoch after which one of these runs was stopped, or 0."""
        return max((self._stops[i].epoch for i in ids if i in self._stops), default=0)

    def _untrained(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> int:
        """The epochs that would train all runs to the end, except for the stopped ones."""
        epochs = {run.id: run.cell.epochs for run in runs if run.id not in self._stops}
        return _remaining(Decision(epochs), results)

    def _speed(self, elapsed: float, results: Sequence[RunResult]) -> float:
        """Epochs per second of all workers together; 0 if nothing is known."""
        trained = sum(len(result.accuracies) for result in results)
        if self._trained_before is None:
            self._trained_before = trained
        new = trained - self._trained_before
        if new and elapsed > 0:
            return new / elapsed
        seconds = sum(result.seconds for result in results)
        return devices.cpu_count() * trained / seconds if seconds else 0.0


def within_budget(
    halving: Halving, settings: Sequence[Sequence[Run]], epochs: float
) -> Halving | None:
    """The first of the candidates that trains at most this many epochs; None if there is none."""
    searches: Iterator[Halving] = iter(candidates(halving, settings))
    return next((search for search in searches if search.most_epochs(settings) <= epochs), None)


def _first_within(
    budget: float, searches: Sequence[Halving], remaining: Callable[[Halving], int]
) -> Halving:
    """The first search whose remaining epochs are within a budget, or else the one with the fewest.

    Of searches with the same first rung, each trains at most as much as the one before.
    """
    best = []
    for _, same in groupby(searches, key=lambda search: search.first):
        group = list(same)
        index = bisect_left(group, -budget, key=lambda search: -remaining(search))
        if index < len(group):
            return group[index]
        best.append(group[-1])
    return min(best, key=remaining)


def candidates(halving: Halving, settings: Sequence[Sequence[Run]]) -> list[Halving]:
    """Searches from the best to the cheapest: fewer settings that continue, then shorter rungs.

    The first rung is at most that of `halving`. Its `keep` and `margin` are not used. In replays of
    recorded curves, it was better to shorten the first rung than to keep fewer than LEAST settings.
    """
    epochs = settings[0][0].cell.epochs
    most = halving.rungs(epochs)[0]
    firsts = [rung for rung in replace(halving, first=1).rungs(epochs) if rung <= most] or [most]
    pairs = [
        *product(reversed(firsts), range(len(settings), LEAST - 1, -1)),
        *product(firsts[:1], range(min(LEAST - 1, len(settings)), 0, -1)),
    ]
    return [replace(halving, first=first, keep=keep, margin=0.0) for first, keep in pairs]


def _remaining(decision: Decision, results: Mapping[str, RunResult]) -> int:
    """The epochs that are still to be trained, also in later rounds."""
    known = {run_id: results.get(run_id, NO_RESULT) for run_id in decision.epochs}
    return sum(
        epochs - len(known[run_id].accuracies)
        for run_id, epochs in decision.epochs.items()
        if not known[run_id].has_ended(epochs)
    ) + sum(runs * epochs for runs, epochs in decision.later)


def _epochs(runs: Sequence[Run]) -> int:
    return sum(run.cell.epochs for run in runs)
