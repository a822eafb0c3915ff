"""The interval of a difference that asks of both its sources: other seeds, and another test set."""

import math

import numpy as np
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.statistics import Interval, percentile_interval
from figleaf.evaluate.weighted import Floats

# Beside the seed, so that training's seeds are not drawn from the very numbers that drew the groups.
STREAM = 1
UNDEFINED = "the metric is undefined in every resample of the test set: both labels need more groups"


def hierarchical_interval(differences: Floats, resampled: Floats, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Hierarchical paired bootstrap interval of the mean of `differences` (S,), one a seed.

    `resampled` (S, B): the same differences in B resamples of the groups of the test set, shared by all arms and runs.
    Each is met by a resample of the seeds, and the central share `level` of the sums is the interval. Two corrections
    make it cover what it says where seeds are few:

    - The seeds' part is stretched. S draws of S values know neither the S / (S - 1) of the variance nor Student's heavy
      tails; six seeds would cover .86. The factor sqrt(S / (S - 1)) t / z is Hesterberg's (2015, "What teachers should
      know about the bootstrap", the expanded percentile interval): where training alone varies, the result is about
      Student's interval.
    - The groups' part is shrunk to what the runs have in common. What a group does to one run only is already in the
      spread over seeds; drawn again with the groups it would count twice, and the interval be twice too wide. Its share
      is known from how the runs part under resampling (a two-way analysis of variance, groups by seeds).

    Resamples that leave a run without the metric (NaN) are dropped. Raises `FigleafError` with fewer than two seeds,
    and when no resample is left.
    """
    n_seeds, n_resamples = resampled.shape
    if n_seeds < 2:
        raise FigleafError(f"an interval over seeds needs at least 2 seeds, not {n_seeds}")
    centre = float(differences.mean())
    of_seeds = stretch(n_seeds, level) * drawn_seeds(differences, n_resamples, np.random.default_rng([seed, STREAM]))
    defined = ~np.isnan(resampled).any(axis=0)
    if not defined.any():
        raise FigleafError(UNDEFINED)
    found = resampled[:, defined]
    mean = found.mean(axis=0)
    of_groups = common(mean, own_variance(found)) * (mean - centre)
    return percentile_interval(centre + of_groups + of_seeds[defined], level)


def stretch(n_seeds: int, level: float) -> float:
    """By how much `drawn_seeds` fall short of Student's interval of that level."""
    tail = (1 + level) / 2
    return math.sqrt(n_seeds / (n_seeds - 1)) * float(stats.t.ppf(tail, n_seeds - 1) / stats.norm.ppf(tail))


def drawn_seeds(values: Floats, n: int, rng: np.random.Generator) -> Floats:
    """How far the mean (n,) of S `values` drawn with replacement lies from their mean."""
    n_seeds = len(values)
    drawn = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n) / n_seeds
    found: Floats = np.einsum("bs,s->b", drawn, values - float(values.mean()))
    return found


def own_variance(resampled: Floats) -> float:
    """How much of the variance of the mean of S >= 2 runs under resampling, (S, B), they do not have in common.

    NaN where a value is infinite.
    """
    with np.errstate(invalid="ignore"):
        of_one_run = float((resampled - resampled.mean(axis=0)).var(axis=1).sum()) / (len(resampled) - 1)
    return of_one_run / len(resampled)


def common(mean: Floats, own: float) -> float:
    """Which share of the standard deviation of a resampled `mean` (B,) is left without the variance `own`."""
    if not np.isfinite(mean).all():
        return 1.0  # infinite ratios have no variance
    of_the_mean = float(mean.var())
    return math.sqrt(max(0.0, 1 - own / of_the_mean)) if of_the_mean > 0 else 0.0
