"""What `figleaf evaluate` prints: one JSON object that says all there is to say about a set of predictions."""

import math
from typing import Any

from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, metrics, slice_table
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import Interval, bootstrap_intervals

_COUNTS = ("n", "n_errors", "n_groups")


def evaluation_json(
    predictions: Predictions,
    threshold: float | None = None,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics by name, and beside them what they were computed on: plain JSON values, undefined ones absent.

    `data`, `data_hash`, `classes`, `unsafe` and the `threshold` come first, then the counts and metrics of `metrics`.
    `intervals` has a 95 % bootstrap interval over groups [low, high] for each metric; null stands for an infinite
    bound. `slices` is the table of `slice_table`, with the AUROC's interval; `errors` lists sample and reason.
    """
    failed = predictions.table.loc[~predictions.is_scored, ["sample_id", "error"]]
    found = {name: int(value) if name in _COUNTS else value for name, value in metrics(predictions, threshold).items()}
    intervals = bootstrap_intervals(predictions, threshold=threshold, n=n_resamples, seed=seed)
    return {
        "data": predictions.data_name,
        "data_hash": predictions.data_hash,
        "classes": list(predictions.classes),
        "unsafe": list(predictions.unsafe),
        "threshold": DEFAULT_THRESHOLD if threshold is None else threshold,
        **found,
        "intervals": {name: _bounds(interval) for name, interval in intervals.items()},
        "slices": _slices(predictions, threshold, n_resamples, seed),
        "errors": failed.to_dict(orient="records"),
    }


def _slices(predictions: Predictions, threshold: float | None, n_resamples: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for record in slice_table(predictions, threshold).to_dict(orient="records"):
        row = {str(key): value for key, value in record.items() if not _is_nan(value)}
        chosen = predictions.select(slice=row["slice"])
        interval = bootstrap_intervals(chosen, ["auroc"], n=n_resamples, seed=seed).get("auroc")
        rows.append(row | ({"auroc_interval": _bounds(interval)} if interval else {}))
    return rows


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _bounds(interval: Interval) -> list[float | None]:
    return [bound if math.isfinite(bound) else None for bound in interval]
