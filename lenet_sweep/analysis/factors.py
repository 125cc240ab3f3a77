"""Which settings of a grid can be told apart, and which are one factor because they cannot.

A factor is one swept setting, or several whose main effects the cells at hand cannot separate.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import Value, axes, describe_setting, varied
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import format_setting

# They only choose how the same function is computed, so that they are no cause of a difference
# where they follow another setting (engine=auto does).
FOLLOWERS = ("device", "engine")

Names = tuple[str, ...]  # of the settings in one factor
Factors = Mapping[Names, Sequence[Hashable]]  # with the factor's level in each cell


def together(cells: Sequence[Cell]) -> tuple[tuple[str, ...], ...]:
    """The groups of swept settings whose effects these cells cannot separate."""
    return tuple(names for names in separable(cells) if len(names) > 1)


def separable(cells: Sequence[Cell]) -> dict[tuple[str, ...], list[Hashable]]:
    """The factors of these cells, settings merged until the main effects can be estimated."""
    every = [axes(cell) for cell in cells]
    names = list(varied(cells))
    factors: dict[tuple[str, ...], list[Hashable]] = {
        (name,): [each.get(name) for each in every] for name in names
    }
    for name in FOLLOWERS:
        if (name,) in factors and any(
            not crossed(factors[name,], levels)
            for other, levels in factors.items()
            if other[0] not in FOLLOWERS
        ):
            del factors[name,]
    while inseparable := _inseparable(factors):
        merged = tuple(sorted((n for group in inseparable for n in group), key=names.index))
        levels = list(zip(*(factors[group] for group in inseparable), strict=True))
        kept = {group: found for group, found in factors.items() if group not in inseparable}
        factors = {merged: levels, **kept}  # type: ignore[dict-item] # tuples of levels are levels
    return dict(sorted(factors.items(), key=lambda item: names.index(item[0][0])))


def _inseparable(factors: Factors) -> list[tuple[str, ...]]:
    for a, b in combinations(factors, 2):
        if not crossed(factors[a], factors[b]):
            return [a, b]
    # Pairs are fine; three or more may still add up to one another.
    if len(factors) < 3 or is_full(factors, len(next(iter(factors.values())))):
        return []
    rank = _rank(factors.values())
    return [
        name
        for name in factors
        if rank - _rank(f for other, f in factors.items() if other != name)
        < degrees_of_freedom(factors[name])
    ]


def crossed(a: Sequence[Hashable], b: Sequence[Hashable]) -> bool:
    """Whether all levels of two settings are connected by cells, so that both can be estimated.

    If the levels fall into groups that never meet (each loss with an optimizer of its own), any
    difference between the groups may come of either setting.
    """
    return len(meetings(a, b)) == 1


def meetings(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[list[Any], list[Any]]]:
    """The groups of levels of two settings that occur together, directly or through others."""
    group: dict[tuple[int, Hashable], list[tuple[int, Hashable]]] = {}  # of each level of a (0), b
    for pair in zip(a, b, strict=True):
        small, large = sorted(
            (group.setdefault(level, [level]) for level in enumerate(pair)), key=len
        )
        if small is not large:
            large += small
            group |= dict.fromkeys(small, large)
    distinct = {id(levels): levels for levels in group.values()}.values()
    return [
        ([x for side, x in levels if side == 0], [x for side, x in levels if side == 1])
        for levels in distinct
    ]


def is_full(factors: Factors, cells: int) -> bool:
    """Whether these cells are every combination of the levels, each once."""
    distinct = len(set(zip(*factors.values(), strict=True)))
    return cells == distinct == prod(len(set(levels)) for levels in factors.values())


def _rank(factors: Iterable[Sequence[Hashable]]) -> int:
    found = list(factors)
    return int(np.linalg.matrix_rank(design(found, len(found[0]))))


def design(factors: Iterable[Sequence[Hashable]], rows: int) -> NDArray[np.float64]:
    """The columns of a constant and of each factor's levels but the first."""
    columns = [np.ones(rows)]
    for levels in factors:
        number = {level: i for i, level in enumerate(dict.fromkeys(levels))}
        codes = np.array([number[level] for level in levels])
        columns += [(codes == i).astype(float) for i in range(1, len(number))]
    return np.column_stack(columns)


def degrees_of_freedom(levels: Sequence[Hashable]) -> int:
    """Degrees of freedom: levels but one."""
    return len(set(levels)) - 1


def label(names: Sequence[str], values: Sequence[Value]) -> str:
    """A level in words: '0.1' of one setting, 'nll, adam, lr 0.001' of several."""
    if len(names) == 1:
        return (
            format_setting(values[0])
            if names[0] != "dataset.limit"
            else describe_setting(names[0], values[0])
        )
    pairs = zip(names, values, strict=True)
    known = [
        (name, value) for name, value in pairs if value is not None or "optimizer." not in name
    ]
    return ", ".join(describe_setting(name, value) for name, value in known)
