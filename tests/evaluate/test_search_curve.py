from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figleaf.errors import FigleafError
from figleaf.evaluate.search_curve import best_so_far, expected_best

FEW = st.lists(st.integers(0, 5).map(lambda value: value / 5), min_size=1, max_size=5)


@given(FEW, st.booleans())
def test_mean_and_spread_are_those_of_every_search_that_could_have_been(values, replacement):
    found = expected_best(values, replacement=replacement)
    for n in range(1, len(values) + 1):
        searches = product(values, repeat=n) if replacement else combinations(values, n)
        bests = [max(search) for search in searches]
        assert found.expected[n - 1] == pytest.approx(np.mean(bests))
        assert found.sd[n - 1] == pytest.approx(np.std(bests), abs=1e-7)


@given(FEW, st.booleans())
def test_the_least_is_the_best_of_the_negated(values, replacement):
    least, most = (
        expected_best([sign * v for v in values], mode=mode, replacement=replacement)
        for sign, mode in ((1, "min"), (-1, "max"))
    )
    assert least.expected == pytest.approx(-most.expected)
    assert (least.low == -most.high).all()
    assert (least.high == -most.low).all()


def test_dodges_estimate_starts_at_the_mean_and_stays_below_the_best():
    values = np.random.default_rng(0).random(30)
    found = expected_best(values)
    assert found.expected[0] == pytest.approx(values.mean())
    assert (np.diff(found.expected) > 0).all()
    assert found.expected[-1] < values.max()
    assert expected_best(values, replacement=False).expected[-1] == pytest.approx(values.max())


def test_without_replacement_the_estimate_is_unbiased_and_with_it_too_low():
    """The best of n uniform values is n / (n + 1) on average: 4,000 searches of 10 trials."""
    rng = np.random.default_rng(0)
    truth = np.arange(1, 11) / np.arange(2, 12)
    searches = rng.random((4000, 10))
    unbiased = np.mean([expected_best(trials, replacement=False).expected for trials in searches], axis=0)
    dodge = np.mean([expected_best(trials).expected for trials in searches], axis=0)
    assert unbiased == pytest.approx(truth, abs=0.012)
    assert dodge[-1] < truth[-1] - 0.025


def test_the_range_holds_the_best_of_a_search_as_often_as_it_says():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 400)
    found = expected_best(values, level=0.8)
    bests = values[rng.integers(0, 400, (5000, 12))].max(axis=1)
    inside = (found.low[11] <= bests) & (bests <= found.high[11])
    assert inside.mean() == pytest.approx(0.8, abs=0.025)
    assert (bests < found.low[11]).mean() == pytest.approx(0.1, abs=0.02)
    assert bests.std() == pytest.approx(found.sd[11], rel=0.05)


def test_thousands_of_trials_stay_within_the_numbers_floats_can_hold():
    for replacement in (True, False):
        found = expected_best(np.linspace(0, 1, 2000), replacement=replacement)
        assert np.isfinite(found.expected).all()
        assert (np.diff(found.expected) > -1e-12).all()


def test_the_best_so_far_follows_the_order_of_the_trials():
    assert list(best_so_far([0.5, 0.9, 0.7])) == [0.5, 0.9, 0.9]
    assert list(best_so_far([0.5, 0.9, 0.3], mode="min")) == [0.5, 0.5, 0.3]


@pytest.mark.parametrize(("values", "message"), [([], "at least one trial"), ([0.5, float("nan")], "trial 2 has")])
def test_trials_without_a_value_are_refused(values, message):
    with pytest.raises(FigleafError, match=message):
        expected_best(values)
