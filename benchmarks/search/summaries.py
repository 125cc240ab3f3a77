"""What replays show: epochs, regret, recall of the tied settings, and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import Curves
from benchmarks.search.replays import Outcome, Problem, choose

GOOD = 1.0  # points below the best; the noise of settings that did not learn says nothing
TIED = 2.0  # standard errors of a difference


@dataclass(frozen=True, eq=False)
class Truth:
    """How good the recorded settings are, as means over all seeds after the last epoch."""

    curves: Curves

    @cached_property
    def test(self) -> NDArray[np.float64]:
        """(settings,): the accuracy on the test images, percent."""
        return self.curves.test_accuracy[:, :, -1].mean(axis=1)

    @cached_property
    def _both(self) -> NDArray[np.float64]:
        """(settings, seeds): the accuracy on the test and held-out images, percent."""
        share = self.curves.test_images / len(self.curves.labels)
        test, held_out = self.curves.test_accuracy, self.curves.holdout_accuracy
        result: NDArray[np.float64] = share * test[..., -1] + (1 - share) * held_out[..., -1]
        return result

    def _error(self, accuracy: NDArray[np.float64]) -> float:
        """The standard error of a difference of two means over the seeds, for good settings."""
        means = accuracy.mean(axis=1)
        good = accuracy[means >= means.max() - GOOD]
        return float(np.sqrt(2 * good.var(axis=1, ddof=1).mean() / good.shape[1]))

    @cached_property
    def test_error(self) -> float:
        """The standard error of a difference of two values of `test`, in points."""
        return self._error(self.curves.test_accuracy[:, :, -1])

    @cached_property
    def tie_width(self) -> float:
        """How far below the best a setting is still tied with it, in points."""
        return TIED * self._error(self._both)

    def tied(self, settings: Sequence[int]) -> set[int]:
        """Of these settings, those tied with their best, which is one of them."""
        means = self._both.mean(axis=1)
        best = max(means[s] for s in settings)
        return {s for s in settings if means[s] >= best - self.tie_width}

    def choice_of_grid(self, problem: Problem) -> int:
        """The setting that the full grid finds best on the held-out images."""
        values = self.curves.holdout_accuracy[np.ix_(problem.settings, problem.seeds)].mean(axis=1)
        return problem.settings[choose(values, [values.shape[1]] * len(values))]


def summarize(
    problems: Sequence[Problem], outcomes: Sequence[Outcome], truth: Truth
) -> dict[str, Any]:
    """The statistics of one method, as JSON values. Regret is in points of test accuracy."""
    last = truth.curves.seconds.shape[2]
    shares, regrets, losses, recalls, tied_choices = [], [], [], [], []
    for problem, outcome in zip(problems, outcomes, strict=True):
        assert problem.index == outcome.index
        tied = truth.tied(problem.settings)
        chosen = truth.test[outcome.chosen]
        shares.append(sum(outcome.epochs.values()) / (last * len(problem.settings)))
        regrets.append(truth.test[truth.choice_of_grid(problem)] - chosen)
        losses.append(max(truth.test[s] for s in problem.settings) - chosen)
        recalls.append(np.mean([outcome.epochs[s] == last for s in tied]))
        tied_choices.append(outcome.chosen in tied)
    return {
        "replays": len(problems),
        "epochs": float(np.mean(shares)),
        "largest_epochs": float(np.max(shares)),
        "regret": percentiles(regrets),
        "regret_0.05": share_up_to(regrets, 0.05),
        "regret_0.10": share_up_to(regrets, 0.10),
        "below_best": percentiles(losses),
        "below_best_0.05": share_up_to(losses, 0.05),
        "below_best_0.10": share_up_to(losses, 0.10),
        "lost": 1 - float(np.mean(tied_choices)),
        "recall": float(np.mean(recalls)),
        "seconds": float(np.median([outcome.makespan for outcome in outcomes])),
    }


def percentiles(values: Sequence[float]) -> Mapping[str, float]:
    names = {"median": 50, "90": 90, "95": 95}
    return {"mean": float(np.mean(values))} | {
        name: float(np.percentile(values, percent)) for name, percent in names.items()
    }


def share_up_to(values: Sequence[float], limit: float) -> float:
    return float(np.mean([value <= limit + 1e-9 for value in values]))
