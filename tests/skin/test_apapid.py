"""Ap-apid's rules against a literal transcription, one by one at their limits, and against nude.js."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_regions import literal_is_nude, literal_polygon, literal_regions
from skin_pictures import SKIN, odd_pictures, plain, scene

from figleaf.skin.apapid import ApApidRules, RegionFacts, region_facts, rule_margins
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.pixel_rules import KovacRule

BLUE = (60, 90, 200)


def facts(**changes: object) -> RegionFacts:
    """A picture that every rule lets pass, but for `changes`."""
    known: dict[str, object] = {
        "skin": 0.5, "regions": 1, "largest": (1.0, 0.0, 0.0), "polygon": np.ones((1, 1), bool),
        "in_polygon": 0.9, "intensity": 0.5,
    }  # fmt: skip
    return RegionFacts(**(known | changes))  # type: ignore[arg-type]


def fired(**changes: object) -> set[str]:
    return {name for name, margin in rule_margins(facts(**changes)).items() if margin < 0}


def painted(mask: np.ndarray, background: tuple[int, int, int] = BLUE) -> np.ndarray:
    return np.where(mask[..., None], np.array(SKIN), np.array(background)).astype(np.uint8)


def is_nude(rgb_u8: np.ndarray) -> bool:
    return bool(ApApidRules(RulePixels(KovacRule())).fit([rgb_u8], [0]).predict([rgb_u8]).item())


def blobs(seed: int, density: float, grain: int, side: int = 40) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((side // grain + 1, side // grain + 1)) < density
    return coarse.repeat(grain, axis=0).repeat(grain, axis=1)[:side, :side]


@given(st.integers(0, 10_000), st.floats(0.05, 0.9), st.sampled_from([1, 2, 5, 10]))
@settings(max_examples=60, deadline=None)
def test_decisions_are_those_of_the_literal_transcription(seed: int, density: float, grain: int) -> None:
    mask = blobs(seed, density, grain)
    rgb_u8 = painted(mask)
    assert is_nude(rgb_u8) == literal_is_nude(rgb_u8, mask)


@pytest.mark.parametrize("index", [3, 9, 16, 21, 30, 40])
def test_on_scenes_too(index: int) -> None:
    rgb_u8 = scene(index, 80)
    mask = RulePixels(KovacRule()).skin_mask(rgb_u8)
    assert is_nude(rgb_u8) == literal_is_nude(rgb_u8, mask)


@given(st.integers(0, 10_000), st.floats(0.02, 0.6), st.sampled_from([1, 3, 7]))
@settings(max_examples=60, deadline=None)
def test_regions_and_polygon_are_those_of_the_literal_transcription(seed: int, density: float, grain: int) -> None:
    mask = blobs(seed, density, grain, side=30)
    found = region_facts(painted(mask), mask)
    regions = sorted(literal_regions(mask), key=len, reverse=True)
    assert found.regions == len(regions)
    polygon = literal_polygon(regions[:3]) if regions else set()
    assert {tuple(pixel) for pixel in np.argwhere(found.polygon).tolist()} == polygon


def test_each_rule_fires_alone_below_its_limit() -> None:
    assert fired() == set()
    assert fired(skin=0.149) == {"a"}
    assert fired(skin=0.15) == set()
    assert fired(largest=(0.44, 0.3, 0.1)) == {"c"}
    assert fired(largest=(0.34, 0.29, 0.29)) == {"b", "c"}
    assert fired(largest=(0.34, 0.3, 0.29)) == {"c"}
    assert fired(largest=(0.45, 0.0, 0.0)) == set()
    assert fired(skin=0.29, in_polygon=0.54) == {"d"}
    assert fired(skin=0.29, in_polygon=0.55) == fired(skin=0.3, in_polygon=0.1) == set()
    assert fired(regions=61, intensity=0.24) == {"e"}
    assert fired(regions=60, intensity=0.24) == fired(regions=61, intensity=0.25) == set()


def test_the_score_grows_with_what_the_rules_ask_for() -> None:
    shares = [0.1, 0.14, 0.15, 0.2, 0.4]
    scores = [min(rule_margins(facts(skin=share)).values()) for share in shares]
    assert scores == sorted(scores)
    assert [score >= 0 for score in scores] == [False, False, True, True, True]


def test_one_region_is_enough() -> None:
    # nude.js and nudepy call everything with fewer than three regions not nude; the paper does not.
    mask = np.zeros((40, 40), bool)
    mask[5:35, 10:30] = True
    assert is_nude(painted(mask))


def test_a_sparse_polygon_is_not_nude() -> None:
    # nude.js and nudepy leave the polygon out: 45 % of the skin in one region would be enough.
    mask = np.zeros((60, 60), bool)
    mask[:8] = mask[:, :4] = mask[:, -2:] = True
    assert 0.15 < mask.mean() < 0.30
    assert not is_nude(painted(mask))


def test_many_regions_in_the_light_may_be_nude() -> None:
    # nude.js and nudepy leave the intensity out: more than 60 regions would be not nude whatever the light.
    mask = np.zeros((64, 64), bool)
    mask[:30] = True
    mask[34::3, ::3] = True
    rgb_u8 = painted(mask)
    assert region_facts(rgb_u8, mask).regions > 60
    assert is_nude(rgb_u8)
    assert not is_nude(painted(mask, background=(0, 0, 0)) // 3 * 2) or region_facts(rgb_u8, mask).intensity >= 0.25


def test_regions_do_not_reach_around_the_edge() -> None:
    # nudepy's neighbours are indices that wrap: a pixel at the right edge touches the next row's first one.
    mask = np.zeros((10, 10), bool)
    mask[3, 9] = mask[4, 0] = True
    assert region_facts(painted(mask), mask).regions == 2


def test_corners_touch() -> None:
    mask = np.eye(6, dtype=bool)
    assert region_facts(painted(mask), mask).regions == 1


def test_small_regions_count() -> None:
    # nude.js and nudepy drop regions of up to 30 pixels.
    mask = np.zeros((20, 20), bool)
    mask[2, 2] = mask[10:16, 10:16] = True
    found = region_facts(painted(mask), mask)
    assert found.regions == 2
    assert found.largest == pytest.approx((36 / 37, 1 / 37, 0))


def test_without_skin_all_shares_are_zero() -> None:
    mask = np.zeros((5, 5), bool)
    found = region_facts(plain(5, 5, BLUE), mask)
    assert (found.skin, found.regions, found.largest, found.in_polygon) == (0, 0, (0, 0, 0), 0)
    assert not found.polygon.any()


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_get_a_score(name: str) -> None:
    rgb_u8 = odd_pictures()[name]
    probability = ApApidRules(RulePixels(KovacRule())).fit([rgb_u8], [0]).predict_proba([rgb_u8])
    assert np.isfinite(probability).all()
    assert probability.sum() == pytest.approx(1)
