import numpy as np
import pytest
from drawn_skin import drawn, odd

from figleaf.data.decode import resize
from figleaf.skin.color import log_opponent
from figleaf.skin.pixel_planes import (
    SITE_STRIDE,
    SITES,
    WORKING_SIZE,
    at_size,
    map_planes,
    picture_planes,
    rows_at,
    working_mask,
    working_picture,
)

SITE = np.arange(SITES)


@pytest.mark.parametrize(("height", "width"), [(160, 160), (61, 400), (40, 40), (1, 3)])
def test_a_map_of_sites_is_laid_over_the_picture_where_its_sites_lie(height: int, width: int) -> None:
    # A map that is the x (or y) of its sites in the picture must come back as the x (or y) of every pixel.
    centre = (SITE * SITE_STRIDE + 0.5) / WORKING_SIZE
    right = np.broadcast_to(centre, (SITES, SITES)).astype(np.float32)
    inside = np.clip((np.arange(width) + 0.5) / width, centre[0], centre[-1])
    found = at_size(right, height, width)
    assert found.shape == (height, width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.broadcast_to(inside, (height, width)), atol=1e-5)
    np.testing.assert_allclose(at_size(right.T, width, height), found.T, atol=1e-6)


def test_colors_at_sites_are_those_of_the_working_picture() -> None:
    working = working_picture(drawn(1)[0][0])
    assert working.shape == (WORKING_SIZE, WORKING_SIZE, 3)
    planes = picture_planes(working)
    at_sites = working[::SITE_STRIDE, ::SITE_STRIDE].astype(float)
    np.testing.assert_array_equal(planes["green"], at_sites[..., 1])
    exact = log_opponent(working, zero_offset=False, noise=False)
    bright = at_sites.min(axis=-1) > 60  # where half a unit of noise is small
    for name, plane in (("intensity", exact.intensity), ("rg", exact.rg), ("by", exact.by)):
        np.testing.assert_allclose(planes[name][bright], plane[::SITE_STRIDE, ::SITE_STRIDE][bright], atol=0.6)


def test_every_plane_is_a_map_of_sites_or_one_number_and_finite() -> None:
    for name, picture in odd().items():
        working = working_picture(picture)
        for site_map in (np.zeros((SITES, SITES), np.float32), np.ones((SITES, SITES), np.float32)):
            planes = picture_planes(working) | map_planes("color", site_map, working)
            for key, plane in planes.items():
                assert plane.shape in ((SITES, SITES), (1, 1)), key
                assert plane.dtype == np.float32, key
                assert np.isfinite(plane).all(), (name, key)


def test_a_mirrored_picture_has_mirrored_planes() -> None:
    # Sites are every second pixel, the first and not the last: mirror a picture whose pixels come in pairs
    working = resize(drawn(3)[0][2], SITES).repeat(2, axis=0).repeat(2, axis=1)
    mirrored = np.ascontiguousarray(working[:, ::-1])
    planes, other = picture_planes(working), picture_planes(mirrored)
    for name in ("red", "by", "hue", "relative_rg", "balanced_bg", "picture_by", "picture_dark", "aside", "border"):
        np.testing.assert_allclose(other[name][:, ::-1], planes[name], atol=2e-3, err_msg=name)


def test_texture_is_rough_where_the_picture_is() -> None:
    working = np.full((WORKING_SIZE, WORKING_SIZE, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(-60, 60, (WORKING_SIZE, WORKING_SIZE // 2, 1))
    working[:, WORKING_SIZE // 2 :] = np.clip(128 + noise, 0, 255)
    planes = picture_planes(working)
    for name in ("amplitude_7", "amplitude_13", "steepness_2", "intensity_spread_2"):
        smooth, rough = planes[name][:, : SITES // 2 - 8], planes[name][:, SITES // 2 + 8 :]
        assert smooth.max() < rough.min(), name
    stripes = np.zeros((WORKING_SIZE, WORKING_SIZE, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 200
    assert picture_planes(stripes)["coherence_3"].min() > 0.9 > 0.5 > np.median(planes["coherence_9"][:, 30:])


def test_a_map_finds_the_pictures_own_colors() -> None:
    working = np.full((WORKING_SIZE, WORKING_SIZE, 3), (70, 90, 120), np.uint8)
    working[:40] = (200, 150, 120)
    half = np.zeros((SITES, SITES), np.float32)
    half[:15] = 0.9  # a map that misses the lower quarter of the skin
    planes = map_planes("first", half, working)
    missed, rest = np.s_[17:19], np.s_[25:]
    assert planes["first_own_ratio"][missed].min() > 0 > planes["first_own_ratio"][rest].max()
    assert planes["first_own_share"][missed].min() > 0.5 > planes["first_own_share"][rest].max()
    np.testing.assert_allclose(planes["first_from_skin_rg"][missed], 0, atol=1.0)


def test_the_eight_directions_look_where_they_say() -> None:
    site_map = np.zeros((SITES, SITES), np.float32)
    site_map[20:23, 15:18] = 1
    planes = map_planes("m", site_map, np.zeros((WORKING_SIZE, WORKING_SIZE, 3), np.uint8))
    for step in (4, 9):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down or right:
                    plane = planes[f"m_{step}_{down}_{right}"]
                    assert np.unravel_index(plane.argmax(), plane.shape) == (21 - step * down, 16 - step * right)


def test_rows_are_the_planes_in_reading_order() -> None:
    planes = {
        "number": np.arange(SITES * SITES, dtype=np.float32).reshape(SITES, SITES),
        "of_all": np.full((1, 1), 7.0),
    }
    assert rows_at(planes).shape == (SITES * SITES, 2)
    np.testing.assert_array_equal(rows_at(planes, np.array([5, 41])), [[5, 7], [41, 7]])


@pytest.mark.parametrize("shape", [(160, 160), (37, 300), (1, 1), (10_000, 3)])
def test_a_mask_keeps_its_share_at_working_size(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.bool_)
    mask[: max(1, shape[0] // 2)] = True
    found = working_mask(mask)
    assert found.shape == (WORKING_SIZE, WORKING_SIZE)
    assert found.mean() == pytest.approx(mask.mean(), abs=0.02)
