from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figleaf.data.manifest import Manifest
from figleaf.data.splits import assign_fold, class_weights, cut
from figleaf.errors import FigleafError


def grouped(groups: list[int], labels: list[int], split: str = "train") -> Manifest:
    rows = {
        "path": [f"{i}.png" for i in range(len(groups))],
        "label": [f"class{label}" for label in labels],
        "group": [f"g{group}" for group in groups],
        "split": split,
    }
    return Manifest.from_table(pd.DataFrame(rows), root=Path("/d"), name="t", unsafe=())


def groups_of(manifest: Manifest, split: str) -> set[str]:
    return set(manifest.select(split).table["group"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.5), st.integers(1, 4))
def test_a_cut_never_divides_a_group_and_comes_near_the_fraction(seed: int, fraction: float, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 400).tolist()
    m = cut(grouped(groups, rng.integers(0, n_classes, 400).tolist()), fraction=fraction, seed=seed)
    assert not groups_of(m, "train") & groups_of(m, "calib")
    assert len(m) == 400
    assert len(m.select("calib")) == pytest.approx(fraction * 400, abs=30)


def test_a_cut_of_single_images_is_exactly_stratified() -> None:
    labels = [0] * 900 + [1] * 100
    m = cut(grouped(list(range(1000)), labels), fraction=0.2, seed=3)
    assert m.select("calib").table["label"].value_counts().to_dict() == {"class0": 180, "class1": 20}


def test_a_thousand_classes_of_four_give_their_tenth() -> None:
    labels = [i // 4 for i in range(4000)]
    m = cut(grouped(list(range(4000)), labels), fraction=0.1, seed=0)
    assert len(m.select("calib")) == 400
    assert m.select("calib").table["label"].is_unique


def test_the_cut_depends_on_the_seed_but_not_on_the_order_of_rows() -> None:
    m = grouped([i // 3 for i in range(300)], [i % 2 for i in range(300)])
    shuffled = m.with_table(m.table.sample(frac=1, random_state=1))
    once = groups_of(cut(m, fraction=0.3, seed=5), "calib")
    assert once == groups_of(cut(shuffled, fraction=0.3, seed=5), "calib")
    assert once != groups_of(cut(m, fraction=0.3, seed=6), "calib")


def test_a_cut_takes_from_its_source_alone() -> None:
    m = grouped(list(range(100)), [0, 1] * 50)
    m = cut(m, target="test", fraction=0.2, seed=0)
    before = m.select("test").table
    after = cut(m, target="val", fraction=0.25, seed=0).select("test").table
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_cut_of_a_few_large_groups_moves_one_and_leaves_one(fraction: float) -> None:
    m = cut(grouped([0] * 8 + [1] * 6, [0, 1] * 7), fraction=fraction, seed=0)
    assert len(groups_of(m, "train")) == len(groups_of(m, "calib")) == 1


@pytest.mark.parametrize(
    ("manifest", "options", "message"),
    [
        (grouped([0] * 10, [0, 1] * 5), {"fraction": 0.2}, "all 10 samples of 'train' are one group"),
        (grouped([0, 1], [0, 1]), {"fraction": 1.0}, "0 < x < 1"),
        (grouped([0, 1], [0, 1]), {"fraction": 0.5, "target": "train"}, "already there"),
        (grouped([0, 1], [0, 1]), {"fraction": 0.5, "source": "val"}, "split=val"),
    ],
)
def test_an_impossible_cut_says_why(manifest: Manifest, options: dict[str, object], message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        cut(manifest, seed=0, **options)  # type: ignore[arg-type]


def test_folds_cover_train_and_val_once_and_leave_the_rest() -> None:
    rng = np.random.default_rng(0)
    m = grouped(rng.integers(0, 50, 300).tolist(), rng.integers(0, 2, 300).tolist())
    m = cut(cut(m, target="test", fraction=0.2, seed=0), target="val", fraction=0.2, seed=0)
    folds = [assign_fold(m, fold=fold, folds=4, seed=0) for fold in range(4)]
    validated = pd.concat([f.select("val").table["path"] for f in folds])
    assert validated.is_unique
    assert len(validated) == len(m.select("train")) + len(m.select("val"))
    for f in folds:
        assert not groups_of(f, "val") & groups_of(f, "train")
        pd.testing.assert_frame_equal(f.select("test").table, m.select("test").table)


@pytest.mark.parametrize(("fold", "folds"), [(5, 5), (-1, 5), (0, 1), (0, 50)])
def test_impossible_folds_say_why(fold: int, folds: int) -> None:
    with pytest.raises(FigleafError, match=r"data\.folds"):
        assign_fold(grouped(list(range(10)), [0, 1] * 5), fold=fold, folds=folds, seed=0)


def test_class_weights_even_out_the_totals_and_average_to_one() -> None:
    labels = np.array([0] * 6 + [2] * 2)
    weights = class_weights(labels, 3)
    assert weights[0] * 6 == pytest.approx(weights[2] * 2)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[1] == 0
