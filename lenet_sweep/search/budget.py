"""Successive halving within a budget of epochs, or for about a number of minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from lenet_sweep.core.cells import Run
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import pluralize
from lenet_sweep.machine import devices
from lenet_sweep.search import Decision, RunResult
from lenet_sweep.search.competitors import competitors, decide_each
from lenet_sweep.search.halving import Halving, total_epochs

KEEP = 3


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
            smallest = _cost(candidates(self.halving, settings)[-1], settings)
            needed = math.ceil(smallest * full / group)
            raise UsageError(
                f"search.epochs={self.epochs}: must be at least {needed} for "
                f"{pluralize(len(settings), 'setting')} with epochs={settings[0][0].cell.epochs}"
            )
        return search


class TimedHalving:
    """Successive halving that takes about this many minutes from its creation.

    At each decision, the budget is the number of epochs trained so far plus those that fit in the
    time left, so the decisions depend on the speed of the machine. The speed is measured during
    the search; before, it is estimated from stored runs or, without any, the first rung is epoch 1.
    Even with no time left, at least one setting is trained to its last epoch.
    """

    def __init__(
        self, halving: Halving, minutes: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._halving = halving
        self._minutes = minutes
        self._clock = clock
        self._start = clock()
        self._trained_before: int | None = None

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """See `Search`; also a function of the time."""
        known = [results[run.id] for run in runs if run.id in results]
        trained = sum(len(result.accuracies) for result in known)
        if self._trained_before is None:
            self._trained_before = trained
        elapsed = self._clock() - self._start
        left = max(0.0, 60 * self._minutes - elapsed)
        budget = trained + left * self._speed(trained, elapsed, known)
        full = _epochs(runs)

        def decide(settings: Sequence[Sequence[Run]]) -> Decision:
            group = [run for runs in settings for run in runs]
            search = within_budget(self._halving, settings, budget * _epochs(group) / full)
            return (search or candidates(self._halving, settings)[-1]).decide(group, results)

        return decide_each(runs, decide)

    def describe(self, runs: Sequence[Run]) -> list[str]:  # noqa: ARG002 - see `Search`
        """See `Search`."""
        line = f"halving for about {self._minutes:g} min: the speed of the training decides "
        return [line + "which rungs there are and how many settings continue"]

    def _speed(self, trained: int, elapsed: float, results: Sequence[RunResult]) -> float:
        """Epochs per second of all workers together; 0 if nothing is known."""
        new = trained - (self._trained_before or 0)
        if new and elapsed > 0:
            return new / elapsed
        seconds = sum(result.seconds for result in results)
        return devices.cpu_count() * trained / seconds if seconds else 0.0


def within_budget(
    halving: Halving, settings: Sequence[Sequence[Run]], epochs: float
) -> Halving | None:
    """The first of the candidates that trains at most this many epochs; None if there is none."""
    searches: Iterator[Halving] = iter(candidates(halving, settings))
    return next((search for search in searches if _cost(search, settings) <= epochs), None)


def candidates(halving: Halving, settings: Sequence[Sequence[Run]]) -> list[Halving]:
    """Searches from the best to the cheapest: fewer settings that continue, then shorter rungs.

    The first rung is at most that of `halving`. Its `keep` and `margin` are not used. In replays of
    recorded curves, it was better to shorten the first rung than to keep fewer than KEEP settings.
    """
    epochs = settings[0][0].cell.epochs
    most = halving.rungs(epochs)[0]
    firsts = [rung for rung in replace(halving, first=1).rungs(epochs) if rung <= most] or [most]
    pairs = [
        *product(reversed(firsts), range(len(settings), KEEP - 1, -1)),
        *product(firsts[:1], range(min(KEEP - 1, len(settings)), 0, -1)),
    ]
    return [replace(halving, first=first, keep=keep, margin=0.0) for first, keep in pairs]


def _cost(search: Halving, settings: Sequence[Sequence[Run]]) -> int:
    """The epochs that a search trains at most, over all runs of these settings."""
    seeds = max(len(runs) for runs in settings)
    return seeds * total_epochs(search.stages(len(settings), settings[0][0].cell.epochs))


def _epochs(runs: Sequence[Run]) -> int:
    return sum(run.cell.epochs for run in runs)
