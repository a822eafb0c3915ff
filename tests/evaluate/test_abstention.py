"""What a policy leaves to people: counted by hand, with an interval, and told in words."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from figleaf.evaluate.abstention import Abstention, abstention
from figleaf.evaluate.policy import Policy, Rule

POLICY = Policy("", ("a", "b"), ("b",), 1.0, (Rule("block", 0.9), Rule("blur", 0.8), Rule("review", 0.3)))
#                   block blur  review review pass  pass  pass
SCORES = np.array([0.95, 0.85, 0.79, 0.3, 0.29, 0.1, 0.0])
UNSAFE = np.array([True, False, True, False, True, False, False])


def test_only_what_is_decided_can_be_wrong() -> None:
    found = abstention(POLICY, SCORES, UNSAFE)
    assert found == Abstention(pictures=7, decided=5, wrong=2)
    assert (found.coverage, found.errors) == (5 / 7, 2 / 5)


def test_without_a_band_everything_is_decided() -> None:
    found = abstention(replace(POLICY, rules=POLICY.rules[:2]), SCORES, UNSAFE)
    assert found == Abstention(7, 7, 3)


def test_the_interval_is_wilsons() -> None:
    interval = Abstention(7, 5, 2).interval
    expected = stats.binomtest(2, 5).proportion_ci(method="wilson")
    assert interval == pytest.approx((expected.low, expected.high))
    assert "decides about 71.4% of 7 pictures by itself, 2 of 5 wrongly (40.0%" in Abstention(7, 5, 2).words


def test_all_left_to_people_is_no_error_rate() -> None:
    found = abstention(replace(POLICY, rules=(Rule("review", 0.0),)), SCORES, UNSAFE)
    assert (found.coverage, found.errors, found.interval) == (0.0, None, None)
    assert "all are reviewed" in found.words
