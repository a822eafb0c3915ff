import json

import pytest
from made_predictions import made, noisy

from figleaf.evaluate.metrics import metrics
from figleaf.evaluate.report import evaluation_json


def test_the_report_is_strict_json_and_its_metrics_are_the_metrics():
    p = noisy()
    report = json.loads(json.dumps(evaluation_json(p, 0.4), allow_nan=False))
    for name, value in metrics(p, 0.4).items():
        assert report[name] == value
    assert report["data"] == "made-up data"
    assert report["data_hash"] == p.data_hash
    assert report["threshold"] == 0.4
    low, high = report["intervals"]["auroc"]
    assert low < report["auroc"] < high


def test_a_report_is_the_same_twice():
    assert json.dumps(evaluation_json(noisy())) == json.dumps(evaluation_json(noisy()))


def test_every_row_in_error_is_listed_with_its_reason():
    report = evaluation_json(made([0.2, 0.8, 0.9], [False, True, True], errors=[None, "truncated", None]))
    assert report["n_errors"] == 1
    assert report["errors"] == [{"sample_id": "test/00001.png", "error": "truncated"}]


def test_an_infinite_bound_is_null_and_an_undefined_cell_is_absent():
    p = made([0.9] * 10 + [0.1] * 9 + [0.9], [True] * 10 + [False] * 10, slices=["a"] * 10 + ["b"] * 10)
    report = json.loads(json.dumps(evaluation_json(p), allow_nan=False))
    assert report["intervals"]["response_ratio"][1] is None
    assert "auroc" not in report["slices"][0]
    assert "auroc_interval" not in report["slices"][0]
    assert report["slices"][0]["recall"] == 1


@pytest.mark.parametrize("p", [made([0.5], [True]), made([0.5], [True], errors=["bad"]), made([], [])])
def test_the_smallest_predictions_have_a_report(p):
    json.dumps(evaluation_json(p), allow_nan=False)


def test_without_resamples_there_are_no_intervals():
    assert evaluation_json(noisy(), n_resamples=0)["intervals"] == {}
