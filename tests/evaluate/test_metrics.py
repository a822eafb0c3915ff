import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from made_predictions import made, noisy, samples
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error

from figleaf.evaluate.metrics import METRICS, auroc, metrics, natural_range, slice_table
from figleaf.evaluate.predictions import Predictions

MANY = settings(max_examples=50, deadline=None)


@MANY
@given(samples())
def test_no_metric_leaves_its_natural_range(drawn):
    for name, value in metrics(made(*drawn), 0.4).items():
        low, high = natural_range(f"test/slice/a/{name}")
        assert low <= value <= high, name
        assert name not in METRICS or low == 0.0
    assert natural_range("cost/gmacs") == natural_range("time/train_seconds") == (-math.inf, math.inf)


@MANY
@given(samples())
def test_auroc_and_average_precision_agree_with_scikit_learn_ties_included(drawn):
    scores, truth = drawn
    p = made(scores, truth)
    found = metrics(p)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, p.scores), abs=1e-12)
    assert found["auprc"] == pytest.approx(sk.average_precision_score(truth, p.scores), abs=1e-12)
    assert auroc(p.scores, p.is_unsafe) == found["auroc"]


@MANY
@given(samples())
def test_decisions_and_calibration_agree_with_scikit_learn(drawn):
    scores, truth = drawn
    p = made(scores, truth)
    flagged = p.scores >= 0.3
    found = metrics(p, 0.3)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, flagged))
    assert found["recall"] == pytest.approx(sk.recall_score(truth, flagged))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, flagged))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, p.scores))
    assert found["nll"] == pytest.approx(sk.log_loss(truth, p.scores))
    if flagged.any():
        assert found["precision"] == pytest.approx(sk.precision_score(truth, flagged))
    else:
        assert "precision" not in found


@MANY
@given(samples())
def test_rates_at_a_fixed_rate_are_the_best_of_scikit_learns_roc_points(drawn):
    scores, truth = drawn
    p = made(scores, truth)
    fpr, tpr, _ = sk.roc_curve(truth, p.scores, drop_intermediate=False)
    found = metrics(p)
    assert found["recall_at_1fpr"] == pytest.approx(tpr[fpr <= 0.01 + 1e-9].max())
    assert found["recall_at_5fpr"] == pytest.approx(tpr[fpr <= 0.05 + 1e-9].max())
    assert found["fpr_at_95recall"] == pytest.approx(fpr[tpr >= 0.95 - 1e-9].min())


@pytest.mark.parametrize("negatives", [100, 300, 700, 2900])
def test_one_false_alarm_in_a_hundred_is_within_one_percent(negatives):
    alarms = negatives // 100
    scores = [0.9] * alarms + [0.7] * 4 + [0.5] + [0.3] * (negatives - alarms - 1)
    truth = [False] * alarms + [True] * 4 + [False] * (negatives - alarms)
    assert metrics(made(scores, truth))["recall_at_1fpr"] == 1
    assert metrics(made(scores[:-100], truth[:-100]))["recall_at_1fpr"] == 0


def test_the_calibration_error_agrees_with_torchmetrics():
    p = noisy()
    expected = binary_calibration_error(torch.tensor(p.scores), torch.tensor(p.is_unsafe).int(), n_bins=15, norm="l1")
    assert metrics(p)["ece"] == pytest.approx(float(expected), abs=1e-6)


@MANY
@given(samples())
def test_auroc_ignores_what_keeps_the_order_and_the_order_of_the_rows(drawn):
    scores, truth = (np.array(column) for column in drawn)
    value = auroc(scores, truth)
    assert auroc(scores**3, truth) == value
    assert auroc(np.log(scores), truth) == value
    shuffled = np.random.default_rng(0).permutation(len(scores))
    assert auroc(scores[shuffled], truth[shuffled]) == value


@MANY
@given(samples())
def test_swapping_the_labels_turns_auroc_round(drawn):
    scores, truth = (np.array(column) for column in drawn)
    assert auroc(scores, ~truth) == pytest.approx(1 - auroc(scores, truth))


def test_every_metric_is_the_same_for_any_order_of_the_rows():
    scores, truth = noisy().scores, noisy().is_unsafe
    order = np.random.default_rng(1).permutation(len(scores))
    assert metrics(made(scores, truth)) == pytest.approx(metrics(made(scores[order], truth[order])))


def test_auroc_of_many_scores_is_exact():
    rng = np.random.default_rng(0)
    scores, truth = rng.random(200_000), rng.random(200_000) < 0.5
    assert auroc(scores, truth) == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)


def test_the_skin_filter_of_1996_has_its_published_figures():
    """565 nude and 4289 control pictures, of which 448 and 485 were marked (algorithm's own page; IJCV 1999)."""
    marked = [0.9] * 448 + [0.1] * (565 - 448) + [0.9] * 485 + [0.1] * (4289 - 485)
    found = metrics(made(marked, [True] * 565 + [False] * 4289), threshold=0.5)
    assert round(100 * found["recall"], 1) == 79.3
    assert round(100 * found["fpr"], 1) == 11.3
    assert round(100 * found["precision"], 1) == 48.0
    assert round(found["response_ratio"], 2) == 7.01


def test_the_grouper_of_1996_has_its_published_figures():
    """241 of 565 and 182 of 4289 pictures were left after grouping."""
    kept = [0.9] * 241 + [0.1] * 324 + [0.9] * 182 + [0.1] * 4107
    found = metrics(made(kept, [True] * 565 + [False] * 4289))
    assert round(100 * found["recall"], 1) == 42.7
    assert round(100 * found["precision"], 1) == 57.0
    assert round(found["response_ratio"], 2) == 10.05


def test_precision_at_a_prevalence_is_bayes_rule():
    found = metrics(noisy(), 0.5)
    r, f = found["recall"], found["fpr"]
    assert found["precision_at_1pct"] == pytest.approx(0.01 * r / (0.01 * r + 0.99 * f))
    assert found["precision_at_0.1pct"] == pytest.approx(0.001 * r / (0.001 * r + 0.999 * f))


def test_a_score_equal_to_the_threshold_is_flagged():
    p = made([0.3, 0.6], [False, True])
    at, above = metrics(p, p.scores[1]), metrics(p, np.nextafter(p.scores[1], 1))
    assert at["recall"] == 1
    assert above["recall"] == 0


def test_an_infinite_response_ratio_is_left_out():
    found = metrics(made([0.2, 0.8], [False, True]))
    assert found["fpr"] == 0
    assert "response_ratio" not in found


@pytest.mark.parametrize("label", [False, True])
def test_with_one_label_what_needs_two_is_left_out_and_the_rest_stays(label):
    found = metrics(made([0.2, 0.8, 0.9], [label] * 3))
    two = {"auroc", "auprc", "recall_at_1fpr", "recall_at_5fpr", "fpr_at_95recall", "response_ratio"}
    two |= {"precision_at_1pct", "precision_at_0.1pct"}
    assert not two & set(found)
    assert ("recall" in found, "fpr" in found) == (label, not label)
    assert {"accuracy", "brier", "ece", "nll", "prevalence"} <= set(found)


@settings(max_examples=40, deadline=None)
@given(samples())
def test_no_metric_is_ever_nan_or_infinite(drawn):
    scores, truth = drawn
    for p in (made(scores, truth), made(scores, [True] * len(truth)), made(scores[:1], truth[:1])):
        for threshold in (0.0, 0.5, 1.1):
            assert all(math.isfinite(value) for value in metrics(p, threshold).values())


def test_rows_in_error_are_counted_and_change_no_metric():
    p = noisy(100)
    scores, truth, groups = p.scores, p.is_unsafe, p.table["group"]
    clean = metrics(made(scores[:90], truth[:90], groups=groups[:90]))
    found = metrics(made(scores, truth, groups=groups, errors=[None] * 90 + ["truncated"] * 10))
    assert (found["n_errors"], clean["n_errors"]) == (10, 0)
    assert found | {"n_errors": 0} == clean


def test_nothing_scored_gives_counts_alone():
    found = metrics(made([0.5], [True], errors=["empty file"]))
    assert found == {"n": 0, "n_errors": 1, "n_groups": 0}


def test_a_network_sure_of_the_wrong_answer_has_a_finite_likelihood():
    p = made([0.5, 0.5], [False, True])
    logits = np.array([[0, 900], [900, 0]], np.float32)
    sure = Predictions.from_logits(p.table, logits, classes=p.classes, unsafe=p.unsafe, data_name="d", data_hash="h")
    assert metrics(sure)["nll"] == pytest.approx(900)


def many_classes(logits, labels, unsafe=()):
    p = made([0.5] * len(labels), [False] * len(labels))
    classes = tuple(f"c{i}" for i in range(logits.shape[1]))
    table = p.table.assign(label=[f"c{i}" for i in labels])
    return Predictions.from_logits(table, logits, classes=classes, unsafe=unsafe, data_name="d", data_hash="h")


def test_top_k_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 12)), rng.integers(0, 12, 300)
    found = metrics(many_classes(logits, labels))
    for k in (1, 5):
        assert found[f"top{k}"] == pytest.approx(sk.top_k_accuracy_score(labels, logits, k=k, labels=range(12)))
    assert set(found) == {"n", "n_errors", "n_groups", "top1", "top5"}


def test_a_constant_network_has_the_top_k_of_chance():
    found = metrics(many_classes(np.zeros((30, 10)), np.arange(30) % 10))
    assert found["top1"] == pytest.approx(0.1)
    assert found["top5"] == pytest.approx(0.5)


def test_slices_are_measured_apart_and_undefined_cells_are_empty():
    p = made([0.1, 0.9, 0.2, 0.8], [False, True, False, False], slices=["b", "b", "a", "a"])
    table = slice_table(p, 0.5).set_index("slice")
    assert table.index.tolist() == ["a", "b"]
    assert table.loc["a", "fpr"] == 0.5
    assert math.isnan(table.loc["a", "auroc"])
    assert math.isnan(table.loc["a", "recall"])
    assert table.loc["b", "auroc"] == 1
    assert table["n"].sum() == 4
