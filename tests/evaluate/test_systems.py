"""Two systems, one run or several each, over groups of images."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import made

from figleaf.errors import FigleafError
from figleaf.evaluate.arms import measure_arms
from figleaf.evaluate.delong import delong
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.systems import SystemsComparison, compare_systems
from figleaf.evaluate.two_models import bootstrap_difference


def compared(
    a: dict[int, Predictions], b: dict[int, Predictions], metric: str = "auroc", n: int = 2000
) -> SystemsComparison:
    measured = measure_arms({"a": a, "b": b}, metric, n=n)
    return compare_systems(
        measured.values["a"],
        measured.values["b"],
        resampled_a=measured.resampled["a"],
        resampled_b=measured.resampled["b"],
    )


def two_rules(better: float, seed: int = 0, n: int = 400, group_size: int = 1) -> tuple[Predictions, Predictions]:
    """Two rules that see much the same in a picture, one of them `better` by so much; groups share what they look."""
    rng = np.random.default_rng(seed)
    truth, group = np.arange(n) // group_size % 2 == 0, np.arange(n) // group_size
    seen = rng.normal(0, 0.7, group[-1] + 1)[group] + rng.normal(0, 0.7, n)
    latents = [seen + shift * truth + rng.normal(0, 0.7, n) for shift in (1.0 + better, 1.0)]
    a, b = (made(1 / (1 + np.exp(-latent)), truth, groups=[f"g{g}" for g in group]) for latent in latents)
    return a, b


@pytest.mark.parametrize("better", [0.0, 0.3, 0.6])
def test_of_two_fixed_systems_without_groups_it_says_what_delong_says(better: float) -> None:
    a, b = two_rules(better, seed=3)
    found, known = compared({1: a}, {1: b}, n=4000), delong(a, b)
    assert found.difference == pytest.approx(known.difference)
    half = (known.interval.high - known.interval.low) / 2
    assert found.interval == pytest.approx(tuple(known.interval), abs=0.15 * half)
    assert found.p_value == pytest.approx(known.p_value, abs=0.05, rel=0.3)
    assert (found.n_a, found.n_b) == (1, 1)


def test_of_two_fixed_systems_the_interval_is_that_of_the_paired_bootstrap() -> None:
    a, b = two_rules(0.3, group_size=4)
    assert compared({1: a}, {1: b}, "auprc").interval == bootstrap_difference(a, b, "auprc").interval


def test_pictures_of_one_group_count_as_less_than_as_many_pictures() -> None:
    a, b = two_rules(0.4, group_size=8)
    alone = [made(p.scores, p.is_unsafe) for p in (a, b)]
    grouped, each = compared({1: a}, {1: b}), compared({1: alone[0]}, {1: alone[1]})
    assert grouped.difference == each.difference
    assert grouped.interval != each.interval


def test_a_system_is_no_different_from_itself_however_many_its_runs_and_whatever_the_rounding() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0.6, 0.9, 200)
    once = compare_systems({1: 0.7}, {1: 0.7}, resampled_a={1: drawn}, resampled_b={1: drawn})
    thrice = dict.fromkeys((1, 2, 3), 0.7)
    again = compare_systems(thrice, {1: 0.7}, resampled_a=dict.fromkeys(thrice, drawn), resampled_b={1: drawn + 2**-53})
    for found in (once, again):
        assert (found.difference, found.p_value) == (0.0, 1.0)


def test_a_sure_difference_has_the_least_p_value_there_is() -> None:
    a, b = two_rules(3.0)
    found = compared({1: a}, {1: b}, n=999)
    assert found.p_value == found.p_floor == 2 / 1000


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.floats(-2, 2))
def test_interval_and_p_value_say_the_same_and_swapping_turns_the_sign(
    seed: int, n_a: int, n_b: int, at: float
) -> None:
    rng = np.random.default_rng(seed)

    def system(n: int, mean: float) -> tuple[dict[int, float], dict[int, np.ndarray]]:
        values = dict(enumerate(mean + rng.normal(0, 0.5, n)))
        return values, {run: value + rng.normal(0, 0.5, 2000) for run, value in values.items()}

    (a, of_a), (b, of_b) = system(n_a, at), system(n_b, 0.0)
    there = compare_systems(a, b, resampled_a=of_a, resampled_b=of_b)
    back = compare_systems(b, a, resampled_a=of_b, resampled_b=of_a)
    assert there.p_floor <= there.p_value <= 1
    is_out = there.interval.low > 0 or there.interval.high < 0
    assert is_out == (there.p_value < 0.05) or abs(there.p_value - 0.05) < 2e-3  # one resample more or less
    assert back.difference == -there.difference
    if n_a == n_b == 1:
        assert back.interval == (-there.interval.high, -there.interval.low)
        assert back.p_value == there.p_value


def test_the_order_of_the_runs_changes_no_bit() -> None:
    runs = {seed: two_rules(0.2, seed)[0] for seed in (1, 2, 3)}
    rule = {1: two_rules(0.2, 1)[1]}
    assert compared(runs, rule, n=200) == compared(dict(reversed(runs.items())), rule, n=200)


def test_systems_with_several_seeds_are_not_paired_by_seed() -> None:
    """Values that rise together with the seed: paired, their difference would not vary at all."""
    values = {seed: 0.1 * seed for seed in range(6)}
    drawn = {seed: np.full(2000, value) for seed, value in values.items()}
    low, high = compare_systems(values, values, resampled_a=drawn, resampled_b=drawn).interval
    expected = 2.571 * np.sqrt(2) * np.std(list(values.values()), ddof=1) / np.sqrt(6)
    assert (low, high) == pytest.approx((-expected, expected), rel=0.1)


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (3, 1), (1, 8), (3, 8)])
@pytest.mark.parametrize("of_run", [0.0, 1.0])
def test_a_true_null_is_rejected_as_often_as_it_says_and_the_interval_covers(n_a: int, n_b: int, of_run: float) -> None:
    """300 studies of 60 groups: what a run owes to its seed, to the group, to the group as its system sees it, to both.

    What a run makes of a group by chance (`of_run`) is a fixed system's own where it has one run.
    """
    rng = np.random.default_rng([n_a, n_b])
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=300) / 60
    rejected = covered = 0
    for study in range(300):
        shared = rng.normal(0, 1, 60)
        sides = []
        for n in (n_a, n_b):
            of_seed = rng.normal(0, 0.15, (n, 1)) if n > 1 else 0.0
            seen = shared + rng.normal(0, 0.7, 60) + of_seed + rng.normal(0, of_run, (n, 60))
            sides.append((dict(enumerate(seen.mean(axis=1))), dict(enumerate(seen @ counts.T))))
        (a, of_a), (b, of_b) = sides
        found = compare_systems(a, b, resampled_a=of_a, resampled_b=of_b, seed=study)
        rejected += found.p_value <= 0.05
        covered += found.interval.low <= 0 <= found.interval.high
    # Three standard errors are .038; few seeds and mixed sources make it a little conservative.
    assert rejected / 300 <= 0.09
    assert 0.91 <= covered / 300 < 1


def test_resamples_without_the_metric_are_dropped_and_infinite_ones_leave_the_interval_open() -> None:
    rng = np.random.default_rng(0)
    drawn = {1: rng.normal(1, 0.1, 500)}
    holes = {1: np.where(np.arange(500) % 7 == 0, np.nan, drawn[1])}
    found = compare_systems({1: 1.0}, {1: 0.9}, resampled_a=holes, resampled_b={1: drawn[1] - 0.1})
    assert found.p_floor == 2 / (1 + np.isfinite(holes[1]).sum())
    endless = {1: np.where(np.arange(500) < 40, np.inf, drawn[1])}
    low, high = compare_systems({1: 1.0}, {1: 0.9}, resampled_a=endless, resampled_b=drawn).interval
    assert math.isfinite(low)
    assert math.isinf(high)


@pytest.mark.parametrize(
    ("a", "of_a", "message"),
    [
        ({}, {}, "system A has no run"),
        ({4: math.inf}, {4: np.zeros(5)}, "seed 4 of system A: the metric is inf"),
        ({1: 0.5}, {1: np.full(5, np.nan)}, "undefined in every resample"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: dict, of_a: dict, message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        compare_systems(a, {1: 0.5}, resampled_a=of_a, resampled_b={1: np.zeros(5)})
