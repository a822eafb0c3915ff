"""Where the spread of repeated trainings comes from: how much of it lies between settings, how much between seeds.

With cross-validation folds as the settings it answers how much of what looks like the luck of a seed is that of the
split (Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from figleaf.errors import FigleafError


@dataclass(frozen=True)
class Components:
    """Standard deviations of the one-way random-effects model y_ij = mean + setting_i + seed_ij.

    `between` is the settings' (0 where the estimate of its variance is negative), `within` that of seeds within a
    setting. `share` is the settings' part of the variance, the intraclass correlation, from -1/(n-1) to 1; `low` and
    `high` its exact interval under normality, `p_value` the F test of share = 0.
    """

    between: float
    within: float
    share: float
    low: float
    high: float
    p_value: float


def variance_components(values: Sequence[Sequence[float]], level: float = 0.95) -> Components:
    """Components of `values` (k settings, n seeds), after Shrout & Fleiss (1979), ICC(1, 1).

    Raises `FigleafError` unless there are two settings or more with the same number of seeds, two or more, and when
    nothing varies.
    """
    k, counts = len(values), {len(row) for row in values}
    if k < 2 or len(counts) != 1 or min(counts) < 2:
        raise FigleafError("variance components take two settings or more with equally many seeds, two or more each")
    y = np.asarray(values, dtype=np.float64)
    n = y.shape[1]
    between = n * y.mean(axis=1).var(ddof=1)
    within = y.var(axis=1, ddof=1).mean()
    if between + within == 0:
        raise FigleafError("variance components of values that are all the same")
    if within == 0:
        return Components(float(np.sqrt(between / n)), 0.0, 1.0, 1.0, 1.0, 0.0)
    ratio, upper = between / within, (1 + level) / 2
    df_between, df_within = k - 1, k * (n - 1)
    least = ratio / stats.f.ppf(upper, df_between, df_within)
    most = ratio * stats.f.ppf(upper, df_within, df_between)

    def share(f: float) -> float:
        return float((f - 1) / (f + n - 1))

    return Components(
        between=float(np.sqrt(max(0.0, (between - within) / n))),
        within=float(np.sqrt(within)),
        share=share(ratio),
        low=share(least),
        high=share(most),
        p_value=float(stats.f.sf(ratio, df_between, df_within)),
    )
