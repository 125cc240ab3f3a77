"""Student's t distribution: what is known of means of a few numbers.

The distribution is SciPy's, out of scipy.special: to import scipy.stats for the same numbers takes
six times as long. Neither is imported before it is used: `--help` and a dry run have no such time.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def t_quantile(level: float, freedom: int) -> float:
    """How far to either side of 0 the middle `level` of the t distribution reaches."""
    from scipy.special import stdtrit  # noqa: PLC0415 - it is slow to import

    return float(stdtrit(freedom, (1 + level) / 2))


def paired_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of the paired t test; a and b: (n,), of the same seeds, n at least 2.

    Their differences must not all be equal.
    """
    differences = np.subtract(a, b)
    error = differences.std(ddof=1) / sqrt(differences.size)
    return _two_sided(differences.mean() / error, differences.size - 1)


def welch_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of Welch's t test; a: (n,), b: (m,), of at least 2, one not all equal.

    B. L. Welch (1947), The generalization of "Student's" problem when several different population
    variances are involved; the degrees of freedom are his and Satterthwaite's.
    """
    samples = [np.asarray(sample, float) for sample in (a, b)]
    one, other = (float(sample.mean()) for sample in samples)
    errors = [float(sample.var(ddof=1)) / sample.size for sample in samples]
    terms = [e**2 / (sample.size - 1) for e, sample in zip(errors, samples, strict=True)]
    return _two_sided((one - other) / sqrt(sum(errors)), sum(errors) ** 2 / sum(terms))


def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr  # noqa: PLC0415 - it is slow to import

    return float(2 * stdtr(freedom, -abs(t)))
