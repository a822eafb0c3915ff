"""The numbers that stand in tables, each computed from predictions alone.

A sample is flagged when its score is at least the threshold. Metrics named with a rate (recall at 1 % FPR) look for
their own threshold on the data at hand, without interpolation: they describe the ranking, not a deployed decision.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.weighted import Floats, RankedPredictions, WeightedScores

# Where two softmax classes change places: the network's own decision, when no threshold was chosen on validation data.
DEFAULT_THRESHOLD = 0.5
ECE_BINS = 15  # Guo et al. (2017) and torchmetrics
# Sums of weights are exact but their products with a rate are not: 3 false positives of 300 are within 1 %.
ROUNDING = 1e-9

Metric = Callable[[WeightedScores], Floats]
"""Gives (B,) values; NaN where the weighting leaves it undefined, infinity where a ratio is."""


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient with 0/0 = NaN and x/0 = infinity, silently."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _weighted_sum(weights: Floats, values: Floats) -> Floats:
    """Sums (B,) of values (N,) under weights (B, N). Not `@`: BLAS adds in an order that hangs on its threads."""
    found: Floats = np.einsum("bn,n->b", weights, values)
    return found


def _auroc(s: WeightedScores) -> Floats:
    """Chance that a random unsafe sample scores above a random safe one, ties counting half."""
    before = np.pad(s.true_positives[:, :-1], ((0, 0), (1, 0)))
    steps = np.diff(s.false_positives, axis=1, prepend=0.0)
    area = (steps * (s.true_positives + before)).sum(axis=1) / 2
    return _divide(area, s.positives * s.negatives)


def _auprc(s: WeightedScores) -> Floats:
    """Average precision: precision at each distinct score, weighted by the recall it adds; no interpolation."""
    precision = np.nan_to_num(_divide(s.true_positives, s.true_positives + s.false_positives))
    gained = np.diff(s.true_positives, axis=1, prepend=0.0)
    return np.where(s.negatives > 0, _divide((gained * precision).sum(axis=1), s.positives), np.nan)


def _accuracy(s: WeightedScores) -> Floats:
    true, false = s.flagged
    return _divide(true + s.negatives - false, s.total)


def _precision(s: WeightedScores) -> Floats:
    true, false = s.flagged
    return _divide(true, true + false)


def _recall(s: WeightedScores) -> Floats:
    return _divide(s.flagged[0], s.positives)


def _fpr(s: WeightedScores) -> Floats:
    return _divide(s.flagged[1], s.negatives)


def _f1(s: WeightedScores) -> Floats:
    true, false = s.flagged
    return np.where(s.positives > 0, _divide(2 * true, true + false + s.positives), np.nan)


def _response_ratio(s: WeightedScores) -> Floats:
    """Test response over control response, the positive likelihood ratio (Forsyth & Fleck); infinite at FPR 0."""
    return _divide(_recall(s), _fpr(s))


def _recall_at_fpr(limit: float) -> Metric:
    """Highest recall of a threshold whose FPR is at most `limit`."""

    def recall_at_fpr(s: WeightedScores) -> Floats:
        allowed = s.false_positives <= (limit * s.negatives + ROUNDING)[:, None]
        best = np.where(allowed, s.true_positives, 0.0).max(axis=1)
        return np.where(s.negatives > 0, _divide(best, s.positives), np.nan)

    return recall_at_fpr


def _fpr_at_recall(limit: float) -> Metric:
    """Lowest FPR of a threshold whose recall is at least `limit`."""

    def fpr_at_recall(s: WeightedScores) -> Floats:
        reached = s.true_positives >= (limit * s.positives - ROUNDING)[:, None]
        best = np.where(reached, s.false_positives, np.inf).min(axis=1)
        return np.where(s.positives > 0, _divide(best, s.negatives), np.nan)

    return fpr_at_recall


def _precision_at_prevalence(prevalence: float) -> Metric:
    """Precision that the recall and FPR at the threshold would give where unsafe samples are this rare."""

    def precision_at_prevalence(s: WeightedScores) -> Floats:
        true, false = prevalence * _recall(s), (1 - prevalence) * _fpr(s)
        return _divide(true, true + false)

    return precision_at_prevalence


def _ece(s: WeightedScores) -> Floats:
    """Expected calibration error of P(unsafe), equal-width bins. Biased upwards when bins are sparsely filled."""
    # Scores are sorted, so a bin's samples stand together.
    starts = np.flatnonzero(np.diff(score_bins(s.scores), prepend=-1))
    gap = np.add.reduceat(s.weights * (s.scores - s.is_unsafe), starts, axis=1)
    return _divide(np.abs(gap).sum(axis=1), s.total)


def _brier(s: WeightedScores) -> Floats:
    """Mean squared distance of the score from 0 or 1: one number a sample, half the two-class sum of Brier (1950)."""
    return _divide(_weighted_sum(s.weights, (s.scores - s.is_unsafe) ** 2), s.total)


def _nll(s: WeightedScores) -> Floats:
    """Mean negative log-likelihood of safe or unsafe, in nats."""
    return _divide(-_weighted_sum(s.weights, s.log_likelihood), s.total)


METRICS: Mapping[str, Metric] = {
    "auroc": _auroc,
    "auprc": _auprc,
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "fpr": _fpr,
    "recall_at_1fpr": _recall_at_fpr(0.01),
    "recall_at_5fpr": _recall_at_fpr(0.05),
    "fpr_at_95recall": _fpr_at_recall(0.95),
    "ece": _ece,
    "brier": _brier,
    "nll": _nll,
    "response_ratio": _response_ratio,
    "precision_at_1pct": _precision_at_prevalence(0.01),
    "precision_at_0.1pct": _precision_at_prevalence(0.001),
}


_NOT_SHARES = frozenset({"nll", "response_ratio"})  # the metrics that are 0 or more and have no greatest value
_SHARES = (METRICS.keys() - _NOT_SHARES) | {"prevalence", "top1", "top5"}
_OF_SHARES = ("pixel_", "label_", "slice_")  # what the names of pixel metrics and of a search's measures begin with


def natural_range(key: str) -> tuple[float, float]:
    """Least and greatest value that a metric can have, by its name or a key such as "test/slice/a/auroc".

    Infinite for what is no metric of predictions, such as "cost/gmacs".
    """
    name = key.rpartition("/")[2]
    if name in _SHARES or name.startswith(_OF_SHARES):
        return 0.0, 1.0
    return (0.0 if name in _NOT_SHARES else -math.inf), math.inf


def score_bins(scores: Floats) -> NDArray[np.intp]:
    """Which of `ECE_BINS` equal-width bins [k/15, (k+1)/15) each score (N,) lies in; 1 belongs to the last."""
    inner_edges = np.linspace(0.0, 1.0, ECE_BINS + 1)[1:-1]
    return np.searchsorted(inner_edges, scores, side="right")


def auroc(scores: Floats, is_unsafe: NDArray[np.bool_]) -> float:
    """AUROC of scores (N,) and truth (N,), ties counting half. NaN when a label is missing or a score is NaN."""
    if len(scores) == 0 or np.isnan(scores).any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ones = np.ones((1, len(scores)))
    ranked = WeightedScores(scores[order], is_unsafe[order], np.zeros(len(scores)), ones, DEFAULT_THRESHOLD)
    return float(_auroc(ranked)[0])


def metrics(predictions: Predictions, threshold: float | None = None) -> dict[str, float]:
    """Every metric of `METRICS`, counts, and top-k accuracy; error rows are counted in `n_errors` and else left out.

    `threshold` was chosen on validation data (None: 0.5). What is undefined or infinite is left out, never NaN: no
    AUROC with one label, no precision with nothing flagged, no response ratio without false alarms. `top1` and `top5`
    stand for data with more than two and more than five classes; `top1` also where no class is unsafe.
    """
    scored = predictions.scored
    values: dict[str, float] = {
        "n": float(len(scored)),
        "n_errors": float(len(predictions) - len(scored)),
        "n_groups": float(scored.table["group"].nunique()),
    }
    if len(scored) == 0:
        return values
    if scored.unsafe:
        values["prevalence"] = float(scored.is_unsafe.mean())
    if scored.has_scores:
        sample = RankedPredictions.of(scored, _given(threshold)).unweighted
        found = {name: float(metric(sample)[0]) for name, metric in METRICS.items()}
        values |= {name: value for name, value in found.items() if math.isfinite(value)}
    if set(scored.table["label"]) <= set(scored.classes):
        # With two classes of which one is unsafe, top-1 would say what accuracy says, at another threshold.
        ranks = [k for k in (1, 5) if len(scored.classes) > k and (len(scored.classes) > 2 or not scored.has_scores)]
        values |= {f"top{k}": _top_k(scored, k) for k in ranks}
    return values | mean_measures(scored)


def mean_measures(predictions: Predictions) -> dict[str, float]:
    """The mean of each measure over the rows that have it; what no row has is left out."""
    columns = {name: predictions.table[name].to_numpy(dtype=np.float64) for name in predictions.measures}
    return {name: float(np.nanmean(found)) for name, found in columns.items() if not np.isnan(found).all()}


def slice_table(predictions: Predictions, threshold: float | None = None) -> pd.DataFrame:
    """One row a slice, by name: slice, n, n_errors, n_groups, prevalence, recall, fpr, auroc; NaN where undefined."""
    names = ("n", "n_errors", "n_groups", "prevalence", "recall", "fpr", "auroc")
    rows = []
    for name in sorted(predictions.table["slice"].unique()):
        found = metrics(predictions.select(slice=name), threshold)
        rows.append({"slice": name} | {key: found.get(key, math.nan) for key in names})
    table = pd.DataFrame(rows, columns=["slice", *names])
    return table.astype({"n": int, "n_errors": int, "n_groups": int})


def _given(threshold: float | None) -> float:
    return DEFAULT_THRESHOLD if threshold is None else threshold


def _top_k(scored: Predictions, k: int) -> float:
    """Share of samples whose label is among the k highest logits, on average over how ties might be broken."""
    position = {name: index for index, name in enumerate(scored.classes)}
    truth = np.array([position[name] for name in scored.table["label"]])
    own = scored.logits[np.arange(len(scored)), truth][:, None]
    above, tied = (scored.logits > own).sum(axis=1), (scored.logits == own).sum(axis=1)
    return float(np.clip((k - above) / tied, 0.0, 1.0).mean())
