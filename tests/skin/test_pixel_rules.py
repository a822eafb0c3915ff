"""The colour rules against their sentences in the literature, and what copies in circulation changed in them."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from skin_pictures import odd_pictures, scene

from figleaf.errors import FigleafError
from figleaf.skin.pixel_model import ColorRule, RulePixels
from figleaf.skin.pixel_rules import ChaiNganRule, HsvRule, KovacRule, NormalisedRgbRule


def kovac_daylight(r: int, g: int, b: int) -> bool:
    return r > 95 and g > 40 and b > 20 and max(r, g, b) - min(r, g, b) > 15 and abs(r - g) > 15 and r > g and r > b


def kovac_flash(r: int, g: int, b: int) -> bool:
    return r > 220 and g > 210 and b > 170 and abs(r - g) <= 15 and r > b and g > b


def chai_ngan(r: int, g: int, b: int, gain: Fraction) -> bool:
    # BT.601 in whole fractions: a colour exactly on a limit is on the right side of it.
    luma = Fraction(299, 1000) * r + Fraction(587, 1000) * g + Fraction(114, 1000) * b
    cb = 128 + (b - luma) / Fraction(1772, 1000) * gain
    cr = 128 + (r - luma) / Fraction(1402, 1000) * gain
    return 77 <= cb <= 127 and 133 <= cr <= 173


def chai_ngan_full(r: int, g: int, b: int) -> bool:
    return chai_ngan(r, g, b, Fraction(1))


def chai_ngan_studio(r: int, g: int, b: int) -> bool:
    return chai_ngan(r, g, b, Fraction(224, 255))


def normalised(r: int, g: int, b: int) -> bool:
    if g == 0 or r + g + b == 0:
        return False  # r b > 0.107 (r + g + b)^2 alone would allow green 0, r g > 0.112 (r + g + b)^2 does not
    total = r + g + b
    return r / g > 1.185 and r * b / total**2 > 0.107 and r * g / total**2 > 0.112


def hsv_box(r: int, g: int, b: int) -> bool:
    largest, spread = max(r, g, b), max(r, g, b) - min(r, g, b)
    if spread == 0:
        return False  # grey has saturation 0
    if largest == r:
        hue = 60 * (g - b) / spread
        return 0 <= hue <= 50 and 0.23 <= spread / largest <= 0.68
    return False  # hues of 60 and more, or negative ones


RULES: dict[str, tuple[ColorRule, Callable[[int, int, int], bool]]] = {
    "daylight": (KovacRule(), kovac_daylight),
    "flash": (KovacRule("flash"), kovac_flash),
    "either": (KovacRule("either"), lambda r, g, b: kovac_daylight(r, g, b) or kovac_flash(r, g, b)),
    "box, full range": (ChaiNganRule("full"), chai_ngan_full),
    "box, studio range": (ChaiNganRule(), chai_ngan_studio),
    "normalised": (NormalisedRgbRule(), normalised),
    "hsv": (HsvRule(), hsv_box),
}


def colors() -> np.ndarray:
    """A grid over the whole cube, and many colours around that of skin, where the limits are."""
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(-1, 3)
    near = np.random.default_rng(0).normal((180, 130, 105), (45, 40, 40), (8000, 3))
    light = np.random.default_rng(1).normal((235, 225, 185), 12, (2000, 3))
    return np.concatenate([grid, np.clip(near, 0, 255), np.clip(light, 0, 255)]).astype(np.uint8)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_sentence(name: str) -> None:
    rule, sentence = RULES[name]
    known = colors()
    expected = np.array([sentence(*map(int, rgb)) for rgb in known], float)
    assert 0.005 < expected.mean() < 0.9
    np.testing.assert_array_equal(rule.color_probability(known.astype(np.float64)), expected)


def is_skin(rule: ColorRule, *rgb: int) -> bool:
    return bool(rule.color_probability(np.array([rgb], float))[0])


def test_dark_red_is_no_skin_as_in_a_shader_with_a_slip() -> None:
    # R > 45 instead of R > 95, in a WebGL port.
    assert not is_skin(KovacRule(), 80, 50, 30)


def test_light_skin_is_skin() -> None:
    # nude.js and nudepy add G < 100, which leaves out most skin that is not dark.
    assert is_skin(KovacRule(), 200, 140, 110)


def test_orange_is_within_the_hsv_box() -> None:
    # nudepy ends at 35 degrees.
    assert is_skin(HsvRule(), 200, 160, 90)


def test_nudepys_chroma_box_is_another() -> None:
    # 97.5 <= Cb <= 142.5 and 134 <= Cr <= 176, in full range: yellowish skin is out, pink is in.
    assert is_skin(ChaiNganRule("full"), 200, 140, 80)
    assert not is_skin(ChaiNganRule("full"), 230, 150, 200)


def test_range_matters() -> None:
    differing = [rgb for rgb in colors() if chai_ngan_full(*map(int, rgb)) != chai_ngan_studio(*map(int, rgb))]
    assert len(differing) > 100


def test_rules_work_on_pictures_without_a_fit() -> None:
    rgb_u8 = scene(9)
    mask = RulePixels(KovacRule()).skin_mask(rgb_u8)
    assert mask.shape == (160, 160)
    y, x = 60, 100
    assert mask[y, x] == kovac_daylight(*map(int, rgb_u8[y, x]))


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_get_probabilities(name: str) -> None:
    rgb_u8 = odd_pictures()[name]
    for rule, _ in RULES.values():
        probability = RulePixels(rule).skin_probability(rgb_u8)
        assert probability.shape == rgb_u8.shape[:2]
        assert set(np.unique(probability)) <= {0.0, 1.0}


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(FigleafError, match="light=lamp: expected daylight, flash or either"):
        is_skin(KovacRule("lamp"), 1, 2, 3)
    with pytest.raises(FigleafError, match="value_range=wide: expected full or studio"):
        is_skin(ChaiNganRule("wide"), 1, 2, 3)
