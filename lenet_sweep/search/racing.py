"""Racing: train all settings seed by seed, and drop those that are significantly worse.

O. Maron and A. W. Moore: Hoeffding Races (NIPS 1993); M. Birattari and others: A Racing Algorithm
for Configuring Metaheuristics (GECCO 2002). Here the blocks of a race are seeds, at full length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Run
from lenet_sweep.core.text import pluralize
from lenet_sweep.search import NO_RESULT, Decision, RunResult, Stop
from lenet_sweep.search.competitors import competitors


@dataclass(frozen=True)
class Racing:
    """Races over seeds: each further seed is trained only for the settings that may be the best.

    first: the number of seeds after which settings can be dropped. alpha: the probability, at most,
        that the setting with the highest expected accuracy is dropped.

    Seeds are trained in ascending order. After `first` seeds, and after each further one except the
    last, a setting is dropped if both tests find it worse than the setting with the best mean:

    - The paired t test over its seeds, one-sided, at the level alpha / (settings - 1) / looks, where
      `looks` is the number of times that settings can be dropped. The best setting is dropped only
      if this test errs for it and one of the other settings, at one of the looks. There are
      (settings - 1) * looks such tests, so the probability is at most alpha (Bonferroni). This
      assumes that differences between two settings are normally distributed over seeds.
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
        epochs: dict[str, int] = {}
        stops: dict[str, Stop] = {}
        messages: list[str] = []
        for settings in competitors(runs):
            self._decide(settings, results, epochs, stops, messages)
        return Decision(epochs, stops, tuple(messages))

    def _decide(
        self,
        settings: Sequence[Sequence[Run]],
        results: Mapping[str, RunResult],
        epochs: dict[str, int],
        stops: dict[str, Stop],
        messages: list[str],
    ) -> None:
        """Add the decision for settings that compete with each other."""
        racing = [{run.cell.seed: run for run in runs} for runs in settings]
        seeds = sorted(set().union(*racing))
        looks = len(seeds) - self.first
        if looks < 1:
            epochs |= {run.id: run.cell.epochs for runs in settings for run in runs}
            messages.append(
                f"all {pluralize(len(seeds), 'seed')} are trained: settings can be dropped from "
                f"{self.first + 1} seeds on"
            )
            return
        level = self.alpha / max(1, len(settings) - 1) / looks
        for number, seed in enumerate(seeds, 1):
            block = [by_seed[seed] for by_seed in racing if seed in by_seed]
            epochs |= {run.id: run.cell.epochs for run in block}
            if not all(results.get(r.id, NO_RESULT).has_ended(r.cell.epochs) for r in block):
                return
            if not self.first <= number < len(seeds):
                continue
            trained = [
                {s: results[run.id] for s, run in by_seed.items() if s <= seed}
                for by_seed in racing
            ]
            dropped = self._dropped(trained, level)
            for place, reason in dropped.items():
                reason = f"{reason} after {pluralize(number, 'seed')}"
                later = (run for s, run in racing[place].items() if s > seed)
                stops |= {run.id: Stop(0, reason) for run in later}
            racing = [by_seed for place, by_seed in enumerate(racing) if place not in dropped]
            messages.append(
                f"{pluralize(number, 'seed')}: {len(racing)} of "
                f"{pluralize(len(racing) + len(dropped), 'setting')} continue"
            )

    def _dropped(self, trained: Sequence[Mapping[int, RunResult]], level: float) -> dict[int, str]:
        """Why settings are dropped, by their places. trained: the results by seed."""
        dropped = {
            place: "another seed of this setting failed"
            for place, by_seed in enumerate(trained)
            if any(_failed(result) for result in by_seed.values())
        }
        means = {
            place: float(np.mean([result.accuracies[-1] for result in by_seed.values()]))
            for place, by_seed in enumerate(trained)
            if place not in dropped and by_seed
        }
        if not means:
            return dropped
        best = max(means, key=means.__getitem__)  # the first of equal ones
        for place in means.keys() - {best}:
            shared = sorted(trained[best].keys() & trained[place].keys())
            one, other = ([trained[p][seed] for seed in shared] for p in (best, place))
            differences = [
                a.accuracies[-1] - b.accuracies[-1] for a, b in zip(one, other, strict=True)
            ]
            if (
                len(shared) >= self.first
                and t_test(differences) <= level
                and self._images_agree(one, other)
            ):
                dropped[place] = (
                    f"worse than the best by {np.mean(differences):.2f} points on average"
                )
        return dict(sorted(dropped.items()))

    def _images_agree(self, one: Iterable[RunResult], other: Iterable[RunResult]) -> bool:
        """Whether the first setting is also better in the test over the images."""
        total: NDArray[Any] | float = 0.0
        count = 0
        for a, b in zip(one, other, strict=True):
            correct, correct_other = a.correct(), b.correct()
            if correct is None or correct_other is None:
                return False
            total = total + np.subtract(correct, correct_other, dtype=float)
            count += 1
        return z_test(np.asarray(total) / count) <= self.alpha


def _failed(result: RunResult) -> bool:
    return result.failed or not result.accuracies


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
