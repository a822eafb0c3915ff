"""A metric of many runs under the same resamples of the test set.

The groups of a data set are drawn once for all runs. What a lucky draw gives to one run it then gives to its rival, and
the interval of a difference is no wider than the difference deserves.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.grouped_auroc import GroupedAuroc
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, METRICS, Metric
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.retrieval_metrics import GroupResamples
from figleaf.evaluate.weighted import Floats, RankedPredictions

# Weights held at once, (resamples, samples) in float64: half a megabyte, so that a run's curves stay in the cache.
_CHUNK = 65_536
# Pairs of groups a sample up to which counting them is faster than ranking; measured, flat around the optimum.
_PAIRS_A_SAMPLE = 100


def draw_groups(samples: SameSamples, n: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each of the G groups of `samples` is drawn in each of `n` resamples with replacement: (n, G).

    A function of G, `n` and `seed`. Raises `FigleafError` when fewer than two groups have a scored sample, or n < 1.
    """
    n_groups, filled = len(samples.groups), len(np.unique(samples.group))
    if filled < 2:
        raise FigleafError(f"resampling needs scored samples in at least 2 groups, not {filled}: see the group column")
    if n < 1:
        raise FigleafError(f"{n} resamples: expected at least 1")
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)


def value_and_resamples(
    samples: SameSamples,
    metric: str | Metric,
    *,
    n: int,
    seed: int,
    thresholds: Sequence[float | None] | None = None,
) -> tuple[Floats, Floats]:
    """The metric of each run on the samples themselves (runs,), and in `n` resamples of their groups (runs, n).

    Raises `FigleafError` as `draw_groups` and `resampled_metric`.
    """
    counts = draw_groups(samples, n, seed)
    found = resampled_metric(samples, metric, np.vstack([np.ones_like(counts[:1]), counts]), thresholds=thresholds)
    return found[:, 0], found[:, 1:]


def resampled_metric(
    samples: SameSamples,
    metric: str | Metric,
    counts: NDArray[np.integer],
    *,
    thresholds: Sequence[float | None] | None = None,
) -> Floats:
    """The metric of each run in each resample (runs, B), NaN where it is undefined there.

    `counts` (B, G): how often each of `samples.groups` was drawn; a row of ones gives the samples' own value.
    `thresholds`: each run's own, chosen on its validation data (None: 0.5). AUROC is counted by pairs of groups
    (`GroupedAuroc`); everything else, and AUROC with very many groups, is ranked (`RankedPredictions`). The two agree
    to rounding, and the choice hangs on the data alone. A measure that all runs have is averaged. Raises
    `FigleafError` for a metric without a name here.
    """
    given = [None] * len(samples.runs) if thresholds is None else list(thresholds)
    if counts.ndim != 2 or counts.shape[1] != len(samples.groups):
        raise ValueError(f"counts {counts.shape}: expected (B, {len(samples.groups)})")
    if isinstance(metric, str) and all(metric in run.measures for run in samples.runs):
        drawn = GroupResamples(samples.group, np.asarray(counts, np.int64))
        return np.stack([drawn.means(run.table[metric].to_numpy(dtype=np.float64)) for run in samples.runs])
    if isinstance(metric, str) and metric not in METRICS:
        raise FigleafError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
    function = METRICS[metric] if isinstance(metric, str) else metric
    if function is METRICS["auroc"] and _few_groups(samples):
        truth, group = samples.is_unsafe, samples.group
        grouped = [GroupedAuroc.of(run.scores, truth, group) for run in samples.runs]
        drawn_pairs = grouped[0].drawn(counts)
        return np.stack([run.resampled(drawn_pairs) for run in grouped])
    # RankedPredictions numbers the groups that have a row, in the same order.
    present = counts[:, np.unique(samples.group)]
    return np.stack([_ranked(run, function, present, at) for run, at in zip(samples.runs, given, strict=True)])


def _few_groups(samples: SameSamples) -> bool:
    truth, group = samples.is_unsafe, samples.group
    pairs = len(np.unique(group[truth])) * len(np.unique(group[~truth]))
    return pairs <= _PAIRS_A_SAMPLE * len(group)


def _ranked(run: Predictions, metric: Metric, counts: NDArray[np.integer], threshold: float | None) -> Floats:
    ranked = RankedPredictions.of(run, DEFAULT_THRESHOLD if threshold is None else threshold)
    rows = max(1, _CHUNK // len(ranked.scores))
    return np.concatenate(
        [metric(ranked.resampled(counts[start : start + rows])) for start in range(0, len(counts), rows)]
    )
