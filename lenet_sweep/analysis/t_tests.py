"""Student's t distribution, and t tests of two samples.

The distribution functions come from scipy.special, whose import takes a sixth of the time of
scipy.stats. They are imported on first use, because `--help` and dry runs do not need them.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def t_quantile(level: float, df: int) -> float:
    """The half-width around 0 that contains the share `level` of the t distribution.

    df: degrees of freedom.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    return float(stdtrit(df, (1 + level) / 2))


def paired_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of the paired t test.

    a, b: (n,), values of the same n >= 2 seeds. Their differences must not all be equal.
    """
    differences = np.subtract(a, b)
    error = differences.std(ddof=1) / sqrt(differences.size)
    return _two_sided(differences.mean() / error, differences.size - 1)


def welch_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of Welch's t test, which allows for unequal variances.

    a: (n,), b: (m,), with n, m >= 2; the values of at least one must not all be equal.
    B. L. Welch (1947), The generalization of "Student's" problem when several different population
    variances are involved. Degrees of freedom by Welch and Satterthwaite.
    """
    samples = [np.asarray(sample, float) for sample in (a, b)]
    mean_a, mean_b = (float(sample.mean()) for sample in samples)
    errors = [float(sample.var(ddof=1)) / sample.size for sample in samples]
    terms = [e**2 / (sample.size - 1) for e, sample in zip(errors, samples, strict=True)]
    return _two_sided((mean_a - mean_b) / sqrt(sum(errors)), sum(errors) ** 2 / sum(terms))


def _two_sided(t: float, df: float) -> float:
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import

    return float(2 * stdtr(df, -abs(t)))
