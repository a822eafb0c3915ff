"""Predictions as decisions: which samples are flagged at a threshold, which rightly, and what other thresholds give."""

import math
from collections.abc import Sequence

import pandas as pd

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, metrics
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold

_SAMPLE = ["sample_id", "split", "group", "slice", "label", "variant", "score"]
_POINT = ("recall", "fpr", "precision", "accuracy")


def decisions(predictions: Predictions, threshold: float | None = None) -> pd.DataFrame:
    """One row a scored sample, in their order: who it is, its `score`, `is_unsafe`, `is_flagged` and `is_right`.

    Flagged is what scores at least `threshold` (None: 0.5). Rows without a score are left out. Raises `FigleafError`
    when no class is unsafe, so that there are no scores.
    """
    if not predictions.has_scores:
        raise FigleafError(f"{predictions.data_name}: no decisions without an unsafe class among {predictions.classes}")
    scored = predictions.scored
    rows = scored.table.loc[:, _SAMPLE].reset_index(drop=True)
    rows["is_unsafe"] = scored.is_unsafe
    rows["is_flagged"] = scored.scores >= (DEFAULT_THRESHOLD if threshold is None else threshold)
    rows["is_right"] = rows["is_flagged"] == rows["is_unsafe"]
    return rows


def operating_points(val: Predictions, test: Predictions, rules: Sequence[str]) -> pd.DataFrame:
    """One row a rule of `choose_threshold`: the `threshold` it finds on `val`, and what that gives on `test`.

    Columns: rule, threshold, recall, fpr, precision, accuracy; NaN where undefined. A rate that was kept on val is
    kept on test only as far as the two are alike. Raises `FigleafError` as `choose_threshold`.
    """
    rows = []
    for rule in rules:
        threshold = choose_threshold(val, rule)
        found = metrics(test, threshold)
        rows.append({"rule": rule, "threshold": threshold} | {name: found.get(name, math.nan) for name in _POINT})
    return pd.DataFrame(rows, columns=["rule", "threshold", *_POINT])
