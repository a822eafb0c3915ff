"""Superpixels, their graph, parts of a picture, skin regions and outlines; on pictures made for the question."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from figleaf.data import scenes
from figleaf.skin.region_drawings import (
    borders,
    draw_graph,
    draw_outlines,
    draw_parts,
    draw_patches,
    draw_skin_regions,
)
from figleaf.skin.regions import merge, outlines, segment, skin_regions
from figleaf.skin.superpixels import Patches, adjacency, appearance, pooled, relabelled, superpixels

SKIN, CLOTH, GRASS = (224, 172, 140), (40, 60, 160), (60, 120, 40)
DEGENERATE = [(1, 1), (1, 7), (2, 2), (3, 10_000), (10_000, 3), (17, 16)]


def picture(*boxes: tuple[slice, slice, tuple[int, int, int]], size: tuple[int, int] = (96, 96)) -> NDArray[np.uint8]:
    rgb_u8 = np.full((*size, 3), GRASS, np.uint8)
    for rows, columns, color in boxes:
        rgb_u8[rows, columns] = color
    return rgb_u8


def noise(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def grain(shape: tuple[int, int], mean: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).normal(mean, 25, (*shape, 1)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", DEGENERATE)
@pytest.mark.parametrize("kind", ["black", "one colour", "noise"])
def test_any_picture_has_parts(shape: tuple[int, int], kind: str) -> None:
    rgb_u8 = {"black": np.zeros((*shape, 3), np.uint8), "one colour": np.full((*shape, 3), SKIN, np.uint8)}.get(
        kind, noise(shape)
    )
    found = segment(rgb_u8)
    assert found.labels.shape == found.patches.shape == shape
    assert np.isfinite(found.weights.data).all()
    assert set(np.unique(found.labels)) == set(range(found.labels.max() + 1))
    assert found.labels.max() < 40
    if kind != "noise":
        assert found.labels.max() == 0, "one colour is one part"
    for drawn in (
        draw_patches(rgb_u8, found.patches),
        draw_graph(rgb_u8, found),
        draw_parts(rgb_u8, found.labels),
        draw_skin_regions(rgb_u8, skin_regions(rgb_u8, np.ones(shape, bool))),
        draw_outlines(rgb_u8, found.labels + 1),
    ):
        assert drawn.shape == rgb_u8.shape
        assert drawn.dtype == np.uint8


@pytest.mark.parametrize("shape", [(96, 64), (700, 900)])
def test_superpixels_are_connected_and_few(shape: tuple[int, int]) -> None:
    rgb_u8 = cv2.GaussianBlur(noise(shape), (0, 0), 3)
    labels = superpixels(rgb_u8, 250)
    assert labels.shape == shape
    assert 50 < labels.max() + 1 <= 300
    for label in range(labels.max() + 1):
        count, _ = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=8)
        assert count == 2, "background and one piece"


def test_a_tiny_picture_has_a_patch_for_every_pixel() -> None:
    assert superpixels(noise((2, 3))).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_patches_are_numbered_in_reading_order() -> None:
    assert relabelled(np.array([[9, 9, 4], [7, 4, 4]])).tolist() == [[0, 0, 1], [2, 1, 1]]


@given(arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-1, 4)), st.booleans())
def test_neighbours_are_those_of_each_pair_of_pixels(labels: NDArray[np.int32], diagonal: bool) -> None:
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)] if diagonal else [(0, 1), (1, 0)]
    expected: dict[tuple[int, int], int] = {}
    for row, column in itertools.product(*map(range, labels.shape)):
        for down, right in steps:
            if row + down < labels.shape[0] and 0 <= column + right < labels.shape[1]:
                pair = sorted((int(labels[row, column]), int(labels[row + down, column + right])))
                if pair[0] >= 0 and pair[0] != pair[1]:
                    expected[(pair[0], pair[1])] = expected.get((pair[0], pair[1]), 0) + 1
    found = adjacency(labels, diagonal=diagonal)
    assert dict(zip(map(tuple, found.pairs.tolist()), found.lengths.tolist(), strict=True)) == expected


def test_mean_and_variance_are_each_patchs_own() -> None:
    labels = np.array([[0, 0, 1], [1, 1, 1]], np.int32)
    values = np.random.default_rng(0).normal(1e6, 1, (2, 3, 2))
    found = pooled(labels, values)
    assert found.sizes.tolist() == [2, 4]
    for label in (0, 1):
        np.testing.assert_allclose(found.means[label], values[labels == label].mean(axis=0))
        np.testing.assert_allclose(found.variances[label], values[labels == label].var(axis=0), rtol=1e-6)


def test_texture_is_that_of_a_pattern_and_not_of_an_edge() -> None:
    rgb_u8 = np.full((128, 192, 3), 40, np.uint8)
    rgb_u8[:, 96:] = 200
    rgb_u8[:, :48] = grain((128, 48), 60)
    texture = appearance(rgb_u8)[..., 3]
    assert texture[20:-20, 10:38].min() > 5
    assert texture[20:-20, 90:102].max() == 0


def test_separated_blobs_are_parts_of_their_own() -> None:
    rgb_u8 = picture((slice(10, 40), slice(10, 40), SKIN), (slice(50, 90), slice(50, 90), CLOTH))
    truth = np.zeros((96, 96), int)
    truth[10:40, 10:40], truth[50:90, 50:90] = 1, 2
    assert adjusted_rand_score(truth.ravel(), segment(rgb_u8).labels.ravel()) > 0.9


def test_a_texture_alone_is_a_part_of_its_own() -> None:
    rgb_u8 = np.full((128, 128, 3), 120, np.uint8)
    rgb_u8[:, 64:] = grain((128, 64), 120)
    labels = segment(rgb_u8).labels
    assert adjusted_rand_score(np.repeat([[0] * 64 + [1] * 64], 128, axis=0).ravel(), labels.ravel()) > 0.8


def test_a_transposed_picture_has_the_transposed_parts() -> None:
    rgb_u8 = picture((slice(8, 50), slice(20, 40), SKIN), (slice(60, 84), slice(16, 88), CLOTH), size=(96, 112))
    parts, turned = segment(rgb_u8).labels, segment(np.ascontiguousarray(rgb_u8.transpose(1, 0, 2))).labels
    assert adjusted_rand_score(parts.ravel(), turned.T.ravel()) > 0.9


def test_parts_follow_a_drawn_figure() -> None:
    scene = scenes.render(0, 4, 224)
    truth = scene.figure_mask.astype(int) + scene.skin_mask
    labels = segment(scene.rgb_u8).labels
    assert adjusted_rand_score(truth.ravel(), labels.ravel()) > 0.6
    for part in range(labels.max() + 1):
        assert cv2.connectedComponents((labels == part).astype(np.uint8), connectivity=4)[0] == 2


def test_the_same_picture_has_the_same_parts_each_time() -> None:
    rgb_u8 = scenes.render(0, 2, 160).rgb_u8
    np.testing.assert_array_equal(segment(rgb_u8).labels, segment(rgb_u8).labels)


def slow_merge(sizes: list[float], means: list[NDArray[np.float64]], pairs: list[tuple[int, int]]) -> list[set[int]]:
    """Greedy merging, everything looked at anew in each round."""
    groups = [{node} for node in range(len(sizes))]

    def mean(group: set[int]) -> NDArray[np.float64]:
        return sum(sizes[n] * means[n] for n in group) / sum(sizes[n] for n in group)  # type: ignore[no-any-return]

    while True:
        touching = [
            (float(np.linalg.norm(mean(a) - mean(b))), a, b)
            for a, b in itertools.combinations(groups, 2)
            if any((x in a and y in b) or (x in b and y in a) for x, y in pairs)
        ]
        nearest = min(touching, key=lambda found: found[0], default=None)
        if nearest is None or nearest[0] >= 1:
            return groups
        groups = [group for group in groups if group not in nearest[1:]] + [nearest[1] | nearest[2]]


@given(st.integers(1, 9), st.integers(0, 10_000))
@settings(deadline=None)
def test_merging_is_greedy_merging(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, means = rng.integers(1, 50, n), rng.normal(0, 0.8, (n, 2))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.4]
    patches = Patches(sizes, means, np.zeros((n, 2)))
    found = merge(patches, np.array(pairs, np.intp).reshape(-1, 2))
    expected = slow_merge(sizes.tolist(), list(means), pairs)
    assert sorted(map(sorted, expected)) == sorted(
        [np.flatnonzero(found == g).tolist() for g in range(found.max() + 1)]
    )


def test_skin_of_two_colours_is_two_regions_and_the_largest_is_first() -> None:
    rgb_u8 = picture((slice(10, 40), slice(10, 70), SKIN), (slice(40, 60), slice(10, 70), (90, 60, 45)))
    skin = (rgb_u8 != GRASS).any(axis=2)
    found = skin_regions(rgb_u8, skin)
    np.testing.assert_array_equal(found > 0, skin)
    assert (found[10:38, 10:70] == 1).all()
    assert (found[42:60, 10:70] == 2).all()


@pytest.mark.parametrize(("width", "regions"), [(2, 1), (12, 2)])
def test_a_bracelet_does_not_cut_off_a_hand_but_distance_does(width: int, regions: int) -> None:
    rgb_u8 = picture((slice(40, 56), slice(10, 40), SKIN), (slice(40, 56), slice(40 + width, 70), SKIN))
    assert skin_regions(rgb_u8, (rgb_u8 != GRASS).any(axis=2)).max() == regions


def test_pieces_that_touch_at_a_corner_are_one_region() -> None:
    rgb_u8 = picture((slice(10, 30), slice(10, 30), SKIN), (slice(30, 50), slice(30, 50), SKIN))
    assert skin_regions(rgb_u8, (rgb_u8 != GRASS).any(axis=2), gap=0.0).max() == 1


def test_specks_are_left_out_and_without_skin_there_is_no_region() -> None:
    rgb_u8 = picture((slice(10, 40), slice(10, 40), SKIN), (slice(80, 82), slice(80, 82), SKIN))
    found = skin_regions(rgb_u8, (rgb_u8 != GRASS).any(axis=2))
    assert found.max() == 1
    assert found[80, 80] == 0
    assert skin_regions(rgb_u8, np.zeros((96, 96), bool)).max() == 0


@given(arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))))
@settings(deadline=None, max_examples=300)
def test_outlines_filled_are_the_region(region: NDArray[np.bool_]) -> None:
    """Holes, islands in holes, corners that touch: pixel by pixel."""
    found = outlines(region)
    filled = np.zeros_like(region)
    for outline in found:
        piece = outline.fill(region.shape)
        assert not (filled & piece).any(), "pieces do not overlap"
        filled |= piece
    np.testing.assert_array_equal(filled, region)
    sizes = [int(outline.fill(region.shape).sum()) for outline in found]
    assert sizes == sorted(sizes, reverse=True)


def test_tolerance_leaves_corners_out_and_stays_near() -> None:
    disc = np.zeros((101, 101), np.uint8)
    cv2.circle(disc, (50, 50), 40, 1, cv2.FILLED)
    (exact,), (rough,) = outlines(disc > 0), outlines(disc > 0, tolerance=2)
    assert len(rough.outer) < len(exact.outer) / 2
    away = cv2.distanceTransform(1 - disc, cv2.DIST_L2, 5) + cv2.distanceTransform(disc, cv2.DIST_L2, 5)
    assert away[rough.fill(disc.shape) != (disc > 0)].max() <= 3


def test_borders_are_between_labels() -> None:
    assert borders(np.array([[0, 0, 1], [2, 2, 1]], np.int32)).tolist() == [[True, True, False], [False, True, False]]


def test_regions_are_drawn_in_colour_and_the_rest_in_grey() -> None:
    rgb_u8 = picture((slice(10, 40), slice(10, 40), SKIN))
    drawn = draw_skin_regions(rgb_u8, skin_regions(rgb_u8, (rgb_u8 != GRASS).any(axis=2)))
    assert (np.ptp(drawn[50:], axis=2) == 0).all()
    assert (np.ptp(drawn[12:38, 12:38], axis=2) > 0).all()
