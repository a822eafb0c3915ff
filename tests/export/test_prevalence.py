"""The card's table of prevalences: Bayes' rule, from the run's own test metrics, and honest about their limits."""

from dataclasses import replace

import numpy as np
import pytest
from test_card import FACTS, card

from figleaf.export.prevalence import PREVALENCES, OperatingPoint, operating_points, threshold_section

METRICS = {"test/recall": 0.9, "test/fpr": 0.1, "test/recall_at_1fpr": 0.5, "test/n": 684, "test/prevalence": 0.4547}
MEASURED = replace(FACTS, metrics={**FACTS.metrics, **METRICS})


@pytest.mark.parametrize("prevalence", PREVALENCES)
def test_what_is_expected_is_what_a_drawn_stream_shows(prevalence: float) -> None:
    rng = np.random.default_rng(0)
    point = OperatingPoint("", 0.9, 0.05)
    is_unsafe = rng.random(4_000_000) < prevalence
    flagged = rng.random(len(is_unsafe)) < np.where(is_unsafe, point.recall, point.fpr)
    assert flagged.mean() == pytest.approx(point.flagged(prevalence), rel=0.02)
    assert is_unsafe[flagged].mean() == pytest.approx(point.precision(prevalence), rel=0.05)


def test_the_table_is_worked_from_the_runs_own_metrics() -> None:
    lines = threshold_section(MEASURED)
    (frozen,) = (line for line in lines if line.startswith("| frozen"))
    # One in a hundred: 10 x 0.9 + 990 x 0.1 of 1,000 are flagged, 9 of these 108 are unsafe.
    assert "| 108.0; 8.33 % (proxy) |" in frozen
    assert "frozen threshold, 0.25" in frozen
    (strict,) = (line for line in lines if line.startswith("| 1 % FPR"))
    assert "| 50.0 % (proxy) | 1.0 % (proxy) |" in strict
    assert not any(line.startswith("| 5 % FPR") for line in lines)
    assert "test, skin-area proxy" in "\n".join(lines)


def test_proxies_and_what_cannot_be_seen_are_said() -> None:
    text = card(MEASURED)
    assert "## Choosing a threshold for your own pictures" in text
    assert "figures of the skin-area proxy and say nothing about NSFW accuracy" in text
    assert "373 safe pictures" in text
    assert "0.8 %" in text
    assert "figleaf calibrate run=0123abcd " in text
    assert "proxy" not in card(replace(MEASURED, data_name="our photographs"))


def test_nothing_flagged_is_no_precision() -> None:
    assert OperatingPoint("", 0.0, 0.0).precision(0.1) is None
    silent = replace(MEASURED, metrics={"test/recall": 0.0, "test/fpr": 0.0})
    assert "| 0.0; none |" in "\n".join(threshold_section(silent))


def test_without_test_metrics_or_threshold_what_is_unknown_is_left_out() -> None:
    assert threshold_section(FACTS) == []
    assert [point.name for point in operating_points(METRICS, None)] == ["1 % FPR"]
