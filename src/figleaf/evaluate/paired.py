"""Two arms, run with the same seeds: how large the difference is, how sure, and whether chance explains it.

Runs are paired by seed, since the same seed means the same split, order and initialisation: what both arms owe to it
cancels in the difference.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.hierarchical import hierarchical_interval
from figleaf.evaluate.signed_rank import signed_rank, smallest_p
from figleaf.evaluate.statistics import Interval, bootstrap_t_interval, seeds_interval
from figleaf.evaluate.weighted import Floats

SeedsMethod = Literal["t", "bootstrap-t"]
# Metrics are sums of hundreds of floats: differences below this share of the values are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedComparison:
    """Arm A against arm B in one metric, over the seeds that both have. Differences are A - B, in the metric's unit.

    `seeds`: those paired, ascending; n of them. `difference` and `sd`: mean and sample standard deviation of the paired
    differences. `over_seeds`: interval of the mean difference over seeds, on this test set. `over_seeds_and_groups`:
    over seeds and test sets together (`hierarchical_interval`); None without predictions. `d_z`: Cohen's, the mean over
    the sd; infinite when all differences are the same. `rank_biserial` in [-1, 1]. `prob_better`: P(A > B), the share
    of pairs that A wins, ties counting half (Bouthillier et al. 2021; Vargha & Delaney's A over pairs), with its Wilson
    interval. `p_value`: exact two-sided signed-rank test; it cannot fall below `p_floor`, 2 / 2^n.
    """

    seeds: tuple[int, ...]
    difference: float
    sd: float
    over_seeds: Interval
    over_seeds_and_groups: Interval | None
    d_z: float
    rank_biserial: float
    prob_better: float
    prob_better_interval: Interval
    p_value: float
    p_floor: float

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.seeds)


def compare_arms(
    a: Mapping[int, float],
    b: Mapping[int, float],
    *,
    resampled_a: Mapping[int, Floats] | None = None,
    resampled_b: Mapping[int, Floats] | None = None,
    method: SeedsMethod = "t",
    level: float = 0.95,
    seed: int = 0,
) -> PairedComparison:
    """Compare the values of a metric, by seed. Seeds that one arm lacks are left out; `seeds` of the result tells.

    `resampled_a` and `resampled_b`: the metric (B,) of the same runs under the same B resamples of the test set, for
    `over_seeds_and_groups`. `method` and `level` are the intervals'; `seed` draws the resamples of seeds. The seeds'
    order in the mappings changes nothing, and swapping the arms turns every sign and nothing else.

    Raises `FigleafError` with fewer than two common seeds, or when a value is not finite.
    """
    seeds = tuple(sorted(a.keys() & b.keys()))
    if len(seeds) < 2:
        raise FigleafError(
            f"a paired comparison needs at least 2 seeds that both arms have; A has {sorted(a)}, B has {sorted(b)}"
        )
    for arm, values in (("A", a), ("B", b)):
        for run in seeds:
            if not np.isfinite(values[run]):
                raise FigleafError(f"seed {run} of arm {arm}: the metric is {values[run]}, which has no difference")
    first, second = (np.array([float(values[run]) for run in seeds]) for values in (a, b))
    differences = first - second
    tolerance = _ROUNDING * float(max(np.abs(first).max(), np.abs(second).max()))
    differences[np.abs(differences) <= tolerance] = 0.0
    over_seeds = seeds_interval if method == "t" else partial(bootstrap_t_interval, seed=seed)
    mean, sd, low, high = over_seeds([float(value) for value in differences], level)
    both = None
    if resampled_a is not None and resampled_b is not None:
        paired = np.stack([resampled_a[run] - resampled_b[run] for run in seeds])
        both = hierarchical_interval(differences, paired, level=level, seed=seed)
    rank = signed_rank(differences, tolerance)
    wins = float((np.sign(differences) + 1).sum() / 2)
    return PairedComparison(
        seeds=seeds,
        difference=mean,
        sd=sd,
        over_seeds=Interval(low, high),
        over_seeds_and_groups=both,
        d_z=_d_z(mean, sd, tolerance),
        rank_biserial=rank.rank_biserial,
        prob_better=wins / len(seeds),
        prob_better_interval=_wilson(wins, len(seeds), level),
        p_value=rank.p_value,
        p_floor=smallest_p(len(seeds)),
    )


def _d_z(mean: float, sd: float, tolerance: float) -> float:
    if sd > tolerance:
        return mean / sd
    return math.copysign(math.inf, mean) if mean else 0.0


def _wilson(wins: float, n: int, level: float) -> Interval:
    from statsmodels.stats.proportion import proportion_confint  # a second to import

    low, high = proportion_confint(wins, n, alpha=1 - level, method="wilson")
    # At 0 and 1 rounding leaves the share a hair outside of its own interval.
    return Interval(min(float(low), wins / n), max(float(high), wins / n))
