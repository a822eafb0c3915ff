"""Wilcoxon's signed-rank test of paired differences, exact also with ties and zeros."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.weighted import Floats


class SignedRank(NamedTuple):
    """Exact two-sided p-value, and the matched-pairs rank-biserial correlation in [-1, 1], positive when most gain."""

    p_value: float
    rank_biserial: float


def signed_rank(differences: Sequence[float] | Floats, tolerance: float = 0.0) -> SignedRank:
    """Test whether `differences` (n,) are symmetric about 0.

    Differences of at most `tolerance` are zeros and are dropped (Wilcoxon 1945); those closer than it share their mean
    rank, for accuracies in steps of 1/684 tie, and floats hide it. The null distribution is over all sign flips of the
    observed ranks. It is built by adding one rank at a time, n steps in place of 2^n flips, so that n has no limit; up
    to n = 53 every probability is exact in float64. The p-value is at least `smallest_p(n)`.

    The rank-biserial correlation is (R+ - R-) / (R+ + R-), R the sums of the ranks of gains and of losses (Kerby 2014).
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.abs(values) > tolerance]
    if len(values) == 0:
        return SignedRank(1.0, 0.0)
    doubled = _doubled_ranks(np.abs(values), tolerance)
    total, gained = int(doubled.sum()), int(doubled[values > 0].sum())
    prob = np.zeros(total + 1)  # of each doubled sum of the positive ranks
    prob[0] = 1.0
    for rank in doubled:
        flipped = np.zeros_like(prob)
        flipped[rank:] = prob[:-rank]
        prob = (prob + flipped) / 2
    tail = prob[: min(gained, total - gained) + 1].sum()
    return SignedRank(min(1.0, 2 * float(tail)), (2 * gained - total) / total)


def smallest_p(n: int) -> float:
    """The two-sided p-value of `n` differences that all have one sign: 2 / 2^n, below which the test cannot go."""
    return min(1.0, 2.0 ** (1 - n))


def _doubled_ranks(sizes: Floats, tolerance: float) -> NDArray[np.int64]:
    """Twice the mean ranks (n,), which are whole; a run of neighbours each within `tolerance` is one tie."""
    order = np.argsort(sizes, kind="stable")
    tie = np.cumsum(np.diff(sizes[order], prepend=-np.inf) > tolerance) - 1
    members = np.bincount(tie)
    last = np.cumsum(members)
    doubled = np.empty(len(sizes), dtype=np.int64)
    doubled[order] = (2 * last - members + 1)[tie]
    return doubled
