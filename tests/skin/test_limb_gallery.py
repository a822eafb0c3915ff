"""Limb proposals against a gallery of views: what a crop shows, minimum distance, and the gallery that is shipped."""

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_skin import odd
from sklearn.utils.estimator_checks import check_estimator

from figleaf.errors import FigleafError
from figleaf.skin.limb_gallery import DRAWN, NO_LIMB, LimbGallery, NearestView, drawn_gallery
from figleaf.skin.limb_system import LimbDistance, LimbRule, picture_groups
from figleaf.skin.limb_views import CELLS, SIZE, view, view_features
from figleaf.skin.limbs import Segment, limb_segments
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.pixel_rules import KovacRule
from figleaf.skin.storage import load_system, save_system

SKIN, CLOTH = (200, 140, 110), (40, 60, 120)


def arm(turn_deg: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, Segment]:
    """A picture of one bare ribbon before cloth, its mask, and the segment that it is."""
    side = round(160 * scale)
    turn = np.deg2rad(turn_deg)
    reach = 40 * scale * np.array([np.cos(turn), np.sin(turn)])
    start, end = side / 2 - reach, side / 2 + reach
    mask = np.zeros((side, side), np.uint8)
    ends = [tuple(np.rint((point - 0.5) * 16).astype(int).tolist()) for point in (start, end)]
    cv2.line(mask, *ends, 1, round(20 * scale), cv2.LINE_8, 4)
    picture = np.where(mask[..., None].astype(bool), np.uint8(SKIN), np.uint8(CLOTH))
    radius = 10 * scale
    return picture, mask.astype(bool), Segment(tuple(start), tuple(end), (radius, radius))


def test_a_crop_has_the_ribbon_upright_in_its_middle() -> None:
    _, mask, segment = arm(turn_deg=30)
    crop = view(mask[..., None].astype(np.float32), segment)[..., 0]
    assert crop.shape == (CELLS, CELLS)
    across = crop[CELLS // 2]  # a quarter of the crop's width is ribbon
    assert (across[6:10] > 0.9).all()
    assert (across[:5] < 0.1).all()
    assert (across[11:] < 0.1).all()


@pytest.mark.parametrize("turn_deg", [0, 33, 90, 160])
@pytest.mark.parametrize("scale", [0.75, 1.0, 2.0])
def test_features_are_those_of_the_ribbon_whatever_its_direction_and_size(turn_deg: float, scale: float) -> None:
    (expected,) = view_features(arm()[0], arm()[1], [arm()[2]])
    picture, mask, segment = arm(turn_deg, scale)
    (found,) = view_features(picture, mask, [segment])
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_features_are_the_same_from_either_end_and_in_the_mirror() -> None:
    picture, mask, segment = arm(turn_deg=25)
    tapered = replace(segment, radii=(11.0, 8.0))
    (expected,) = view_features(picture, mask, [tapered])
    turned = Segment(tapered.end, tapered.start, (8.0, 11.0))
    side = mask.shape[1]
    mirrored = Segment(
        (side - tapered.start[0], tapered.start[1]), (side - tapered.end[0], tapered.end[1]), (11.0, 8.0)
    )
    np.testing.assert_allclose(view_features(picture, mask, [turned])[0], expected, atol=1e-6)
    np.testing.assert_allclose(view_features(picture[:, ::-1], mask[:, ::-1], [mirrored])[0], expected, atol=1e-4)


def test_a_class_of_two_clusters_needs_two_views() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat([[-4.0, 0.0], [4.0, 0.0], [0.0, 0.0]], 100, axis=0)
    X, y = centres + rng.normal(0, 0.5, centres.shape), np.repeat(["outer", "outer", "inner"], 100)
    assert NearestView(views=2).fit(X, y).score(X, y) == 1.0
    assert NearestView(views=1).fit(X, y).score(X, y) < 0.9


@pytest.mark.parametrize("views", [1, 3])
def test_the_nearest_view_passes_scikit_learns_checks_unmodified(views: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(NearestView(views))


def test_evidence_is_above_the_margin_for_limbs_and_below_for_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = np.array(["arm", "leg", NO_LIMB] * 60)
    X = rng.normal(0, 1, (180, SIZE)) + 3 * (parts == "arm")[:, None] - 3 * (parts == "leg")[:, None]
    gallery = LimbGallery().fit(X, parts)
    limb = parts != NO_LIMB
    evidence = gallery.evidence(X)
    assert (evidence[limb] > 0).all()
    assert (evidence[~limb] < 0).mean() > 0.95
    read, facts = load_system(save_system(gallery, tmp_path / "gallery.safetensors", {"scenes": 1}))
    np.testing.assert_array_equal(read.evidence(X), evidence)
    assert facts == {"scenes": 1}
    assert gallery.evidence(np.zeros((0, SIZE))).shape == (0,)


def test_the_shipped_gallery_keeps_an_arm_whatever_its_direction() -> None:
    for turn_deg in range(0, 180, 20):
        picture, mask, segment = arm(turn_deg)
        assert drawn_gallery().verified(picture, mask, [segment]) == [segment]


def test_the_shipped_gallery_says_how_it_was_made() -> None:
    _, facts = load_system(DRAWN)
    assert facts["command"] == "python benchmarks/fit_limb_gallery.py"
    assert set(facts["proposals"]) == {"arm", "leg", NO_LIMB}


def test_verification_leaves_groups_of_fewer_segments() -> None:
    picture, mask, _ = arm()
    assert set(picture_groups(picture, mask, verified=True).segments) <= set(limb_segments(mask))


@pytest.mark.parametrize("name", odd())
def test_odd_pictures_have_defined_scores_with_verification(name: str) -> None:
    picture = odd()[name]
    probability = LimbRule(RulePixels(KovacRule()), verified=True).fit([picture], [1]).predict_proba([picture])
    assert np.isfinite(probability).all()


def test_minimum_distance_learns_that_limbs_are_unsafe() -> None:
    bare = [arm(turn)[0] for turn in range(0, 180, 15)]
    dressed = [np.full((160, 160, 3), CLOTH, np.uint8) for _ in bare]
    pictures, labels = bare + dressed, [1] * len(bare) + [0] * len(dressed)
    for distance in ("nearest_mean", "mahalanobis"):
        system = LimbDistance(RulePixels(KovacRule()), distance).fit(pictures, labels)
        assert system.predict(pictures).tolist() == labels
    with pytest.raises(FigleafError, match="distance=l1: expected nearest_mean, mahalanobis"):
        LimbDistance(RulePixels(KovacRule()), "l1").fit(pictures, labels)
