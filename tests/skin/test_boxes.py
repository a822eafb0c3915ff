import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figleaf.errors import FigleafError
from figleaf.skin.boxes import aggregate, around, distinct, overlaps, strongest, whole, widened, windows


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.05, 1), st.floats(0, 0.9))
def test_windows_cover_every_pixel_and_stay_inside(height: int, width: int, share: float, overlap: float) -> None:
    covered = np.zeros((height, width), bool)
    for top, left, bottom, right in windows(height, width, share, overlap):
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_neighbouring_windows_overlap_by_as_much_as_was_asked() -> None:
    boxes = windows(100, 100, 0.4, 0.5)
    tops = np.unique(boxes[:, 0])
    assert (tops[0], tops[-1]) == (0, 60)
    assert np.diff(tops).max() <= 20
    assert len(windows(100, 80, 1.0)) == 1


def test_the_box_around_a_mask_is_its_extent_and_its_margin_ends_at_the_frame() -> None:
    mask = np.zeros((50, 60), bool)
    mask[10:20, 5:45] = True
    assert around(mask, 0).tolist() == [[10, 5, 20, 45]]
    assert around(mask, 0.5).tolist() == [[5, 0, 25, 60]]
    assert len(around(np.zeros((5, 5), bool))) == 0


def test_overlaps_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (12, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)
    covered = np.zeros((12, 21, 21), bool)
    for mask, (top, left, bottom, right) in zip(covered, boxes, strict=True):
        mask[top:bottom, left:right] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in covered] for a in covered]
    assert overlaps(boxes, boxes) == pytest.approx(np.array(expected))


def test_suppression_keeps_the_best_of_what_overlaps_and_what_stands_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40], [0, 0, 10, 10]])
    assert strongest(boxes, np.array([0.5, 0.9, 0.2, 0.5])).tolist() == [1, 2]
    assert strongest(boxes[[0, 3]], np.array([0.5, 0.5])).tolist() == [0]
    assert strongest(boxes[:0], np.zeros(0)).tolist() == []


def test_repeated_boxes_are_looked_at_once() -> None:
    boxes = np.concatenate([whole(10, 10), whole(10, 10), windows(10, 10, 0.5)])
    assert len(distinct(boxes)) == 1 + len(windows(10, 10, 0.5))
    assert widened(whole(10, 10), (10, 10, 3), 0.5).tolist() == [[0, 0, 10, 10]]


def test_aggregates_of_known_probabilities() -> None:
    p = np.array([0.1, 0.5, 0.2, 0.9])
    assert aggregate(p, "max") == 0.9
    assert aggregate(p, "top3") == pytest.approx((0.2 + 0.5 + 0.9) / 3)
    assert aggregate(p, "mean") == pytest.approx(p.mean())
    assert aggregate(p, "noisy_or") == pytest.approx(1 - np.prod(1 - p))
    assert aggregate(np.array([1.0, 0.3]), "noisy_or") == pytest.approx(1)
    with pytest.raises(FigleafError, match="aggregate=median: expected one of max, top3"):
        aggregate(p, "median")
