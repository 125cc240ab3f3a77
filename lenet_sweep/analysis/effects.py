"""Which hyperparameters matter: mean accuracies by value, and shares of the variance.

Hyperparameters whose effects cannot be separated are one factor, such as "loss+optimizer". Only the
accuracies (percent) enter the computation. The rules are in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lenet_sweep.analysis import anova
from lenet_sweep.analysis.axes import Value, axes, ordered, varied
from lenet_sweep.analysis.factors import (
    FOLLOWERS,
    Factors,
    degrees_of_freedom,
    is_full,
    label,
    separable,
)
from lenet_sweep.analysis.statistics import EPSILON, Result, describe_min_learned
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import join_words, pluralize

DOMINATED = 0.5  # share of the variance at which cells that did not learn are said to dominate


@dataclass(frozen=True)
class Level:
    """A value of a factor: its number of cells with an accuracy, and their mean accuracy.

    mean: percent; None if no cell has an accuracy.
    """

    label: str
    n: int
    mean: float | None


@dataclass(frozen=True)
class Effect:
    """A factor: one swept hyperparameter, or several whose effects cannot be separated.

    span: difference between the means of its best and its worst level, in points. share: of the
    variance, 0 to 1; None if there is no variance, or if only one level has an accuracy. df:
    degrees of freedom. p: of the F test against the residual, with Holm's correction over the
    factors; None if there is no residual to test against.
    """

    settings: tuple[str, ...]
    levels: tuple[Level, ...]
    span: float
    share: float | None
    df: int
    p: float | None = None

    @property
    def name(self) -> str:
        """The names of its hyperparameters, joined by '+'."""
        return "+".join(self.settings)


@dataclass(frozen=True)
class Interaction:
    """The effect of one factor depends on the other. share: of the variance, 0 to 1."""

    names: tuple[str, str]
    share: float
    df: int


@dataclass(frozen=True)
class Caveat:
    """What a reader of the shares needs to know. kind: a short identifier for programs."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Effects:
    """Effects and interactions, each sorted by share, and what they leave unexplained.

    effects: followed by factors without a share. residual: share of the variance, 0 to 1; None if
    there is no variance. cells: the number of cells with an accuracy. full: every combination of
    the levels has the same number of them.
    """

    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    residual: float | None
    residual_df: int
    cells: int
    full: bool
    caveats: tuple[Caveat, ...]

    @property
    def share_name(self) -> str:
        """What the shares are shares of. In an incomplete grid, their sum is not the variance."""
        return "share of the variance" if self.full else "relative share of the variance"


def effects(results: Sequence[Result]) -> Effects:
    """Analyze the variance of the accuracies by swept hyperparameters.

    Shares are type II sums of squares, divided by the sum of all of them, of the interactions and
    of the residual.
    """
    measured = [r for r in results if r.accuracy is not None]
    # A fixed order, so that rounding in sums does not depend on the order of the rows.
    measured.sort(key=lambda r: r.cell.id)
    swept = varied(r.cell for r in results)
    factors = separable([r.cell for r in measured])
    tested = [*varied(r.cell for r in measured), *FOLLOWERS]
    untested = [name for name in swept if name not in tested]
    accuracy = np.array([r.accuracy for r in measured], float)
    full = is_full(factors)
    caveats = [*_missing(results, measured, factors, full), *_confounded(factors)]
    if len(measured) < 2 or not factors:
        caveats.insert(0, _too_few(measured))
        without_share = tuple(_effect((name,), results, measured, None, 0) for name in untested)
        return Effects(without_share, (), None, 0, len(measured), full, tuple(caveats))

    squares, residual = anova.sums_of_squares(factors, accuracy)
    pairs = anova.interactions(factors, accuracy) if full else {}
    residual = max(0.0, residual - sum(pairs.values()))
    residual_df = len(measured) - 1 - sum(map(degrees_of_freedom, factors.values()))
    residual_df -= sum(anova.pair_df(factors, pair) for pair in pairs)
    total = sum(squares.values()) + sum(pairs.values()) + residual
    constant = float(np.ptp(accuracy)) < EPSILON
    if constant:
        sentence = f"All {len(measured)} cells have the same accuracy, {accuracy[0]:.2f}%."
        caveats.insert(0, Caveat("equal", sentence))
    else:
        caveats += [*_dominated(measured), *_no_residual(factors, pairs, residual_df)]
    p_values = {} if constant else anova.p_values(factors, squares, residual, residual_df)
    main_effects = [
        _effect(
            names,
            results,
            measured,
            None if constant else squares[names] / total,
            degrees_of_freedom(levels),
            p_values.get(names),
        )
        for names, levels in factors.items()
    ]
    main_effects.sort(key=lambda e: (-(e.share or 0), e.name))
    interactions = [
        Interaction(("+".join(a), "+".join(b)), square / total, anova.pair_df(factors, (a, b)))
        for (a, b), square in pairs.items()
        if not constant
    ]
    return Effects(
        (*main_effects, *(_effect((name,), results, measured, None, 0) for name in untested)),
        tuple(sorted(interactions, key=lambda i: (-i.share, i.names))),
        None if constant else residual / total,
        residual_df,
        len(measured),
        full,
        tuple(caveats),
    )


def _effect(
    names: tuple[str, ...],
    results: Sequence[Result],
    measured: Sequence[Result],
    share: float | None,
    df: int,
    p: float | None = None,
) -> Effect:
    def level(cell: Cell) -> tuple[Value, ...]:
        settings = axes(cell)
        return tuple(settings.get(name) for name in names)

    position = {
        name: {value: i for i, value in enumerate(ordered(axes(r.cell).get(name) for r in results))}
        for name in names
    }
    by_level: dict[tuple[Value, ...], list[float]] = {level(r.cell): [] for r in results}
    for r in measured:
        assert r.accuracy is not None
        by_level[level(r.cell)].append(r.accuracy)
    levels = tuple(
        Level(label(names, values), len(group), float(np.mean(group)) if group else None)
        for values, group in sorted(
            by_level.items(),
            key=lambda item: [position[n][v] for n, v in zip(names, item[0], strict=True)],
        )
    )
    means = [level.mean for level in levels if level.mean is not None]
    return Effect(names, levels, max(means) - min(means) if means else 0.0, share, df, p)


# ---------------------------------------------------------------- caveats


def _too_few(measured: Sequence[Result]) -> Caveat:
    if len(measured) > 1:
        sentence = (
            f"The {len(measured)} cells with an accuracy do not differ in any hyperparameter."
        )
        return Caveat("too few", sentence)
    cells = "Only one cell has" if measured else "No cell has"
    return Caveat("too few", f"{cells} an accuracy, so no effect can be estimated.")


def _missing(
    results: Sequence[Result], measured: Sequence[Result], factors: Factors, full: bool
) -> Iterable[Caveat]:
    failed = len(results) - len(measured)
    if full and not failed:
        return
    possible = prod(len(set(levels)) for levels in factors.values())
    lack = f"{failed} of {pluralize(len(results), 'cell')} {'has' if failed == 1 else 'have'}"
    failures = f" ({lack} no accuracy)" if failed else ""
    if full and factors:
        yield Caveat(
            "missing",
            f"{lack} no accuracy. The shares describe the others, which form a full grid.",
        )
    elif factors:
        names = join_words(["+".join(names) for names in factors], 8)
        absent = possible - len(set(zip(*factors.values(), strict=True)))
        start = (
            f"{absent} of the {possible} combinations of {names} "
            f"{'is' if absent == 1 else 'are'} missing{failures}"
        )
        if not absent:
            start = f"Some combinations of {names} have fewer seeds than others{failures}"
        yield Caveat(
            "missing",
            f"{start}. Each hyperparameter's share is what it explains beyond all the others, "
            "scaled so that the shares and the residual add up to 100%. In such a grid, the shares "
            "depend on each other, and the mean accuracy for a value also reflects the other "
            "values that it was combined with.",
        )


def _confounded(factors: Factors) -> Iterable[Caveat]:
    for names in factors:
        if len(names) > 1:
            group, *options = names
            if all(name.startswith(f"{group}.") for name in options):
                yield Caveat(
                    "together",
                    f"{join_words(options)} "
                    f"{'is an option' if len(options) == 1 else 'are options'} that not every "
                    f"{group} has, so each {group} with its options is one value of a single "
                    "factor.",
                )
                continue
            yield Caveat(
                "together",
                f"{join_words(names)} change together in the cells that have an accuracy, so their "
                "effects cannot be separated, and they are treated as one factor.",
            )


def _dominated(measured: Sequence[Result]) -> Iterable[Caveat]:
    learned = [r.accuracy for r in measured if r.accuracy is not None and r.has_learned]
    failed = len(measured) - len(learned)
    if not failed or not learned:
        return
    every = np.array([r.accuracy for r in measured], float)
    share = 1 - np.var(learned) * len(learned) / (np.var(every) * len(every))
    if share >= DOMINATED:
        cells = f"{failed} of {len(measured)} cells" if failed > 1 else "One cell"
        limit = describe_min_learned(r.cell for r in measured)
        yield Caveat(
            "dominated",
            f"{cells} did not learn the task (accuracy below {limit}, or one class "
            f"predicted for nearly every image) and {'account' if failed > 1 else 'accounts'} for "
            f"{100 * share:.0f}% of the variance. The shares therefore show which hyperparameters "
            "decide whether a network learns at all, not which of them matter once it does.",
        )


def _no_residual(
    factors: Factors, pairs: Mapping[Any, float], residual_df: int
) -> Iterable[Caveat]:
    if residual_df > 0:
        return
    if pairs:
        yield Caveat(
            "no residual",
            "With one cell per combination, an interaction (the effect of one hyperparameter "
            "depends on another) cannot be distinguished from chance. Several seeds would separate "
            "the two.",
        )
    else:
        names = join_words(["+".join(names) for names in factors])
        yield Caveat(
            "no residual",
            f"There are too few cells for the number of values of {names}: these explain all of "
            "the variance, whatever the accuracies are, and leave nothing to test against.",
        )
