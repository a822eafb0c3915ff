"""Average precision and precision at k: against scikit-learn and by hand; what never counts; draws of groups."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from figleaf.errors import FigleafError
from figleaf.evaluate.retrieval_metrics import GroupResamples, estimate, other_groups, query_metrics


def everything(shape):
    return np.ones(shape, bool)


def test_average_precision_is_scikit_learns():
    rng = np.random.default_rng(0)
    distances, relevant = rng.random((20, 50)), rng.random((20, 50)) < 0.3
    found = query_metrics(distances, relevant, everything((20, 50)))
    expected = [average_precision_score(r, -d) for r, d in zip(relevant, distances, strict=True)]
    np.testing.assert_allclose(found.average_precision, expected, atol=1e-12)
    np.testing.assert_allclose(found.chance, relevant.mean(axis=1))


def test_precision_at_k_by_hand():
    found = query_metrics(
        np.array([[3.0, 1.0, 2.0, 4.0]]), np.array([[1, 0, 1, 1]], bool), everything((1, 4)), at=(1, 2, 9)
    )
    assert [found.precision_at[k][0] for k in (1, 2, 9)] == [0, 0.5, 0.75]
    assert found.average_precision[0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_pictures_that_are_no_candidates_change_nothing():
    """Leaving out is the same as never having been in the index."""
    rng = np.random.default_rng(1)
    distances, relevant = rng.random((8, 30)), rng.random((8, 30)) < 0.4
    kept = np.flatnonzero(rng.random(30) < 0.6)
    candidates = np.zeros((8, 30), bool)
    candidates[:, kept] = True
    some, few = (
        query_metrics(distances, relevant, candidates),
        query_metrics(distances[:, kept], relevant[:, kept], everything((8, len(kept)))),
    )
    for name in few.named:
        np.testing.assert_allclose(some.named[name], few.named[name])


def test_own_group_and_copies_are_no_candidates():
    allowed = other_groups(["a", "b"], ["a", "b", "c", "c"], ["x", "y"], ["p", "q", "x", "r"])
    assert allowed.tolist() == [[False, True, False, True], [True, False, True, True]]


def test_near_duplicates_of_the_query_do_not_make_a_system_good():
    """Leave one out: a group's pictures find each other at once, and nothing else."""
    groups = [f"g{i // 2}" for i in range(12)]
    label = np.array([i % 4 < 2 for i in range(12)])
    place = np.random.default_rng(0).random(6).repeat(2)
    distances = np.abs(place[:, None] - place[None])
    relevant = label[:, None] == label[None]
    naive = query_metrics(distances, relevant, ~np.eye(12, dtype=bool))
    honest = query_metrics(distances, relevant, other_groups(groups, groups))
    assert np.nanmean(naive.precision_at[1]) == 1
    assert np.nanmean(honest.precision_at[1]) < 0.7


def test_query_without_a_relevant_picture_has_no_value_and_counts_for_nothing():
    found = query_metrics(np.zeros((2, 3)), np.array([[0, 0, 0], [1, 0, 0]], bool), everything((2, 3)))
    assert np.isnan(found.average_precision[0])
    mean = estimate(found.average_precision, GroupResamples.draw(["a", "b"], 50))
    assert mean is not None
    assert (mean.value, mean.queries) == (1, 1)
    assert estimate(np.full(2, np.nan), GroupResamples.draw(["a", "b"], 50)) is None


def test_equal_distances_are_ranked_in_the_pictures_order():
    found = query_metrics(np.zeros((1, 3)), np.array([[0, 1, 0]], bool), everything((1, 3)))
    assert found.average_precision[0] == 0.5


def test_draws_are_means_over_the_drawn_groups_queries():
    groups, values = ["a", "a", "b", "c"], np.array([1.0, 2.0, 5.0, np.nan])
    resamples = GroupResamples.draw(groups, 20, seed=3)
    means = resamples.means(values)
    for counts, mean in zip(resamples.counts, means, strict=True):
        drawn = [1.0, 2.0] * counts[0] + [5.0] * counts[1]
        np.testing.assert_allclose(mean, np.mean(drawn) if drawn else np.nan)


def test_a_difference_from_itself_is_nothing_and_a_slice_is_its_own():
    values = np.random.default_rng(0).random(40)
    resamples = GroupResamples.draw([f"g{i // 4}" for i in range(40)], 200)
    nothing = estimate(values - values, resamples)
    assert nothing is not None
    assert (nothing.value, *nothing.interval) == (0, 0, 0)
    among = np.arange(40) < 12
    part, alone = estimate(values, resamples, among), values[:12].mean()
    assert part is not None
    assert part.value == pytest.approx(alone)
    assert part.interval.low <= alone <= part.interval.high
    assert part.queries == 12


def test_interval_covers_the_mean_of_the_population():
    """95 % intervals over 40 groups of unequal means: near that often."""
    rng = np.random.default_rng(0)
    hits = 0
    for draw in range(200):
        values = (rng.normal(0, 1, 40)[:, None] + rng.normal(0, 0.3, (40, 3))).ravel()
        found = estimate(values, GroupResamples.draw(np.arange(40).repeat(3).astype(str).tolist(), 300, draw))
        assert found is not None
        hits += found.interval.low <= 0 <= found.interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_one_group_cannot_be_resampled():
    with pytest.raises(FigleafError, match="at least 2 groups"):
        GroupResamples.draw(["a", "a"])
