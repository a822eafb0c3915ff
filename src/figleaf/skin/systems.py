"""The skin systems by name, each with its options and their defaults: what `model.system` and `model.options` say.

A system is a function of its options and of the seed; its parameters are the options. Where it has an option `area`,
that is the share of skin from which a picture is unsafe.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator

from figleaf.errors import FigleafError
from figleaf.skin.apapid import ApApidRules
from figleaf.skin.area import FLECK_AREA, AreaRule
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.color_histogram import ColorHistogram, ColorHistogramClassifier
from figleaf.skin.filter import FleckFilter
from figleaf.skin.fitted_colors import BoostedColors, FittedColorPixels, FittedColors, HistogramColors, MixtureColors
from figleaf.skin.image_system import ImageSystem
from figleaf.skin.limb_gallery import LimbGallery, NearestView
from figleaf.skin.limb_judge import LimbJudge
from figleaf.skin.limb_parts import LimbParts
from figleaf.skin.limb_system import LimbDistance, LimbRule
from figleaf.skin.minimum_distance import MahalanobisMean, NearestMean
from figleaf.skin.options import require_options
from figleaf.skin.pixel_model import PixelModel, RulePixels
from figleaf.skin.pixel_rules import ChaiNganRule, HsvRule, KovacRule, NormalisedRgbRule
from figleaf.skin.published_mixture import JonesRehgMixture
from figleaf.skin.skin_features import SkinFeatures, SkinFeaturesClassifier
from figleaf.skin.skin_map_classifier import SkinMapClassifier, SkinMapFeatures

# Every class that a file of a fitted system may name; see `figleaf.skin.storage`.
PARTS: tuple[type[BaseEstimator], ...] = (
    *(ApApidRules, AreaRule, SkinFeatures, SkinFeaturesClassifier),
    *(LimbDistance, LimbGallery, LimbJudge, LimbParts, LimbRule, MahalanobisMean, NearestMean, NearestView),
    *(ColorHistogram, ColorHistogramClassifier, SkinMapClassifier, SkinMapFeatures),
    *(BoostedPixels, FittedColorPixels, FleckFilter, RulePixels),
    *(BoostedColors, HistogramColors, MixtureColors),
    *(ChaiNganRule, HsvRule, JonesRehgMixture, KovacRule, NormalisedRgbRule),
)


def fleck(
    *,
    random_state: int,
    mode: str = "fast",
    stage: str = "filter",
    area: float = FLECK_AREA,
    texture: bool = True,
    zero_offset: bool = True,
    noise: bool = True,
    clean_up: bool = True,
    relaxed: bool = True,
) -> ImageSystem:
    """Fleck, Forsyth & Bregler's filter of 1996 and its 30 % rule; each part can be left out."""
    pixels = FleckFilter(
        mode=mode,
        stage=stage,
        texture=texture,
        zero_offset=zero_offset,
        noise=noise,
        clean_up=clean_up,
        relaxed=relaxed,
        random_state=random_state,
    )
    return AreaRule(pixels, area)


def kovac(*, random_state: int, light: str = "daylight", area: float = FLECK_AREA) -> ImageSystem:
    """Kovac, Peer & Solina's rule in RGB on 30 % of the area."""
    return AreaRule(RulePixels(KovacRule(light)), area)


def ycbcr(*, random_state: int, value_range: str = "studio", area: float = FLECK_AREA) -> ImageSystem:
    """Chai & Ngan's box in Cb and Cr on 30 % of the area."""
    return AreaRule(RulePixels(ChaiNganRule(value_range)), area)


def hsv(*, random_state: int, area: float = FLECK_AREA) -> ImageSystem:
    """The common box in hue and saturation on 30 % of the area."""
    return AreaRule(RulePixels(HsvRule()), area)


def normalised_rgb(*, random_state: int, area: float = FLECK_AREA) -> ImageSystem:
    """The common rule on chromaticities on 30 % of the area."""
    return AreaRule(RulePixels(NormalisedRgbRule()), area)


def jones_rehg(*, random_state: int, skin_prior: float = 0.5, area: float = FLECK_AREA) -> ImageSystem:
    """Jones & Rehg's published mixtures of Gaussians on 30 % of the area; nothing is fitted."""
    return AreaRule(RulePixels(JonesRehgMixture(skin_prior)), area)


def apapid(*, random_state: int, rule: str = "normalised_rgb") -> ImageSystem:
    """Ap-apid's six rules of 2005 on the regions that a pixel rule finds."""
    return ApApidRules(pixels_called(rule))


def jones_rehg_features(*, random_state: int, rule: str = "jones_rehg", classifier: str = "logistic") -> ImageSystem:
    """Jones & Rehg's seven numbers about a picture's skin, and a fitted classifier: logistic or boosting."""
    return SkinFeaturesClassifier(pixels_called(rule), classifier, random_state)


def histogram(
    *,
    random_state: int,
    bins: int = 32,
    smoothing: float = 4.0,
    pixels_per_picture: int = 1000,
    area: float = FLECK_AREA,
) -> ImageSystem:
    """Jones & Rehg's histograms of skin and other colours, fitted from masks, on 30 % of the area."""
    return _area_of(HistogramColors(bins, smoothing), pixels_per_picture, random_state, area)


def mixture(
    *,
    random_state: int,
    components: int = 8,
    covariance: str = "full",
    pixels_per_picture: int = 100,
    area: float = FLECK_AREA,
) -> ImageSystem:
    """A mixture of Gaussians for skin and one for other colours, fitted from masks, on 30 % of the area."""
    colors = MixtureColors(components, covariance, random_state=random_state)
    return _area_of(colors, pixels_per_picture, random_state, area)


def boosted_colors(
    *, random_state: int, trees: int = 100, leaves: int = 31, pixels_per_picture: int = 300, area: float = FLECK_AREA
) -> ImageSystem:
    """Gradient-boosted trees on a pixel's colour alone, fitted from masks, on 30 % of the area."""
    colors = BoostedColors(trees, leaves, random_state=random_state)
    return _area_of(colors, pixels_per_picture, random_state, area)


def boosted_pixels(
    *,
    random_state: int,
    rounds: int = 2,
    trees: int = 120,
    pixels_per_picture: int = 60,
    area: float = FLECK_AREA,
) -> ImageSystem:
    """Gradient-boosted trees on a pixel's colour, texture, surroundings and first map, on 30 % of the area."""
    return AreaRule(_boosted_pixels(rounds, trees, pixels_per_picture, random_state), area)


def color_histogram(*, random_state: int, bins: int = 8, inverse_penalty: float = 10.0) -> ImageSystem:
    """Logistic regression on a picture's colour histogram; knows nothing of skin."""
    return ColorHistogramClassifier(bins, inverse_penalty)


def maps(
    *, random_state: int, rounds: int = 2, trees: int = 120, pixels_per_picture: int = 60, folds: int = 3
) -> ImageSystem:
    """The maps of boosted_pixels described in numbers, and boosted trees on these."""
    pixels = _boosted_pixels(rounds, trees, pixels_per_picture, random_state)
    return SkinMapClassifier(pixels, folds=folds, random_state=random_state)


def limbs(
    *,
    random_state: int,
    pixels: str = "fleck",
    structure: str = "girdle",
    verified: bool = False,
    area: float = FLECK_AREA,
    judged: bool = False,
) -> ImageSystem:
    """Skin on 30 % of the area that forms limbs and girdles; `pixels`: a rule, or boosted_colors fitted from masks.

    `verified`: of ribbons that look like a drawn limb only; `judged`: of the likeliest of many ribbons, from between
    creases of the skin and where a network sees limbs, too.
    """
    return LimbRule(_mask_of_limbs(pixels, random_state), area, structure, verified, judged)


def limb_distance(
    *,
    random_state: int,
    pixels: str = "boosted_colors",
    distance: str = "mahalanobis",
    verified: bool = False,
    judged: bool = False,
) -> ImageSystem:
    """Numbers about skin and groups of limbs, and the nearest class mean: nearest_mean or mahalanobis."""
    return LimbDistance(_mask_of_limbs(pixels, random_state), distance, verified, judged)


def _mask_of_limbs(pixels: str, random_state: int) -> PixelModel:
    if pixels == "boosted_colors":
        colors = BoostedColors(random_state=random_state)
        return FittedColorPixels(colors, pixels_per_picture=300, random_state=random_state)
    if pixels not in PIXEL_RULES:
        raise FigleafError(f"pixels={pixels}: expected boosted_colors or one of {', '.join(PIXEL_RULES)}")
    return pixels_called(pixels)


def _boosted_pixels(rounds: int, trees: int, pixels_per_picture: int, random_state: int) -> BoostedPixels:
    return BoostedPixels(rounds, trees, pixels_per_picture=pixels_per_picture, random_state=random_state)


def _area_of(colors: FittedColors, pixels_per_picture: int, random_state: int, area: float) -> AreaRule:
    return AreaRule(FittedColorPixels(colors, pixels_per_picture, random_state=random_state), area)


SYSTEMS: Mapping[str, Callable[..., ImageSystem]] = {
    system.__name__: system
    for system in (
        *(fleck, kovac, ycbcr, hsv, normalised_rgb, jones_rehg, apapid, jones_rehg_features),
        *(histogram, mixture, boosted_colors, boosted_pixels, color_histogram, maps, limbs),
        limb_distance,
    )
}
PIXEL_RULES: Mapping[str, Callable[[], PixelModel]] = {
    "fleck": lambda: FleckFilter(mode="fast"),
    "kovac": lambda: RulePixels(KovacRule()),
    "ycbcr": lambda: RulePixels(ChaiNganRule()),
    "hsv": lambda: RulePixels(HsvRule()),
    "normalised_rgb": lambda: RulePixels(NormalisedRgbRule()),
    "jones_rehg": lambda: RulePixels(JonesRehgMixture()),
}


def pixels_called(name: str) -> PixelModel:
    """The published pixel rule of that name. Raises `FigleafError` that lists the names there are."""
    if name not in PIXEL_RULES:
        raise FigleafError(f"rule={name}: expected one of {', '.join(PIXEL_RULES)}")
    return PIXEL_RULES[name]()


def build(name: str, options: Mapping[str, Any], *, random_state: int) -> ImageSystem:
    """The system of that name, not fitted yet.

    Raises `FigleafError` for an unknown name or option, or a value of another kind; one that is out of range `fit`
    refuses.
    """
    if name not in SYSTEMS:
        raise FigleafError(f"model.system={name}: expected one of {', '.join(SYSTEMS)}")
    require_options(name, options, options_of(name))
    return SYSTEMS[name](random_state=random_state, **options)


def options_of(name: str) -> dict[str, Any]:
    """The options of a system with their defaults."""
    parameters = inspect.signature(SYSTEMS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "random_state"}
