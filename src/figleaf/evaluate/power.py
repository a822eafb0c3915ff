"""How many seeds a difference needs, and how small a difference so many seeds can show.

The counts come from the paired t test, whose power has a formula. The signed-rank test of the tables needs at least
`seeds_for_holm`, and where differences are about normal one or two pairs more than the t test. All hang on a standard
deviation that few seeds know badly: from five, its 95 % interval reaches from 0.6 to 2.9 times the estimate.
"""

import math

import numpy as np
from scipy import optimize, stats

from figleaf.errors import FigleafError
from figleaf.evaluate.families import holm_can_support, seeds_for_holm

_MOST_SEEDS = 1_000_000


def paired_t_power(effect: float, n: int, alpha: float = 0.05) -> float:
    """Chance that the two-sided paired t test of `n` pairs finds an `effect` d_z, by the noncentral t distribution."""
    critical, shift = stats.t.ppf(1 - alpha / 2, n - 1), abs(effect) * math.sqrt(n)
    # scipy gives NaN for the far tail where it is below 1e-20.
    return float(stats.nct.sf(critical, n - 1, shift) + np.nan_to_num(stats.nct.cdf(-critical, n - 1, shift)))


def seeds_needed(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05, n_comparisons: int = 1
) -> int | None:
    """Pairs of runs that find a `difference` with chance `power`, `sd` being that of the paired differences.

    Never fewer than the signed-rank test needs to be able to say anything (`seeds_for_holm`). With several comparisons
    each is planned at alpha / n_comparisons, Holm's first and hardest step. None where no number that anybody could run
    would do: for a difference of 0, or one that takes more than a million. Raises `FigleafError` for a negative sd, and
    for `alpha`, `power` or `n_comparisons` out of range.
    """
    _check(sd, power, alpha, n_comparisons)
    least = max(2, seeds_for_holm(n_comparisons, alpha))
    if difference == 0:
        return None
    if sd == 0:
        return least
    effect, level = abs(difference) / sd, alpha / n_comparisons
    too_few, enough = least - 1, least
    while paired_t_power(effect, enough, level) < power:
        too_few, enough = enough, 2 * enough
        if enough > _MOST_SEEDS:
            return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if paired_t_power(effect, middle, level) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def detectable_difference(
    sd: float, n: int, *, power: float = 0.8, alpha: float = 0.05, n_comparisons: int = 1
) -> float:
    """The smallest difference that `n` pairs find with chance `power`: the inverse of `seeds_needed`.

    Infinite where the signed-rank test could not support any, with fewer than `seeds_for_holm`.
    """
    _check(sd, power, alpha, n_comparisons)
    if n < 2 or not holm_can_support(n, n_comparisons, alpha):
        return math.inf
    level, highest = alpha / n_comparisons, 1.0
    while paired_t_power(highest, n, level) < power:
        highest *= 2
    return sd * float(optimize.brentq(lambda effect: paired_t_power(effect, n, level) - power, 0.0, highest))


def noether_runs(prob_better: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Pairs of runs that tell a P(A > B) of `prob_better` from one half, one-sided (Noether 1987; Bouthillier 2021).

    At the .75 that Bouthillier et al. ask of a difference worth having: 29 at alpha = .05 and power .95, 17 at .8.
    """
    _check(0.0, power, alpha, 1)
    if not 0 < prob_better < 1 or prob_better == 0.5:
        raise FigleafError(f"prob_better={prob_better}: expected 0 < prob_better < 1, and not one half")
    z = stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)
    return math.ceil(z**2 / (6 * (prob_better - 0.5) ** 2))


def _check(sd: float, power: float, alpha: float, n_comparisons: int) -> None:
    if not 0 <= sd < math.inf:
        raise FigleafError(f"sd={sd}: expected a standard deviation, 0 <= sd < infinity")
    if not 0 < alpha < power < 1:
        raise FigleafError(f"alpha={alpha}, power={power}: expected 0 < alpha < power < 1")
    if n_comparisons < 1:
        raise FigleafError(f"{n_comparisons} comparisons: expected at least 1")
