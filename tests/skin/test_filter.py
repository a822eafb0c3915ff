"""The filter of 1996: stage by stage the literal transcription's masks, the published constants, none of the ports."""

import numpy as np
import pytest
from literal_filter import disc_neighbours, literal_filter, square_neighbours
from skin_pictures import SKIN, odd_pictures, plain, scene, skin_noise

from figleaf.data.decode import resize
from figleaf.errors import FigleafError
from figleaf.skin import color
from figleaf.skin import filter as skin_filter
from figleaf.skin.area import AreaRule, agreement
from figleaf.skin.filter import Colors, FleckFilter, cleaned_up, relaxed_colors, tight_colors
from figleaf.skin.texture import Mode, median

# Strips: SCALE, and with it the windows, grows with height plus width, the transcription's time with their product.
PICTURES = {
    "scene on grass": scene(9)[60:84],
    "scene on wood": scene(30)[:, 70:94],
    "scene with stripes": scene(25, 120)[30:58],
    "noise": skin_noise(26, 150, 60),
    "finer noise": skin_noise(48, 64, 15, seed=3),
}
STAGES = ("tight", "cleaned", "skin")


def one_color(hue_deg: float, saturation: float) -> Colors:
    rg = np.array([[saturation * np.sin(np.radians(hue_deg))]])
    by = np.array([[saturation * np.cos(np.radians(hue_deg))]])
    return Colors(rg=rg, by=by, hue_deg=np.array([[float(hue_deg)]]), saturation=np.array([[float(saturation)]]))


def rough_skin(amplitude: float, side: int = 80) -> np.ndarray:
    """Skin lit unevenly from pixel to pixel, so that its texture amplitude is about `amplitude`."""
    rng = np.random.default_rng(0)
    factor = 10 ** (rng.uniform(-2 * amplitude, 2 * amplitude, (side, side, 1)) / 105)
    return np.clip(np.array(SKIN) * 0.7 * factor, 0, 255).round().astype(np.uint8)


class TestAgainstTheLiteralTranscription:
    @pytest.mark.parametrize("name", PICTURES)
    @pytest.mark.parametrize(
        ("mode", "unit", "neighbours"), [("exact", 0.25, disc_neighbours), ("fast", 1.0, square_neighbours)]
    )
    def test_every_stage_has_the_same_mask(self, name: str, mode: str, unit: float, neighbours: object) -> None:
        rgb_u8 = PICTURES[name]
        noise = np.random.default_rng(0).random(rgb_u8.shape)
        expected = literal_filter(rgb_u8, noise, unit, neighbours)  # type: ignore[arg-type]
        steps = FleckFilter(mode).steps(rgb_u8)
        for stage in STAGES:
            np.testing.assert_array_equal(getattr(steps, stage), expected[stage], err_msg=stage)
        assert steps.texture is not None
        np.testing.assert_array_equal(steps.texture, np.minimum(expected["texture"], 63))

    @pytest.mark.slow
    def test_at_scale_one(self) -> None:
        rgb_u8 = scene(9, 280)[120:160]
        noise = np.random.default_rng(0).random(rgb_u8.shape)
        expected = literal_filter(rgb_u8, noise)
        steps = FleckFilter().steps(rgb_u8)
        assert steps.scale == 1
        for stage in STAGES:
            np.testing.assert_array_equal(getattr(steps, stage), expected[stage], err_msg=stage)

    @pytest.mark.parametrize("name", ["scene on grass", "finer noise"])
    def test_rounding_the_planes_moves_hardly_a_pixel(self, name: str) -> None:
        rgb_u8 = PICTURES[name]
        expected = literal_filter(rgb_u8, np.random.default_rng(0).random(rgb_u8.shape), unit=0)
        steps = FleckFilter().steps(rgb_u8)
        assert np.mean(steps.tight != expected["tight"]) < 0.01
        assert np.mean(steps.skin != expected["skin"]) < 0.01

    @pytest.mark.parametrize("part", ["texture", "zero", "clean_up", "relaxed"])
    def test_a_part_left_out_is_left_out_alone(self, part: str) -> None:
        rgb_u8 = np.maximum(PICTURES["noise"], 40)  # so that there is a zero response
        noise = np.random.default_rng(0).random(rgb_u8.shape)
        expected = literal_filter(rgb_u8, noise, **{f"use_{part}": False})  # type: ignore[arg-type]
        without = FleckFilter(**{"zero_offset" if part == "zero" else part: False})  # type: ignore[arg-type]
        np.testing.assert_array_equal(without.skin_mask(rgb_u8), expected["skin"])
        assert not np.array_equal(expected["skin"], FleckFilter().skin_mask(rgb_u8))

    def test_without_noise(self) -> None:
        rgb_u8 = PICTURES["noise"]
        expected = literal_filter(rgb_u8, np.zeros(rgb_u8.shape))
        np.testing.assert_array_equal(FleckFilter(noise=False).skin_mask(rgb_u8), expected["skin"])


class TestPublishedConstants:
    @pytest.mark.parametrize(
        ("hue", "saturation", "skin"),
        [
            (130, 40, True), (140, 25, True), (112, 40, True), (160, 100, True), (168, 40, True), (140, 62, True),
            (108, 40, False), (172, 40, False), (120, 62, False), (160, 29, False), (140, 18, False),
            (140, 132, False), (155, 25, False), (-140, 40, False), (40, 40, False),
        ],
    )  # fmt: skip
    def test_the_tight_stage_has_two_boxes(self, hue: float, saturation: float, skin: bool) -> None:
        assert tight_colors(one_color(hue, saturation)).item() is skin

    @pytest.mark.parametrize(("hue", "saturation"), [(110, 40), (170, 40), (120, 60), (120, 20), (160, 30)])
    def test_between_leaves_out_the_ends(self, hue: float, saturation: float) -> None:
        assert not tight_colors(one_color(hue, saturation)).item()

    @pytest.mark.parametrize(
        ("hue", "saturation", "skin"),
        [(110, 0, True), (180, 130, True), (145, 60, True), (109, 50, False), (-179, 50, False), (145, 131, False)],
    )
    def test_the_last_stage_has_one_wide_box(self, hue: float, saturation: float, skin: bool) -> None:
        assert relaxed_colors(one_color(hue, saturation)).item() is skin

    def test_radii_texture_and_area_are_the_pages(self) -> None:
        assert (skin_filter.COLOR_RADIUS, skin_filter.MAX_TEXTURE, skin_filter.CLEAN_UP_RADIUS) == (2, 5, 24)
        assert skin_filter.CLEAN_UP_SHARE == 1 / 8

    def test_an_eighth_of_the_disc_is_enough(self) -> None:
        mask = np.zeros((60, 60), bool)
        around = list(disc_neighbours(30, 30, 60, 60, 24))
        eighth = -(-len(around) // 8)
        for pixel in around[:eighth]:
            mask[pixel] = True
        assert cleaned_up(mask, 1.0)[30, 30]
        mask[around[0]] = False
        assert not cleaned_up(mask, 1.0)[30, 30]


class TestWhatPortsDoDifferently:
    """Each test fails for the port it names: what the port does is not done here."""

    def test_texture_counts(self) -> None:
        # Most ports have no texture term. Skin this rough is none; a plain piece of the same colour is.
        rough = rough_skin(12)
        assert FleckFilter(stage="tight", texture=False).skin_mask(rough).mean() > 0.9
        assert FleckFilter(stage="tight").skin_mask(rough).mean() < 0.02
        assert FleckFilter(stage="tight").skin_mask(plain(20, 20, SKIN)).all()

    def test_texture_may_be_five(self) -> None:
        # Kapur's MATLAB port stops at 4.5.
        steps = FleckFilter(noise=False, zero_offset=False).steps(rough_skin(4.75))
        assert steps.texture is not None
        in_between = (steps.texture > 4.5) & (steps.texture <= 5)
        assert in_between.mean() > 0.1
        assert steps.tight[in_between].mean() > 0.95

    def test_texture_may_not_be_twenty(self) -> None:
        # ProductiveRage's port allows 20.
        steps = FleckFilter(noise=False, zero_offset=False).steps(rough_skin(10))
        assert steps.texture is not None
        assert np.median(steps.texture) == pytest.approx(10, abs=2)
        assert not steps.tight[steps.texture > 5.5].any()

    def test_intensity_is_the_green_plane(self) -> None:
        # Kapur takes the mean of the three logarithms: noise in red and blue would be texture.
        rng = np.random.default_rng(0)
        rgb_u8 = plain(60, 60, (160, 130, 110))
        rgb_u8[..., 0] = rng.integers(100, 220, (60, 60))
        rgb_u8[..., 2] = rng.integers(60, 180, (60, 60))
        steps = FleckFilter(noise=False).steps(rgb_u8)
        assert steps.texture is not None
        assert not steps.texture.any()

    def test_a_median_of_radius_two_looks_at_thirteen_pixels(self) -> None:
        # Ports pass the radius as the side of the window, 3 px here: a cross of five pixels would outvote it.
        plane = np.zeros((9, 9))
        plane[4, 3:6] = plane[3:6, 4] = 50.0
        assert median(plane, 2.0, Mode.EXACT, low=-128.0)[4, 4] == 0
        plane[3:6, 3:6] = 50.0
        assert median(plane, 2.0, Mode.EXACT, low=-128.0)[4, 4] == 50

    @pytest.mark.parametrize(("hue", "saturation", "skin"), [(115, 40, True), (140, 15, False), (165, 80, True)])
    def test_kapurs_boxes_are_others(self, hue: float, saturation: float, skin: bool) -> None:
        # 120 to 160 degrees with a saturation of 10 to 60, and a narrow yellow one.
        assert tight_colors(one_color(hue, saturation)).item() is skin

    def test_a_speck_goes_and_a_hole_is_filled(self) -> None:
        # A dilation, which ports put in the place of the eighth of a disc, keeps every speck and never takes away.
        mask = np.zeros((120, 120), bool)
        mask[20:23, 20:23] = True
        assert not cleaned_up(mask, 1.0).any()
        mask[60:110, 60:110] = True
        mask[80:90, 80:90] = False
        cleaned = cleaned_up(mask, 1.0)
        assert cleaned[60:110, 60:110].all()
        assert not cleaned[20:23, 20:23].any()

    def test_too_much_saturation_is_dropped_again(self) -> None:
        # A port keeps a saturation of up to 180 in the last stage.
        assert not relaxed_colors(one_color(150, 150)).item()


class TestTheWholeFilter:
    def test_size_makes_no_difference(self) -> None:
        # SCALE: the same scene at twice the size has the same part of its area marked.
        for index in (9, 30, 40):
            shares = [
                FleckFilter(noise=False).skin_mask(resize(scene(index, 160), side)).mean() for side in (80, 160, 320)
            ]
            assert max(shares) - min(shares) < 0.06

    def test_the_light_makes_little_difference(self) -> None:
        rgb_u8 = np.minimum(scene(9), 200)
        shares = [
            FleckFilter(zero_offset=False).skin_mask(np.rint(rgb_u8 * factor).astype(np.uint8)).mean()
            for factor in (0.6, 1.0, 1.25)
        ]
        assert min(shares) > 0.1
        assert max(shares) - min(shares) < 0.05

    def test_a_zero_response_takes_the_color_away_unless_it_is_subtracted(self) -> None:
        # "This avoids potentially significant desaturation of opponent color values."
        rgb_u8 = np.full((60, 60, 3), (120, 70, 55), np.uint8)
        rgb_u8[30, 30] = 0
        foggy = rgb_u8 + np.uint8(60)
        clear, with_offset = (FleckFilter(noise=False).steps(picture).colors for picture in (rgb_u8, foggy))
        without = FleckFilter(noise=False, zero_offset=False).steps(foggy).colors
        assert with_offset.saturation == pytest.approx(clear.saturation)
        assert without.saturation[0, 0] < 0.6 * clear.saturation[0, 0]

    def test_masks_repeat_with_the_seed_and_hardly_depend_on_it(self) -> None:
        rgb_u8 = scene(9)
        masks = [FleckFilter(random_state=seed).skin_mask(rgb_u8) for seed in (0, 0, 1)]
        np.testing.assert_array_equal(masks[0], masks[1])
        assert 0 < np.mean(masks[0] != masks[2]) < 0.01

    def test_stages_are_subsets_as_told(self) -> None:
        rgb_u8 = scene(9)
        steps = FleckFilter().steps(rgb_u8)
        np.testing.assert_array_equal(steps.skin, steps.cleaned & steps.relaxed)
        assert not (steps.tight & ~steps.relaxed).any()  # what is tight has the relaxed colour, too
        for stage, mask in {"filter": steps.skin, "tight": steps.tight, "relaxed": steps.relaxed}.items():
            np.testing.assert_array_equal(FleckFilter(stage=stage).skin_mask(rgb_u8), mask)

    @pytest.mark.parametrize("mode", Mode)
    @pytest.mark.parametrize("name", odd_pictures())
    def test_odd_pictures_get_a_mask(self, mode: str, name: str) -> None:
        rgb_u8 = odd_pictures()[name]
        probability = FleckFilter(mode).skin_probability(rgb_u8)
        assert probability.shape == rgb_u8.shape[:2]
        assert probability.dtype == np.float32
        assert set(np.unique(probability)) <= {0.0, 1.0}

    def test_one_color_of_skin_is_all_skin_where_no_zero_can_be_known(self) -> None:
        assert FleckFilter().skin_mask(plain(20, 20, SKIN)).all()
        assert not FleckFilter().skin_mask(plain(20, 20, (40, 90, 200))).any()

    def test_both_modes_decide_alike(self) -> None:
        pictures = [scene(index) for index in range(40)]
        alike = agreement(*([FleckFilter(mode).skin_mask(picture) for picture in pictures] for mode in Mode))
        assert alike.decisions >= 0.97
        assert alike.pixels > 0.97
        assert alike.iou > 0.85

    def test_its_decision_is_thirty_percent_of_the_area(self) -> None:
        rgb_u8 = scene(9)
        share = FleckFilter().skin_mask(rgb_u8).mean()
        system = AreaRule(FleckFilter()).fit([rgb_u8], [0])
        assert system.area == 0.30
        assert system.predict([rgb_u8]).item() == int(share >= 0.30)

    def test_a_stage_that_is_none_is_refused(self) -> None:
        with pytest.raises(FigleafError, match="stage=loose: expected filter, tight, relaxed"):
            FleckFilter(stage="loose").skin_mask(scene(0))
        with pytest.raises(FigleafError, match="mode=quick"):
            FleckFilter("quick").skin_mask(scene(0))

    def test_the_camera_of_a_small_picture_is_unknown(self) -> None:
        assert color.zero_response(plain(5, 5, SKIN)) == 0
