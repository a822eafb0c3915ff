import math

import numpy as np
import pytest
from made_predictions import made, noisy
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import METRICS, metrics, natural_range
from figleaf.evaluate.statistics import bootstrap_interval, bootstrap_intervals, seeds_interval
from figleaf.evaluate.weighted import RankedPredictions


def test_weighting_by_group_counts_is_the_same_as_drawing_the_groups():
    """Each metric of a weighted sample, against the plain metric of a table in which drawn groups stand that often."""
    p = noisy(120, 15)
    ranked = RankedPredictions.of(p, 0.4)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(ranked.n_groups, np.full(ranked.n_groups, 1 / ranked.n_groups), size=8)
    names = np.unique(p.table["group"].to_numpy(dtype=object))
    resampled = ranked.resampled(counts)
    for row, drawn in enumerate(counts):
        times = p.table["group"].map(dict(zip(names, drawn, strict=True))).to_numpy()
        rows = np.repeat(np.arange(len(p)), times)
        expected = metrics(made(p.scores[rows], p.is_unsafe[rows]), 0.4)
        for name, metric in METRICS.items():
            assert metric(resampled)[row] == pytest.approx(expected[name], abs=1e-7), name


def test_weighted_areas_agree_with_scikit_learns_sample_weights():
    p = noisy(100, 20)
    ranked = RankedPredictions.of(p, 0.5)
    weights = np.random.default_rng(0).integers(0, 4, (1, 100)).astype(float)
    sample = ranked.weighted(weights)
    truth, scores, w = ranked.is_unsafe, ranked.scores, weights[0]
    assert METRICS["auroc"](sample)[0] == pytest.approx(roc_auc_score(truth, scores, sample_weight=w))
    assert METRICS["auprc"](sample)[0] == pytest.approx(average_precision_score(truth, scores, sample_weight=w))


def test_the_interval_is_that_of_a_bootstrap_spelt_out():
    p = noisy(150, 30)
    groups = p.table["group"].to_numpy(dtype=object)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    rng = np.random.default_rng(11)
    values = []
    for _ in range(600):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        values.append(roc_auc_score(p.is_unsafe[rows], p.scores[rows]))
    low, high = bootstrap_interval(p, "auroc", n=4000)
    assert low == pytest.approx(np.quantile(values, 0.025), abs=0.012)
    assert high == pytest.approx(np.quantile(values, 0.975), abs=0.012)


def test_the_interval_of_a_small_test_set_holds_its_estimate():
    p = noisy(684, 135)
    low, high = bootstrap_interval(p, "auroc", n=1000)
    assert low < metrics(p)["auroc"] < high


def test_intervals_depend_on_the_seed_alone_not_on_how_many_resamples_are_held_at_once(monkeypatch):
    p = noisy(200, 40)
    once = bootstrap_intervals(p, n=100, seed=5)
    monkeypatch.setattr("figleaf.evaluate.statistics._CHUNK", 200 * 7)
    in_chunks = bootstrap_intervals(p, n=100, seed=5)
    for name, interval in once.items():
        assert in_chunks[name] == pytest.approx(interval), name
    assert bootstrap_intervals(p, n=100, seed=6) != once


def test_pictures_of_one_series_count_as_one_and_widen_the_interval():
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.random(40) < 0.5, 20)
    scores = np.repeat(1 / (1 + np.exp(-(rng.normal(size=40) + truth[::20]))), 20)
    series = made(scores, truth, groups=np.repeat([f"g{i}" for i in range(40)], 20))
    singles = made(scores, truth)
    wide, narrow = (np.ptp(bootstrap_interval(p, "auroc")) for p in (series, singles))
    assert wide > 3 * narrow


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Normal scores one standard deviation apart: the true AUROC is Phi(1/sqrt(2)). 200 data sets of 50 groups."""
    truth = stats.norm.cdf(1 / math.sqrt(2))
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        is_unsafe = np.arange(100) % 2 == 0
        scores = 1 / (1 + np.exp(-(rng.normal(size=100) + is_unsafe)))
        p = made(scores, is_unsafe, groups=[f"g{i // 2}" for i in range(100)])
        low, high = bootstrap_interval(p, "auroc", n=300, seed=seed)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_an_interval_may_reach_to_infinity_where_resamples_have_no_false_alarm():
    p = made([0.9] * 10 + [0.1] * 9 + [0.9], [True] * 10 + [False] * 10)
    low, high = bootstrap_interval(p, "response_ratio")
    assert math.isfinite(low)
    assert math.isinf(high)


def test_any_function_of_weighted_scores_can_have_an_interval():
    p = noisy(100, 25)
    low, high = bootstrap_interval(p, lambda sample: sample.positives / sample.total)
    assert low < p.is_unsafe.mean() < high


@pytest.mark.parametrize(
    "p",
    [
        made([0.2, 0.8], [True, True]),
        made([0.2, 0.8], [False, True], groups=["g", "g"]),
        made([0.2, 0.8], [False, True], errors=["a", "b"]),
    ],
    ids=["one label", "one group", "nothing scored"],
)
def test_what_has_no_interval_is_left_out_of_many_and_refused_alone(p):
    assert "auroc" not in bootstrap_intervals(p)
    with pytest.raises(FigleafError, match="auroc"):
        bootstrap_interval(p, "auroc")


def test_the_interval_over_seeds_is_students():
    values = [0.981, 0.985, 0.979, 0.990]
    found = seeds_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_interval_over_seeds_stays_in_the_range_of_its_metric():
    values = [0.999, 0.95, 0.90]
    unbounded = seeds_interval(values)
    assert unbounded.high > 1
    assert seeds_interval(values, bounds=natural_range("auroc")) == unbounded._replace(high=1.0)
    assert seeds_interval([0.0, 0.02, 0.1], bounds=natural_range("ece")).low == 0.0
    inside = [0.6, 0.61, 0.62]
    assert seeds_interval(inside, bounds=(0.0, 1.0)) == seeds_interval(inside)


def test_one_seed_has_no_spread():
    with pytest.raises(FigleafError, match="2 seeds"):
        seeds_interval([0.98])
