"""The colour spaces against other implementations and known values; what the light may and may not change."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from skin_pictures import SKIN, plain, skin_noise

from figleaf.errors import FigleafError
from figleaf.skin import color
from figleaf.skin.color import YcbcrRange

COLORS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.just(3)))


def test_the_log_response_runs_to_253() -> None:
    # "The constant 105 simply scales the output of the log function into the range [0,254]."
    assert color.log_response(np.array([0.0, 255.0, 256.0])) == pytest.approx([0.0, 252.865, 253.043], abs=0.001)


def test_scale_is_one_where_height_and_width_are_320_px() -> None:
    assert color.scale(160, 160) == 1
    assert color.scale(400, 512) == pytest.approx(2.85)
    # A port divides by 640 and so halves every window.
    assert color.scale(320, 320) == 2


def test_the_zero_response_is_the_smallest_value_inside_the_edge() -> None:
    rgb_u8 = plain(40, 50, (90, 80, 70))
    rgb_u8[:10] = rgb_u8[:, :10] = rgb_u8[-10:] = rgb_u8[:, -10:] = 0
    assert color.zero_response(rgb_u8) == 70
    rgb_u8[10, 10, 1] = 33
    assert color.zero_response(rgb_u8) == 33


def test_the_zero_response_leaves_the_picture_as_it_is() -> None:
    # A port in circulation draws a white frame into the picture to leave the edge out, and goes on with that picture.
    rgb_u8 = skin_noise(40, 40)
    before = rgb_u8.copy()
    planes = color.log_opponent(rgb_u8, noise=False)
    np.testing.assert_array_equal(rgb_u8, before)
    green_of_the_corner = max(0, int(rgb_u8[0, 0, 1]) - color.zero_response(rgb_u8))
    assert planes.intensity[0, 0] == pytest.approx(color.log_response(np.array(green_of_the_corner)))


def test_a_picture_with_no_inside_has_no_zero_response() -> None:
    assert color.zero_response(plain(20, 300, SKIN)) == 0
    assert color.zero_response(plain(21, 300, SKIN)) == min(SKIN)


def test_values_darker_than_the_zero_response_become_black() -> None:
    rgb_u8 = plain(40, 40, (90, 80, 70))
    rgb_u8[0, 0] = 5
    planes = color.log_opponent(rgb_u8, noise=False)
    assert (planes.intensity[0, 0], planes.rg[0, 0], planes.by[0, 0]) == (0, 0, 0)


def test_the_planes_are_those_of_the_page() -> None:
    red, green, blue = color.log_response(np.array(SKIN, float))
    planes = color.log_opponent(plain(3, 4, SKIN), noise=False)
    assert planes.intensity == pytest.approx(np.full((3, 4), green))
    assert planes.rg == pytest.approx(np.full((3, 4), red - green))
    assert planes.by == pytest.approx(np.full((3, 4), blue - (green + red) / 2))


def test_noise_is_seeded_below_one_and_differs_between_the_planes() -> None:
    field = color.noise_field(30, 40, 7)
    np.testing.assert_array_equal(field, color.noise_field(30, 40, 7))
    assert field.min() >= 0
    assert field.max() < 1
    assert np.abs(np.corrcoef(field.reshape(-1, 3).T) - np.eye(3)).max() < 0.1
    assert not np.array_equal(field, color.noise_field(30, 40, 8))


def test_noise_breaks_the_bands_of_a_dark_area() -> None:
    dark = plain(30, 30, (3, 2, 1))
    assert len(np.unique(color.log_opponent(dark, zero_offset=False, noise=False).rg)) == 1
    assert len(np.unique(color.log_opponent(dark, zero_offset=False).rg)) > 500


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.25])
def test_the_strength_of_the_light_hardly_moves_hue_and_saturation(factor: float) -> None:
    rgb_u8 = np.array([SKIN, (180, 120, 80), (120, 60, 50)], np.uint8)[None]
    lit = np.rint(rgb_u8 * factor).astype(np.uint8)
    hues, saturations = [], []
    for picture in (rgb_u8, lit):
        planes = color.log_opponent(picture, zero_offset=False, noise=False)
        hues.append(color.hue_deg(planes.rg, planes.by))
        saturations.append(color.saturation(planes.rg, planes.by))
    assert np.abs(hues[0] - hues[1]).max() < 2
    assert np.abs(saturations[0] - saturations[1]).max() < 1.5


def test_grey_has_no_hue_and_no_saturation() -> None:
    planes = color.log_opponent(plain(2, 2, (77, 77, 77)), noise=False)
    assert not color.hue_deg(planes.rg, planes.by).any()
    assert not color.saturation(planes.rg, planes.by).any()


def test_hue_turns_from_red_over_yellow() -> None:
    assert color.hue_deg(np.array([1.0, 0.0, 1.0]), np.array([0.0, -1.0, -1.0])).tolist() == [90, 180, 135]


@given(COLORS)
def test_full_range_ycbcr_is_jpegs(rgb_u8: np.ndarray) -> None:
    ours = color.ycbcr(rgb_u8.astype(np.float64))
    pillow = np.asarray(Image.fromarray(rgb_u8[None]).convert("YCbCr"))[0]
    np.testing.assert_allclose(ours, pillow, atol=1.01)  # Pillow cuts chroma of 255.5 off at 255, and rounds


def test_studio_range_ends_where_bt601_says() -> None:
    white, black, red, blue = color.ycbcr(
        np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], float), YcbcrRange.STUDIO
    )
    assert white == pytest.approx([235, 128, 128])
    assert black == pytest.approx([16, 128, 128])
    assert red[2] == pytest.approx(240)
    assert blue[1] == pytest.approx(240)


@given(COLORS)
def test_hsv_is_the_standard_librarys(rgb_u8: np.ndarray) -> None:
    ours = color.hsv(rgb_u8.astype(np.float64))
    for rgb, (hue, chroma, value) in zip(rgb_u8 / 255, ours, strict=True):
        expected = colorsys.rgb_to_hsv(*rgb)
        assert (hue / 360, chroma, value) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_way_out(picture: object, message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        color.log_opponent(picture)  # type: ignore[arg-type]
