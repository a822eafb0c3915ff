"""DeLong's test: the AUROCs of two fixed models on one test set."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import Interval
from figleaf.evaluate.weighted import Floats


@dataclass(frozen=True)
class AurocDifference:
    """AUROC of A, of B, and A - B with its standard error, interval and two-sided p-value."""

    auroc_a: float
    auroc_b: float
    difference: float
    standard_error: float
    interval: Interval
    p_value: float


def delong(a: Predictions, b: Predictions, level: float = 0.95) -> AurocDifference:
    """Compare the AUROCs of two models on the same samples (DeLong, DeLong & Clarke-Pearson 1988).

    It compares these two *models*, not the procedures that trained them: another seed is another model, and runs of
    several seeds are never pooled as if their answers were independent images. For procedures, see `compare_arms`.

    Placement values come from ranks (Sun & Xu 2014), in the time of a sort. Images of one group are not independent, so
    their placements are added up first (Obuchowski 1997); where every image is its own group that is DeLong's variance.

    Raises `FigleafError` as `SameSamples.of`, and with fewer than two groups that hold an unsafe image or a safe one.
    """
    samples = SameSamples.of([a, b], names=["model A", "model B"])
    truth, group = samples.is_unsafe, samples.group
    for word, label in (("an unsafe", truth), ("a safe", ~truth)):
        if len(np.unique(group[label])) < 2:
            raise FigleafError(
                f"DeLong's test needs at least 2 groups with {word} image, not {len(np.unique(group[label]))}"
            )
    placed_a, placed_b = (placements(run.scores, truth) for run in samples.runs)
    auroc_a, auroc_b = float(placed_a[truth].mean()), float(placed_b[truth].mean())
    difference = auroc_a - auroc_b
    error = math.sqrt(max(0.0, _variance(placed_a - placed_b, truth, group)))
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    # No variance: the same ranking (0/0 of the test), or placements that differ by one constant (a sure difference).
    z = abs(difference) / error if error > 0 else (math.inf if difference else 0.0)
    interval = Interval(difference - reach, difference + reach)
    return AurocDifference(auroc_a, auroc_b, difference, error, interval, 2 * float(stats.norm.sf(z)))


def placements(scores: Floats, is_unsafe: NDArray[np.bool_]) -> Floats:
    """Share (N,) of the other label's samples that each sample is on the right side of, ties counting half.

    The mean over the unsafe samples is the AUROC, and so is that over the safe ones.
    """
    overall = stats.rankdata(scores)
    placed = np.empty(len(scores))
    n_unsafe = int(is_unsafe.sum())
    n_safe = len(scores) - n_unsafe
    placed[is_unsafe] = (overall[is_unsafe] - stats.rankdata(scores[is_unsafe])) / n_safe
    placed[~is_unsafe] = 1 - (overall[~is_unsafe] - stats.rankdata(scores[~is_unsafe])) / n_unsafe
    return placed


def _variance(placed: Floats, is_unsafe: NDArray[np.bool_], group: NDArray[np.intp]) -> float:
    """Variance of the mean placement, from deviations summed over groups: Obuchowski's S10, S01 and S11 together."""
    n_groups = int(group.max()) + 1
    summed = []
    for label in (is_unsafe, ~is_unsafe):
        deviation = (placed[label] - placed[label].mean()) / label.sum()
        of_group = np.bincount(group[label], weights=deviation, minlength=n_groups)
        summed.append((of_group, len(np.unique(group[label]))))
    (unsafe, n_unsafe), (safe, n_safe) = summed
    n_both = len(np.unique(group))
    own = n_unsafe / (n_unsafe - 1) * (unsafe**2).sum() + n_safe / (n_safe - 1) * (safe**2).sum()
    return float(own + 2 * n_both / (n_both - 1) * (unsafe * safe).sum())
