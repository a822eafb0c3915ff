from typing import Any

import numpy as np
import pytest
from drawn_skin import drawn, odd
from sklearn.base import clone

from figleaf.errors import FigleafError
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.fitted_colors import FittedColorPixels, HistogramColors
from figleaf.skin.pixel_planes import SITES

SMALL = BoostedPixels(trees=12, leaves=8, min_leaf=10, folds=2)


@pytest.fixture(scope="module")
def fitted() -> BoostedPixels:
    pictures, masks, _ = drawn(60)
    return clone(SMALL).fit(pictures[:40], masks[:40])


def f1(model: Any, pictures: list[np.ndarray], masks: list[np.ndarray]) -> float:
    found = [model.skin_mask(picture) for picture in pictures]
    hits = sum(int((a & b).sum()) for a, b in zip(found, masks, strict=True))
    return 2 * hits / sum(int(a.sum() + b.sum()) for a, b in zip(found, masks, strict=True))


def test_it_beats_the_colors_alone_on_scenes_it_has_not_seen(fitted: BoostedPixels) -> None:
    pictures, masks, _ = drawn(60)
    colors = FittedColorPixels(HistogramColors()).fit(pictures[:40], masks[:40])
    assert f1(fitted, pictures[40:], masks[40:]) > f1(colors, pictures[40:], masks[40:]) + 0.05


@pytest.mark.parametrize("name", odd())
def test_odd_pictures_have_probabilities(fitted: BoostedPixels, name: str) -> None:
    picture = odd()[name]
    found = fitted.skin_probability(picture)
    assert found.shape == picture.shape[:2]
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


def test_the_same_seed_gives_the_same_map_and_another_one_another() -> None:
    pictures, masks, _ = drawn(60)
    small = clone(SMALL).set_params(trees=3)
    maps = [clone(small).set_params(random_state=seed).fit(pictures[:12], masks[:12]) for seed in (0, 0, 1)]
    first, second, other = (model.site_map(pictures[20]) for model in maps)
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_pictures_without_a_mask_and_held_out_maps_change_nothing() -> None:
    pictures, masks, _ = drawn(60)
    small = clone(SMALL).set_params(trees=3)
    alone = clone(small).fit(pictures[:12], masks[:12])
    beside = clone(small)
    maps = beside.fit_with_maps(pictures[:14], [*masks[:12], None, None])
    np.testing.assert_array_equal(alone.site_map(pictures[20]), beside.site_map(pictures[20]))
    assert maps.shape == (14, SITES, SITES)
    np.testing.assert_array_equal(maps[12], beside.site_map(pictures[12]))


def test_held_out_maps_know_nothing_of_their_own_group() -> None:
    # Two copies of every picture, their masks at random: only who has seen one copy knows the other's.
    rng = np.random.default_rng(0)
    pictures = [np.full((40, 40, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(24)]
    skin = np.arange(24) % 2 == 0
    masks = [np.full((40, 40), known) for known in skin]
    model = clone(SMALL).set_params(rounds=1, min_leaf=1, folds=3, trees=20)
    twice, twice_masks, truth = pictures * 2, masks * 2, np.tile(skin, 2)

    def accuracy(groups: np.ndarray) -> float:
        maps = clone(model).fit_with_maps(twice, twice_masks, groups)
        return float(((maps.mean(axis=(1, 2)) > 0.5) == truth).mean())

    assert accuracy(np.arange(48)) > 0.75  # a copy in another group gives the answer away
    assert accuracy(np.tile(np.arange(24), 2)) < 0.7


def test_with_a_single_group_nothing_is_held_out() -> None:
    pictures, masks, _ = drawn(60)
    model = clone(SMALL).set_params(trees=3)
    maps = model.fit_with_maps(pictures[:8], masks[:8], np.zeros(8, int))
    np.testing.assert_array_equal(maps[3], model.site_map(pictures[3]))


@pytest.mark.parametrize(
    ("setting", "named"),
    [({"rounds": 3}, "rounds=3"), ({"pixels_per_picture": 0}, "pixels_per_picture=0"), ({"outline": 0.0}, "outline=0")],
)
def test_a_wrong_setting_is_named(setting: dict[str, Any], named: str) -> None:
    pictures, masks, _ = drawn(60)
    with pytest.raises(FigleafError, match=named):
        clone(SMALL).set_params(**setting).fit(pictures[:4], masks[:4])


def test_masks_are_needed() -> None:
    with pytest.raises(FigleafError, match="0 of 2 pictures have a mask"):
        clone(SMALL).fit(drawn(60)[0][:2])
