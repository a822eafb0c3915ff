import numpy as np
import pytest
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.variance import variance_components

# Shrout & Fleiss (1979), table 2: six targets, four judges. They print ICC(1, 1) = .17 with F = 1.79.
PUBLISHED = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_shrout_and_fleiss_published_example():
    found = variance_components(PUBLISHED)
    assert found.share == pytest.approx(0.166, abs=0.001)
    assert (found.low, found.high) == pytest.approx((-0.133, 0.723), abs=0.001)  # as R's psych::ICC prints
    assert found.within**2 == pytest.approx(6.264, abs=0.001)


def test_the_test_of_no_share_is_the_anova_of_scipy():
    assert variance_components(PUBLISHED).p_value == pytest.approx(stats.f_oneway(*PUBLISHED).pvalue)


def test_the_interval_covers_at_its_rate_and_the_components_are_unbiased():
    rng, share, covered, variances = np.random.default_rng(0), 0.4, 0, []
    for _ in range(2000):
        y = rng.normal(0, np.sqrt(share), (5, 1)) + rng.normal(0, np.sqrt(1 - share), (5, 3))
        found = variance_components(y.tolist())
        covered += found.low <= share <= found.high
        variances.append(found.within**2)
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.mean(variances) == pytest.approx(1 - share, abs=0.02)


def test_settings_that_explain_everything_have_the_whole_share():
    found = variance_components([[1.0, 1.0], [2.0, 2.0]])
    assert (found.share, found.within, found.between) == (1.0, 0.0, pytest.approx(np.sqrt(0.5)))


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0]], [[1.0, 1.0], [1.0, 1.0]]])
def test_what_has_no_components_is_refused(values):
    with pytest.raises(FigleafError, match="variance components"):
        variance_components(values)
