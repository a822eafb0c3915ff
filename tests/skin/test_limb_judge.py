"""Limbs chosen: dark lines in skin and what they cut, the evidence for a ribbon, and the judge that we ship."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_skin import odd
from numpy.typing import NDArray

from figleaf.data.scenes import render
from figleaf.errors import FigleafError
from figleaf.skin.creases import WorkingPicture, crease_strength
from figleaf.skin.limb_drawings import draw_kinds
from figleaf.skin.limb_evidence import SIZE, Evidence, proposal_features
from figleaf.skin.limb_judge import DRAWN, LimbJudge, drawn_judge
from figleaf.skin.limb_parts import COSINE, NEARNESS, NONE, PLANES, SINE, drawn_parts
from figleaf.skin.limb_proposals import SOURCES, Proposals, Relations, limb_proposals
from figleaf.skin.limb_system import LimbRule, picture_groups
from figleaf.skin.limbs import Segment, limb_segments
from figleaf.skin.medial_axes import WORKING_SIDE
from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.pixel_rules import KovacRule, NormalisedRgbRule
from figleaf.skin.storage import load_system, save_system

SKIN, CLOTH = np.array([215, 160, 130]), np.array([40, 60, 120])


def three_cylinders(side: int = 192) -> tuple[RgbU8, Mask]:
    """Three upright round limbs side by side without a gap: their silhouette is a broad block, wider than high."""
    x = (np.arange(side) + 0.5) / side
    across = ((x - 0.2) / 0.2) % 1 * 2 - 1  # -1 to 1 within each limb
    light = np.sqrt(np.clip(1 - across**2, 0.04, 1))
    mask = np.zeros((side, side), np.bool_)
    mask[round(0.25 * side) : round(0.75 * side), round(0.2 * side) : round(0.8 * side)] = True
    picture = np.where(mask[..., None], SKIN * light[None, :, None], CLOTH)
    return picture.astype(np.uint8), mask


def test_a_crease_is_a_valley_of_lightness_whatever_the_light() -> None:
    picture, mask = three_cylinders()
    fine, _ = WorkingPicture.of(picture, mask).creases
    inside = fine[80:110]
    borders = [round(x * WORKING_SIDE) for x in (0.4, 0.6)]
    assert min(inside[:, x - 2 : x + 2].max() for x in borders) > 0.3
    middles = [round(x * WORKING_SIDE) for x in (0.3, 0.5, 0.7)]
    assert max(inside[:, x - 4 : x + 4].max() for x in middles) < 0.05
    half = crease_strength(np.exp(np.log(np.float32(50) + 4) + np.zeros((32, 32), np.float32)) - 4, 1.5)
    np.testing.assert_allclose(half, 0, atol=1e-5)


def proposed(picture: RgbU8, mask: Mask) -> Proposals:
    return Evidence.of(picture, mask).proposals


def test_three_limbs_without_a_gap_are_found_between_their_creases() -> None:
    picture, mask = three_cylinders()
    assert not [one for one in limb_segments(mask) if one.width < 60], "the mask is one block"
    found = proposed(picture, mask)
    upright = [one for one in found.segments if one.width < 60 and abs(one.end[1] - one.start[1]) > 50]
    columns = sorted((one.start[0] + one.end[0]) / 2 / 192 for one in upright)
    assert all(any(abs(column - x) < 0.03 for column in columns) for x in (0.3, 0.5, 0.7)), columns
    assert len(found.source) == len(found.segments)


@pytest.mark.parametrize("side", [96, 384])
def test_proposals_are_in_pixels_of_the_picture(side: int) -> None:
    picture, mask = three_cylinders()
    scaled = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    small = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST).astype(bool)
    found = [one for one in proposed(scaled, small).segments if one.width < 0.3 * side]
    columns = [(one.start[0] + one.end[0]) / 2 / side for one in found]
    assert all(any(abs(column - x) < 0.03 for column in columns) for x in (0.3, 0.5, 0.7)), columns


def ribbons() -> list[Segment]:
    first = Segment((10.0, 10.0), (90.0, 10.0), (8.0, 8.0))
    like = Segment((15.0, 12.0), (85.0, 11.0), (7.0, 9.0))
    crossing = Segment((50.0, 0.0), (50.0, 60.0), (8.0, 8.0))
    return [first, like, crossing]


def test_relations_of_ribbons() -> None:
    between = Relations.of(ribbons())
    assert between.cover[1, 0] == 1
    assert between.cover[0, 1] > 0.9
    assert 0 < between.cover[0, 2] < 0.4
    assert between.angle_deg[0, 2] == pytest.approx(90)
    assert between.radius.tolist() == [8, 8, 8]


def test_of_rivals_the_likelier_is_kept_and_what_crosses_is_no_rival() -> None:
    proposals = Proposals(ribbons(), np.array([0, 1, 1]))
    judge = LimbJudge(threshold=0.4)
    kept = judge.chosen(proposals, np.array([0.6, 0.9, 0.5]))
    assert kept == [ribbons()[1], ribbons()[2]]
    assert judge.chosen(proposals, np.array([0.3, 0.2, 0.1])) == []
    assert judge.chosen(Proposals([], np.zeros(0, np.intp)), np.zeros(0)) == []


def one_limb(side: int = 192) -> NDArray[np.float32]:
    """The maps of an upright thigh of half-width 20 in the middle, from 50 to 140."""
    maps = np.zeros((side, side, PLANES), np.float32)
    away = np.abs(np.arange(side) + 0.5 - 96) / 20
    within = np.zeros((side, side), np.bool_)
    within[50:140] = away < 1
    maps[..., NONE] = ~within
    maps[..., 3] = within
    maps[..., COSINE] = -1.0 * within
    maps[..., NEARNESS] = np.where(within, 1 - away, 0)
    return maps


def features(maps: NDArray[np.float32], *segments: Segment) -> NDArray[np.float32]:
    picture, mask = three_cylinders()
    return proposal_features(
        WorkingPicture.of(picture, mask), maps, Proposals([*segments], np.zeros(len(segments), np.intp))
    )


def test_evidence_is_the_same_from_either_end_and_in_the_mirror() -> None:
    picture, mask = three_cylinders()
    maps = drawn_parts().maps(WorkingPicture.of(picture, mask))
    segment = Segment((58.0, 60.0), (50.0, 130.0), (18.0, 16.0))
    turned = Segment(segment.end, segment.start, (16.0, 18.0))
    mirrored = Segment((192 - 58.0, 60.0), (192 - 50.0, 130.0), (18.0, 16.0))
    expected = features(maps, segment)
    assert expected.shape == (1, SIZE)
    np.testing.assert_allclose(features(maps, turned), expected, atol=1e-5)
    flipped = maps[:, ::-1].copy()
    flipped[..., SINE] *= -1
    np.testing.assert_allclose(features(flipped, mirrored), expected, atol=1e-4)


def test_what_is_seen_along_a_limb_is_in_its_evidence() -> None:
    along = Segment((96.0, 52.0), (96.0, 138.0), (20.0, 20.0))
    beside = Segment((116.0, 52.0), (116.0, 138.0), (20.0, 20.0))
    across = Segment((80.0, 95.0), (112.0, 95.0), (10.0, 10.0))
    on, off, turned = features(one_limb(), along, beside, across)
    # Of limbs, nearness and direction the lesser values at 1.5, 1.2, 1, .8 and .5 half-widths, the greater ones, and
    # the axis; then the kinds
    limb, near, fit = (slice(11 * number, 11 * (number + 1)) for number in range(3))
    np.testing.assert_allclose(on[limb][[0, 1, 5, 6, 3, 4, 8, 9, 10]], [0, 0, 0, 0, 1, 1, 1, 1, 1], atol=0.05)
    np.testing.assert_allclose(on[near][[3, 4, 10]], [0.2, 0.5, 1], atol=0.05)
    np.testing.assert_allclose(on[fit][[3, 4, 10]], 1, atol=0.05)
    np.testing.assert_allclose(on[33:37] / on[33:37].sum(), [0, 0, 1, 0], atol=0.01)
    assert off[near][10] < 0.05
    assert off[limb][4] < 0.05 < 0.95 < off[limb][9], "a limb to one side only"
    np.testing.assert_allclose(turned[fit][10], -1, atol=0.05)


def test_the_maps_bring_out_ribbons_that_no_mask_shows() -> None:
    picture, mask = np.full((192, 192, 3), SKIN, np.uint8), np.ones((192, 192), np.bool_)
    found = limb_proposals(mask, WorkingPicture.of(picture, mask), one_limb())
    sources = SOURCES - 3 + np.arange(3)
    for source in sources.tolist():
        ribbons_found = [one for one, of in zip(found.segments, found.source, strict=True) if of == source]
        assert any(
            abs((one.start[0] + one.end[0]) / 2 - 96) < 3 and 34 < one.width < 48 and one.length > 40
            for one in ribbons_found
        ), (source, ribbons_found)


def noisy_evidence(pictures: int = 200) -> tuple[list[Evidence], list[NDArray[np.bool_]]]:
    """Of each picture two ribbons over one another and one away; one thing seen tells limbs from others, with noise."""
    rng = np.random.default_rng(0)
    truth = [rng.random(3) < 0.5 for _ in range(pictures)]
    features = [rng.normal(size=(3, 5)) for _ in truth]
    for seen, is_limb in zip(features, truth, strict=True):
        seen[:, 2] += 2 * is_limb
    proposals = Proposals(ribbons(), np.array([0, 1, 1]))
    return [Evidence(proposals, seen.astype(np.float32)) for seen in features], truth


def test_the_judge_learns_keeps_and_is_stored(tmp_path: Path) -> None:
    evidence, is_limb = noisy_evidence()
    judge = LimbJudge(trees=100).fit(evidence, is_limb)
    found, truth = np.concatenate([judge.probability(one) for one in evidence]), np.concatenate(is_limb)
    assert found[truth].mean() > 0.75 > 0.25 > found[~truth].mean()
    again, facts = load_system(save_system(judge, tmp_path / "judge.safetensors", {"of": "noise"}))
    assert facts["of"] == "noise"
    np.testing.assert_array_equal(again.probability(evidence[0]), judge.probability(evidence[0]))
    nothing = Evidence(Proposals([], np.zeros(0, np.intp)), np.zeros((0, 5), np.float32))
    assert judge.probability(nothing).shape == (0,)


def test_a_mask_has_to_fit_its_picture_and_any_number_but_0_is_skin() -> None:
    picture, mask = three_cylinders(96)
    with pytest.raises(FigleafError, match=r"mask of shape \(95, 96\): expected \(96, 96\)"):
        Evidence.of(picture, mask[1:])
    for draw in (draw_kinds, picture_groups):
        with pytest.raises(FigleafError, match=r"mask of shape \(95, 96\): expected \(96, 96\)"):
            draw(picture, mask[1:])  # type: ignore[operator]
    as_picture = Evidence.of(picture, (255 * mask).astype(np.uint8))
    np.testing.assert_array_equal(as_picture.features, Evidence.of(picture, mask).features)


def test_where_there_is_no_skin_there_are_no_limbs() -> None:
    for number in range(24):
        scene = render(7, number, 96)
        assert not picture_groups(scene.rgb_u8, np.zeros((96, 96), np.bool_), judged=True).segments


def test_most_limbs_are_found_again_in_the_mirror_turned_and_larger() -> None:
    """The tolerance of the judge: 17 of 20 ribbons, each way."""
    judge, found, again = drawn_judge(), 0, np.zeros(3)
    for number in range(24):
        scene = render(7, number, 96)
        rgb, mask = scene.rgb_u8, scene.skin_mask
        upright = judge.limbs(rgb, mask)
        found += len(upright)
        twice = cv2.resize(rgb, (192, 192), interpolation=cv2.INTER_CUBIC)
        for place, (picture, skin, back) in enumerate(
            (
                (rgb[:, ::-1], mask[:, ::-1], lambda x, y: (96 - x, y)),
                (np.rot90(rgb), np.rot90(mask), lambda x, y: (96 - y, x)),
                (twice, mask.repeat(2, axis=0).repeat(2, axis=1), lambda x, y: (x / 2, y / 2)),
            )
        ):
            size = 0.5 if place == 2 else 1.0
            moved = [
                Segment(back(*one.start), back(*one.end), (size * one.radii[0], size * one.radii[1]))
                for one in judge.limbs(np.ascontiguousarray(picture), np.ascontiguousarray(skin))
            ]
            between = Relations.of([*upright, *moved])
            first = slice(len(upright)), slice(len(upright), None)
            same = (between.cover + between.cover.T)[first] / 2 > 0.5
            again[place] += (same & (between.angle_deg[first] < 25)).any(axis=1).sum() if moved else 0
    assert found > 60
    assert (again / found > 0.85).all(), again / found


def test_a_judge_needs_both_limbs_and_others() -> None:
    evidence, is_limb = noisy_evidence(4)
    with pytest.raises(FigleafError, match="expected limbs among the proposals, and such as are none"):
        LimbJudge(trees=3).fit(evidence, [np.ones(3, np.bool_)] * 4)
    with pytest.raises(FigleafError, match="expected one for each proposal of each picture"):
        LimbJudge(trees=3).fit(evidence, is_limb[:3])
    with pytest.raises(FigleafError, match="expected limbs among the proposals"):
        LimbJudge(trees=3).fit([], [])


def test_answers_that_are_held_out_know_nothing_of_their_group() -> None:
    evidence, is_limb = noisy_evidence()
    groups = np.arange(len(evidence)) // 2

    def right(truth: list[NDArray[np.bool_]]) -> float:
        found = LimbJudge(trees=50).fit_held_out(evidence, truth, groups)
        return float(np.mean([(one > 0.5) == known for one, known in zip(found, truth, strict=True)]))

    assert right(is_limb) > 0.75
    rng = np.random.default_rng(1)
    assert 0.4 < right([rng.random(3) < 0.5 for _ in evidence]) < 0.6  # what is learnt of these holds for no other
    single = LimbJudge(trees=5).fit_held_out(evidence, is_limb, groups=np.zeros(len(evidence)))
    assert [one.shape for one in single] == [(3,)] * len(evidence)


def test_the_judge_that_is_shipped_says_from_what_it_is() -> None:
    judge, facts = load_system(DRAWN)
    assert isinstance(judge, LimbJudge)
    assert facts["held_out"]["false_per_image"] <= 0.97
    assert judge.trees_.n_features_in_ == SIZE
    assert drawn_judge() is drawn_judge()


@pytest.mark.parametrize("name", odd())
def test_odd_pictures_have_defined_scores_where_ribbons_are_judged(name: str) -> None:
    picture = odd()[name]
    for mask in (np.ones(picture.shape[:2], np.bool_), np.zeros(picture.shape[:2], np.bool_)):
        picture_groups(picture, mask, judged=True)
    rule = LimbRule(RulePixels(KovacRule()), judged=True).fit([picture], [1])
    assert np.isfinite(rule.predict_proba([picture])).all()


def test_a_system_whose_ribbons_are_judged_is_kept_with_that(tmp_path: Path) -> None:
    picture, _ = three_cylinders()
    # Its chromaticities leave the shaded rims in the mask
    rule = LimbRule(RulePixels(NormalisedRgbRule()), area=0.1, structure="segment", judged=True).fit([picture], [1])
    mask = rule.pixel_model_.skin_mask(picture)
    assert rule.groups(picture) == picture_groups(picture, mask, judged=True)
    assert rule.groups(picture) != picture_groups(picture, mask)
    again, _ = load_system(save_system(rule, tmp_path / "rule.safetensors", {}))
    assert again.groups(picture) == rule.groups(picture)
