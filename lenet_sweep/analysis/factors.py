"""Group the swept hyperparameters of a grid into factors whose effects can be separated.

A factor is one swept hyperparameter, or several whose main effects these cells cannot separate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import Value, axes, describe_setting, varied
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import format_setting
from lenet_sweep.results.columns import is_partial

# These only choose how the same function is computed. Where they follow another hyperparameter (as
# with engine=auto), they cannot be the cause of a difference.
FOLLOWERS = ("device", "engine")

Names = tuple[str, ...]  # the hyperparameters of one factor
Factors = Mapping[Names, Sequence[Hashable]]  # the level of each factor in each cell


def confounded_groups(cells: Sequence[Cell]) -> tuple[tuple[str, ...], ...]:
    """The groups of swept hyperparameters whose effects these cells cannot separate."""
    return tuple(names for names in separable(cells) if len(names) > 1)


def separable(cells: Sequence[Cell]) -> dict[tuple[str, ...], list[Hashable]]:
    """The factors of these cells, merged until all main effects can be estimated."""
    by_cell = [axes(cell) for cell in cells]
    names = list(varied(cells))
    factors: dict[tuple[str, ...], list[Hashable]] = {
        (name,): [settings.get(name) for settings in by_cell] for name in names
    }
    for name in FOLLOWERS:
        if (name,) in factors and any(
            not crossed(factors[name,], levels)
            for other, levels in factors.items()
            if other[0] not in FOLLOWERS
        ):
            del factors[name,]
    while inseparable := _inseparable(factors):
        if ("seed",) in inseparable:
            # Each setting has its own seeds, as in merged sweeps. Seeds are random, so they are no
            # alternative cause of a difference, and their variance is part of the residual.
            del factors["seed",]
            continue
        merged = tuple(sorted((n for group in inseparable for n in group), key=names.index))
        levels = list(zip(*(factors[group] for group in inseparable), strict=True))
        others = {group: column for group, column in factors.items() if group not in inseparable}
        factors = {merged: levels, **others}  # type: ignore[dict-item] # a tuple is hashable, too
    return dict(sorted(factors.items(), key=lambda item: names.index(item[0][0])))


def _inseparable(factors: Factors) -> list[tuple[str, ...]]:
    """Some factors that cannot be separated; empty if all of them can."""
    for a, b in combinations(factors, 2):
        if not crossed(factors[a], factors[b]):
            return [a, b]
    # Each pair can be separated, but three or more may still be linearly dependent.
    if len(factors) < 3 or is_full(factors):
        return []
    rank = _rank(factors.values())
    return [
        name
        for name in factors
        if rank - _rank(f for other, f in factors.items() if other != name)
        < degrees_of_freedom(factors[name])
    ]


def crossed(a: Sequence[Hashable], b: Sequence[Hashable]) -> bool:
    """Whether cells connect all levels of two factors, so that both effects can be estimated.

    If the levels fall into groups that never meet, such as each loss with its own optimizer, a
    difference between the groups may be due to either factor.
    """
    return len(connected_groups(a, b)) == 1


def connected_groups(
    a: Sequence[Hashable], b: Sequence[Hashable]
) -> list[tuple[list[Any], list[Any]]]:
    """Groups of levels of two factors that occur together, directly or through other levels.

    a, b: (cells,), the levels of each factor.
    """
    # The group of each level, which is keyed by its factor (0 for a, 1 for b).
    group: dict[tuple[int, Hashable], list[tuple[int, Hashable]]] = {}
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


def is_full(factors: Factors) -> bool:
    """Whether the cells are all combinations of the levels, each the same number of times."""
    times = Counter(zip(*factors.values(), strict=True))
    possible = prod(len(set(levels)) for levels in factors.values())
    return len(times) == possible and len(set(times.values())) == 1


def _rank(factors: Iterable[Sequence[Hashable]]) -> int:
    columns = list(factors)
    return int(np.linalg.matrix_rank(design(columns, len(columns[0]))))


def design(factors: Iterable[Sequence[Hashable]], rows: int) -> NDArray[np.float64]:
    """The design matrix (rows, 1 + sum of levels - 1): a constant, and dummies for each factor.

    The first level of each factor has no column.
    """
    columns = [np.ones(rows)]
    for levels in factors:
        number = {level: i for i, level in enumerate(dict.fromkeys(levels))}
        codes = np.array([number[level] for level in levels])
        columns += [(codes == i).astype(float) for i in range(1, len(number))]
    return np.column_stack(columns)


def degrees_of_freedom(levels: Sequence[Hashable]) -> int:
    """The number of distinct levels minus one."""
    return len(set(levels)) - 1


def label(names: Sequence[str], values: Sequence[Value]) -> str:
    """A level as text: '0.1' for one hyperparameter, 'nll, adam, lr 0.001' for several."""
    if len(names) == 1:
        return (
            format_setting(values[0])
            if names[0] not in ("dataset.limit", "dataset.size")
            else describe_setting(names[0], values[0])
        )
    pairs = zip(names, values, strict=True)
    present = [(name, value) for name, value in pairs if value is not None or not is_partial(name)]
    return ", ".join(describe_setting(name, value) for name, value in present)
