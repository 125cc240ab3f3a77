"""Check the claims of a study against the measured settings.

Each check is one function, whose docstring gives its rule. docs/reproducing-a-report.md lists them
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from math import sqrt
from statistics import fmean, median

from lenet_sweep.analysis import t_tests
from lenet_sweep.analysis.reproduction import (
    FAR,
    NOT,
    REPRODUCED,
    ClaimResult,
    Reproduction,
    judge_accuracy,
    prediction_margin,
    reproduce,
    sampling_margin,
)
from lenet_sweep.analysis.significance import ALPHA, MIN_SEEDS
from lenet_sweep.analysis.statistics import EPSILON, Result, Setting, accuracies, group_by_setting
from lenet_sweep.config.registry import RECIPES, default_lr, make_choice
from lenet_sweep.config.studies import Claim, Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import pluralize

LITTLE = 0.2  # points; twice the standard error of 99% on 10,000 images
TARGET = 98.0  # percent; the recipe that gets there in fewer epochs learns faster
# Placeholders in keys that ignore the recipe.
ANY_LOSS, ANY_OPTIMIZER = make_choice("loss", "nll"), make_choice("optimizer", "sgd")
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "inconclusive"


def judge(study: Study, results: Sequence[Result]) -> Reproduction:
    """Judge the rows and the claims of a study by these results."""
    return replace(reproduce(study, results), claim_results=check_claims(study.claims, results))


def check_claims(claims: Iterable[Claim], results: Sequence[Result]) -> tuple[ClaimResult, ...]:
    """The result of each claim, in order."""
    measured = [s for s in group_by_setting(results) if s.mean is not None]
    return tuple(ClaimResult(c, *_CHECKS.get(c.check, _unknown)(c, measured)) for c in claims)


def _of_recipe(recipe: str, settings: Iterable[Setting]) -> list[Setting]:
    if not recipe:
        return list(settings)
    loss, optimizer = RECIPES[recipe]
    return [s for s in settings if (s.cell.loss.name, s.cell.optimizer.name) == (loss, optimizer)]


def _mean(setting: Setting) -> float:
    assert setting.mean is not None
    return setting.mean


def _differ(one: Setting, other: Setting) -> bool:
    """Whether two settings differ significantly: Welch's t test over their seeds, at ALPHA.

    If one has fewer than MIN_SEEDS seeds, or neither varies: whether the difference exceeds the
    sampling error of the test images.
    """
    if min(one.n, other.n) >= MIN_SEEDS and max(one.sd or 0.0, other.sd or 0.0) > EPSILON:
        a, b = (accuracies(s.results) for s in (one, other))
        return t_tests.welch_p(a, b) < ALPHA
    errors = [sampling_margin(s) for s in (one, other)]
    if None in errors:  # the test images are not available
        return False
    return abs(_mean(one) - _mean(other)) > sqrt(sum((e or 0.0) ** 2 for e in errors))


@dataclass(frozen=True)
class _Pairs:
    """Pairs of neighbors: settings that differ in one hyperparameter only, by one step.

    differences: of each pair, the accuracy of the larger value minus that of the smaller one, in
    points. significant: whether the two differ significantly.
    """

    differences: tuple[float, ...]
    significant: tuple[bool, ...]

    @property
    def total(self) -> int:
        return len(self.differences)

    @property
    def up(self) -> int:
        """The number of pairs in which the larger value is significantly better."""
        return sum(d > 0 for d in self.significant_differences)

    @property
    def down(self) -> int:
        """The number of pairs in which the larger value is significantly worse."""
        return sum(d < 0 for d in self.significant_differences)

    @property
    def significant_differences(self) -> list[float]:
        return list(compress(self.differences, self.significant))


def _pairs(key: str, settings: Iterable[Setting]) -> _Pairs:
    groups: dict[Cell, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.cell.setting.with_value(key, 1), []).append(setting)
    neighbors = [
        pair
        for group in groups.values()
        for pair in pairwise(sorted(group, key=lambda s: getattr(s.cell, key)))
    ]
    return _Pairs(
        tuple(_mean(larger) - _mean(smaller) for smaller, larger in neighbors),
        tuple(_differ(smaller, larger) for smaller, larger in neighbors),
    )


def _verdict(supporting: int, contradicting: int) -> str:
    if not supporting and not contradicting:
        return OPEN
    if not contradicting:
        return HOLDS
    return PARTLY if supporting > contradicting else FAILS


def _larger_is_better(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """Holds if the larger value is better in all pairs that differ, in part if in most of them."""
    (key,) = claim.keys
    pairs = _pairs(key, _of_recipe(claim.recipe, settings))
    if not pairs.total:
        return OPEN, f"No two settings differ only in {key}."
    sentence = (
        f"Of {pluralize(pairs.total, 'pair')} of settings that differ only in {key}, by one step, "
        f"the larger value is significantly better in {pairs.up} and significantly worse in "
        f"{pairs.down}."
    )
    if close := pairs.total - pairs.up - pairs.down:
        sentence += f" In the other {close}, the difference is not significant."
    return _verdict(pairs.up, pairs.down), sentence


def _matters_little(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """Holds if each key has a median difference of up to LITTLE and no larger significant one.

    Differences are between neighbors. Holds in part if only the medians are up to LITTLE, if only
    some medians are, or if some key has no neighbors.
    """
    small, sentences = [], []
    large = 0  # significant differences above LITTLE
    for key in claim.keys:
        pairs = _pairs(key, _of_recipe(claim.recipe, settings))
        if not pairs.total:
            sentences.append(f"no two settings differ only in {key}")
            continue
        sizes = [abs(difference) for difference in pairs.differences]
        large_here = sum(abs(d) > LITTLE for d in pairs.significant_differences)
        large += large_here
        small.append(median(sizes) <= LITTLE)
        sentences.append(
            f"one step in {key} changes the accuracy by a median of {median(sizes):.2f} points and "
            f"by at most {max(sizes):.2f} points ({pluralize(pairs.total, 'pair')}, of which "
            f"{large_here or 'none'} {'differ' if large_here > 1 else 'differs'} significantly by "
            f"more than {LITTLE} points)"
        )
    text = "; ".join(sentences)
    sentence = (
        f"{text[0].upper()}{text[1:]}. Here, "
        f"'little' means a median of up to {LITTLE} points and no significant difference above it."
    )
    if not small:
        return OPEN, sentence
    if all(small) and not large and len(small) == len(claim.keys):
        return HOLDS, sentence
    return (PARTLY if any(small) else FAILS), sentence


def _smaller_is_better_with_larger(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """Holds if neighbors in the first key agree, at both large and small values of the second.

    Large is above the geometric mean of the smallest and the largest value. Holds in part if most
    pairs that differ agree, or if only one half does.
    """
    key, other = claim.keys
    own = _of_recipe(claim.recipe, settings)
    values = [getattr(s.cell, other) for s in own]
    if len(set(values)) < 2:
        return OPEN, f"Fewer than two values of {other} were measured."
    middle = sqrt(min(values) * max(values))
    large = _pairs(key, [s for s in own if getattr(s.cell, other) > middle])
    small = _pairs(key, [s for s in own if getattr(s.cell, other) <= middle])
    sentence = (
        f"With a large {other} (above {middle:.2g}), the smaller {key} is significantly better in "
        f"{large.down} of {pluralize(large.total, 'pair')} and significantly worse in {large.up}. "
        f"With a small {other}, the larger {key} is significantly better in {small.up} of "
        f"{pluralize(small.total, 'pair')} and significantly worse in {small.down}. In the other "
        "pairs, the difference is not significant."
    )
    verdict = _verdict(large.down + small.up, large.up + small.down)
    if verdict == HOLDS and not (large.down and small.up):  # only one half of the claim was seen
        verdict = PARTLY
    return verdict, sentence


def _best_recipe(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """Holds if the recipe's best setting is significantly better than the best of all others."""
    own = _of_recipe(claim.recipe, settings)
    rest = [s for s in settings if s not in own]
    if not own or not rest:
        return OPEN, "Fewer than two recipes were measured."
    ours, theirs = (max(group, key=_mean) for group in (own, rest))
    names = short_names([ours.cell.setting, theirs.cell.setting])
    our_name, their_name = names[ours.cell.setting], names[theirs.cell.setting]
    difference = _mean(ours) - _mean(theirs)
    significant = _differ(ours, theirs)
    sentence = (
        f"Its best setting ({our_name}) has {_mean(ours):.2f}%, and the best of the "
        f"others ({their_name}) has {_mean(theirs):.2f}%. The difference of "
        f"{abs(difference):.2f} points is {'' if significant else 'not '}significant."
    )
    return (OPEN if not significant else HOLDS if difference > 0 else FAILS), sentence


def _best_accuracy(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """As `judge_accuracy`, for the best setting: holds if one more run could have the accuracy."""
    if not settings or claim.accuracy is None:
        return OPEN, "No setting has an accuracy."
    best = max(settings, key=_mean)
    margin = prediction_margin(best)
    interval = ""
    if margin is not None:
        interval = f" \N{PLUS-MINUS SIGN} {margin:.2f} (95% prediction interval for one more run)"
    runs = [(r.accuracy, r.cell) for s in settings for r in s.results if r.accuracy is not None]
    highest, cell = max(runs, key=lambda run: run[0])
    sentence = (
        f"The best setting here ({best.cell.setting.description.partition(', seed')[0]}) has "
        f"{_mean(best):.2f}%{interval}. The highest accuracy of {pluralize(len(runs), 'cell')} is "
        f"{highest:.2f}% ({cell.description.rpartition(', ')[0]})."
    )
    verdict = judge_accuracy(claim.accuracy, best)
    if margin is None:
        sentence += " With one seed and no test images, no margin is known."
    elif verdict == OPEN and margin > FAR:
        sentence += f" A margin of more than {FAR:g} points would confirm almost anything."
    elif verdict == OPEN:
        sentence += " One seed is too few to refute the claim."
    return {REPRODUCED: HOLDS, NOT: FAILS}.get(verdict, OPEN), sentence


def _learns_faster(claim: Claim, settings: Sequence[Setting]) -> tuple[str, str]:
    """Holds if the recipe needs fewer epochs to TARGET than the fastest other recipe.

    Recipes are compared at their default learning rate and options, for each batch size that both
    have; equal numbers of epochs do not count. Holds in part if the recipe is faster at more batch
    sizes than it is slower.
    """
    defaults = [
        s
        for s in settings
        if s.cell.lr == default_lr(s.cell.optimizer)
        and not s.cell.optimizer.changed
        and not s.cell.loss.changed
    ]
    own = _of_recipe(claim.recipe, defaults)
    ours = _epochs_to_learn(own)
    theirs = _epochs_to_learn([s for s in defaults if s not in own])
    common = sorted(set(ours) & set(theirs), key=lambda rest: rest.batch)
    if not common:
        return OPEN, "No two recipes were measured at their default lr with all else equal."
    names = short_names(common, epochs=False)
    texts = [
        f"{_format_epochs(ours[c])} versus {_format_epochs(theirs[c])}"
        + (f" ({names[c]})" if len(common) > 1 else "")
        for c in common
    ]
    sentence = (
        f"Epochs until {TARGET:g}% test accuracy at the default lr (mean over seeds, compared "
        f"with the fastest other recipe, without a significance test): {', '.join(texts)}."
    )
    faster = sum(ours[c] < theirs[c] for c in common)
    return _verdict(faster, sum(ours[c] > theirs[c] for c in common)), sentence


def _epochs_to_learn(settings: Iterable[Setting]) -> Mapping[Cell, float]:
    """The first epoch at TARGET, as a mean over seeds; infinite if a seed never reaches it.

    Keyed by a cell without recipe, lr and epochs; the fastest of several recipes counts.
    """
    runs: dict[Cell, dict[Cell, dict[str, float]]] = {}
    for setting in settings:
        # Schedules that depend on the epochs keep them; for the others, they do not matter here.
        cell = setting.cell.setting
        cell = replace(cell, epochs=cell.horizon or 1)
        rest = replace(cell, loss=ANY_LOSS, optimizer=ANY_OPTIMIZER, lr=1.0)
        by_run = runs.setdefault(rest, {}).setdefault(cell, {})
        for result in setting.results:
            if result.accuracy is not None and not result.history:
                continue  # its epochs are not available
            reached = (float(e.epoch) for e in result.history if e.accuracy >= TARGET)
            first = next(reached, float("inf"))  # a run's shorter snapshots may not reach it
            by_run[result.cell.run_id] = min(first, by_run.get(result.cell.run_id, first))
    return {
        rest: min(fmean(epochs.values()) for epochs in by_setting.values() if epochs)
        for rest, by_setting in runs.items()
        if any(by_setting.values())
    }


def _format_epochs(epochs: float) -> str:
    return f"{epochs:.1f}" if epochs < float("inf") else "never"


def _unknown(claim: Claim, _settings: Sequence[Setting]) -> tuple[str, str]:
    """The claim comes from a sweep of another version of lenet-sweep."""
    return OPEN, f"This version of lenet-sweep has no check '{claim.check}'."


_CHECKS: Mapping[str, Callable[[Claim, Sequence[Setting]], tuple[str, str]]] = {
    "larger_is_better": _larger_is_better,
    "matters_little": _matters_little,
    "smaller_is_better_with_larger": _smaller_is_better_with_larger,
    "best_recipe": _best_recipe,
    "best_accuracy": _best_accuracy,
    "learns_faster": _learns_faster,
}
