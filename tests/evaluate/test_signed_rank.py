from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from figleaf.evaluate.signed_rank import signed_rank, smallest_p


def by_enumeration(differences):
    """The definition: how many of the 2^n sign flips of the observed ranks are at least as extreme."""
    values = np.array([d for d in differences if d != 0])
    if len(values) == 0:
        return 1.0
    ranks = stats.rankdata(np.abs(values))
    observed = abs((ranks * np.sign(values)).sum())
    sums = [abs((ranks * signs).sum()) for signs in product((-1, 1), repeat=len(values))]
    return np.mean(np.array(sums) >= observed - 1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13, 30])
def test_without_ties_it_is_scipys_exact_test(n):
    for seed in range(10):
        differences = np.random.default_rng(seed).normal(0.4, 1, n)
        assert signed_rank(differences).p_value == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_with_ties_and_zeros_it_is_the_enumeration_of_all_sign_flips(differences):
    assert signed_rank(np.array(differences, dtype=float)).p_value == pytest.approx(by_enumeration(differences))


@pytest.mark.parametrize("n", [1, 5, 6, 7, 8, 60])
def test_differences_of_one_sign_reach_the_floor(n):
    found = signed_rank(np.arange(1.0, n + 1))
    assert found.p_value == smallest_p(n) == (1.0 if n == 1 else 2 / 2**n)
    assert found.rank_biserial == 1.0
    assert signed_rank(-np.arange(1.0, n + 1)).rank_biserial == -1.0


def test_accuracies_that_differ_by_the_same_number_of_images_tie_although_floats_part_them():
    """Ranks of sizes 1, 1, 2, 3 images; the float differences of the first two differ in the last bit."""
    images = np.array([[512, 511], [100, 99], [640, 638], [600, 603]])
    a, b = (images / 684).T
    assert len(set(np.abs(a - b)[:2])) == 2
    assert signed_rank(a - b, 1e-12) == signed_rank([1.0, 1.0, 2.0, -3.0])


def test_the_rank_biserial_correlation_of_kerbys_formula():
    # Ranks 1 to 4, the largest one a loss: (1 + 2 + 3 - 4) / 10.
    assert signed_rank([1.0, 2.0, 3.0, -4.0]).rank_biserial == pytest.approx(0.2)


def test_no_difference_at_all_is_no_evidence():
    assert signed_rank([0.0, 0.0, 0.0]) == (1.0, 0.0)
