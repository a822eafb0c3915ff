import math

import numpy as np
import pytest
from made_predictions import made, noisy
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import METRICS, metrics
from figleaf.evaluate.statistics import bootstrap_interval
from figleaf.evaluate.two_models import bootstrap_difference, cochrans_q, mcnemar


def deciding(*right):
    """Models (k of them) whose decisions on unsafe pictures are right where the rows (k, N) say so."""
    return [made(np.where(row, 0.9, 0.1), [True] * len(row)) for row in np.array(right, dtype=bool)]


def disagreeing(both, only_a, only_b, neither):
    counts = [both, only_a, only_b, neither]
    return deciding(np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts))


def test_mcnemar_of_statsmodels_own_example():
    # R: mcnemar.test(matrix(c(101, 121, 59, 33), nrow=2)) gives chi-squared 20.67222, p = 5.450095e-06.
    found = mcnemar(*disagreeing(101, 121, 59, 33))
    assert (found.only_a, found.only_b, found.is_exact) == (121, 59, False)
    assert found.p_value == pytest.approx(5.450095e-06, rel=1e-6)


@pytest.mark.parametrize(("only_a", "only_b"), [(2, 10), (0, 5), (12, 12), (0, 0)])
def test_mcnemar_of_few_disagreements_is_the_sign_test(only_a, only_b):
    found = mcnemar(*disagreeing(50, only_a, only_b, 7))
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found.is_exact
    assert found.p_value == pytest.approx(expected)


def test_from_twenty_five_disagreements_the_approximation_takes_over():
    assert mcnemar(*disagreeing(0, 12, 12, 0)).is_exact
    assert not mcnemar(*disagreeing(0, 12, 13, 0)).is_exact


def test_each_model_decides_at_its_own_threshold():
    scores, truth = [0.2, 0.4, 0.6, 0.8], [False, False, True, True]
    strict, lax = made(scores, truth), made(scores, truth)
    assert mcnemar(strict, lax, (0.5, 0.3)).only_a == 1
    assert mcnemar(strict, lax, (0.7, 0.5)).only_b == 1
    assert mcnemar(strict, lax, (None, None)).p_value == 1.0


def test_cochrans_q_of_conovers_example():
    # Conover (1999), p. 253, as in the tests of statsmodels: twelve games, three predictors, Q = 2.8, p = .2466.
    right = [
        [1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1],
        [1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1],
    ]
    found = cochrans_q(deciding(*right))
    assert (found.q, found.df) == (pytest.approx(2.8), 2)
    assert found.p_value == pytest.approx(0.246597, abs=1e-6)


def test_cochrans_q_of_two_models_is_mcnemars_statistic_and_of_the_same_model_nothing():
    a, b = disagreeing(30, 20, 9, 4)
    assert cochrans_q([a, b]).q == pytest.approx((20 - 9) ** 2 / 29)
    assert cochrans_q([a, a, a]).p_value == 1.0
    with pytest.raises(FigleafError, match="at least 2 models"):
        cochrans_q([a])


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_difference_with_an_interval(metric):
    a, b = noisy(300, 60, 1, shift=3.0), noisy(300, 60, 1, shift=1.0)
    found = bootstrap_difference(a, b, metric, thresholds=(0.6, 0.4), n=300)
    assert found.value_a == pytest.approx(metrics(a, 0.6)[metric])
    assert found.value_b == pytest.approx(metrics(b, 0.4)[metric])
    assert found.interval.low < found.difference < found.interval.high


def test_pairing_makes_the_interval_narrower_than_those_of_the_models():
    """Two models that see the same in most pictures."""
    a = noisy(300, 60, 1)
    b = made(
        np.clip(a.scores + 0.02 * np.sin(np.arange(300)), 0.001, 0.999), a.is_unsafe, groups=list(a.table["group"])
    )
    low, high = bootstrap_difference(a, b, "auroc", n=500).interval
    assert high - low < np.ptp(bootstrap_interval(a, "auroc", n=500)) / 3


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    """Normal scores: AUROC is Phi(shift / sqrt 2). 300 test sets of 50 groups of two."""
    truth = stats.norm.cdf(1.5 / math.sqrt(2)) - stats.norm.cdf(1 / math.sqrt(2))
    groups, covered = [f"g{i // 2:02}" for i in range(100)], 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        is_unsafe = np.arange(100) % 2 == 0
        a, b = (
            made(1 / (1 + np.exp(-(rng.normal(size=100) + shift * is_unsafe))), is_unsafe, groups=groups)
            for shift in (1.5, 1.0)
        )
        low, high = bootstrap_difference(a, b, "auroc", n=400, seed=seed).interval
        covered += low <= truth <= high
    assert 0.91 <= covered / 300 <= 0.985


def test_an_undefined_metric_has_no_difference():
    p = made([0.2, 0.8], [True, True])
    with pytest.raises(FigleafError, match="nan for model A"):
        bootstrap_difference(p, p, "auroc", n=10)
