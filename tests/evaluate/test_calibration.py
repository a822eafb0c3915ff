"""Temperatures, and thresholds that keep their promise: on drawn scores whose true rates are known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.calibration import (
    COVERAGES,
    at_temperature,
    coverage_table,
    fit_temperature,
    one_of_each_group,
    safe_threshold,
)
from figleaf.evaluate.predictions import Predictions


def made(logits: np.ndarray, labels: list[str], groups: list[str] | None = None, classes: tuple[str, ...] = ("a", "b")):
    count = len(labels)
    table = pd.DataFrame(
        {
            "sample_id": [f"{i}.png" for i in range(count)],
            "content_sha256": [f"{i:064x}" for i in range(count)],
            "split": "calib",
            "group": groups or [str(i) for i in range(count)],
            "slice": "all",
            "label": labels,
        }
    )
    return Predictions.from_logits(
        table, logits.astype(np.float32), classes=classes, unsafe=classes[1:], data_name="drawn", data_hash="0"
    )


def drawn(count: int, temperature: float, seed: int, classes: int = 2) -> Predictions:
    """Logits that are right after division by `temperature`: labels are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 2, (count, classes))
    chances = np.exp(right) / np.exp(right).sum(axis=1, keepdims=True)
    labels = [str("abc"[rng.choice(classes, p=row)]) for row in chances]
    return made(right * temperature, labels, classes=tuple("abc"[:classes]))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_made_with_is_found(temperature: float, classes: int) -> None:
    found = fit_temperature(drawn(20_000, temperature, 0, classes))
    assert found == pytest.approx(temperature, rel=0.05)


def test_scores_at_the_temperature_are_frequencies() -> None:
    predictions = drawn(50_000, 3.0, 1)
    after = at_temperature(predictions, fit_temperature(predictions))
    for low in (0.1, 0.4, 0.7):
        among = (after.scores > low) & (after.scores < low + 0.2)
        assert after.is_unsafe[among].mean() == pytest.approx(after.scores[among].mean(), abs=0.02)


def test_what_no_temperature_fits_is_refused() -> None:
    with pytest.raises(FigleafError, match="all 18 pictures are told right"):
        fit_temperature(made(np.array([[3.0, -3.0], [-3.0, 3.0]] * 9), ["a", "b"] * 9))
    with pytest.raises(FigleafError, match="no better than chance"):
        fit_temperature(made(np.array([[-3.0, 3.0], [3.0, -3.0]] * 9), ["a", "b"] * 9))
    with pytest.raises(FigleafError, match="two labels"):
        fit_temperature(made(np.zeros((4, 2)), ["a"] * 4))


def test_a_row_of_each_group_is_drawn_and_the_seed_decides_which() -> None:
    predictions = made(np.arange(40.0).reshape(20, 2), ["a", "b"] * 10, groups=[str(i // 5) for i in range(20)])
    drawn_rows = [tuple(one_of_each_group(predictions, seed).table["sample_id"]) for seed in range(30)]
    assert all(len(rows) == 4 for rows in drawn_rows)
    assert drawn_rows[0] == tuple(one_of_each_group(predictions, 0).table["sample_id"])
    assert {name for rows in drawn_rows for name in rows} == set(predictions.table["sample_id"]), "any may be drawn"


def scores_of(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the normal distribution function: safe ones of N(-1, 1), unsafe ones of N(1, 1)."""
    rng = np.random.default_rng(seed)
    unsafe = rng.random(count) < 0.5
    return stats.norm.cdf(rng.normal(np.where(unsafe, 1.0, -1.0))), unsafe


def true_rate(risk: str, threshold: float) -> float:
    place = stats.norm.ppf(threshold)
    return float(stats.norm.sf(place + 1 if risk == "fpr" else place - 1))


@pytest.mark.parametrize(("risk", "target"), [("fpr", 0.1), ("recall", 0.9)])
def test_the_promise_is_kept_as_often_as_it_says(risk: str, target: float) -> None:
    draws, broken, rates = 300, 0, []
    for seed in range(draws):
        scores, unsafe = scores_of(300, seed)
        point = safe_threshold(scores, unsafe, risk=risk, target=target, confidence=0.9)
        rate = true_rate(risk, point.threshold)
        rates.append(rate)
        broken += rate > target if risk == "fpr" else rate < target
        assert point.pictures == int((~unsafe if risk == "fpr" else unsafe).sum())
    # At most one in ten may be broken; the binomial test leaves one in a thousand for chance.
    assert stats.binomtest(broken, draws, 0.1, alternative="greater").pvalue > 1e-3
    assert broken > 0, "and it is not kept by flagging next to nothing"
    assert abs(np.mean(rates) - target) < 0.05


def test_what_so_few_pictures_cannot_show_is_refused_with_what_they_can() -> None:
    scores, unsafe = np.linspace(0, 1, 40), np.arange(40) >= 20
    with pytest.raises(FigleafError, match=r"target_fpr=0\.01: cannot be shown .* by 20 safe .* at least 0\.14 can"):
        safe_threshold(scores, unsafe, risk="fpr", target=0.01, confidence=0.95)
    assert safe_threshold(scores, unsafe, risk="fpr", target=0.14, confidence=0.95).threshold >= scores[19]
    with pytest.raises(FigleafError, match=r"target_recall=0\.99: .* by 20 unsafe .* at most 0\.86 can"):
        safe_threshold(scores, unsafe, risk="recall", target=0.99, confidence=0.95)
    assert safe_threshold(scores, unsafe, risk="recall", target=0.86, confidence=0.95).threshold <= scores[20]
    with pytest.raises(FigleafError, match="by 0 unsafe pictures"):
        safe_threshold(scores, np.zeros(40, bool), risk="recall", target=0.5, confidence=0.95)


def test_the_lowest_threshold_for_fpr_and_the_highest_for_recall_are_taken() -> None:
    scores, unsafe = scores_of(4000, 0)
    fpr = safe_threshold(scores, unsafe, risk="fpr", target=0.1, confidence=0.9)
    recall = safe_threshold(scores, unsafe, risk="recall", target=0.9, confidence=0.9)
    assert 0.07 < (scores[~unsafe] >= fpr.threshold).mean() < 0.1
    assert 0.9 < (scores[unsafe] >= recall.threshold).mean() < 0.93
    assert "false positive rate at most 0.1 with 90% confidence" in fpr.promise


def test_coverage_decides_the_surest_first() -> None:
    scores = np.array([0.01, 0.99, 0.45, 0.55, 0.02, 0.98, 0.9, 0.1, 0.6, 0.4])
    unsafe = np.array([0, 1, 1, 0, 0, 1, 1, 0, 1, 1], bool)
    table = coverage_table(scores, unsafe)
    assert [row["coverage"] for row in table] == pytest.approx([1.0, 1.0, 0.9, 0.8, 0.7, 0.5], abs=0.06)
    assert [row["errors"] for row in table][-1] == 0
    assert table[0]["errors"] == pytest.approx(0.3)
    assert len(table) == len(COVERAGES)
    assert all(math.isfinite(row["errors"]) for row in table)
