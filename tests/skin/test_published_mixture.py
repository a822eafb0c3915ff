"""Jones & Rehg's Gaussians: the table, the density against scipy, known likelihood ratios."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from skin_pictures import odd_pictures

from figleaf.errors import FigleafError
from figleaf.skin.pixel_model import RulePixels
from figleaf.skin.published_mixture import JonesRehgMixture, log_likelihood_ratio, published_mixtures


def test_the_table_holds_two_times_sixteen_gaussians() -> None:
    skin, not_skin = published_mixtures()
    for mixture in (skin, not_skin):
        assert mixture.means.shape == mixture.variances.shape == (16, 3)
        assert mixture.weights.sum() == pytest.approx(1, abs=1e-3)  # as printed, to four digits
        assert mixture.means.min() > 0
        assert mixture.means.max() < 255
        assert mixture.variances.min() > 2
    np.testing.assert_array_equal(skin.means[0], [73.53, 29.94, 17.76])
    np.testing.assert_array_equal(skin.variances[3], [274.95, 64.60, 198.27])
    np.testing.assert_array_equal(not_skin.means[0], [254.37, 254.41, 253.82])
    assert skin.weights[[0, 15]].tolist() == [0.0294, 0.0749]


def test_the_table_names_its_source() -> None:
    table = json.loads(resources.files("figleaf.skin").joinpath("jones_rehg_gmm.json").read_text())
    assert "Jones & J. M. Rehg" in table["source"]


def test_the_table_is_the_shared_one(shared: Path) -> None:
    known = json.loads((shared / "reference" / "jones_rehg_gmm.json").read_text())
    for mixture, name in zip(published_mixtures(), ("skin", "nonskin"), strict=True):
        np.testing.assert_array_equal(mixture.means, known[name]["mean"])
        np.testing.assert_array_equal(mixture.variances, known[name]["var"])
        np.testing.assert_array_equal(mixture.weights, known[name]["w"])


def test_the_density_is_scipys() -> None:
    rgb = np.random.default_rng(0).uniform(0, 255, (200, 3))
    for mixture in published_mixtures():
        expected = sum(
            weight * multivariate_normal(mean, np.diag(variance)).pdf(rgb)
            for mean, variance, weight in zip(mixture.means, mixture.variances, mixture.weights, strict=True)
        )
        known = expected > 1e-250
        assert known.mean() > 0.9
        np.testing.assert_allclose(mixture.log_density(rgb)[known], np.log(expected[known]), rtol=1e-9)


@pytest.mark.parametrize(
    ("rgb", "ratio"),
    [
        ((224, 172, 140), 3.13), ((141, 85, 60), 2.19), ((90, 56, 37), 1.01),
        ((255, 255, 255), -9.4), ((60, 120, 200), -27.6), ((30, 160, 60), -21.0),
    ],
)  # fmt: skip
def test_light_middle_and_dark_skin_are_likelier_than_white_blue_and_green(
    rgb: tuple[int, int, int], ratio: float
) -> None:
    assert log_likelihood_ratio(np.array([rgb], float))[0] == pytest.approx(ratio, abs=0.06)


def test_a_half_is_a_likelihood_ratio_of_one_and_the_prior_shifts_it() -> None:
    rgb = np.random.default_rng(0).uniform(0, 255, (500, 3))
    ratio = log_likelihood_ratio(rgb)
    even, rare = JonesRehgMixture().color_probability(rgb), JonesRehgMixture(skin_prior=0.1).color_probability(rgb)
    np.testing.assert_array_equal(even >= 0.5, ratio >= 0)
    np.testing.assert_array_equal(rare >= 0.5, ratio >= np.log(9))


def test_large_pictures_are_done_in_parts() -> None:
    rgb_u8 = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    whole = RulePixels(JonesRehgMixture()).skin_probability(rgb_u8)
    part = RulePixels(JonesRehgMixture()).skin_probability(rgb_u8[290:])
    np.testing.assert_array_equal(whole[290:], part)


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_get_probabilities(name: str) -> None:
    probability = RulePixels(JonesRehgMixture()).skin_probability(odd_pictures()[name])
    assert np.isfinite(probability).all()
    assert probability.min() >= 0
    assert probability.max() <= 1


def test_a_prior_of_one_is_refused() -> None:
    with pytest.raises(FigleafError, match=r"skin_prior=1: expected 0 < x < 1"):
        JonesRehgMixture(skin_prior=1).color_probability(np.zeros((1, 3)))
