import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from figleaf.errors import FigleafError
from figleaf.evaluate.hierarchical import hierarchical_interval
from figleaf.evaluate.paired import compare_arms
from figleaf.evaluate.statistics import bootstrap_t_interval, percentile_interval, seeds_interval


def by_seed(values):
    return dict(enumerate(values, start=1))


@st.composite
def two_arms(draw):
    """Values of both arms by seed and under 30 resamples; from a coarse grid, so that ties and zeros are common."""
    n = draw(st.integers(2, 7))
    grid = st.lists(st.integers(0, 6), min_size=n, max_size=n)
    a, b = ([value / 7 for value in draw(grid)] for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    resampled = [{s + 1: value + rng.normal(0, 0.1, 30) for s, value in enumerate(arm)} for arm in (a, b)]
    return by_seed(a), by_seed(b), *resampled


def test_a_worked_example():
    a = by_seed([0.90, 0.92, 0.91, 0.95, 0.93, 0.94])
    b = by_seed([0.89, 0.90, 0.91, 0.91, 0.94, 0.91])
    # Differences .01 .02 0 .04 -.01 .03: ranks 1.5 3 - 5 1.5 4 of five, all but 1.5 of 15 in favour.
    found = compare_arms(a, b)
    t = stats.ttest_rel(list(a.values()), list(b.values()))
    assert found.n == 6
    assert found.difference == pytest.approx(0.015)
    assert found.sd == pytest.approx(np.std([0.01, 0.02, 0, 0.04, -0.01, 0.03], ddof=1))
    assert found.over_seeds == pytest.approx((t.confidence_interval().low, t.confidence_interval().high))
    assert found.d_z == pytest.approx(t.statistic / math.sqrt(6))
    assert found.rank_biserial == pytest.approx((13.5 - 1.5) / 15)
    assert found.prob_better == pytest.approx(4.5 / 6)
    # Of 32 sign flips of ranks 1.5 1.5 3 4 5, losses of at most 1.5 have: none, or either 1.5.
    assert found.p_value == pytest.approx(2 * 3 / 32)
    assert found.p_floor == 2 / 64
    assert found.over_seeds_and_groups is None


@given(two_arms(), st.sampled_from(["t", "bootstrap-t"]))
def test_swapping_the_arms_turns_every_sign_and_nothing_else(arms, method):
    a, b, ra, rb = arms
    there = compare_arms(a, b, resampled_a=ra, resampled_b=rb, method=method)
    back = compare_arms(b, a, resampled_a=rb, resampled_b=ra, method=method)
    assert back.difference == -there.difference
    assert back.d_z == -there.d_z
    assert back.rank_biserial == -there.rank_biserial
    assert back.prob_better + there.prob_better == pytest.approx(1)
    assert (back.sd, back.p_value, back.p_floor) == (there.sd, there.p_value, there.p_floor)
    for mine, other in (
        (there.over_seeds, back.over_seeds),
        (there.over_seeds_and_groups, back.over_seeds_and_groups),
    ):
        assert mine == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert there.prob_better_interval == pytest.approx(
        (1 - back.prob_better_interval.high, 1 - back.prob_better_interval.low), abs=1e-12
    )


@given(two_arms(), st.randoms(use_true_random=False))
def test_the_order_of_the_runs_changes_no_bit(arms, random):
    seeds = list(arms[0])
    random.shuffle(seeds)
    a, b, ra, rb = ({seed: arm[seed] for seed in seeds} for arm in arms)
    assert compare_arms(a, b, resampled_a=ra, resampled_b=rb) == compare_arms(
        arms[0], arms[1], resampled_a=arms[2], resampled_b=arms[3]
    )


@given(two_arms())
def test_what_is_said_stays_within_its_bounds(arms):
    found = compare_arms(arms[0], arms[1])
    assert found.p_floor <= found.p_value <= 1
    assert -1 <= found.rank_biserial <= 1
    assert 0 <= found.prob_better_interval.low <= found.prob_better <= found.prob_better_interval.high <= 1
    assert found.over_seeds.low <= found.difference <= found.over_seeds.high


def test_an_arm_that_never_wins_is_at_the_edge_of_its_interval():
    found = compare_arms(by_seed([0.0, 0.0, 0.0]), by_seed([0.25, 0.5, 0.125]))
    assert (found.prob_better, found.prob_better_interval.low) == (0.0, 0.0)
    found = compare_arms(by_seed([0.25, 0.5, 0.125]), by_seed([0.0, 0.0, 0.0]))
    assert (found.prob_better, found.prob_better_interval.high) == (1.0, 1.0)


def test_arms_are_paired_by_seed_and_a_seed_that_one_lacks_is_left_out():
    found = compare_arms({3: 0.9, 1: 0.8, 2: 0.7}, {1: 0.7, 5: 0.1, 3: 0.7})
    assert found.seeds == (1, 3)
    assert found.difference == pytest.approx(0.15)


def test_the_wilson_interval_of_a_published_example():
    # Newcombe (1998), Statistics in Medicine 17:857, table I: 15 of 148 gives .0624 to .1605 by Wilson's score method.
    found = compare_arms(by_seed([1.0] * 15 + [0.0] * 133), by_seed([0.5] * 148)).prob_better_interval
    assert found == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_equal_differences_have_an_infinite_effect_and_no_difference_has_none():
    constant = compare_arms(by_seed([0.5, 0.75, 0.625]), by_seed([0.25, 0.5, 0.375]))
    assert constant.d_z == math.inf
    assert constant.over_seeds == pytest.approx((0.25, 0.25))
    nothing = compare_arms(by_seed([0.5, 0.75]), by_seed([0.5, 0.75]))
    assert (nothing.d_z, nothing.p_value, nothing.prob_better) == (0.0, 1.0, 0.5)


def test_differences_of_roundings_making_are_none():
    a = by_seed([0.1 + 0.2, 0.5, 0.75])
    found = compare_arms(a, by_seed([0.3, 0.5, 0.75]))
    assert (found.difference, found.p_value, found.prob_better) == (0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({1: 0.9}, {1: 0.8}, r"at least 2 seeds .* A has \[1\], B has \[1\]"),
        ({1: 0.9, 2: 0.8}, {3: 0.9, 4: 0.8}, "at least 2 seeds"),
        ({1: 0.9, 2: math.nan}, {1: 0.9, 2: 0.8}, "seed 2 of arm A: the metric is nan"),
        ({1: 0.9, 2: 0.8}, {1: math.inf, 2: 0.8}, "seed 1 of arm B: the metric is inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, message):
    with pytest.raises(FigleafError, match=message):
        compare_arms(a, b)


def coverage(intervals, truth=0.0):
    return np.mean([low <= truth <= high for low, high in intervals])


def test_over_six_seeds_students_interval_covers_as_it_says_and_the_percentile_bootstrap_does_not():
    """2,000 normal samples of six: the standard error of the coverage is half a percent. See `bootstrap_t_interval`."""
    rng = np.random.default_rng(0)
    students, percentiles = [], []
    for _ in range(2000):
        values = rng.normal(0, 1, 6)
        students.append(seeds_interval(list(values))[2:])
        percentiles.append(percentile_interval(values[rng.integers(0, 6, (400, 6))].mean(axis=1)))
    assert 0.935 <= coverage(students) <= 0.965
    assert 0.84 <= coverage(percentiles) <= 0.88


def test_bootstrap_t_covers_skewed_differences_better_than_student():
    """Exponential differences, eight seeds, 1,500 samples: Student's interval covers about .89."""
    rng = np.random.default_rng(1)
    samples = [rng.exponential(1, 8) for _ in range(1500)]
    student = coverage([seeds_interval(list(s))[2:] for s in samples], 1.0)
    bootstrap_t = coverage([bootstrap_t_interval(list(s), n=600, seed=i)[2:] for i, s in enumerate(samples)], 1.0)
    assert student < 0.91
    assert 0.93 <= bootstrap_t <= 0.97


def test_bootstrap_t_of_two_values_is_unbounded_and_of_equal_values_a_point():
    assert np.isinf(bootstrap_t_interval([0.1, 0.3])[2:]).all()
    assert bootstrap_t_interval([0.25] * 4)[2:] == (0.25, 0.25)


SOURCES = {
    "training alone": (1.0, 0.0, 0.0),
    "training and the test set": (0.25, 2.0, 0.0),
    "the test set alone": (0.02, 2.0, 0.0),
    "what each run makes of each picture": (0.0, 0.0, 1.0),
    "all of them": (0.1, 0.5, 1.0),
}


@pytest.mark.parametrize("n_seeds", [3, 6])
@pytest.mark.parametrize("source", SOURCES)
def test_the_hierarchical_interval_covers_whatever_varies(source, n_seeds):
    """600 studies of 50 pictures whose paired difference is seed + picture + both, true mean 0."""
    of_seed, of_picture, of_both = SOURCES[source]
    rng = np.random.default_rng(n_seeds)
    counts = rng.multinomial(50, np.full(50, 1 / 50), size=400) / 50
    intervals = []
    for study in range(600):
        differences = rng.normal(0, of_seed, (n_seeds, 1)) + rng.normal(0, of_picture, 50)
        differences = differences + rng.normal(0, of_both, (n_seeds, 50))
        intervals.append(hierarchical_interval(differences.mean(axis=1), differences @ counts.T, seed=study))
    # Three standard errors; with three seeds the seeds' heavy tail makes mixed sources a little conservative.
    assert 0.922 <= coverage(intervals) <= 0.99


def test_resamples_without_the_metric_are_dropped_and_having_none_is_an_error():
    resampled = np.random.default_rng(0).normal(0, 1, (4, 500))
    holes = resampled.copy()
    holes[1, ::7] = np.nan
    differences = resampled.mean(axis=1)
    assert hierarchical_interval(differences, holes) == pytest.approx(
        hierarchical_interval(differences, resampled), abs=0.2
    )
    with pytest.raises(FigleafError, match="undefined in every resample"):
        hierarchical_interval(differences, np.full((4, 10), np.nan))


def test_infinite_ratios_give_unbounded_intervals_not_an_error():
    resampled = np.random.default_rng(0).normal(0, 1, (4, 500))
    resampled[:, :40] = np.inf
    low, high = hierarchical_interval(np.zeros(4), resampled)
    assert math.isfinite(low)
    assert math.isinf(high)
