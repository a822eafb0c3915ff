"""Which way a metric is better."""

from typing import Literal

_HIGHER = {
    *("auroc", "auprc", "accuracy", "precision", "recall", "f1", "recall_at_1fpr", "recall_at_5fpr", "response_ratio"),
    *("precision_at_1pct", "precision_at_0.1pct", "top1", "top5"),
    *("images_per_second", "gflop_per_second", "flop_utilisation"),
}
_LOWER = {
    *("fpr", "fpr_at_95recall", "ece", "brier", "nll", "loss", "train_loss", "n_errors"),
    *("parameters", "gmacs", "megabytes", "train_seconds", "peak_memory_mb"),
}


def better(key: str) -> Literal[-1, 0, 1]:
    """1 when more of the metric `key` (such as `test/auroc` or `test/auroc_low`) is better, -1 less, 0 neither."""
    name = key.rpartition("/")[2].removesuffix("_low").removesuffix("_high")
    return 1 if name in _HIGHER else -1 if name in _LOWER else 0
