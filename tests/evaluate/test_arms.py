from dataclasses import replace

import numpy as np
import pytest
from made_predictions import made
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.arms import measure_arms
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.paired import compare_arms

GROUPS = [f"g{i // 3:02}" for i in range(90)]
TRUTH = np.arange(90) % 2 == 0


def run(rng, of_group, shift=1.5):
    """A run that sees something of its own in every picture, and what every run sees in its group."""
    latent = rng.normal(0, 1, 90) + of_group[np.arange(90) // 3] + shift * TRUTH
    return made(1 / (1 + np.exp(-latent)), TRUTH, groups=GROUPS)


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(0)
    of_group = rng.normal(0, 0.7, 30)
    return {arm: {s: run(rng, of_group, shift) for s in range(4)} for arm, shift in (("base", 1.5), ("better", 3.0))}


def test_the_values_are_the_runs_metrics(arms):
    measured = measure_arms(arms, "auroc", n=50)
    for arm, runs in arms.items():
        assert measured.values[arm] == pytest.approx({seed: metrics(p)["auroc"] for seed, p in runs.items()})
    assert (measured.n_samples, measured.n_groups, measured.n_left_out) == (90, 30, 0)


def test_thresholds_belong_to_their_runs(arms):
    thresholds = {arm: {seed: 0.3 + 0.1 * seed for seed in runs} for arm, runs in arms.items()}
    measured = measure_arms(arms, "recall", thresholds=thresholds, n=10)
    for arm, runs in arms.items():
        expected = {seed: metrics(p, thresholds[arm][seed])["recall"] for seed, p in runs.items()}
        assert measured.values[arm] == pytest.approx(expected)


def test_a_comparison_is_that_of_the_values_with_an_interval_that_also_asks_of_other_test_sets(arms):
    found = measure_arms(arms, "auroc", n=400).compare("better", "base")
    values = {arm: {seed: metrics(p)["auroc"] for seed, p in runs.items()} for arm, runs in arms.items()}
    expected = compare_arms(values["better"], values["base"])
    assert found.difference == pytest.approx(expected.difference)
    assert found.over_seeds == pytest.approx(expected.over_seeds)
    assert 0 < found.over_seeds_and_groups.low < found.difference < found.over_seeds_and_groups.high


def test_all_runs_share_each_resample_so_that_equal_runs_never_differ(arms):
    measured = measure_arms({"a": arms["base"], "b": arms["base"]}, "auprc", n=100)
    for seed in arms["base"]:
        np.testing.assert_array_equal(measured.resampled["a"][seed], measured.resampled["b"][seed])


@pytest.mark.parametrize("metric", ["auroc", "nll"])
def test_the_order_of_arms_seeds_and_rows_changes_no_bit(arms, metric):
    mixed = {
        arm: {s: replace(p, table=p.table.iloc[::-1].reset_index(drop=True)) for s, p in reversed(runs.items())}
        for arm, runs in reversed(arms.items())
    }
    once, again = (measure_arms(given, metric, n=200, seed=3) for given in (arms, mixed))
    assert once.compare("better", "base") == again.compare("better", "base")
    assert once.compare("better", "base") != measure_arms(arms, metric, n=200, seed=4).compare("better", "base")


def test_pictures_that_one_run_has_no_score_for_are_left_out_for_all_and_counted(arms):
    p = arms["base"][1]
    refused = made(p.scores, p.is_unsafe, groups=GROUPS, errors=["too hard"] * 6 + [None] * 84)
    measured = measure_arms({"base": arms["base"] | {1: refused}, "better": arms["better"]}, "auroc", n=20)
    kept = made(arms["better"][2].scores[6:], TRUTH[6:])
    assert (measured.n_samples, measured.n_groups, measured.n_left_out) == (84, 28, 6)
    assert measured.values["better"][2] == pytest.approx(metrics(kept)["auroc"])


def test_a_run_on_another_test_set_is_refused_by_arm_and_seed(arms):
    other = made([0.2, 0.8], [False, True])
    with pytest.raises(FigleafError, match=r"arm base, seed 0 and arm better, seed 7 were scored on different samples"):
        measure_arms({"base": arms["base"], "better": {7: other}}, "auroc")
    with pytest.raises(FigleafError, match="arm 'worse': expected one of base, better"):
        measure_arms(arms, "auroc", n=10).compare("worse", "base")
    with pytest.raises(FigleafError, match="no run to measure"):
        measure_arms({"base": {}}, "auroc")


def true_auroc(shift):
    """Of runs whose shift varies by .3: pairs across groups also part by 2 x .7^2, the 60 of 2,025 within do not."""
    across, within = (stats.norm.cdf(shift / np.sqrt(2 + 0.3**2 + groups)) for groups in (2 * 0.7**2, 0))
    return across + (within - across) * 60 / 2025


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "shift"), [("auroc", 2.2), ("accuracy", 1.5)])
def test_the_interval_of_a_whole_study_covers_the_true_difference(metric, shift):
    """250 studies of two arms, five seeds, 30 groups of three pictures; some runs train better than others."""
    rng = np.random.default_rng(5)
    truth = 0.0
    if metric == "auroc":
        truth = true_auroc(shift) - true_auroc(1.5)
    covered = 0
    for study in range(250):
        of_group = rng.normal(0, 0.7, 30)
        arms = {
            arm: {s: run(rng, of_group, at + rng.normal(0, 0.3)) for s in range(5)}
            for arm, at in (("a", shift), ("b", 1.5))
        }
        low, high = measure_arms(arms, metric, n=300, seed=study).compare("a", "b").over_seeds_and_groups
        covered += low <= truth <= high
    assert 0.91 <= covered / 250 <= 0.985
