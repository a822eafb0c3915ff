"""Pixel metrics from counts, against scikit-learn on the pixels themselves."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score, roc_auc_score

from figleaf.errors import FigleafError
from figleaf.evaluate.metrics import natural_range
from figleaf.evaluate.pixel_metrics import (
    THRESHOLDS,
    PixelCounts,
    choose_pixel_threshold,
    count_pixels,
    per_image,
    pixel_intervals,
    pixel_metrics,
    pixel_slice_table,
)

Picture = tuple[NDArray[np.float32], NDArray[np.bool_]]


def pictures(count: int = 12, seed: int = 0) -> list[Picture]:
    """Pictures of different sizes, with more skin in the later ones; the first has none."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        truth = rng.random((20 + index, 30)) < index / (1.5 * count)
        log_odds = rng.normal(0, 2, truth.shape) + 3 * truth - 1.5
        made.append(((1 / (1 + np.exp(-log_odds))).astype(np.float32), truth))
    return made


def pooled(made: list[Picture]) -> Picture:
    return np.concatenate([p.ravel() for p, _ in made]), np.concatenate([t.ravel() for _, t in made])


def test_pooled_numbers_are_those_of_all_pixels() -> None:
    counts, threshold = PixelCounts.of(pictures()), float(THRESHOLDS[270])
    probability, truth = pooled(pictures())
    found, flagged = pixel_metrics(counts, threshold), probability >= threshold
    assert found["n_pixels"] == len(truth)
    assert found["pixel_prevalence"] == pytest.approx(truth.mean())
    for key, function in (
        ("pixel_precision", precision_score),
        ("pixel_recall", recall_score),
        ("pixel_f1", f1_score),
        ("pixel_iou", jaccard_score),
    ):
        assert found[key] == pytest.approx(function(truth, flagged), abs=1e-12), key
    assert found["pixel_fpr"] == pytest.approx(flagged[~truth].mean(), abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, probability), abs=2e-4)


def test_means_over_pictures_leave_out_those_without_skin() -> None:
    made, threshold = pictures(), float(THRESHOLDS[256])
    found = pixel_metrics(PixelCounts.of(made), threshold)
    assert found["pixel_f1_by_image"] == pytest.approx(
        np.mean([f1_score(t.ravel(), (p >= threshold).ravel()) for p, t in made if t.any()])
    )
    assert found["pixel_auroc_by_image"] == pytest.approx(
        np.mean([roc_auc_score(t.ravel(), p.ravel()) for p, t in made if t.any()]), abs=1e-3
    )
    each = per_image(PixelCounts.of(made), threshold)
    assert np.isnan(each["pixel_f1"]).tolist() == [True] + [False] * (len(made) - 1)


def test_rules_of_zeros_and_ones_are_counted_exactly() -> None:
    made = [((p >= 0.6).astype(np.float32), t) for p, t in pictures()]
    probability, truth = pooled(made)
    found = pixel_metrics(PixelCounts.of(made), 0.5)
    assert found["pixel_f1"] == pytest.approx(f1_score(truth, probability > 0), abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, probability), abs=1e-12)


def test_a_threshold_flags_from_its_value_on_and_a_published_one_is_counted_when_asked_for() -> None:
    probability, truth = np.array([[0.3, 0.4, 0.41]]), np.array([[True, True, True]])
    thresholds = np.union1d(THRESHOLDS, [0.4])
    counts = PixelCounts.of([(probability, truth)], thresholds)
    assert pixel_metrics(counts, 0.4)["pixel_recall"] == pytest.approx(2 / 3)
    with pytest.raises(FigleafError, match=r"threshold 0\.4: the pixels were not counted by it"):
        pixel_metrics(PixelCounts.of([(probability, truth)]), 0.4)


@pytest.mark.parametrize("seed", range(5))
def test_the_chosen_threshold_has_the_highest_f1_and_flags_fewest_of_equals(seed: int) -> None:
    probability, truth = pooled(pictures(3, seed))
    flagged = probability >= THRESHOLDS[:, None]
    f1 = 2 * (flagged & truth).sum(1) / (flagged.sum(1) + truth.sum())
    assert choose_pixel_threshold(PixelCounts.of(pictures(3, seed))) == THRESHOLDS[np.flatnonzero(f1 == f1.max())[-1]]


def test_without_skin_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(FigleafError, match="masks with skin"):
        choose_pixel_threshold(PixelCounts.of([(np.zeros((3, 3)), np.zeros((3, 3), bool))]))


def test_what_is_undefined_is_left_out() -> None:
    found = pixel_metrics(PixelCounts.of([(np.full((3, 3), 0.1), np.zeros((3, 3), bool))]), 0.5)
    assert found == {"n_pixels": 9.0, "pixel_prevalence": 0.0, "pixel_fpr": 0.0}


def test_pictures_add_up_in_any_order_and_slices_are_parts() -> None:
    made = pictures()
    whole = PixelCounts.of(made)
    assert np.array_equal(PixelCounts.of(made[::-1]).table, whole.table[::-1])
    slices = ["odd" if index % 2 else "even" for index in range(len(made))]
    table = pixel_slice_table(whole, slices, 0.5).set_index("slice")
    assert table["n"].to_dict() == {"even": 6, "odd": 6}
    odd = pixel_metrics(PixelCounts.of(made[1::2]), 0.5)
    assert {key: table.loc["odd", key] for key in odd if key in table} == pytest.approx(
        {key: value for key, value in odd.items() if key in table}
    )


def test_intervals_hold_the_value_and_narrow_when_groups_are_more() -> None:
    few, many = (PixelCounts.of(pictures(count)) for count in (12, 120))
    found = [pixel_intervals(c, list(map(str, range(len(c)))), 0.5, n=300) for c in (few, many)]
    for counts, intervals in zip((few, many), found, strict=True):
        value = pixel_metrics(counts, 0.5)["pixel_f1"]
        assert intervals["pixel_f1"].low < value < intervals["pixel_f1"].high
    assert np.ptp(found[1]["pixel_f1"]) < 0.6 * np.ptp(found[0]["pixel_f1"])
    assert pixel_intervals(few, ["one"] * len(few), 0.5) == {}


def test_a_group_is_drawn_whole() -> None:
    """Every picture three times, in its group: as wide as once, not narrower by the root of three."""
    once, thrice = PixelCounts.of(pictures()), PixelCounts.of(pictures() * 3)
    names = list(map(str, range(len(once))))
    assert pixel_intervals(once, names, 0.5, n=200) == pixel_intervals(thrice, names * 3, 0.5, n=200)


def test_a_map_of_another_shape_than_its_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        count_pixels(np.zeros((3, 4)), np.zeros((4, 3), bool))


def test_pixel_metrics_are_shares() -> None:
    assert natural_range("test/slice/hands/pixel_f1") == (0.0, 1.0)
