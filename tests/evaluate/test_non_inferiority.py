"""A challenger takes the champion's place only when a loss of the margin is excluded, on the very same samples."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from figleaf.errors import FigleafError
from figleaf.evaluate.delong import delong
from figleaf.evaluate.non_inferiority import MARGIN, non_inferiority
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.two_models import bootstrap_difference

N = 400


def predictions(skill: float, *, noise: int = 0, n: int = N, data_hash: str = "d", drop: int = 0) -> Predictions:
    """Scores of some `skill`; the truth is always the same, and `noise` says which noise lies over it.

    The first `drop` samples have no score.
    """
    truth = np.random.default_rng(1).random(n) < 0.5
    logit = skill * (truth - 0.5) + np.random.default_rng(noise).normal(size=n)
    logit[:drop] = np.nan
    samples = pd.DataFrame(
        {
            "sample_id": [f"{i}.png" for i in range(n)],
            "content_sha256": [str(i) for i in range(n)],
            "split": "test",
            "group": [f"g{i // 2}" for i in range(n)],
            "slice": "all",
            "label": np.where(truth, "nude", "control"),
        }
    )
    return Predictions.from_logits(
        samples,
        np.stack([np.zeros(n), logit], axis=1),
        classes=("control", "nude"),
        unsafe=("nude",),
        data_name="made up",
        data_hash=data_hash * 64,
    )


def test_a_better_challenger_passes_and_a_worse_one_is_called_worse() -> None:
    good, bad = predictions(3.0), predictions(1.0)
    assert non_inferiority(good, bad).is_shown
    assert non_inferiority(good, bad).verdict == "better"
    assert not non_inferiority(bad, good).is_shown
    assert non_inferiority(bad, good).verdict == "worse"


def test_the_same_answers_pass_at_any_margin_but_none() -> None:
    found = non_inferiority(predictions(2.0), predictions(2.0), margin=1e-6)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "not worse"
    assert not non_inferiority(predictions(2.0), predictions(2.0), margin=0.0).is_shown, "0 asks for better"


def test_no_difference_found_is_not_no_difference_shown() -> None:
    """With few samples an equal challenger is refused, with many it passes, and so it does at a wide margin."""
    few = non_inferiority(predictions(3.0, noise=2, n=40), predictions(3.0, noise=3, n=40), margin=0.02)
    assert few.low < 0 < few.high
    assert (few.is_shown, few.verdict) == (False, "not shown to be no worse")
    many = non_inferiority(predictions(3.0, noise=2, n=20_000), predictions(3.0, noise=3, n=20_000), margin=0.02)
    assert many.low < 0
    assert many.verdict == "not worse"
    wide = non_inferiority(predictions(3.0, noise=2, n=40), predictions(3.0, noise=3, n=40), margin=0.5)
    assert wide.verdict == "not worse"


def test_the_intervals_are_those_of_compare_and_the_lower_bound_of_both_counts() -> None:
    a, b = predictions(2.0, noise=2), predictions(2.1, noise=3)
    found = non_inferiority(a, b)
    assert found.delong == delong(a, b).interval
    assert found.resampled == bootstrap_difference(a, b, "auroc").interval
    assert found.low == min(found.delong.low, found.resampled.low)
    assert found.margin == MARGIN
    between = -(found.delong.low + found.resampled.low) / 2
    assert not non_inferiority(a, b, margin=between).is_shown, "one of the two intervals is not enough"
    assert (found.n_samples, found.n_groups, found.n_left_out) == (N, N // 2, 0)


def test_other_data_are_refused_unless_the_test_split_is_the_same_and_that_is_said_to_do() -> None:
    old, new = predictions(2.0), predictions(2.0, data_hash="e")
    with pytest.raises(FigleafError, match="not the same data"):
        non_inferiority(new, old)
    assert non_inferiority(new, old, other_training_data=True).is_shown
    fewer = replace(new, table=new.table.iloc[1:].reset_index(drop=True))
    changed = replace(new, table=new.table.assign(content_sha256="x"))
    relabelled = replace(new, table=new.table.assign(label=new.table["label"].iloc[::-1].to_numpy()))
    for other, told in ((fewer, "different samples"), (changed, "content"), (relabelled, "truth")):
        with pytest.raises(FigleafError, match=told):
            non_inferiority(other, old, other_training_data=True)


def test_leaving_out_hard_pictures_does_not_pay() -> None:
    with pytest.raises(FigleafError, match="no score for 3 of the 400 samples, the champion for 0"):
        non_inferiority(predictions(2.0, drop=3), predictions(2.0))
    assert non_inferiority(predictions(2.0), predictions(2.0, drop=3)).n_left_out == 3


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(FigleafError, match="margin"):
        non_inferiority(predictions(2.0), predictions(2.0), margin=margin)
