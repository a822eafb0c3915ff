from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from figleaf.data.scenes import render
from figleaf.errors import FigleafError
from figleaf.skin.fitted_colors import (
    BoostedColors,
    FittedColorPixels,
    FittedColors,
    HistogramColors,
    MixtureColors,
    color_bins,
    log_density,
)
from figleaf.skin.systems import build

SKIN, OTHER = np.array([200.0, 150, 120]), np.array([110.0, 130, 140])
MODELS = [HistogramColors(bins=8), MixtureColors(components=1), BoostedColors(trees=50)]


def two_clouds(count: int, seed: int, spread: float = 35.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours, whether each is skin (30 %), and the true P(skin): two Gaussians that overlap."""
    rng = np.random.default_rng(seed)
    skin = rng.random(count) < 0.3
    colors = np.where(skin[:, None], SKIN, OTHER) + rng.normal(0, spread, (count, 3))
    inside = ((colors >= 0) & (colors <= 255)).all(axis=1)
    colors, skin = np.round(colors[inside]), skin[inside]
    densities = [
        share * multivariate_normal(mean, spread**2).pdf(colors) for share, mean in ((0.3, SKIN), (0.7, OTHER))
    ]
    return colors, skin, densities[0] / (densities[0] + densities[1])


@parametrize_with_checks([HistogramColors(), MixtureColors(), BoostedColors(trees=20)])
def test_color_models_are_scikit_learn_classifiers(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_histogram_says_what_counting_by_hand_says() -> None:
    # Bins of 128: (200, 10, 10) and (255, 0, 127) share one, (127, 0, 0) lies beside it
    colors = np.array([[200, 10, 10], [255, 0, 127], [200, 0, 0], [127, 0, 0], [10, 200, 0]], float)
    skin = np.array([True, True, False, False, False])
    model = HistogramColors(bins=2, smoothing=1.0).fit(colors, skin)
    overall = (2 + 1) / (5 + 2)
    expected = [(2 + overall) / 4, (2 + overall) / 4, (2 + overall) / 4, overall / 2, overall / 2]
    np.testing.assert_allclose(model.predict_proba(colors)[:, 1], expected)
    assert model.predict_proba([[255, 255, 255]])[0, 1] == pytest.approx(overall)


def test_bins_divide_the_range_evenly_and_differ_by_channel() -> None:
    ramp = np.arange(256)
    for channel in range(3):
        colors = np.zeros((256, 3))
        colors[:, channel] = ramp
        assert np.bincount(color_bins(colors, 32)).max() == 8
    assert len({int(color_bins(color, 32)) for color in np.eye(3) * 255}) == 3


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_probabilities_are_calibrated(model: FittedColors) -> None:
    model = clone(model).fit(*two_clouds(60_000, 0)[:2])
    colors, skin, truth = two_clouds(60_000, 1)
    found = model.predict_proba(colors)[:, 1]
    assert np.mean(np.abs(found - truth)) < 0.05
    for low in np.arange(0, 1, 0.2):
        said = (found >= low) & (found < low + 0.2)
        assert said.sum() > 500
        assert abs(found[said].mean() - skin[said].mean()) < 0.05


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_another_prior_multiplies_the_odds(model: FittedColors) -> None:
    colors, skin, _ = two_clouds(5_000, 0)
    as_found = clone(model).fit(colors, skin).predict_proba(colors)[:, 1]
    halved = clone(model).set_params(skin_prior=0.5).fit(colors, skin).predict_proba(colors)[:, 1]
    share = skin.mean()
    np.testing.assert_allclose(halved / (1 - halved), as_found / (1 - as_found) * (1 - share) / share, rtol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_the_same_seed_gives_the_same_model(model: FittedColors) -> None:
    colors, skin, _ = two_clouds(3_000, 0)
    first, second = (clone(model).fit(colors, skin).predict_proba(colors) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_mixture_finds_the_two_clouds() -> None:
    colors, skin, _ = two_clouds(20_000, 0, spread=20.0)
    model = MixtureColors(components=1).fit(colors, skin)
    np.testing.assert_allclose(model.skin_mixture_.means_[0], SKIN, atol=2)
    np.testing.assert_allclose(model.other_mixture_.means_[0], OTHER, atol=2)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_pixels_are_learned_from_masks_alone(model: FittedColors) -> None:
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (4, 20, 30, 3), dtype=np.uint8))
    masks = [picture[..., 0] > 128 for picture in pictures]
    pixels = FittedColorPixels(model, pixels_per_picture=10_000).fit(pictures, masks)
    unknown = [*pictures, rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)]
    same = FittedColorPixels(model, pixels_per_picture=10_000).fit(unknown, [*masks, None])
    picture = pictures[0]
    np.testing.assert_array_equal(pixels.skin_probability(picture), same.skin_probability(picture))
    by_hand = clone(model).fit(
        np.concatenate([p.reshape(-1, 3) for p in pictures]).astype(float), np.concatenate([m.ravel() for m in masks])
    )
    expected = by_hand.predict_proba(picture.reshape(-1, 3).astype(float))[:, 1].reshape(20, 30)
    np.testing.assert_allclose(pixels.skin_probability(picture), expected, atol=1e-4)  # pixels in another order
    assert pixels.skin_mask(picture).dtype == np.bool_


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("shape", [(1, 1), (10_000, 3), (1, 300)])
@pytest.mark.parametrize("value", [0, 255])
def test_odd_pictures_have_probabilities(model: FittedColors, shape: tuple[int, int], value: int) -> None:
    colors, skin, _ = two_clouds(2_000, 0)
    pixels = FittedColorPixels(model).fit([colors[None].astype(np.uint8)], [skin[None]])
    found = pixels.skin_probability(np.full((*shape, 3), value, np.uint8))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_the_density_of_a_mixture_is_that_of_scikit_learn(covariance: str) -> None:
    colors, skin, _ = two_clouds(2000, 0)
    model = MixtureColors(components=3, covariance=covariance).fit(colors, skin)
    for mixture in (model.skin_mixture_, model.other_mixture_):
        np.testing.assert_allclose(log_density(mixture, colors), mixture.score_samples(colors), rtol=1e-9)


def test_a_cloud_of_one_color_has_a_mixture_too() -> None:
    colors = np.array([[10, 10, 10]] * 5 + [[200, 100, 90]], float)
    model = MixtureColors(components=8).fit(colors, colors[:, 0] > 100)
    assert model.predict_proba([[200, 100, 90]])[0, 1] > 0.9
    assert model.predict_proba([[10, 10, 10]])[0, 1] < 0.01


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (HistogramColors(bins=0), "bins=0"),
        (HistogramColors(smoothing=0.0), "smoothing=0.0"),
        (HistogramColors(skin_prior=1.0), "skin_prior=1.0"),
        (MixtureColors(components=0), "components=0"),
        (MixtureColors(covariance="round"), "covariance=round"),
    ],
)
def test_a_wrong_setting_is_named(model: FittedColors, named: str) -> None:
    colors, skin, _ = two_clouds(100, 0)
    with pytest.raises(FigleafError, match=named):
        model.fit(colors, skin)


@pytest.mark.parametrize(
    ("system", "options", "told"),
    [
        ("boosted_colors", {"trees": 0}, "trees=0: expected at least 1"),
        ("boosted_colors", {"leaves": 1}, "leaves=1: expected at least 2"),
        ("boosted_pixels", {"trees": -1}, "trees=-1: expected at least 1"),
        ("maps", {"trees": 0}, "trees=0: expected at least 1"),
        ("mixture", {"components": 0}, "components=0: expected at least 1"),
        ("mixture", {"covariance": "tied"}, "covariance=tied: expected full or diag"),
        ("color_histogram", {"inverse_penalty": 0.0}, "inverse_penalty=0.0: expected more than 0"),
        ("limbs", {"pixels": "foo"}, "pixels=foo: expected boosted_colors or one of fleck, kovac"),
    ],
)
def test_a_number_of_which_nothing_can_be_made_is_named(system: str, options: dict[str, object], told: str) -> None:
    scenes = [render(0, number, 32) for number in range(8)]
    with pytest.raises(FigleafError, match=f"^{told}"):
        build(system, options, random_state=0).fit(
            [scene.rgb_u8 for scene in scenes], [0, 1] * 4, [scene.skin_mask for scene in scenes], list(range(8))
        )
