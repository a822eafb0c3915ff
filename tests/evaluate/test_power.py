import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from figleaf.errors import FigleafError
from figleaf.evaluate.families import seeds_for_holm
from figleaf.evaluate.power import detectable_difference, noether_runs, paired_t_power, seeds_needed


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_pairs_that_gpower_asks_for_cohens_effects(effect, pairs):
    # G*Power 3, "Means: difference between two dependent means", two-sided, alpha .05, power .8.
    assert seeds_needed(effect * 0.01, 0.01) == pairs


@pytest.mark.parametrize("n", [3, 6, 10, 50])
@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0, 2.5])
def test_the_power_is_statsmodels(effect, n):
    expected = TTestPower().power(effect, n, 0.05)
    assert paired_t_power(effect, n) == paired_t_power(-effect, n) == pytest.approx(expected, abs=1e-9)


def test_the_power_is_how_often_the_test_finds_the_difference():
    differences = np.random.default_rng(0).normal(1.0, 1.0, (20_000, 8))
    found = (stats.ttest_1samp(differences, 0, axis=1).pvalue <= 0.05).mean()
    assert paired_t_power(1.0, 8) == pytest.approx(found, abs=0.01)


def test_no_effect_is_so_large_that_fewer_seeds_would_do_than_the_signed_rank_test_needs():
    assert seeds_needed(1.0, 0.001) == seeds_needed(1.0, 0.0) == seeds_for_holm(1) == 6
    assert seeds_needed(1.0, 0.001, n_comparisons=5) == seeds_for_holm(5) == 8
    assert detectable_difference(0.01, 5) == math.inf
    assert math.isfinite(detectable_difference(0.01, 6))


@given(st.integers(6, 200), st.floats(1e-4, 10), st.sampled_from([0.5, 0.8, 0.95]))
def test_what_n_seeds_can_just_detect_needs_n_seeds(n, sd, power):
    difference = detectable_difference(sd, n, power=power)
    assert seeds_needed(difference * 1.0001, sd, power=power) <= n
    assert seeds_needed(difference * 0.9999, sd, power=power) == n + 1 or n == 6


def test_a_family_needs_more_seeds_than_one_comparison():
    assert seeds_needed(0.01, 0.01, n_comparisons=4) > seeds_needed(0.01, 0.01)
    assert detectable_difference(0.01, 10, n_comparisons=4) > detectable_difference(0.01, 10)


def test_no_number_of_seeds_shows_a_difference_of_nothing():
    assert seeds_needed(0.0, 0.01) is None


def test_noethers_numbers_of_runs():
    # Bouthillier et al. (2021), appendix: 29 pairs for P(A > B) = .75 at alpha = beta = .05.
    assert noether_runs(0.75, power=0.95) == noether_runs(0.25, power=0.95) == 29
    assert noether_runs(0.75) == 17


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seeds_needed(0.1, -1.0), "sd=-1.0"),
        (lambda: seeds_needed(0.1, 1.0, power=1.0), "power=1.0"),
        (lambda: detectable_difference(1.0, 9, n_comparisons=0), "0 comparisons"),
        (lambda: noether_runs(0.5), "not one half"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(FigleafError, match=message):
        call()


@pytest.mark.parametrize("difference", [1e-6, 1e-12, 1e-300])
def test_a_difference_that_only_a_million_seeds_would_show_needs_none(difference: float) -> None:
    assert seeds_needed(difference, 1.0) is None
    assert seeds_needed(difference, difference) is not None
