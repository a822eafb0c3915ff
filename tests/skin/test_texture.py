"""Medians, discs and the texture amplitude against loops over every pixel and what texture must not depend on."""

import numpy as np
import pytest
from literal_filter import disc_neighbours, literal_median, square_neighbours
from skin_pictures import plain, skin_noise

from figleaf.errors import FigleafError
from figleaf.skin import color
from figleaf.skin.texture import Mode, amplitude, checked_mode, disc, median, rounded, share_in_disc

NEIGHBOURS = {Mode.EXACT: disc_neighbours, Mode.FAST: square_neighbours}


@pytest.mark.parametrize(("radius", "pixels"), [(0.5, 1), (1, 5), (1.5, 9), (2, 13), (4, 49), (6, 113), (24, 1793)])
def test_a_disc_holds_the_lattice_points_of_its_circle(radius: float, pixels: int) -> None:
    assert disc(radius).sum() == pixels  # Gauss's circle problem: 1, 5, 9, 13, 49, 113, 1793


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 4.0, 9.0])
@pytest.mark.parametrize("shape", [(17, 23), (1, 30), (30, 2), (1, 1)])
def test_medians_are_those_of_sorted_surroundings(mode: Mode, radius: float, shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).uniform(-120, 120, shape)
    expected = literal_median(rounded(plane, mode).tolist(), radius, NEIGHBOURS[mode])
    np.testing.assert_array_equal(median(plane, radius, mode, low=-128.0), expected)


@pytest.mark.parametrize("mode", Mode)
def test_values_beyond_the_range_are_cut_off(mode: Mode) -> None:
    plane = np.array([[-900.0, 900.0]])
    assert median(plane, 0.0, mode, low=-128.0).tolist() == [[-128, 127]]


def test_a_window_that_opencv_cannot_count_is_thinned_out() -> None:
    # 363 squared is beyond 16 bits: OpenCV refuses it, or counts from 0 again. The picture's halves must come back.
    plane = np.full((900, 700), 30.0)
    plane[:, 350:] = 200.0
    found = median(plane, 205.0, Mode.FAST, low=0.0)
    assert found.shape == plane.shape
    np.testing.assert_array_equal(found[:, :345], 30.0)
    np.testing.assert_array_equal(found[:, 355:], 200.0)


@pytest.mark.parametrize("shape", [(20, 31), (1, 40), (40, 1), (5, 300)])
@pytest.mark.parametrize("radius", [0.4, 3.0, 12.5, 24.0])
def test_a_share_counts_the_marked_part_of_the_disc_inside_the_picture(shape: tuple[int, int], radius: float) -> None:
    mask = np.random.default_rng(1).random(shape) < 0.3
    shares = share_in_disc(mask, radius)
    for y, x in [(0, 0), (shape[0] - 1, shape[1] // 2), (shape[0] // 2, shape[1] - 1)]:
        inside = [mask[pixel] for pixel in disc_neighbours(y, x, *shape, radius)]
        assert shares[y, x] == np.mean(inside)


def test_a_share_of_all_is_one_up_to_the_edge() -> None:
    assert np.all(share_in_disc(np.ones((50, 70), bool), 24.0) == 1.0)


@pytest.mark.parametrize("mode", Mode)
def test_a_plain_picture_has_no_texture(mode: Mode) -> None:
    intensity = color.log_opponent(plain(40, 40, (120, 90, 60)), noise=False).intensity
    assert not amplitude(intensity, 1.0, mode).any()


@pytest.mark.parametrize("mode", Mode)
def test_texture_is_a_median_deviation_so_an_outline_has_none(mode: Mode) -> None:
    # A standard deviation, which is what "amplitude" is taken for in some ports, is large along an edge.
    intensity = np.full((60, 60), 100.0)
    intensity[:, 30:] = 200.0
    assert not amplitude(intensity, 1.0, mode).any()


@pytest.mark.parametrize("mode", Mode)
def test_texture_does_not_depend_on_the_light(mode: Mode) -> None:
    bright = np.clip(skin_noise(60, 60, strength=30).astype(float), 60, 255)
    amplitudes = [
        amplitude(color.log_opponent(rgb, zero_offset=False, noise=False).intensity, 0.5, mode)
        for rgb in (np.rint(bright).astype(np.uint8), np.rint(bright * 0.6).astype(np.uint8))
    ]
    assert np.median(amplitudes[0]) > 2
    difference = np.abs(amplitudes[0] - amplitudes[1])  # what is left comes from the rounding of darker values
    assert difference.max() <= 2
    assert difference.mean() < 0.5


@pytest.mark.parametrize("mode", Mode)
def test_rougher_surfaces_have_more_texture(mode: Mode) -> None:
    rng = np.random.default_rng(0)
    medians = [np.median(amplitude(120 + rng.normal(0, sd, (60, 60)), 1.0, mode)) for sd in (1, 4, 10, 30)]
    assert medians == sorted(medians)
    # The median of |x| of a Gaussian is 0.674 of its standard deviation.
    assert medians[2] == pytest.approx(6.74, abs=0.6)


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(FigleafError, match="mode=quick: expected exact or fast"):
        checked_mode("quick")
