"""Codes: what each is worth is in their distances; every picture has one, without NaN."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import silhouette_score

from figleaf.data import scenes
from figleaf.errors import FigleafError
from figleaf.skin.bag_of_regions import BagOfRegions
from figleaf.skin.codes import Code, ColorHistogram, DctCode, Thumbnail, quadratic_root, similarity
from figleaf.skin.region_features import FEATURES, describe

SHAPES = [(1, 1), (1, 7), (3, 10_000), (10_000, 3), (40, 30)]


def codes() -> list[Code]:
    return [
        ColorHistogram(bins=4),
        ColorHistogram(bins=4, distance="hellinger"),
        Thumbnail(side=8, components=5),
        DctCode(luma=4, chroma=2),
        BagOfRegions(words=6, patches=40),
        BagOfRegions(words=4, patches=40, codebook="gmm"),
    ]


def noise(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def drawn() -> NDArray[np.uint8]:
    return np.stack([scenes.render(0, index, 64).rgb_u8 for index in range(24)])


@pytest.mark.parametrize("code", codes(), ids=str)
def test_any_picture_has_a_code(code: Code, drawn: NDArray[np.uint8]) -> None:
    code.fit(drawn)
    odd = [make(shape) for shape in SHAPES for make in (noise, lambda shape: np.zeros((*shape, 3), np.uint8))]
    found = code.transform(odd)
    assert found.dtype == np.float64
    assert found.shape == (len(odd), len(code.get_feature_names_out()))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("code", codes(), ids=str)
def test_a_collection_of_one_black_picture_is_a_collection(code: Code) -> None:
    black = np.zeros((1, 20, 20, 3), np.uint8)
    assert np.isfinite(code.fit(black).transform(black)).all()
    assert np.isfinite(code.transform([noise((20, 20))])).all()


@pytest.mark.parametrize("code", codes(), ids=str)
def test_state_brings_the_code_back(code: Code, drawn: NDArray[np.uint8]) -> None:
    expected = code.fit_transform(drawn)
    np.testing.assert_allclose(code.transform(drawn), expected, atol=1e-12)
    back = clone(code).restore({name: np.asarray(value) for name, value in code.state().items()})
    np.testing.assert_array_equal(back.transform(drawn), code.transform(drawn))


@pytest.mark.parametrize("code", [Thumbnail(), BagOfRegions()], ids=str)
def test_what_learns_must_be_fitted(code: Code) -> None:
    with pytest.raises(NotFittedError):
        code.transform([noise((8, 8))])


@pytest.mark.parametrize("code", codes(), ids=str)
def test_a_picture_is_nearer_to_its_brighter_self_than_to_others(code: Code, drawn: NDArray[np.uint8]) -> None:
    """Half of the pictures at least, for the weakest of the codes."""
    code.fit(drawn)
    brighter = np.clip(drawn.astype(int) + 6, 0, 255).astype(np.uint8)
    distance = np.linalg.norm(code.transform(brighter)[:, None] - code.transform(drawn)[None], axis=2)
    assert (distance.argmin(axis=1) == np.arange(len(drawn))).mean() > 0.5


def test_quadratic_form_is_qbics_with_colours_that_are_alike() -> None:
    rng = np.random.default_rng(0)
    a, root = similarity(3), quadratic_root(3)
    assert a.min() == 0
    np.testing.assert_array_equal(np.diag(a), 1)
    for _ in range(20):
        h, g = rng.dirichlet(np.ones(27), 2)
        assert np.linalg.norm(root @ h - root @ g) ** 2 == pytest.approx((h - g) @ a @ (h - g), rel=1e-9)


def test_quadratic_form_knows_that_colours_are_alike_and_hellinger_does_not() -> None:
    red, orange, blue = (np.full((8, 8, 3), color, np.uint8) for color in ((200, 20, 20), (200, 60, 20), (20, 20, 200)))
    quadratic = ColorHistogram().transform([red, orange, blue])
    assert np.linalg.norm(quadratic[0] - quadratic[1]) < 0.6 * np.linalg.norm(quadratic[0] - quadratic[2])
    hellinger = ColorHistogram(distance="hellinger").transform([red, orange, blue])
    assert np.linalg.norm(hellinger[0] - hellinger[1]) == np.linalg.norm(hellinger[0] - hellinger[2])


def test_histogram_counts_each_pixel_once_in_its_bin() -> None:
    picture = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 64], [255, 0, 127]]], np.uint8)
    found = ColorHistogram(bins=2).histogram(picture)
    assert found.tolist() == [0.25, 0, 0, 0, 0.5, 0, 0, 0.25]


def test_distance_that_is_none_of_the_two_is_named() -> None:
    with pytest.raises(FigleafError, match="distance=cosine"):
        ColorHistogram(distance="cosine").transform([noise((4, 4))])  # type: ignore[arg-type]


def test_principal_axes_keep_most_of_a_collection(drawn: NDArray[np.uint8]) -> None:
    code = Thumbnail(side=8, components=8).fit(drawn)
    np.testing.assert_allclose(code.axes_.T @ code.axes_, np.eye(8), atol=1e-9)
    pixels = code._pixels(drawn) - code.mean_
    assert (code.transform(drawn) ** 2).sum() > 0.8 * (pixels**2).sum()


def test_words_tell_kinds_of_picture_apart(drawn: NDArray[np.uint8]) -> None:
    """Two kinds of texture in the same colours: a histogram cannot, regions can."""
    rng = np.random.default_rng(0)
    coarse = [cv2.resize(rng.choice([60, 180], (8, 8)).astype(np.uint8), (64, 64), interpolation=0) for _ in range(12)]
    fine = [rng.choice([60, 180], (64, 64)).astype(np.uint8) for _ in range(12)]
    pictures = [np.repeat(grey[..., None], 3, axis=2) for grey in (*coarse, *fine)]
    kinds = np.repeat([0, 1], 12)
    assert silhouette_score(BagOfRegions(words=8, texture=2.0).fit_transform(pictures), kinds) > 0.3


def test_a_region_belongs_to_the_words_as_a_whole(drawn: NDArray[np.uint8]) -> None:
    code = BagOfRegions(words=6, nearest=3, patches=40).fit(drawn)
    features, areas = code.regions(drawn[:1])[0]
    shares = code.belonging(features)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert ((shares > 0).sum(axis=1) <= 3).all()
    assert areas.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(code.transform(drawn), axis=1), 1)


def test_shape_is_that_of_the_region() -> None:
    labels = np.zeros((60, 80), np.int32)
    labels[10:20, 10:50] = 1  # a bar, lying
    labels[30:40, 60:70] = 2  # a square
    labels[30:58, 10:30] = 3  # an L
    labels[30:48, 20:30] = 0
    features, areas = describe(noise((60, 80)), labels)
    named = dict(zip(FEATURES, features.T, strict=True))
    np.testing.assert_allclose(areas[1:], [400 / 4800, 100 / 4800, (28 * 20 - 180) / 4800])
    np.testing.assert_allclose(np.exp(named["shape_area"]), areas)
    assert named["shape_eccentricity"][1] == pytest.approx(np.sqrt(1 - 100 / 1600))
    assert named["shape_orientation_cos"][1] == pytest.approx(named["shape_eccentricity"][1])
    assert named["shape_eccentricity"][2] == 0
    np.testing.assert_allclose(named["shape_solidity"][1:3], 1)
    assert named["shape_solidity"][3] < 0.85
    assert named["shape_extent"][3] == pytest.approx(380 / 560)
    np.testing.assert_allclose([named["place_x"][1], named["place_y"][1]], [30 / 80, 15 / 60])


def test_shape_is_mirrored_and_turned_with_the_region() -> None:
    labels = np.zeros((50, 50), np.int32)
    cv2.ellipse(labels, (25, 25), (18, 7), 30, 0, 360, 1, cv2.FILLED)

    def shape(turned: NDArray[np.int32]) -> dict[str, float]:
        return dict(zip(FEATURES, describe(noise((50, 50)), turned)[0][1], strict=True))

    straight, mirrored, transposed = shape(labels), shape(labels[:, ::-1].copy()), shape(labels.T.copy())
    for name in ("area", "eccentricity", "solidity", "hu_1", "hu_2"):
        assert straight[f"shape_{name}"] == pytest.approx(mirrored[f"shape_{name}"], rel=1e-6)
        assert straight[f"shape_{name}"] == pytest.approx(transposed[f"shape_{name}"], rel=1e-6)
    assert straight["shape_orientation_sin"] == pytest.approx(-mirrored["shape_orientation_sin"], rel=1e-6)
    assert straight["shape_orientation_cos"] == pytest.approx(-transposed["shape_orientation_cos"], rel=1e-6)


def test_texture_has_the_direction_of_the_stripes() -> None:
    x = np.arange(64)
    stripes = np.repeat((127 + 100 * np.sin(x / 2))[None, :, None], 64, axis=0).repeat(3, axis=2).astype(np.uint8)
    one = np.zeros((64, 64), np.int32)
    upright, lying = (
        dict(zip(FEATURES, describe(np.ascontiguousarray(p), one)[0][0], strict=True))
        for p in (stripes, stripes.transpose(1, 0, 2))
    )
    assert upright["texture_direction"] > 0.99
    assert upright["texture_direction_cos"] == pytest.approx(-lying["texture_direction_cos"], abs=1e-3)
    grain = dict(zip(FEATURES, describe(noise((64, 64)), one)[0][0], strict=True))
    assert grain["texture_direction"] < 0.2
