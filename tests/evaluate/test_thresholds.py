import numpy as np
import pytest
from hypothesis import given, settings
from made_predictions import made, noisy, samples

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.thresholds import choose_threshold

FAST = settings(max_examples=25, deadline=None)
CANDIDATES = np.linspace(0, 1.001, 21)  # the drawn scores lie between them


def rates(p, threshold):
    """Accuracy, recall and FPR counted one by one."""
    flagged = p.scores >= threshold
    return (flagged == p.is_unsafe).mean(), flagged[p.is_unsafe].mean(), flagged[~p.is_unsafe].mean()


def f1(p, threshold):
    flagged = p.scores >= threshold
    return 2 * (flagged & p.is_unsafe).sum() / (flagged.sum() + p.is_unsafe.sum())


MERITS = {
    "accuracy": lambda p, threshold: rates(p, threshold)[0],
    "f1": f1,
    "youden": lambda p, threshold: rates(p, threshold)[1] - rates(p, threshold)[2],
}


@pytest.mark.parametrize("rule", MERITS)
@FAST
@given(drawn=samples())
def test_no_other_threshold_is_better_by_the_rule(rule, drawn):
    p = made(*drawn)
    best = MERITS[rule](p, choose_threshold(p, rule))
    assert best >= max(MERITS[rule](p, threshold) for threshold in CANDIDATES) - 1e-12


@FAST
@given(samples())
def test_a_false_positive_budget_is_kept_and_used_up(drawn):
    p = made(*drawn)
    _, recall, fpr = rates(p, choose_threshold(p, "fpr=0.2"))
    assert fpr <= 0.2 + 1e-12
    others = [rates(p, threshold) for threshold in CANDIDATES]
    assert recall >= max(other[1] for other in others if other[2] <= 0.2) - 1e-12


@FAST
@given(samples())
def test_a_threshold_never_equals_a_score(drawn):
    p = made(*drawn)
    for rule in (*MERITS, "fpr=0.01"):
        assert choose_threshold(p, rule) not in p.scores


def test_separated_scores_are_cut_in_the_middle_of_the_gap():
    p = made([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert choose_threshold(p) == pytest.approx(0.5, abs=1e-6)


def test_of_equally_good_thresholds_the_one_that_flags_fewest_is_taken():
    p = made([0.2, 0.4, 0.6], [True, False, True])  # flagging one or all three: two of three right either way
    assert 0.4 < choose_threshold(p) < 0.6


def test_when_nothing_may_be_flagged_the_threshold_is_above_every_score():
    p = made([0.9, 0.5, 0.4], [False, True, True])
    assert metrics(p, choose_threshold(p, "fpr=0"))["recall"] == 0


def test_a_choice_on_val_does_not_look_at_rows_in_error():
    p = made([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    with_errors = made(
        [0.1, 0.2, 0.8, 0.9, 0.99, 0.98], [False, False, True, True, False, False], errors=[None] * 4 + ["bad"] * 2
    )
    assert choose_threshold(with_errors) == choose_threshold(p)


@pytest.mark.parametrize("rule", ["acuracy", "fpr", "fpr=", "fpr=1", "fpr=-0.1", "fpr=nan", "accuracy=1"])
def test_an_unknown_rule_is_named_with_the_ones_there_are(rule):
    with pytest.raises(FigleafError, match="expected"):
        choose_threshold(noisy(50), rule)


def test_one_label_gives_nothing_to_choose_from():
    with pytest.raises(FigleafError, match="both labels"):
        choose_threshold(made([0.2, 0.8], [True, True]))
