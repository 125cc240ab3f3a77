"""Racing: train all settings seed by seed, and drop those that are significantly worse.

O. Maron and A. W. Moore: Hoeffding Races (NIPS 1993); M. Birattari and others: A Racing Algorithm
for Configuring Metaheuristics (GECCO 2002). Here the blocks of a race are seeds, at full length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.plans import Run
from lenet_sweep.core.text import pluralize
from lenet_sweep.search import NO_RESULT, Decision, RunResult, Stop
from lenet_sweep.search.competitors import RUN_FAILED, competitors, decide_each


@dataclass(frozen=True)
class _Trained:
    """The result of a run that has ended. accuracy: percent; None if it failed."""

    accuracy: float | None
    correct: Callable[[], NDArray[Any] | None]

    @classmethod
    def of(cls, result: RunResult, epochs: int) -> _Trained:
        number = min(epochs, len(result.accuracies))
        failed = not number or (result.failed and number < epochs)
        return cls(None if failed else result.accuracies[number - 1], result.correct)


@dataclass(frozen=True)
class Racing:
    """Races over seeds: each further seed is trained only for the settings that may be the best.

    first: the number of seeds after which settings can be dropped. alpha: the probability, at most,
        that the setting with the highest expected accuracy is dropped.

    Seeds are trained in ascending order. After `first` seeds, and after each further one except the
    last, a setting is dropped if both tests find it worse than the setting with the best mean:

    - The paired t test over its seeds, one-sided, at the level alpha / ((settings - 1) * looks),
      where `looks` is the number of times that settings can be dropped. The truly best setting is
      dropped only if this test errs for it and one of the other settings, at one of the looks.
      There are (settings - 1) * looks such tests, so the probability is at most alpha (Bonferroni).
      This assumes that differences between two settings are normally distributed over seeds.
    - The z test over the images, one-sided, at the level alpha, of the mean difference over the
      seeds. A setting stays if it is unknown which images were correct. The second test can only
      keep settings, so the bound holds.

    A setting with a failed run is dropped at the next look. Only settings with the same dataset and
    the same number of epochs compete. A race of at most `first` seeds trains everything.
    """

    first: int = 5
    alpha: float = 0.05

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """See `Search`."""
        return decide_each(runs, lambda settings: self._decide(settings, results))

    def describe(self, runs: Sequence[Run]) -> list[str]:
        """See `Search`."""
        lines = []
        for settings in competitors(runs):
            seeds = len({run.cell.seed for runs in settings for run in runs})
            if seeds <= self.first:
                lines.append(self._trains_everything(seeds))
                continue
            least = 100 * (self.first * len(settings) + seeds - self.first) / len(settings) / seeds
            lines.append(
                f"racing trains {pluralize(len(settings), 'setting')} with "
                f"{pluralize(self.first, 'seed')} each, then up to "
                f"{pluralize(seeds - self.first, 'more seed')} of each setting that may still be "
                f"the best: {least:.0f} to 100% of the epochs of the full grid"
            )
        return lines

    def _trains_everything(self, seeds: int) -> str:
        return (
            f"racing trains the full grid: no setting can be dropped with fewer than "
            f"{self.first + 1} seeds (this sweep has {seeds})"
        )

    def _decide(
        self, settings: Sequence[Sequence[Run]], results: Mapping[str, RunResult]
    ) -> Decision:
        """The decision for settings that compete with each other."""
        epochs: dict[str, int] = {}
        stops: dict[str, Stop] = {}
        messages: list[str] = []
        stage, later = "", tuple[tuple[int, int], ...]()
        racing = [{run.cell.seed: run for run in runs} for runs in settings]
        seeds = sorted(set().union(*racing))
        looks = len(seeds) - self.first
        if looks < 1:
            epochs |= {run.id: run.cell.epochs for runs in settings for run in runs}
            return Decision(epochs, messages=(self._trains_everything(len(seeds)),))
        level = self.alpha / (max(1, len(settings) - 1) * looks)
        for number, seed in enumerate(seeds, 1):
            block = [by_seed[seed] for by_seed in racing if seed in by_seed]
            epochs |= {run.id: run.cell.epochs for run in block}
            if not all(results.get(r.id, NO_RESULT).has_ended(r.cell.epochs) for r in block):
                stage = f"seed {number} of {len(seeds)}: {len(racing)} of "
                stage += pluralize(len(settings), "setting")
                longest = max(run.cell.epochs for run in block)
                later = tuple(
                    (sum(other in by_seed for by_seed in racing), longest)
                    for other in seeds[number:]
                )
                break
            if not self.first <= number < len(seeds):
                continue
            trained = [
                {
                    s: _Trained.of(results[r.id], r.cell.epochs)
                    for s, r in by_seed.items()
                    if s <= seed
                }
                for by_seed in racing
            ]
            dropped = self._dropped(trained, level)
            for place, reason in dropped.items():
                stop = Stop(0, f"dropped after {pluralize(number, 'seed')}: {reason}")
                stops |= {run.id: stop for s, run in racing[place].items() if s > seed}
            racing = [by_seed for place, by_seed in enumerate(racing) if place not in dropped]
            messages.append(
                f"after {pluralize(number, 'seed')}, {len(racing)} of "
                f"{pluralize(len(racing) + len(dropped), 'setting')} "
                f"{'continues' if len(racing) == 1 else 'continue'}"
            )
        return Decision(epochs, stops, tuple(messages), stage, later, later_at_most=bool(later))

    def _dropped(self, trained: Sequence[Mapping[int, _Trained]], level: float) -> dict[int, str]:
        """Why settings are dropped, by their places. trained: the results by seed."""
        dropped: dict[int, str] = {}
        accuracies: dict[int, dict[int, float]] = {}
        for place, by_seed in enumerate(trained):
            known = {s: run.accuracy for s, run in by_seed.items() if run.accuracy is not None}
            if len(known) < len(by_seed):
                dropped[place] = RUN_FAILED
            elif known:
                accuracies[place] = known
        if not accuracies:
            return dropped
        means = {place: sum(known.values()) / len(known) for place, known in accuracies.items()}
        best = max(means, key=means.__getitem__)  # the first of equal ones
        for place, known in accuracies.items():
            shared = sorted(known.keys() & accuracies[best].keys())
            differences = [accuracies[best][seed] - known[seed] for seed in shared]
            if (
                place != best
                and len(shared) >= self.first
                and t_test(differences) <= level
                and self._images_agree([(trained[best][s], trained[place][s]) for s in shared])
            ):
                mean = sum(differences) / len(differences)
                dropped[place] = f"{mean:.2f} points worse than the best on average"
        return dropped

    def _images_agree(self, pairs: Sequence[tuple[_Trained, _Trained]]) -> bool:
        """Whether the first of each pair is also better in the test over the images."""
        differences = []
        for one, other in pairs:
            correct, correct_other = one.correct(), other.correct()
            if correct is None or correct_other is None:
                return False
            differences.append(np.subtract(correct, correct_other, dtype=np.int8, casting="unsafe"))
        return z_test(np.mean(differences, axis=0)) <= self.alpha


def t_test(differences: Sequence[float]) -> float:
    """The one-sided p-value of the t test that the expected difference is at most 0.

    differences: (seeds,), at least 2. If all are equal, it is 0 for a positive difference, else 1.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import

    mean, error = _mean_and_error(np.asarray(differences, float))
    if error <= 1e-12 * abs(mean) or error == 0:  # equal up to rounding
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(differences) - 1, -mean / error))


def z_test(differences: NDArray[Any]) -> float:
    """The one-sided p-value of the z test that the mean difference is at most 0.

    differences: (images,), at least 2. If all are equal, it is 0 for a positive difference, else 1.
    """
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import

    mean, error = _mean_and_error(differences)
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return float(ndtr(-mean / error))


def _mean_and_error(values: NDArray[Any]) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / sqrt(values.size)
