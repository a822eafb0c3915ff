"""Fixed models on one test set: whose decisions are right more often, and by how much any metric differs.

Everything here compares *models*, not the procedures that trained them (Dietterich 1998): another seed is another
model, and runs of several seeds are never pooled as if their answers were independent images. For procedures, see
`figleaf.evaluate.paired`; for the AUROC of two models, `figleaf.evaluate.delong`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, Metric
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.resampling import value_and_resamples
from figleaf.evaluate.statistics import Interval, percentile_interval

# Below this many disagreements the chi-squared approximation is not used.
_EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """How many images only A decides rightly, how many only B, and the two-sided p-value that this is chance."""

    only_a: int
    only_b: int
    p_value: float
    is_exact: bool


@dataclass(frozen=True)
class CochransQ:
    """Cochran's statistic, its degrees of freedom (models - 1), and the p-value that all are right equally often."""

    q: float
    df: int
    p_value: float


@dataclass(frozen=True)
class MetricDifference:
    """A metric of A, of B, and A - B with its bootstrap interval over groups."""

    value_a: float
    value_b: float
    difference: float
    interval: Interval


def mcnemar(a: Predictions, b: Predictions, thresholds: tuple[float | None, float | None] = (None, None)) -> McNemar:
    """McNemar's test of two models' decisions at their own thresholds (None: 0.5).

    Exact binomial when they disagree on fewer than 25 images, else chi-squared with continuity correction. It takes
    images for independent: where groups hold several, its p-value is too small, and `bootstrap_difference` of the
    accuracy is the honest answer.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test  # a second to import

    right_a, right_b = _right([a, b], thresholds)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    is_exact = only_a + only_b < _EXACT_BELOW
    table = [[int((right_a & right_b).sum()), only_a], [only_b, int((~right_a & ~right_b).sum())]]
    return McNemar(only_a, only_b, float(test(table, exact=is_exact).pvalue), is_exact)


def cochrans_q(models: Sequence[Predictions], thresholds: Sequence[float | None] | None = None) -> CochransQ:
    """Cochran's test that all `models` (at least two) decide rightly equally often; images count as independent.

    Follow a small p-value with `mcnemar` of each pair and `holm` over these. With two models it is McNemar's
    chi-squared without continuity correction.
    """
    from statsmodels.stats.contingency_tables import cochrans_q as test

    if len(models) < 2:
        raise FigleafError(f"Cochran's Q compares at least 2 models, not {len(models)}")
    right = _right(models, [None] * len(models) if thresholds is None else thresholds)
    if (right == right[0]).all():
        return CochransQ(0.0, len(models) - 1, 1.0)  # the statistic is 0/0
    found = test(right.T.astype(np.int64))
    return CochransQ(float(found.statistic), len(models) - 1, float(found.pvalue))


def bootstrap_difference(
    a: Predictions,
    b: Predictions,
    metric: str | Metric,
    *,
    thresholds: tuple[float | None, float | None] = (None, None),
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> MetricDifference:
    """The difference of any metric, with a percentile interval of `n` resamples of groups, the same for both models.

    Resamples that leave it undefined are dropped. Raises `FigleafError` as `SameSamples.of` and `draw_groups`, and when
    the metric is undefined or infinite for a model.
    """
    samples = SameSamples.of([a, b], names=["model A", "model B"])
    values, resampled = value_and_resamples(samples, metric, n=n, seed=seed, thresholds=thresholds)
    value_a, value_b = float(values[0]), float(values[1])
    if not (math.isfinite(value_a) and math.isfinite(value_b)):
        raise FigleafError(f"the metric is {value_a} for model A and {value_b} for model B: no difference to speak of")
    with np.errstate(invalid="ignore"):  # of two infinite ratios
        interval = percentile_interval(resampled[0] - resampled[1], level)
    return MetricDifference(value_a, value_b, value_a - value_b, interval)


def _right(models: Sequence[Predictions], thresholds: Sequence[float | None]) -> NDArray[np.bool_]:
    """(models, N) whether each flags exactly what is unsafe."""
    samples = SameSamples.of(models, names=[f"model {i + 1}" for i in range(len(models))])
    at = [DEFAULT_THRESHOLD if threshold is None else threshold for threshold in thresholds]
    flagged = np.stack([run.scores >= threshold for run, threshold in zip(samples.runs, at, strict=True)])
    right: NDArray[np.bool_] = flagged == samples.is_unsafe
    return right
