"""What a search of n trials can be expected to find: the honest companion of its best trial.

The best of many trials says as much about the budget as about the method. Dodge et al. (2019, "Show Your Work")
therefore report the expected best validation value against the number of trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaln

from figleaf.errors import FigleafError
from figleaf.evaluate.weighted import Floats

Mode = Literal["max", "min"]


@dataclass(frozen=True, eq=False)
class SearchCurve:
    """For n = 1 to N trials: the best value a search of n would find, its mean, sd and central range, each (N,).

    `low` and `high` bound what one search of n trials finds with chance `level`; they say nothing on how well the N
    trials represent the search space.
    """

    n_trials: Floats
    expected: Floats
    sd: Floats
    low: Floats
    high: Floats


def expected_best(
    values: Sequence[float], *, mode: Mode = "max", replacement: bool = True, level: float = 0.95
) -> SearchCurve:
    """Expected validation performance of the trials' `values` (N,), exactly, whatever order they were run in.

    With `replacement`, n trials are drawn from the empirical distribution F of those run, as Dodge et al. (2019) do:
    P(best <= v) = F(v)^n. It is what papers report, and biased to the worse side, since a trial drawn
    twice is no second chance; the last point lies below the best trial found. Without, every subset of n is equally
    likely: unbiased (Tang et al. 2020), and ends at the best trial found with no spread, there being one subset.

    The trials must be a random search's: those of a sampler that learns depend on each other. A trial that failed has
    used its budget and belongs here with the value of a failure, such as .5 for AUROC. Raises `FigleafError` without
    trials, and when a value is not finite.
    """
    sign = _sign(mode)
    ascending = np.sort(sign * _finite(values))
    size = len(ascending)
    trials = np.arange(1, size + 1)
    n, below = trials[:, None], trials[None, :]  # below: how many values are no larger than the k-th
    if replacement:
        reached = (below / size) ** n
    else:
        subsets = gammaln(below + 1) - gammaln(np.maximum(below - n, 0) + 1) - gammaln(size + 1) + gammaln(size - n + 1)
        reached = np.where(below >= n, np.exp(subsets), 0.0)  # C(k, n) / C(N, n)
    reached[:, -1] = 1.0
    chance = np.diff(reached, axis=1, prepend=0.0)
    expected = (chance * ascending).sum(axis=1)
    variance = (chance * (ascending - expected[:, None]) ** 2).sum(axis=1)
    tail = (1 - level) / 2
    bounds = [ascending[np.argmax(reached >= share, axis=1)] for share in (tail, 1 - tail)]
    low, high = np.sort(sign * np.stack(bounds), axis=0)
    return SearchCurve(trials.astype(np.float64), sign * expected, np.sqrt(variance), low, high)


def best_so_far(values: Sequence[float], mode: Mode = "max") -> Floats:
    """The best of the first n trials (N,), in the order they were run: what this one search had found by then."""
    sign = _sign(mode)
    found: Floats = sign * np.maximum.accumulate(sign * _finite(values))
    return found


def _sign(mode: Mode) -> float:
    return 1.0 if mode == "max" else -1.0


def _finite(values: Sequence[float]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if len(found) == 0:
        raise FigleafError("a search curve needs at least one trial with a value")
    if not np.isfinite(found).all():
        first = int(np.argmin(np.isfinite(found)))
        raise FigleafError(
            f"trial {first + 1} has the value {found[first]}: give a failed trial the value of a failure, "
            f"such as .5 for AUROC"
        )
    return found
