"""Claim: intervals of every metric, by 1,000 resamples over the groups of 5,000 predictions, take less than a second of
a core (`seconds`).

`vs_loop` is the time of the usual loop over that of ours, for the AUROC alone and from `--loops` of its resamples: it
draws groups, gathers their rows and asks scikit-learn. CPU seconds; the last line is one JSON object.
"""

import argparse
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import bootstrap_intervals
from side_by_side import one_core, report

RESAMPLES = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="predictions (default: %(default)s)")
    parser.add_argument("--loops", type=int, default=50, help="resamples of the loop (default: %(default)s)")
    options = parser.parse_args()
    one_core()
    predictions = _predictions(options.count)
    bootstrap_intervals(predictions, n=10)
    start = time.process_time()
    bootstrap_intervals(predictions, n=RESAMPLES)
    seconds = time.process_time() - start
    start = time.process_time()
    bootstrap_intervals(predictions, ["auroc"], n=RESAMPLES)
    ours = time.process_time() - start
    loop = _loop(predictions, options.loops) * RESAMPLES / options.loops
    values = {"seconds": seconds, "vs_loop": loop / ours, "count": len(predictions), "resamples": RESAMPLES}
    report(values, ["numpy", "scikit-learn", "pandas"])


def _predictions(count: int) -> Predictions:
    rng = np.random.default_rng(0)
    unsafe = rng.random(count) < 0.4
    logits = np.stack([-rng.normal(unsafe * 2.0 - 1.0, 1.0), rng.normal(unsafe * 2.0 - 1.0, 1.0)], axis=1)
    table = pd.DataFrame(
        {
            "sample_id": [f"{index}.jpg" for index in range(count)],
            "content_sha256": [f"{index:064x}" for index in range(count)],
            "split": "test",
            "group": [str(index // 5) for index in range(count)],
            "slice": "all",
            "label": np.where(unsafe, "nsfw", "sfw"),
        }
    )
    return Predictions.from_logits(
        table, logits, classes=("sfw", "nsfw"), unsafe=("nsfw",), data_name="drawn", data_hash="0"
    )


def _loop(predictions: Predictions, count: int) -> float:
    rng = np.random.default_rng(0)
    rows = predictions.table.groupby("group").indices
    groups, unsafe, scores = list(rows), predictions.is_unsafe, predictions.scores
    start = time.process_time()
    for _ in range(count):
        drawn = np.concatenate([rows[groups[index]] for index in rng.integers(0, len(groups), len(groups))])
        roc_auc_score(unsafe[drawn], scores[drawn])
    return time.process_time() - start


if __name__ == "__main__":
    main()
