"""How sure the numbers are: the test set's share by bootstrap over groups, the training's by spread over seeds."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, METRICS, Metric
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.weighted import Floats, RankedPredictions

# Weights held at once, (resamples, samples) in float64: 32 MB, several times over in the curves.
_CHUNK = 4_000_000


class Interval(NamedTuple):
    """Bounds of an interval; a bound may be infinite where the metric is a ratio."""

    low: float
    high: float


class SeedsInterval(NamedTuple):
    """Mean and sample standard deviation over seeds, and the t interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float


def bootstrap_intervals(
    predictions: Predictions,
    names: Iterable[str] = tuple(METRICS),
    *,
    threshold: float | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of the metrics `names` from one set of resamples; what has none is left out.

    As `bootstrap_interval`. Nothing has an interval when fewer than two groups were scored, or with `n` = 0 resamples.
    """
    return _intervals(predictions, {name: METRICS[name] for name in names}, threshold, n, seed, level)


def bootstrap_interval(
    predictions: Predictions,
    metric: str | Metric,
    *,
    threshold: float | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a metric: `n` times as many groups as there are, drawn with replacement.

    Groups, because pictures of one series rise and fall together; resampling pictures would give intervals that are too
    narrow. Percentile (Efron 1979), because the drawn groups keep AUROC and rates in their range and BCa's
    acceleration, a jackknife over few unequal groups, is itself noise. Not stratified: a group may hold both labels,
    and prevalence varies as it would in another draw of the data. Resamples that leave the metric undefined (one label
    only) are dropped. The bounds are values of resamples, not interpolated, so that an infinite ratio stays infinite.

    Raises `FigleafError` when the metric is undefined on the predictions or fewer than two groups were scored.
    """
    name = metric if isinstance(metric, str) else "metric"
    function = METRICS[metric] if isinstance(metric, str) else metric
    found = _intervals(predictions, {name: function}, threshold, n, seed, level)
    if name not in found:
        raise FigleafError(f"no interval of {name}: it needs two groups and predictions on which it is defined")
    return found[name]


def seeds_interval(
    values: Sequence[float], level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> SeedsInterval:
    """Student's t interval of the mean over seeds, from `values` (n >= 2), one a seed, cut to the metric's `bounds`.

    See `natural_range`. Raises `FigleafError` with fewer than two values: one run says nothing about the spread.
    """
    if len(values) < 2:
        raise FigleafError(f"an interval over seeds needs at least 2 seeds, not {len(values)}")
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    # Student's t knows no bounds: three AUROCs near 1 give [0.75, 1.16]. The true mean is never out there, so cutting
    # costs no coverage. Not a t interval of the logits instead: turned back, it would not be one of this mean, and a
    # seed with an AUROC of 1 has no logit.
    return SeedsInterval(mean, sd, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def bootstrap_t_interval(
    values: Sequence[float], level: float = 0.95, *, n: int = 10_000, seed: int = 0
) -> SeedsInterval:
    """Bootstrap-t interval of the mean over seeds (Efron 1982): as Student's, its quantiles from `n` resamples.

    For differences that are plainly skewed. The percentile bootstrap is not offered over seeds: it knows neither the
    n / (n - 1) of the variance nor Student's heavy tails, and at n = 6 its 95 % interval of a normal mean covers .86.
    With two or three values some resamples repeat a single one, have no spread, and leave the interval unbounded.

    Raises `FigleafError` with fewer than two values.
    """
    mean, sd, low, high = seeds_interval(values, level)
    if low == high:
        return SeedsInterval(mean, sd, mean, mean)
    size = len(values)
    drawn = np.asarray(values)[np.random.default_rng(seed).integers(0, size, (n, size))]
    deviation, spread = drawn.mean(axis=1) - mean, drawn.std(axis=1, ddof=1)
    # A resample of one repeated value has a spread of rounding's making.
    with np.errstate(divide="ignore", invalid="ignore"):
        pivot = deviation / np.where(np.ptp(drawn, axis=1) > 0, spread, 0.0)
    reach = percentile_interval(pivot, level)
    return SeedsInterval(mean, sd, mean - reach.high * sd, mean - reach.low * sd)


def percentile_interval(values: Floats, level: float = 0.95) -> Interval:
    """The central share `level` of resampled values (B,) that are not NaN; bounds are values, so infinity remains."""
    defined = values[~np.isnan(values)]
    low = np.quantile(defined, (1 - level) / 2, method="lower")
    high = np.quantile(defined, (1 + level) / 2, method="higher")
    return Interval(float(low), float(high))


def _intervals(
    predictions: Predictions,
    metrics: dict[str, Metric],
    threshold: float | None,
    n: int,
    seed: int,
    level: float,
) -> dict[str, Interval]:
    if not predictions.has_scores or not predictions.is_scored.any():
        return {}
    ranked = RankedPredictions.of(predictions, DEFAULT_THRESHOLD if threshold is None else threshold)
    defined = {name: metric for name, metric in metrics.items() if not np.isnan(metric(ranked.unweighted)[0])}
    if n == 0 or ranked.n_groups < 2 or not defined:
        return {}
    values = _resampled(ranked, defined, n, seed)
    return {name: percentile_interval(found, level) for name, found in values.items() if not np.isnan(found).all()}


def _resampled(ranked: RankedPredictions, metrics: dict[str, Metric], n: int, seed: int) -> dict[str, Floats]:
    """Each metric's values (n,) over the same resamples, in chunks that bound the memory."""
    rng = np.random.default_rng(seed)
    even = np.full(ranked.n_groups, 1 / ranked.n_groups)
    rows = max(1, _CHUNK // len(ranked.scores))
    chunks: dict[str, list[Floats]] = {name: [] for name in metrics}
    for start in range(0, n, rows):
        counts = rng.multinomial(ranked.n_groups, even, size=min(rows, n - start))
        resampled = ranked.resampled(counts)
        for name, metric in metrics.items():
            chunks[name].append(metric(resampled))
    return {name: np.concatenate(parts) for name, parts in chunks.items()}
