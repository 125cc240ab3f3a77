"""Successive halving: train all settings for some epochs, continue with the best, and repeat.

K. Jamieson and A. Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter
Optimization (AISTATS 2016). This is the synchronous form; a run that continues resumes where it
stopped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.plans import Run
from lenet_sweep.core.text import pluralize
from lenet_sweep.search import NO_RESULT, Decision, RunResult, Stop
from lenet_sweep.search.competitors import RUN_FAILED, competitors, decide_each

# Chosen by replays of recorded curves with one random seed; docs/search.md has the results of
# others.
FIRST = 1 / 32  # the part of all epochs at the first rung
LEAST = 3  # settings that continue if `keep` is a share


@dataclass(frozen=True)
class Halving:
    """Successive halving over settings: the seeds of a setting stay together.

    eta: about one in `eta` settings continues after each rung, and a rung has `eta` times the
        epochs of the rung before it. first: there is no rung before this epoch; None: the part
        FIRST of all epochs. keep: the minimum number of settings that continue, or below 1 their
        share of all settings, which is then at least LEAST settings. margin: if above 0, settings
        also continue whose accuracy is at most this many percentage points below that of the lowest
        setting that continues without it.

    Only settings with the same dataset and the same number of epochs compete with each other. The
    mean accuracy over the seeds decides, then the mean loss, then the order of the cells.

    Raises UsageError if `keep` is neither a whole number nor below 1.
    """

    eta: float = 2.0
    first: int | None = None
    keep: float = 0.35
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.keep > 1 and self.keep != int(self.keep):
            raise UsageError(
                f"search.keep={self.keep:g}: must be a whole number of settings, or a share below 1"
            )

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs at which runs of this length are compared, and the last one, ascending."""
        first = self.first or max(1, round(epochs * FIRST))
        rungs = [epochs]
        while (rung := round(epochs / self.eta ** len(rungs))) >= first and rung < rungs[0]:
            rungs.insert(0, rung)
        return tuple(rungs)

    def stages(self, settings: int, epochs: int) -> list[tuple[int, int]]:
        """For each rung, how many of these settings are trained to it, without `margin`."""
        return self._stages(settings, settings, self.rungs(epochs))

    def most_epochs(self, settings: Sequence[Sequence[Run]]) -> int:
        """The epochs of all runs of settings that compete with each other, without `margin`."""
        seeds = max(len(runs) for runs in settings)
        return seeds * total_epochs(self.stages(len(settings), settings[0][0].cell.epochs))

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """See `Search`."""
        return decide_each(runs, lambda settings: self._decide(settings, results))

    def describe(self, runs: Sequence[Run]) -> list[str]:
        """See `Search`. `margin` may add to the numbers."""
        lines = []
        for settings in competitors(runs):
            epochs = settings[0][0].cell.epochs
            stages = self.stages(len(settings), epochs)
            steps = [f"{number} to epoch {rung}" for number, rung in stages]
            steps[0] = f"{pluralize(len(settings), 'setting')} to epoch {stages[0][1]}"
            share = 100 * total_epochs(stages) / (len(settings) * epochs)
            lines.append(
                f"halving trains {', then '.join(steps)}: about {share:.0f}% of the epochs of "
                "the full grid"
            )
        return lines

    def _stages(self, settings: int, total: int, rungs: Sequence[int]) -> list[tuple[int, int]]:
        """As `stages`, from the first of these rungs on. total: the settings of the search."""
        stages = []
        for rung in rungs:
            stages.append((settings, rung))
            settings = min(settings, self._continuing(settings, total))
        return stages

    def _continuing(self, settings: int, total: int) -> int:
        """How many of these settings continue after a rung, without `margin`."""
        share = max(LEAST, math.ceil(round(self.keep * total, 6)))
        keep = int(self.keep) if self.keep >= 1 else share
        return max(keep, math.ceil(settings / self.eta))

    def _decide(
        self, settings: Sequence[Sequence[Run]], results: Mapping[str, RunResult]
    ) -> Decision:
        """The decision for settings that compete with each other."""
        epochs: dict[str, int] = {}
        stops: dict[str, Stop] = {}
        messages: list[str] = []
        stage, later = "", tuple[tuple[int, int], ...]()
        total, rungs = len(settings), self.rungs(settings[0][0].cell.epochs)
        for number, (rung, following) in enumerate(pairwise((*rungs, 0)), 1):
            epochs |= {run.id: rung for runs in settings for run in runs}
            known = [[results.get(run.id, NO_RESULT) for run in runs] for runs in settings]
            if not all(r.has_ended(rung) for rs in known for r in rs):
                stage = f"rung {number} of {len(rungs)}, epoch {rung}: {len(settings)} of "
                stage += pluralize(total, "setting")
                later = self._later(settings, total, rungs[number - 1 :])
                break
            if not following:
                break
            scores = [_score(rs, rung) for rs in known]
            places = sorted(range(len(settings)), key=scores.__getitem__)
            continuing = self._continuing(len(settings), total)
            cutoff = -scores[places[:continuing][-1]][0]
            chosen = {
                place
                for index, place in enumerate(places)
                if (index < continuing or 0 <= cutoff + scores[place][0] <= self.margin > 0)
                and scores[place][0] != math.inf
            }
            for place, runs in enumerate(settings):
                if place not in chosen:
                    reason = _reason(scores[place], [scores[c] for c in chosen], rung)
                    if runs[0].cell.dataset.holdout:
                        reason += " (on held-out images)"
                    stops |= {run.id: Stop(rung, reason) for run in runs}
            messages.append(
                f"after epoch {rung}, {len(chosen)} of {pluralize(len(settings), 'setting')} "
                f"{'continues' if len(chosen) == 1 else 'continue'} to epoch {following}"
            )
            settings = [runs for place, runs in enumerate(settings) if place in chosen]
            if not settings:
                break
        return Decision(epochs, stops, tuple(messages), stage, later)

    def _later(
        self, settings: Sequence[Sequence[Run]], total: int, rungs: Sequence[int]
    ) -> tuple[tuple[int, int], ...]:
        """The rounds after the first of these rungs, without `margin`: see `Decision.later`."""
        seeds = sum(map(len, settings)) / len(settings)
        stages = self._stages(len(settings), total, rungs)
        return tuple(
            (round(number * seeds), rung - before)
            for (_, before), (number, rung) in pairwise(stages)
        )


def total_epochs(stages: Sequence[tuple[int, int]]) -> int:
    """The epochs that these stages train, with one seed. stages: as of `Halving.stages`."""
    rungs = (0, *(rung for _, rung in stages))
    steps = zip(stages, pairwise(rungs), strict=True)
    return sum(number * (rung - before) for (number, _), (before, rung) in steps)


def _score(results: Sequence[RunResult], epoch: int) -> tuple[float, float]:
    """Minus the mean accuracy after an epoch, and the mean loss: smaller is better."""
    accuracies, losses = [], []
    for result in results:
        if result.failed and len(result.accuracies) < epoch:
            return math.inf, math.inf
        index = min(epoch, len(result.accuracies)) - 1
        accuracies.append(result.accuracies[index])
        loss = result.losses[index]
        losses.append(math.inf if loss is None else loss)
    return -sum(accuracies) / len(accuracies), sum(losses) / len(losses)


def _reason(score: tuple[float, float], chosen: Sequence[tuple[float, float]], epoch: int) -> str:
    """Why a setting with this score was stopped. chosen: the scores of those that continue."""
    if score[0] == math.inf:
        return f"stopped after epoch {epoch}: {RUN_FAILED}"
    below = score[0] - max(chosen)[0]
    last = f"the last of the {len(chosen)} settings that continue"
    if len(chosen) == 1:
        last = "the setting that continues"
    if below > 0:
        return f"stopped after epoch {epoch} at {-score[0]:.2f}%, {below:.2f} points below {last}"
    decided = "has a smaller loss" if score[1] > max(chosen)[1] else "comes first in the sweep"
    return f"stopped after epoch {epoch} at {-score[0]:.2f}%, equal to {last}, which {decided}"


def compared_with(reason: str) -> int | None:
    """The number of continuing settings with which the setting of a `_reason` was compared.

    0 if a run of the setting failed; None for a reason of another search.
    """
    if RUN_FAILED in reason:
        return 0
    match = re.search(r"the (?:last of the (\d+) settings|setting) that continue", reason)
    return int(match[1] or 1) if match else None
