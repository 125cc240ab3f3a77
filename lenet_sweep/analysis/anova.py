"""Analysis of variance: sums of squares of factors and interactions, and their F tests."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.factors import Factors, Names, degrees_of_freedom, design
from lenet_sweep.analysis.significance import holm
from lenet_sweep.analysis.statistics import EPSILON


def sums_of_squares(factors: Factors, y: NDArray[np.float64]) -> tuple[dict[Names, float], float]:
    """Type II sums of squares of the factors, and the residual sum of squares.

    A factor's sum is the increase of the residual when it is left out of the fit of all factors.
    """
    residual = _residual(factors.values(), y)
    without = {
        name: _residual((f for other, f in factors.items() if other != name), y) for name in factors
    }
    return {name: max(0.0, ssr - residual) for name, ssr in without.items()}, residual


def interactions(factors: Factors, y: NDArray[np.float64]) -> dict[tuple[Names, Names], float]:
    """Sums of squares of the interactions of two factors, in a full grid.

    An interaction is what the sum of both effects does not explain of the means of their
    combinations. Seeds are left out: their variation is the noise that effects are tested against.
    """
    squares = {}
    for a, b in combinations([names for names in factors if names != ("seed",)], 2):
        groups: dict[Hashable, list[float]] = {}
        for key, value in zip(zip(factors[a], factors[b], strict=True), y, strict=True):
            groups.setdefault(key, []).append(value)
        means = np.array([np.mean(values) for values in groups.values()])
        levels = list(zip(*groups, strict=True))
        squares[a, b] = _residual(levels, means) * len(y) / len(means)
    return squares


def p_values(
    factors: Factors, squares: Mapping[Names, float], residual: float, residual_df: int
) -> dict[Names, float]:
    """Holm-adjusted p-values of the factors' F tests; empty without a residual beyond rounding."""
    if residual_df < 1 or residual < EPSILON * sum(squares.values()):
        return {}
    from scipy.special import fdtrc  # noqa: PLC0415 - slow to import

    mean_residual = residual / residual_df
    raw = [
        fdtrc(
            degrees_of_freedom(factors[names]),
            residual_df,
            square / degrees_of_freedom(factors[names]) / mean_residual,
        )
        for names, square in squares.items()
    ]
    return dict(zip(squares, map(float, holm(raw)), strict=True))


def _residual(factors: Iterable[Sequence[Hashable]], y: NDArray[np.float64]) -> float:
    """The residual sum of squares of the least squares fit of the factors."""
    columns, centered = design(factors, len(y)), y - y.mean()
    fitted = columns @ np.linalg.lstsq(columns, centered, rcond=None)[0]
    return float(((centered - fitted) ** 2).sum())


def pair_df(factors: Factors, pair: tuple[Names, Names]) -> int:
    """The degrees of freedom of the interaction of two factors."""
    return degrees_of_freedom(factors[pair[0]]) * degrees_of_freedom(factors[pair[1]])
