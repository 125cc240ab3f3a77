"""Conclusions that a study drew, each checked by what was measured: a verdict and its numbers.

Which rule checks which claim is said by its function; docs/reproducing-a-report.md gathers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from statistics import fmean, median

from lenet_sweep.analysis import t_tests
from lenet_sweep.analysis.reproduction import ClaimResult, Reproduction, reproduce, sampling, spread
from lenet_sweep.analysis.statistics import (
    ALPHA,
    EPSILON,
    SEEDS,
    Result,
    Setting,
    accuracies,
    group_by_setting,
)
from lenet_sweep.config.registry import RECIPES, default_lr, make_optimizer
from lenet_sweep.config.studies import Claim, Study
from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.text import pluralize

LITTLE = 0.2  # points: twice the sampling error of 10,000 images at 99 %
LEARNED = 98.0  # percent of the test images: epochs until then say how fast a recipe learns
PLAIN = make_optimizer("sgd")  # in place of any, where recipes are compared
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "cannot be told"


def judge(study: Study, results: Sequence[Result]) -> Reproduction:
    """A study's rows and its claims held against these results."""
    return replace(reproduce(study, results), findings=check_claims(study.claims, results))


def check_claims(claims: Iterable[Claim], results: Sequence[Result]) -> tuple[ClaimResult, ...]:
    """A finding for each claim, by these results."""
    measured = [s for s in group_by_setting(results) if s.mean is not None]
    return tuple(ClaimResult(c, *_CHECKS[c.check](c, measured)) for c in claims)


def _of(recipe: str, found: Iterable[Setting]) -> list[Setting]:
    if not recipe:
        return list(found)
    loss, optimizer = RECIPES[recipe]
    return [s for s in found if (s.cell.loss, s.cell.optimizer.name) == (loss, optimizer)]


def _mean(setting: Setting) -> float:
    assert setting.mean is not None
    return setting.mean


def _apart(one: Setting, other: Setting) -> bool:
    """Whether two settings can be told apart: Welch's t test of their seeds, at ALPHA.

    Where one has fewer than SEEDS, or none scatters: whether they differ by more than the sampling
    of their test images explains.
    """
    if min(one.n, other.n) >= SEEDS and max(one.sd or 0.0, other.sd or 0.0) > EPSILON:
        a, b = (accuracies(setting.results) for setting in (one, other))
        return t_tests.welch_p(a, b) < ALPHA
    errors = [sampling(s) for s in (one, other)]
    if None in errors:  # the test images are not at hand
        return False
    return abs(_mean(one) - _mean(other)) > sqrt(sum((e or 0.0) ** 2 for e in errors))


@dataclass(frozen=True)
class _Pairs:
    """Neighbours that differ in nothing but one setting, counted by which of them is better."""

    up: int  # the larger value is better, more than chance explains
    down: int
    close: int
    differences: tuple[float, ...]  # points, of all, absolute

    @property
    def total(self) -> int:
        return self.up + self.down + self.close


def _pairs(key: str, found: Iterable[Setting]) -> _Pairs:
    groups: dict[Cell, list[Setting]] = {}
    for setting in found:
        rest = replace(setting.cell.setting, **{key: 1})  # type: ignore[arg-type] # lr, batch, epochs
        groups.setdefault(rest, []).append(setting)
    up = down = close = 0
    differences = []
    for group in groups.values():
        line = sorted(group, key=lambda s: getattr(s.cell, key))
        for smaller, larger in pairwise(line):
            differences.append(abs(_mean(larger) - _mean(smaller)))
            if not _apart(smaller, larger):
                close += 1
            elif _mean(larger) > _mean(smaller):
                up += 1
            else:
                down += 1
    return _Pairs(up, down, close, tuple(differences))


def _weighed(confirmed: int, against: int) -> str:
    if not confirmed and not against:
        return OPEN
    if not against:
        return HOLDS
    return PARTLY if confirmed > against else FAILS


def _larger_is_better(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """Holds if no pair that can be told apart says otherwise, in part if more say so than not."""
    (key,) = claim.keys
    pairs = _pairs(key, _of(claim.recipe, found))
    if not pairs.total:
        return OPEN, f"No two settings differ in {key} alone."
    sentence = (
        f"Of {pluralize(pairs.total, 'pair')} of settings that differ in nothing but {key}, the "
        f"larger is better in {pairs.up}, worse in {pairs.down}, and {pairs.close} cannot be told "
        "apart."
    )
    return _weighed(pairs.up, pairs.down), sentence


def _matters_little(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """Little: the median difference between neighbours is at most LITTLE."""
    small, sentences = [], []
    for key in claim.keys:
        differences = _pairs(key, _of(claim.recipe, found)).differences
        if not differences:
            sentences.append(f"no two settings differ in {key} alone")
            continue
        small.append(median(differences) <= LITTLE)
        sentences.append(
            f"from one {key} to the next accuracy moves by {median(differences):.2f} points in "
            f"the median and at most {max(differences):.2f} ({pluralize(len(differences), 'pair')})"
        )
    text = "; ".join(sentences)
    sentence = f"{text[0].upper()}{text[1:]}. Little is up to {LITTLE} points."
    if not small:
        return OPEN, sentence
    complete = len(small) == len(claim.keys)
    return (HOLDS if all(small) and complete else PARTLY if any(small) else FAILS), sentence


def _wants_small_with_large(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """Pairs of neighbours in the first key, at large and at small values of the second."""
    key, other = claim.keys
    own = _of(claim.recipe, found)
    values = [getattr(s.cell, other) for s in own]
    if len(set(values)) < 2:
        return OPEN, f"There are not two values of {other} to compare."
    middle = sqrt(min(values) * max(values))
    large = _pairs(key, [s for s in own if getattr(s.cell, other) > middle])
    small = _pairs(key, [s for s in own if getattr(s.cell, other) <= middle])
    sentence = (
        f"With a large {other} (above {middle:.2g}) the smaller {key} is better in {large.down} of "
        f"{pluralize(large.total, 'pair')} and worse in {large.up}; with a small {other} the larger "
        f"{key} is better in {small.up} of {pluralize(small.total, 'pair')} and worse in "
        f"{small.down}; the rest cannot be told apart."
    )
    verdict = _weighed(large.down + small.up, large.up + small.down)
    if verdict == HOLDS and not (large.down and small.up):  # half of it was not seen
        verdict = PARTLY
    return verdict, sentence


def _best_recipe(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """The best setting of the recipe against the best of all others."""
    own = _of(claim.recipe, found)
    rest = [s for s in found if s not in own]
    if not own or not rest:
        return OPEN, "There are not two recipes to compare."
    ours, theirs = (max(group, key=_mean) for group in (own, rest))
    names = short_names([ours.cell, theirs.cell])
    ahead = _mean(ours) - _mean(theirs)
    apart = _apart(ours, theirs)
    sentence = (
        f"Its best setting ({names[ours.cell]}) has {_mean(ours):.2f} %, the best of the others "
        f"({names[theirs.cell]}) {_mean(theirs):.2f} %: "
        f"{abs(ahead):.2f} points {'more' if ahead >= 0 else 'less'}"
        f"{'' if apart else '; the two cannot be told apart'}."
    )
    return (OPEN if not apart else HOLDS if ahead > 0 else FAILS), sentence


def _best_accuracy(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """Whether the number lies where a further training of the best setting is to be expected."""
    if not found or claim.accuracy is None:
        return OPEN, "No setting has an accuracy."
    best = max(found, key=_mean)
    width = spread(best) or 0.0
    runs = [(r.accuracy, r.cell) for s in found for r in s.results if r.accuracy is not None]
    highest, cell = max(runs, key=lambda run: run[0])
    sentence = (
        f"The best setting here ({best.cell.setting.description.partition(', seed')[0]}) has "
        f"{_mean(best):.2f} % \N{PLUS-MINUS SIGN} {width:.2f}; the highest of "
        f"{pluralize(len(runs), 'training')} is {highest:.2f} % "
        f"({cell.description.rpartition(', ')[0]})."
    )
    return (HOLDS if abs(claim.accuracy - _mean(best)) <= width else FAILS), sentence


def _learns_faster(claim: Claim, found: Sequence[Setting]) -> tuple[str, str]:
    """Epochs until LEARNED, at each batch size that two recipes have at their default lr."""
    usual = [
        s
        for s in found
        if s.cell.lr == default_lr(s.cell.optimizer) and not s.cell.optimizer.changed
    ]
    own = _of(claim.recipe, usual)
    mine, others = _until(own), _until([s for s in usual if s not in own])
    common = sorted(set(mine) & set(others), key=lambda rest: rest.batch)
    if not common:
        return OPEN, "Nothing was trained with two recipes at their optimizers' default lr."
    names = short_names(common, epochs=False)
    texts = [f"{_said(mine[c])} against {_said(others[c])} ({names[c]})" for c in common]
    if len(common) == 1:
        texts = [f"{_said(mine[common[0]])} against {_said(others[common[0]])}"]
    sentence = f"Epochs to {LEARNED:g} % of the test images at the default lr: {', '.join(texts)}."
    faster = sum(mine[c] < others[c] for c in common)
    return _weighed(faster, sum(mine[c] > others[c] for c in common)), sentence


def _until(found: Iterable[Setting]) -> Mapping[Cell, float]:
    """The first epoch with LEARNED, mean over seeds, infinite if one never gets there.

    By all settings but recipe, lr and epochs; of several recipes the fastest.
    """
    runs: dict[Cell, dict[Cell, dict[str, float]]] = {}
    for setting in found:
        cell = replace(setting.cell.setting, epochs=1)
        rest = replace(cell, loss="", optimizer=PLAIN, lr=1.0)
        of_setting = runs.setdefault(rest, {}).setdefault(cell, {})
        for result in setting.results:
            if result.accuracy is not None and not result.history:
                continue  # its epochs are not available
            reached = (float(e.epoch) for e in result.history if e.accuracy >= LEARNED)
            earliest = next(reached, float("inf"))  # a run's shorter read-outs may end before
            known = of_setting.get(result.cell.run_id, earliest)
            of_setting[result.cell.run_id] = min(earliest, known)
    return {
        rest: min(fmean(epochs.values()) for epochs in settings.values() if epochs)
        for rest, settings in runs.items()
        if any(settings.values())
    }


def _said(epochs: float) -> str:
    return f"{epochs:.1f}" if epochs < float("inf") else "never"


_CHECKS: Mapping[str, Callable[[Claim, Sequence[Setting]], tuple[str, str]]] = {
    "larger_is_better": _larger_is_better,
    "matters_little": _matters_little,
    "wants_small_with_large": _wants_small_with_large,
    "best_recipe": _best_recipe,
    "best_accuracy": _best_accuracy,
    "learns_faster": _learns_faster,
}
