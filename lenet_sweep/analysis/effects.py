"""Which settings matter: mean accuracy by level, and shares of the variance between the cells.

Settings that cannot be told apart are one factor ("loss+optimizer"). docs/statistics.md has the
rules. Everything is computed from the accuracies alone, in percent.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import Value, axes, ordered, varied
from lenet_sweep.analysis.factors import (
    FOLLOWERS,
    Factors,
    Names,
    degrees_of_freedom,
    design,
    is_full,
    label,
    separable,
)
from lenet_sweep.analysis.statistics import EPSILON, Result, holm
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import join_words, pluralize

LEARNED = 50.0  # percent; a cell below it, or one that collapsed, has not learned the task
DOMINATED = 0.5  # share of the variance from which cells that have not learned dominate it


@dataclass(frozen=True)
class Level:
    """The cells that share a factor's value; mean accuracy in percent, None where all failed."""

    label: str
    n: int
    mean: float | None


@dataclass(frozen=True)
class Effect:
    """A factor: one swept setting, or several that cannot be told apart.

    span: points between its best and its worst level. share: of the variance, 0 to 1; None where
    there is none to share, or only one level has an accuracy. df: degrees of freedom. p: of the F
    test against the residual, by Holm over the factors; None where nothing is left to test by.
    """

    settings: tuple[str, ...]
    levels: tuple[Level, ...]
    span: float
    share: float | None
    df: int
    p: float | None = None

    @property
    def name(self) -> str:
        return "+".join(self.settings)


@dataclass(frozen=True)
class Interaction:
    """How much of the variance comes of two factors not simply adding up."""

    names: tuple[str, str]
    share: float
    df: int


@dataclass(frozen=True)
class Caveat:
    """What has to be known before the shares are read. kind: one word for programs."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Effects:
    """Effects and interactions, the largest share first, and what they leave unexplained.

    full: every combination of the levels has an accuracy. residual: share of the variance, None
    where there is no variance.
    """

    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    residual: float | None
    residual_df: int
    cells: int
    full: bool
    caveats: tuple[Caveat, ...]


def effects(results: Sequence[Result]) -> Effects:
    """What each swept setting does to the accuracy, over the cells that have one."""
    known = [r for r in results if r.accuracy is not None]
    # Accuracies are read in a fixed order of the cells: sums then do not depend on the rows' order.
    known.sort(key=lambda r: r.cell.id)
    swept = varied(r.cell for r in results)
    factors = separable([r.cell for r in known])
    lone = [name for name in swept if not any(name in names for names in factors)]
    lone = [name for name in lone if name not in FOLLOWERS]
    accuracy = np.array([r.accuracy for r in known], float)
    full = is_full(factors, len(known))
    caveats = [*_missing(results, known, factors, full), *_together(factors)]
    if len(known) < 2 or not factors:
        sentence = f"{'One' if known else 'No'} cell has an accuracy: no effect can be seen."
        if len(known) > 1:
            sentence = f"The {len(known)} cells with an accuracy do not differ in any setting."
        caveats.insert(0, Caveat("too few", sentence))
        alone = tuple(_effect((name,), results, known, None, 0) for name in lone)
        return Effects(alone, (), None, 0, len(known), full, tuple(caveats))

    squares, residual = _sums_of_squares(factors, accuracy)
    pairs = _interactions(factors, accuracy) if full else {}
    residual = max(0.0, residual - sum(pairs.values()))
    residual_df = len(known) - 1 - sum(map(degrees_of_freedom, factors.values()))
    residual_df -= sum(_pair_freedom(factors, pair) for pair in pairs)
    total = sum(squares.values()) + sum(pairs.values()) + residual
    flat = float(np.ptp(accuracy)) < EPSILON
    if flat:
        sentence = f"All {len(known)} cells have the same accuracy, {accuracy[0]:.2f} %."
        caveats.insert(0, Caveat("equal", sentence))
    else:
        caveats += [*_dominated(known), *_no_residual(factors, pairs, residual_df)]
    p_values = {} if flat else _p_values(factors, squares, residual, residual_df)
    found = [
        replace(
            _effect(
                names,
                results,
                known,
                None if flat else squares[names] / total,
                degrees_of_freedom(levels),
            ),
            p=p_values.get(names),
        )
        for names, levels in factors.items()
    ]
    found.sort(key=lambda e: (-(e.share or 0), e.name))
    shared = [
        Interaction(("+".join(a), "+".join(b)), square / total, _pair_freedom(factors, (a, b)))
        for (a, b), square in pairs.items()
        if not flat
    ]
    return Effects(
        (*found, *(_effect((name,), results, known, None, 0) for name in lone)),
        tuple(sorted(shared, key=lambda i: (-i.share, i.names))),
        None if flat else residual / total,
        residual_df,
        len(known),
        full,
        tuple(caveats),
    )


def has_learned(result: Result) -> bool:
    """Whether a cell got at least LEARNED percent right and did not collapse to one class."""
    accuracy = result.accuracy
    return accuracy is not None and accuracy >= LEARNED and result.collapsed is None


# ---------------------------------------------------------------- sums of squares


def _sums_of_squares(factors: Factors, y: NDArray[np.float64]) -> tuple[dict[Names, float], float]:
    """Type II: what the fit of all factors loses without each one; and what that fit leaves."""
    residual = _ssr(factors.values(), y)
    without = {
        name: _ssr((f for other, f in factors.items() if other != name), y) for name in factors
    }
    return {name: max(0.0, ssr - residual) for name, ssr in without.items()}, residual


def _interactions(factors: Factors, y: NDArray[np.float64]) -> dict[tuple[Names, Names], float]:
    """In a full grid: what the means of two factors' combinations leave to the sum of both.

    Seeds are left out: what varies with them is the noise that the others are measured by.
    """
    found = {}
    for a, b in combinations([names for names in factors if names != ("seed",)], 2):
        groups: dict[Hashable, list[float]] = {}
        for key, value in zip(zip(factors[a], factors[b], strict=True), y, strict=True):
            groups.setdefault(key, []).append(value)
        means = np.array([np.mean(values) for values in groups.values()])
        levels = list(zip(*groups, strict=True))
        found[a, b] = _ssr(levels, means) * len(y) / len(means)
    return found


def _p_values(
    factors: Factors, squares: Mapping[Names, float], residual: float, residual_df: int
) -> dict[Names, float]:
    """Of each factor's F test; none where nothing, or nothing but rounding, is left over."""
    if residual_df < 1 or residual < EPSILON * sum(squares.values()):
        return {}
    from scipy.special import fdtrc  # noqa: PLC0415 - it is slow to import

    scale = residual / residual_df
    raw = [
        fdtrc(
            degrees_of_freedom(factors[names]),
            residual_df,
            square / degrees_of_freedom(factors[names]) / scale,
        )
        for names, square in squares.items()
    ]
    return dict(zip(squares, map(float, holm(raw)), strict=True))


def _ssr(factors: Iterable[Sequence[Hashable]], y: NDArray[np.float64]) -> float:
    """The sum of squares that the least squares fit of the factors leaves."""
    columns, centred = design(factors, len(y)), y - y.mean()
    fitted = columns @ np.linalg.lstsq(columns, centred, rcond=None)[0]
    return float(((centred - fitted) ** 2).sum())


def _pair_freedom(factors: Factors, pair: tuple[Names, Names]) -> int:
    return degrees_of_freedom(factors[pair[0]]) * degrees_of_freedom(factors[pair[1]])


# ---------------------------------------------------------------- said


def _effect(
    names: tuple[str, ...],
    results: Sequence[Result],
    known: Sequence[Result],
    share: float | None,
    df: int,
) -> Effect:
    def level(cell: Cell) -> tuple[Value, ...]:
        settings = axes(cell)
        return tuple(settings.get(name) for name in names)

    position = {
        name: {value: i for i, value in enumerate(ordered(axes(r.cell).get(name) for r in results))}
        for name in names
    }
    accuracies: dict[tuple[Value, ...], list[float]] = {level(r.cell): [] for r in results}
    for r in known:
        assert r.accuracy is not None
        accuracies[level(r.cell)].append(r.accuracy)
    levels = tuple(
        Level(label(names, values), len(found), float(np.mean(found)) if found else None)
        for values, found in sorted(
            accuracies.items(),
            key=lambda item: [position[n][v] for n, v in zip(names, item[0], strict=True)],
        )
    )
    means = [found.mean for found in levels if found.mean is not None]
    return Effect(names, levels, max(means) - min(means) if means else 0.0, share, df)


def _missing(
    results: Sequence[Result], known: Sequence[Result], factors: Factors, full: bool
) -> Iterable[Caveat]:
    failed = len(results) - len(known)
    if full and not failed:
        return
    possible = prod(len(set(levels)) for levels in factors.values())
    lacking = f" ({failed} of {pluralize(len(results), 'cell')} failed)" if failed else ""
    if full and factors:
        yield Caveat(
            "missing",
            f"{failed} of {pluralize(len(results), 'cell')} failed: the shares are of the others, "
            "which form a full grid.",
        )
    elif factors:
        names = join_words(["+".join(names) for names in factors])
        yield Caveat(
            "missing",
            f"{possible - len(known)} of the {possible} combinations of {names} have no accuracy"
            f"{lacking}. A share is what a setting adds to all others, and without these "
            "combinations the shares depend on each other; a level's mean also reflects which "
            "values of the other settings it was run with.",
        )


def _together(factors: Factors) -> Iterable[Caveat]:
    for names in factors:
        if len(names) > 1:
            options = [name for name in names if name.startswith("optimizer.")]
            if len(options) == len(names) - 1 and names[0] == "optimizer":
                yield Caveat(
                    "together",
                    f"{join_words(options)} {'is an option' if len(options) == 1 else 'are options'} "
                    "that not every optimizer has: optimizers with their options are one factor.",
                )
                continue
            yield Caveat(
                "together",
                f"{join_words(names)} change together in the cells that have an accuracy, so their "
                "effects cannot be told apart: they are one factor here.",
            )


def _dominated(known: Sequence[Result]) -> Iterable[Caveat]:
    learned = [r.accuracy for r in known if r.accuracy is not None and has_learned(r)]
    failed = len(known) - len(learned)
    if not failed or not learned:
        return
    every = np.array([r.accuracy for r in known], float)
    share = 1 - np.var(learned) * len(learned) / (np.var(every) * len(every))
    if share >= DOMINATED:
        cells = f"{failed} of {len(known)} cells have" if failed > 1 else "One cell has"
        yield Caveat(
            "dominated",
            f"{cells} not learned the task (below {LEARNED:g} %, or one class for every image) and "
            f"{'make' if failed > 1 else 'makes'} up {100 * share:.0f} % of the variance: the "
            "shares say what lets a training learn at all, not what is best among those that do.",
        )


def _no_residual(
    factors: Factors, pairs: Mapping[Any, float], residual_df: int
) -> Iterable[Caveat]:
    if residual_df > 0:
        return
    if pairs:
        yield Caveat(
            "no residual",
            "With one cell per combination an interaction cannot be told from chance; several "
            "seeds would show which it is.",
        )
    else:
        names = join_words(["+".join(names) for names in factors])
        yield Caveat(
            "no residual",
            f"There are as many levels of {names} as cells, so the shares add up to 100 % whatever "
            "the accuracies are, and nothing is left to measure chance by.",
        )
