import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import made, noisy, samples
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.delong import delong, placements
from figleaf.evaluate.metrics import auroc
from figleaf.evaluate.two_models import bootstrap_difference

# The ovarian cancer patients of DeLong et al. (1988) with all three tests, as in the SAS/STAT User's Guide, LOGISTIC
# procedure, "Comparing Receiver Operating Characteristic Curves": albumin, total protein, K-G score, benefit.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0  2.5 5.7  8 0  1.6 5.6  5 1
3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1  4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0
2.3 4.4  6 1  4.2 7.6  4 0  4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1  3.3 6.8  6 0  1.7 4.0  7 0
3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1  2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1
3.3 5.7  6 1  3.7 6.9  5 1  3.6 6.6  5 1
"""
ALBUMIN, PROTEIN, KG, BENEFIT = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4).T


def spelt_out(a, b, truth):
    """DeLong's difference and variance by comparing every pair: the definition, in O(n^2)."""
    wins = [np.sign(s[truth][:, None] - s[~truth][None, :]) / 2 + 0.5 for s in (a, b)]
    apart = wins[0] - wins[1]
    of_unsafe, of_safe = apart.mean(axis=1), apart.mean(axis=0)
    return apart.mean(), of_unsafe.var(ddof=1) / len(of_unsafe) + of_safe.var(ddof=1) / len(of_safe)


@pytest.mark.parametrize(
    ("test", "area", "difference", "error", "interval", "chi_squared", "p_value"),
    [
        (ALBUMIN / 10, 0.7366, 0.0108, 0.0953, (-0.1761, 0.1976), 0.0127, 0.9102),
        (PROTEIN / 10, 0.6478, -0.0780, 0.1046, (-0.2830, 0.1271), 0.5554, 0.4561),
    ],
    ids=["albumin", "total protein"],
)
def test_it_agrees_with_the_published_analysis_of_delongs_patients(
    test, area, difference, error, interval, chi_squared, p_value
):
    truth = BENEFIT == 1
    found = delong(made(test, truth), made((11 - KG) / 12, truth))
    assert found.auroc_a == pytest.approx(area, abs=5e-5)
    assert found.auroc_b == pytest.approx(0.7258, abs=5e-5)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert found.standard_error == pytest.approx(error, abs=5e-5)
    assert found.interval == pytest.approx(interval, abs=1e-4)
    assert (found.difference / found.standard_error) ** 2 == pytest.approx(chi_squared, abs=5e-5)
    assert found.p_value == pytest.approx(p_value, abs=5e-5)


@given(samples(), st.integers(0, 99))
def test_placements_by_ranks_are_those_of_all_pairs(sample, seed):
    a, truth = np.array(sample[0]), np.array(sample[1])
    b = np.random.default_rng(seed).permutation(a)
    assert placements(a, truth)[truth].mean() == pytest.approx(auroc(a, truth))
    assert placements(a, truth)[~truth].mean() == pytest.approx(auroc(a, truth))
    if min(truth.sum(), (~truth).sum()) >= 2:
        found = delong(made(a, truth), made(b, truth))
        difference, variance = spelt_out(made(a, truth).scores, made(b, truth).scores, truth)
        assert found.difference == pytest.approx(difference, abs=1e-12)
        assert found.standard_error**2 == pytest.approx(variance, abs=1e-12)


def test_where_groups_hold_many_pictures_the_error_is_that_of_the_bootstrap_over_groups():
    rng = np.random.default_rng(0)
    groups, truth = np.repeat(np.arange(120), 6), np.repeat(rng.random(120) < 0.45, 6)
    own = [rng.normal(0, 1.0, 120)[groups] for _ in range(2)]
    scores = [1 / (1 + np.exp(-(rng.normal(0, 0.5, 720) + of_group + 1.5 * truth))) for of_group in own]
    a, b = (made(s, truth, groups=[f"g{g:03}" for g in groups]) for s in scores)
    alone = delong(*(made(s, truth) for s in scores))
    low, high = bootstrap_difference(a, b, "auroc", n=4000).interval
    found = delong(a, b)
    assert found.standard_error == pytest.approx((high - low) / 2 / stats.norm.ppf(0.975), rel=0.06)
    assert found.standard_error > 1.8 * alone.standard_error
    assert found.difference == alone.difference


@pytest.mark.slow
def test_equally_good_models_are_told_apart_in_five_percent_of_test_sets():
    """400 test sets of 40 groups of three; with every picture for itself the test would be far too sure."""
    rng = np.random.default_rng(2)
    groups = np.repeat([f"g{i:02}" for i in range(40)], 3)
    grouped = single = 0
    for _ in range(400):
        truth = np.repeat(rng.random(40) < 0.5, 3)
        scores = [
            1 / (1 + np.exp(-(rng.normal(0, 0.6, 120) + np.repeat(rng.normal(0, 1, 40), 3) + truth))) for _ in range(2)
        ]
        grouped += delong(*(made(s, truth, groups=groups) for s in scores)).p_value < 0.05
        single += delong(*(made(s, truth) for s in scores)).p_value < 0.05
    assert 0.02 <= grouped / 400 <= 0.085
    assert single > 3 * grouped


def test_a_model_does_not_differ_from_itself_and_swapping_turns_the_sign():
    a, b = noisy(100, 100, 0), noisy(100, 100, 0, shift=1.0)
    itself = delong(a, a)
    assert (itself.difference, itself.p_value, itself.interval) == (0.0, 1.0, (0.0, 0.0))
    there, back = delong(a, b), delong(b, a)
    assert there.p_value == back.p_value
    assert there.interval == pytest.approx((-back.interval.high, -back.interval.low))


def test_models_that_differ_in_every_placement_alike_differ_surely():
    perfect, blind = made([0.1, 0.2, 0.8, 0.9], [False, False, True, True]), made([0.5] * 4, [False, False, True, True])
    found = delong(perfect, blind)
    assert (found.difference, found.standard_error, found.p_value) == (0.5, 0.0, 0.0)
    assert math.isclose(found.auroc_b, 0.5)


def test_one_group_of_a_label_has_no_variance_and_is_refused():
    p = made([0.2, 0.3, 0.8, 0.9], [False, False, True, True], groups=["a", "b", "c", "c"])
    with pytest.raises(FigleafError, match="at least 2 groups with an unsafe image, not 1"):
        delong(p, p)
