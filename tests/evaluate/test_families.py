import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from figleaf.errors import FigleafError
from figleaf.evaluate.families import holm, holm_can_support, seeds_for_holm
from figleaf.evaluate.signed_rank import signed_rank


def test_holms_own_steps():
    # .01 * 4, .02 * 3, .03 * 2 raised to .06, .04 raised to .06.
    found = holm([0.02, 0.01, 0.04, 0.03], alpha=0.05)
    assert [p for p, _ in found] == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert [supported for _, supported in found] == [False, True, False, False]


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_it_is_statsmodels_correction(p_values):
    supported, adjusted, *_ = multipletests(p_values, alpha=0.05, method="holm")
    found = holm(p_values, 0.05)
    assert [p for p, _ in found] == pytest.approx(list(adjusted))
    assert [yes for _, yes in found] == list(supported)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_what_is_supported_is_what_the_adjusted_value_says(p_values):
    for p, (adjusted, supported) in zip(p_values, holm(p_values, 0.05), strict=True):
        assert p <= adjusted <= 1
        assert supported == (adjusted <= 0.05)


def test_no_comparisons_make_no_family_and_nan_is_refused():
    assert holm([]) == []
    with pytest.raises(FigleafError, match="p-value nan"):
        holm([0.1, float("nan")])


def test_how_many_seeds_a_family_needs_to_say_anything():
    assert [seeds_for_holm(k) for k in (1, 2, 3, 5, 10)] == [6, 7, 7, 8, 9]
    assert holm_can_support(6, 1)
    assert not holm_can_support(5, 1)


@pytest.mark.parametrize(("n", "k"), [(6, 1), (6, 2), (7, 3), (8, 6), (8, 7)])
def test_it_can_support_exactly_when_unanimous_seeds_are_supported(n, k):
    unanimous = signed_rank(np.arange(1.0, n + 1)).p_value
    assert holm_can_support(n, k) == holm([unanimous] + [1.0] * (k - 1))[0].is_supported


def test_with_nothing_to_find_a_table_claims_something_in_five_percent_of_studies_at_most():
    """2,000 studies: four arms, which share their baseline, and eight seeds. Uncorrected tests claim far more."""
    rng = np.random.default_rng(0)
    corrected = uncorrected = 0
    for _ in range(2000):
        runs = rng.normal(0, 1, (5, 8))
        p_values = [signed_rank(arm - runs[0]).p_value for arm in runs[1:]]
        corrected += any(supported for _, supported in holm(p_values, 0.05))
        uncorrected += min(p_values) <= 0.05
    assert 0 < corrected / 2000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert uncorrected / 2000 > 0.08
