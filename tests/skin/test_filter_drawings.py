"""Drawings of the filter's steps: sizes, what is marked where, colours that tell the two sides apart."""

import numpy as np
import pytest
from skin_pictures import odd_pictures, plain, scene

from figleaf.skin.filter import FleckFilter
from figleaf.skin.filter_drawings import GREEN, ORANGE, draw_filter, draw_mask, draw_steps


def test_every_step_is_drawn_at_the_pictures_size() -> None:
    rgb_u8 = scene(9)
    drawn = draw_steps(rgb_u8, FleckFilter().steps(rgb_u8))
    assert list(drawn) == [
        "picture", "intensity I", "red-green Rg, smoothed", "blue-yellow By, smoothed", "texture amplitude",
        "tight stage", "cleaned up", "skin, verified",
    ]  # fmt: skip
    assert all(image.shape == rgb_u8.shape and image.dtype == np.uint8 for image in drawn.values())
    np.testing.assert_array_equal(drawn["picture"], rgb_u8)


def test_without_a_texture_test_none_is_drawn() -> None:
    rgb_u8 = scene(9, 40)
    assert "texture amplitude" not in draw_steps(rgb_u8, FleckFilter("fast", texture=False).steps(rgb_u8))


def test_a_mask_keeps_its_colors_and_fades_the_rest() -> None:
    rgb_u8 = plain(20, 20, (10, 60, 10))
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    drawn = draw_mask(rgb_u8, mask)
    assert drawn[0, 0].tolist() == [drawn[0, 0, 0]] * 3  # grey
    assert drawn[0, 0, 0] > 150
    assert tuple(drawn[5, 9]) == ORANGE  # the outline
    assert drawn[10, 10, 1] != drawn[0, 0, 1]
    np.testing.assert_array_equal(rgb_u8, plain(20, 20, (10, 60, 10)))


def test_red_is_drawn_towards_orange_and_green_towards_green() -> None:
    rgb_u8 = np.concatenate([plain(20, 20, (220, 60, 60)), plain(20, 20, (60, 220, 60))], axis=1)
    drawn = draw_steps(rgb_u8, FleckFilter("fast").steps(rgb_u8))["red-green Rg, smoothed"].astype(int)
    for column, color, other in ((10, ORANGE, GREEN), (30, GREEN, ORANGE)):
        near, far = (np.abs(drawn[10, column] - np.array(end)).sum() for end in (color, other))
        assert near < far


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_can_be_drawn(name: str) -> None:
    rgb_u8 = odd_pictures()[name]
    sheet = draw_filter(rgb_u8, FleckFilter("fast").steps(rgb_u8))
    assert sheet.ndim == 3
    assert sheet.dtype == np.uint8
