from dataclasses import replace

import numpy as np
import pytest
from made_predictions import made, noisy

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples

TRUTH = [True, False, True, False]


def with_column(p, column, row, value):
    table = p.table.copy()
    table.loc[row, column] = value
    return replace(p, table=table)


def test_runs_whose_rows_stand_in_another_order_are_brought_into_one():
    p = noisy(40, 10)
    shuffled = replace(p, table=p.table.sample(frac=1, random_state=1).reset_index(drop=True))
    same = SameSamples.of([shuffled, p])
    first, second = same.runs
    assert list(first.table["sample_id"]) == list(second.table["sample_id"]) == sorted(p.table["sample_id"])
    np.testing.assert_array_equal(first.scores, second.scores)
    assert [same.groups[g] for g in same.group] == list(first.table["group"])


def test_a_sample_counts_only_when_every_run_has_a_score_for_it():
    a = made([0.9, 0.1, 0.8, 0.2], TRUTH, errors=[None, "truncated", None, None])
    b = made([0.9, 0.1, 0.8, 0.2], TRUTH, errors=[None, "truncated", "too large", None])
    same = SameSamples.of([a, b])
    assert same.n_left_out == 2
    assert [list(run.table["sample_id"]) for run in same.runs] == [["test/00000.png", "test/00003.png"]] * 2


def test_a_group_without_a_scored_sample_keeps_its_place_so_that_one_draw_serves_all_runs():
    a = made([0.9, 0.1, 0.8, 0.2], TRUTH, groups=["a", "b", "c", "c"], errors=[None, "truncated", None, None])
    same = SameSamples.of([a])
    assert same.groups == ("a", "b", "c")
    assert list(same.group) == [0, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.select(slice="all")._where(np.array([True, True, True, False])), r"1 only in first \(test/00003"),
        (lambda p: with_column(p, "sample_id", 3, "test/other.png"), r"1 only in first .* and 1 only in second"),
        (lambda p: with_column(p, "group", 1, "elsewhere"), "first and second differ in the group of 1 samples"),
        (lambda p: with_column(p, "content_sha256", 1, "f" * 64), "differ in the content of 1 samples"),
        (lambda p: with_column(p, "label", 1, "nude"), "differ in the truth"),
        (lambda p: with_column(p, "sample_id", 1, "test/00000.png"), "second holds sample test/00000.png more than"),
        (lambda p: replace(p, unsafe=("gore",)), "second has no scores"),
        (lambda p: made([0.5] * 4, TRUTH, errors=["broken"] * 4), "second has one for 0 of 4 samples"),
    ],
    ids=["fewer", "others", "group", "content", "truth", "twice", "no scores", "nothing scored"],
)
def test_runs_on_different_samples_are_refused_and_what_differs_is_named(change, message):
    p = made([0.9, 0.1, 0.8, 0.2], TRUTH)
    with pytest.raises(FigleafError, match=message):
        SameSamples.of([p, change(p)], names=["first", "second"])
