import numpy as np
import pytest

from figleaf.errors import FigleafError
from figleaf.skin.training_pixels import folds_by_group, masked_pictures, sampled_colors

PICTURES = [np.full((4, 5, 3), value, np.uint8) for value in (10, 20, 30)]
HALF = np.arange(20).reshape(4, 5) < 10


def test_pictures_without_a_mask_are_left_out_and_the_others_keep_their_number() -> None:
    known = masked_pictures(PICTURES, [HALF, None, ~HALF], ["b", "a", "b"])
    assert known.index.tolist() == [0, 2]
    assert len(set(known.groups.tolist())) == 1
    colors, skin = sampled_colors(known, 1000, 0)
    assert len(colors) == 40
    assert set(np.unique(colors)) == {10, 30}
    assert skin.sum() == 20


def test_pixels_are_drawn_without_regard_to_the_mask_and_never_twice() -> None:
    picture = np.arange(3000).reshape(25, 40, 3).astype(np.uint8)  # its pixels' positions are read from `marked`
    known = masked_pictures([picture], [np.arange(1000).reshape(25, 40) < 300])
    shares = [sampled_colors(known, 100, seed)[1].mean() for seed in range(200)]
    assert abs(np.mean(shares) - 0.3) < 0.02
    assert sampled_colors(known, 1000, 0)[1].sum() == 300
    np.testing.assert_array_equal(sampled_colors(known, 50, 3)[0], sampled_colors(known, 50, 3)[0])


@pytest.mark.parametrize(
    ("masks", "groups"),
    [
        (None, None),
        ([None, None, None], None),
        ([~HALF & HALF] * 3, None),
        ([HALF | ~HALF] * 3, None),
        ([HALF, HALF], None),
        ([HALF, HALF, HALF.T], None),
        ([HALF, HALF, HALF], ["a", "b"]),
    ],
)
def test_masks_that_teach_nothing_or_do_not_fit_are_refused(masks: object, groups: object) -> None:
    with pytest.raises(FigleafError, match="mask"):
        masked_pictures(PICTURES, masks, groups)  # type: ignore[arg-type]


def test_no_group_is_in_two_folds_and_every_fold_is_filled() -> None:
    groups = np.random.default_rng(0).integers(0, 40, 300)
    fold = folds_by_group(groups, 3, 0)
    assert sorted(set(fold.tolist())) == [0, 1, 2]
    assert np.bincount(fold).min() > 60
    for group in range(40):
        assert len(set(fold[groups == group].tolist())) <= 1


@pytest.mark.parametrize(("groups", "folds"), [([0, 0, 0], {0}), ([0, 1, 0], {0, 1})])
def test_fewer_groups_than_folds_give_fewer_folds(groups: list[int], folds: set[int]) -> None:
    assert set(folds_by_group(np.array(groups), 3, 0).tolist()) == folds
