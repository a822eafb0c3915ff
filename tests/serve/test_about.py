"""What the page says of its network agrees with the predictions it is made from."""

from dataclasses import replace

import numpy as np
import pytest
from made_page import CLASSES, FACTS, speaking, val_predictions

from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.thresholds import choose_threshold
from figleaf.serve import about
from figleaf.serve.about import operating_curve, page_manifest
from figleaf.vgg.scorer import TorchScorer
from small_vgg import network


@pytest.fixture(scope="module")
def val() -> Predictions:
    return val_predictions(TorchScorer(speaking(network()), CLASSES, CLASSES[1:]))


def test_the_curve_counts_what_each_score_flags(val: Predictions) -> None:
    curve = operating_curve(val)
    assert curve is not None
    assert curve["scores"] == sorted(set(val.scores), reverse=True)
    for score, safe, unsafe in zip(curve["scores"], curve["safe"], curve["unsafe"], strict=True):
        assert safe == ((val.scores >= score) & ~val.is_unsafe).sum()
        assert unsafe == ((val.scores >= score) & val.is_unsafe).sum()
    assert (curve["n_safe"], curve["n_unsafe"]) == ((~val.is_unsafe).sum(), val.is_unsafe.sum())


def test_a_long_curve_is_thinned_and_still_exact(val: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = operating_curve(val)
    monkeypatch.setattr(about, "_MOST_POINTS", 7)
    thin = operating_curve(val)
    assert whole is not None
    assert thin is not None
    assert len(thin["scores"]) == 7
    assert thin["scores"][0] == whole["scores"][0]
    assert thin["scores"][-1] == whole["scores"][-1]
    for score, safe in zip(thin["scores"], thin["safe"], strict=True):
        assert safe == whole["safe"][whole["scores"].index(score)]


def test_the_presets_are_the_rules_of_the_laboratory(val: Predictions) -> None:
    curve = operating_curve(val)
    assert curve is not None
    offered = {preset["threshold"] for preset in curve["presets"]}
    assert offered == {choose_threshold(val, rule) for rule in ("accuracy", "f1", "fpr=0.01", "fpr=0.05")}
    assert len(curve["presets"]) == len(offered)


def test_pictures_without_a_score_are_in_no_curve(val: Predictions) -> None:
    table = val.table.copy()
    table.loc[0, "error"] = "broken"
    table.loc[0, "score"] = np.nan
    curve = operating_curve(replace(val, table=table))
    assert curve is not None
    assert curve["n_safe"] + curve["n_unsafe"] == len(val) - 1


def test_where_one_label_is_missing_there_is_no_curve(val: Predictions) -> None:
    assert operating_curve(replace(val, table=val.table[~val.is_unsafe].reset_index(drop=True))) is None


def test_metrics_that_are_no_numbers_are_left_out() -> None:
    facts = replace(FACTS, metrics={"val/auroc": float("nan"), "test/auroc": 0.5, "test/slice/a/auroc": float("nan")})
    told = page_manifest(network(), facts, None, "float16", 1000)
    assert told["metrics"] == [{"key": "auroc", "name": "AUROC", "test": {"value": 0.5, "count": False}}]
    assert told["slices"] == []
    assert told["operating"] is None
