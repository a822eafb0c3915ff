"""The grouper on drawn figures whose joints are known, on scenes, turned, scaled, mirrored, and on odd pictures."""

import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from drawn_skin import drawn, odd
from sklearn.base import clone

from figleaf.errors import FigleafError
from figleaf.skin.limb_drawings import draw_groups, draw_segments
from figleaf.skin.limb_groups import NAMES, group_features, grouped, limb_groups
from figleaf.skin.limb_system import LimbRule
from figleaf.skin.limbs import LONGEST, Segment, limb_segments, straight_pieces
from figleaf.skin.medial_axes import Path, medial_paths
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.pixel_rules import KovacRule

# A figure of 200 x 200 with bent knees and elbows: joints of each limb from the body outwards, half-widths in between.
LIMBS = {
    "left arm": (((125, 60), (160, 75), (165, 115)), 7),
    "right arm": (((75, 60), (40, 75), (35, 115)), 7),
    "left leg": (((115, 120), (138, 150), (130, 188)), 9),
    "right leg": (((85, 120), (62, 150), (70, 188)), 9),
}


def figure(scale: float = 1.0, turn_deg: float = 0.0, mirror: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
    """The mask of the figure and the axes (2, 2) of its eight limb segments."""
    side = round(200 * scale)
    turn = np.deg2rad(turn_deg)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def placed(points: object) -> np.ndarray:
        at = (np.array(points, float) - 100) * (-1 if mirror else 1, 1)
        return (at @ matrix.T * 0.9 + 100) * scale

    canvas, axes = np.zeros((side, side), np.uint8), []

    def capsule(one: np.ndarray, other: np.ndarray, radius: float) -> None:
        ends = [np.rint(point * 16).astype(int).tolist() for point in (one, other)]
        cv2.line(canvas, *ends, 1, round(1.8 * radius * scale), cv2.LINE_8, 4)

    capsule(placed((100, 65)), placed((100, 112)), 24)
    for joints, radius in LIMBS.values():
        at = placed(joints)
        for one, other in pairwise(at):
            capsule(one, other, radius)
            axes.append(np.stack([one, other]))
    return canvas.astype(bool), axes


def is_found(axis: np.ndarray, segments: list[Segment], scale: float = 1.0) -> bool:
    """Whether some segment lies within 6 px of the axis at both ends, and covers three fifths of it."""
    for segment in segments:
        ends = np.array([segment.start, segment.end])
        heading = (axis[1] - axis[0]) / np.linalg.norm(axis[1] - axis[0])
        along, across = (ends - axis[0]) @ heading, np.abs(np.cross(heading, ends - axis[0]))
        length = np.linalg.norm(axis[1] - axis[0])
        if across.max() <= 6 * scale and np.ptp(np.clip(along, 0, length)) >= 0.6 * length:
            return True
    return False


@pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional vectors:DeprecationWarning")
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("turn_deg", [0, 33, 90, 215])
@pytest.mark.parametrize("mirror", [False, True])
def test_seven_of_eight_limb_segments_are_found_however_the_figure_stands(
    scale: float, turn_deg: float, mirror: bool
) -> None:
    mask, axes = figure(scale, turn_deg, mirror)
    found = [is_found(axis, limb_segments(mask), scale) for axis in axes]
    assert sum(found) >= 7, found


@pytest.mark.parametrize("turn_deg", [0, 33, 90, 215])
def test_a_figure_has_limbs_and_a_girdle_however_it_stands(turn_deg: float) -> None:
    groups = limb_groups(figure(turn_deg=turn_deg)[0])
    assert len(groups.limbs) >= 2
    assert groups.girdles
    assert groups.complexity >= 3


def test_a_quarter_turn_and_a_mirror_image_keep_the_segments() -> None:
    mask, _ = figure()
    lengths = sorted(segment.length for segment in limb_segments(mask))
    for other in (np.rot90(mask), mask[:, ::-1]):
        found = sorted(segment.length for segment in limb_segments(np.ascontiguousarray(other)))
        assert len(found) == len(lengths)
        np.testing.assert_allclose(found, lengths, atol=5)


@pytest.mark.parametrize("angle_deg", [30, 60, 90, 120])
def test_a_bent_limb_is_cut_at_its_joint(angle_deg: float) -> None:
    turn = np.deg2rad(angle_deg)
    tip = (100 + 60 * np.cos(turn), 100 + 60 * np.sin(turn))
    points = np.concatenate([np.linspace((40, 100), (100, 100), 60), np.linspace((100, 100), tip, 60)])
    first, second = straight_pieces(Path(points, np.full(120, 8.0)))
    for joint in (first.end, second.start):
        assert np.hypot(joint[0] - 100, joint[1] - 100) < 8


def test_a_step_of_width_cuts_a_straight_path() -> None:
    points = np.linspace((20, 50), (180, 50), 160)
    pieces = straight_pieces(Path(points, np.where(points[:, 0] < 100, 20.0, 7.0)))
    assert any(abs(piece.end[0] - 100) < 10 for piece in pieces[:-1])


def test_a_straight_limb_longer_than_any_segment_is_two() -> None:
    points = np.linspace((20, 50), (140, 50), 120)
    (piece,) = straight_pieces(Path(points, np.full(120, 10.0)))
    assert piece.elongation > LONGEST
    canvas = np.zeros((100, 160), np.uint8)
    cv2.line(canvas, (30, 50), (130, 50), 1, 22)
    first, second = limb_segments(canvas.astype(bool))
    assert abs(first.length - second.length) < 3


def test_a_disc_is_no_segment() -> None:
    row, column = np.indices((100, 100))
    assert limb_segments((row - 50) ** 2 + (column - 50) ** 2 < 900) == []


def test_two_limbs_far_apart_are_no_girdle() -> None:
    def limb(x: float) -> list[Segment]:
        return [Segment((x, 20), (x, 50), (6, 6)), Segment((x, 52), (x + 8, 80), (5, 5))]

    assert grouped(limb(20) + limb(50)).girdles
    assert not grouped(limb(20) + limb(150)).girdles


def test_a_thigh_leaves_the_end_of_a_trunk_that_is_wider() -> None:
    thigh = Segment((50, 85), (60, 125), (8, 7))
    assert grouped([Segment((50, 20), (50, 75), (20, 18)), thigh]).spine_thighs
    assert not grouped([Segment((50, 20), (50, 75), (8, 8)), thigh]).spine_thighs
    assert not grouped([Segment((150, 20), (150, 75), (20, 18)), thigh]).spine_thighs


def test_the_same_mask_gives_the_same_segments() -> None:
    mask = drawn(4)[1][1]
    assert limb_segments(mask) == limb_segments(mask)


@pytest.mark.parametrize("name", odd())
def test_odd_pictures_have_defined_groups_and_scores_in_little_time(name: str) -> None:
    picture = odd()[name]
    started = time.process_time()
    for mask in (np.ones(picture.shape[:2], bool), np.zeros(picture.shape[:2], bool), picture[..., 0] > 127):
        features = group_features(mask, limb_groups(mask))
        assert features.shape == (len(NAMES),)
        assert np.isfinite(features).all()
    system = LimbRule(RulePixels(KovacRule())).fit([picture], [1])
    probability = system.predict_proba([picture])
    assert np.isfinite(probability).all()
    assert draw_groups(picture, limb_groups(mask)).shape == picture.shape
    assert time.process_time() - started < 5


def test_a_ring_has_one_axis() -> None:
    row, column = np.indices((120, 120))
    far = np.hypot(row - 60, column - 60)
    paths = medial_paths((far < 50) & (far > 36))
    assert len(paths) == 1
    assert abs(np.hypot(*(paths[0].points - 60).T).mean() - 43) < 2


def test_area_and_structure_must_both_be_there() -> None:
    pictures = [np.where(mask[..., None], (200, 140, 110), (30, 60, 160)).astype(np.uint8) for mask in _masks()]
    system = LimbRule(RulePixels(KovacRule()), area=0.15)
    assert clone(system).fit(pictures, [1, 0, 0]).predict(pictures).tolist() == [1, 0, 0]


def _masks() -> list[np.ndarray]:
    """A figure; a disc of more area; the figure in a corner of a picture so large that it is next to nothing."""
    row, column = np.indices((200, 200))
    small = np.zeros((800, 800), bool)
    small[:200, :200] = figure()[0]
    return [figure()[0], np.hypot(row - 100, column - 100) < 70, small]


@pytest.mark.parametrize("wrong", [{"area": 0.0}, {"structure": "horse"}])
def test_a_value_out_of_range_is_named(wrong: dict[str, object]) -> None:
    (key, value), *_ = wrong.items()
    with pytest.raises(FigleafError, match=f"{key}={value}"):
        LimbRule(RulePixels(KovacRule()), **wrong).fit([], [])


def test_drawings_change_the_picture_where_something_was_found() -> None:
    mask, _ = figure()
    picture = np.zeros((200, 200, 3), np.uint8)
    groups = limb_groups(mask)
    assert draw_segments(picture, groups.segments).any()
    assert draw_groups(picture, groups).any()
    assert not picture.any()
