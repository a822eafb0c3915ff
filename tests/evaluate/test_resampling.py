import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import made, noisy, samples

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.grouped_auroc import GroupedAuroc
from figleaf.evaluate.metrics import METRICS, auroc, metrics
from figleaf.evaluate.resampling import draw_groups, resampled_metric, value_and_resamples
from figleaf.evaluate.weighted import RankedPredictions


def ranked_auroc(p, counts):
    return METRICS["auroc"](RankedPredictions.of(p, 0.5).resampled(counts))


@given(samples(), st.integers(1, 12), st.integers(0, 99))
def test_counting_pairs_by_group_gives_the_auroc_of_the_ranked_scores(sample, n_groups, seed):
    """Coarse scores, so that many tie; groups that hold one label, both, or many samples."""
    scores, truth = sample
    rng = np.random.default_rng(seed)
    names = [f"g{g:02}" for g in rng.integers(0, n_groups, len(scores))]
    p = made(scores, truth, groups=names)
    group = np.unique(names, return_inverse=True)[1]
    counts = rng.multinomial(group.max() + 1, np.full(group.max() + 1, 1 / (group.max() + 1)), size=20)
    grouped = GroupedAuroc.of(p.scores, p.is_unsafe, group)
    found = grouped.resampled(grouped.drawn(counts))
    np.testing.assert_allclose(found, ranked_auroc(p, counts), rtol=0, atol=1e-12)


def test_without_resampling_it_is_the_auroc():
    p = noisy(300, 40)
    same = SameSamples.of([p])
    grouped = GroupedAuroc.of(p.scores, p.is_unsafe, same.group)
    once = grouped.resampled(grouped.drawn(np.ones((1, 40), dtype=int)))
    assert once[0] == pytest.approx(auroc(p.scores, p.is_unsafe), abs=1e-15)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_with_one_label_there_is_no_auroc(truth):
    grouped = GroupedAuroc.of(np.array([0.2, 0.7]), np.array(truth), np.array([0, 1]))
    assert np.isnan(grouped.resampled(grouped.drawn(np.array([[1, 1], [2, 0]])))).all()


def test_a_test_set_of_single_images_takes_the_other_way_to_the_same_auroc(monkeypatch):
    """The choice between counting pairs and ranking is one of speed."""
    runs = [noisy(300, 300, seed) for seed in (0, 0)]
    same = SameSamples.of(runs)
    counts = draw_groups(same, 50)
    by_rank = resampled_metric(same, "auroc", counts)
    monkeypatch.setattr("figleaf.evaluate.resampling._PAIRS_A_SAMPLE", 1000)
    by_pairs = resampled_metric(same, "auroc", counts)
    np.testing.assert_allclose(by_rank, by_pairs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_of_each_run_is_that_of_the_table_in_which_drawn_groups_stand_that_often(metric):
    """Two runs with their own thresholds; one has an error row, which empties a group for both."""
    first, second = noisy(60, 12, 3), noisy(60, 12, 3, shift=1.0)
    flawed = first.table["group"] == "g4"
    errors = ["truncated" if bad else None for bad in flawed]
    second = made(second.scores, second.is_unsafe, groups=list(first.table["group"]), errors=errors)
    first = made(first.scores, second.is_unsafe, groups=list(first.table["group"]))
    same, thresholds = SameSamples.of([first, second]), (0.3, 0.6)
    counts = draw_groups(same, 6, seed=2)
    found = resampled_metric(same, metric, counts, thresholds=thresholds)
    for run, p in enumerate((first, second)):
        for b, drawn in enumerate(counts):
            times = p.table["group"].map(dict(zip(same.groups, drawn, strict=True))).to_numpy() * ~flawed.to_numpy()
            rows = np.repeat(np.arange(len(p)), times)
            expected = metrics(made(p.scores[rows], p.is_unsafe[rows]), thresholds[run])
            assert found[run, b] == pytest.approx(expected.get(metric, found[run, b]), abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_no_metric_hangs_on_the_number_of_threads(metric):
    # ECE, Brier and NLL are sums of many floats: a matrix product would add them in the threads' order.
    ranked = RankedPredictions.of(noisy(1501, 301), 0.5)
    counts = np.random.default_rng(0).multinomial(301, np.full(301, 1 / 301), size=333)
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            found.append(METRICS[metric](ranked.resampled(counts)))
    np.testing.assert_array_equal(*found)


def test_what_a_run_gives_hangs_neither_on_its_company_nor_on_the_number_of_threads():
    a, b = noisy(701, 77, 0), noisy(701, 77, 1)
    b = made(b.scores, a.is_unsafe, groups=list(a.table["group"]))
    together, swapped, alone = SameSamples.of([a, b]), SameSamples.of([b, a]), SameSamples.of([b])
    counts = draw_groups(together, 401, seed=4)
    for metric in METRICS:
        found = []
        for threads, same, row in ((1, together, 1), (2, together, 1), (2, swapped, 0), (1, alone, 0)):
            with threadpoolctl.threadpool_limits(threads):
                found.append(resampled_metric(same, metric, counts)[row])
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other, err_msg=metric)


def test_the_samples_own_value_stands_beside_its_resamples():
    p = noisy(200, 30)
    values, resampled = value_and_resamples(SameSamples.of([p]), "auprc", n=70, seed=0)
    assert values == pytest.approx([metrics(p)["auprc"]])
    assert resampled.shape == (1, 70)
    assert resampled.std() > 0


def test_each_resample_draws_as_many_groups_as_there_are():
    same = SameSamples.of([noisy(60, 12)])
    counts = draw_groups(same, 500, seed=1)
    assert (counts.sum(axis=1) == 12).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(12), abs=0.2)
    assert not np.array_equal(counts, draw_groups(same, 500, seed=2))


@pytest.mark.parametrize(
    ("p", "metric", "n", "message"),
    [
        (made([0.2, 0.8], [False, True], groups=["g", "g"]), "auroc", 10, "at least 2 groups, not 1"),
        (noisy(20, 5), "auroc", 0, "0 resamples"),
        (noisy(20, 5), "auc", 10, "metric 'auc': expected one of auroc"),
    ],
)
def test_what_cannot_be_resampled_is_refused(p, metric, n, message):
    with pytest.raises(FigleafError, match=message):
        value_and_resamples(SameSamples.of([p]), metric, n=n, seed=0)


def test_a_measure_of_each_answer_is_averaged_over_the_drawn_groups():
    values = np.array([0.2, 0.4, 1.0, np.nan])
    run = made([0.1, 0.8, 0.3, 0.9], [False, True, False, True], groups=["a", "a", "b", "c"])
    run.table["label_map"] = values
    samples = SameSamples.of([run])
    found = resampled_metric(samples, "label_map", np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [0, 0, 3]]))
    np.testing.assert_allclose(found[0], [1.6 / 3, 0.3, 1.0, np.nan])
    assert metrics(run)["label_map"] == pytest.approx(1.6 / 3)
    with pytest.raises(FigleafError, match="metric 'slice_map': expected one of"):
        resampled_metric(samples, "slice_map", np.ones((1, 3), int))
