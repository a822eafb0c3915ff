"""Predictions as decisions: each sample at its run's own threshold, and what thresholds chosen on val give on test."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_predictions import made
from scipy.special import expit

from figleaf.errors import FigleafError
from figleaf.evaluate.decisions import decisions, operating_points
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold

N = 60


def predictions(seed: int = 0, *, errors: int = 3) -> Predictions:
    """The first few are unreadable."""
    rng = np.random.default_rng(seed)
    truth = np.arange(N) % 3 == 0
    reasons = ["truncated"] * errors + [None] * (N - errors)
    return made(expit(rng.normal(2.0 * truth - 1.0)), truth, groups=[f"g{i // 2}" for i in range(N)], errors=reasons)


@pytest.mark.parametrize("threshold", [None, 0.3, 0.9])
def test_decisions_are_what_the_metrics_count(threshold: float | None) -> None:
    rows, counted = decisions(predictions(), threshold), metrics(predictions(), threshold)
    assert rows["is_right"].mean() == pytest.approx(counted["accuracy"])
    assert rows["is_flagged"][rows["is_unsafe"]].mean() == pytest.approx(counted["recall"])
    assert rows["is_flagged"][~rows["is_unsafe"]].mean() == pytest.approx(counted["fpr"])


def test_a_score_at_the_threshold_is_flagged() -> None:
    rows = decisions(predictions(), 0.5)
    at = float(rows["score"].iloc[7])
    assert decisions(predictions(), at)["is_flagged"].iloc[7]
    assert not decisions(predictions(), math.nextafter(at, 1.0))["is_flagged"].iloc[7]


def test_samples_without_a_score_are_left_out_and_the_others_keep_their_order() -> None:
    rows = decisions(predictions(errors=3))
    assert rows["sample_id"].tolist() == [f"test/{i:05}.png" for i in range(3, N)]
    assert rows["group"].tolist() == [f"g{i // 2}" for i in range(3, N)]


def test_without_an_unsafe_class_there_is_nothing_to_decide() -> None:
    with pytest.raises(FigleafError, match="made-up data: no decisions without an unsafe class"):
        decisions(replace(predictions(), unsafe=()))


def test_thresholds_are_chosen_on_val_alone_and_measured_on_test() -> None:
    val, test = predictions(0), predictions(1)
    rows = operating_points(val, test, ["fpr=0.1", "accuracy"]).set_index("rule")
    assert rows.index.tolist() == ["fpr=0.1", "accuracy"]
    for rule, row in rows.iterrows():
        assert row["threshold"] == choose_threshold(val, str(rule))
        expected = metrics(test, row["threshold"])
        assert {name: row[name] for name in ("recall", "fpr", "precision", "accuracy")} == pytest.approx(
            {name: expected[name] for name in ("recall", "fpr", "precision", "accuracy")}
        )
    assert metrics(val, rows.loc["fpr=0.1", "threshold"])["fpr"] <= 0.1
