import numpy as np
import pytest
from drawn_skin import drawn, odd
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from figleaf.errors import FigleafError
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.color_histogram import ColorHistogram, ColorHistogramClassifier
from figleaf.skin.fitted_colors import FittedColorPixels, HistogramColors
from figleaf.skin.held_out_maps import fit_with_maps, site_map
from figleaf.skin.map_features import map_features
from figleaf.skin.pixel_planes import SITES, WORKING_SIZE
from figleaf.skin.skin_map_classifier import SkinMapClassifier, SkinMapFeatures

COLORS = FittedColorPixels(HistogramColors(), pixels_per_picture=500)
BOOSTED = BoostedPixels(rounds=1, trees=12, leaves=8, folds=2)
SMALL = SkinMapClassifier(BOOSTED, folds=2, trees=20)


@pytest.fixture(scope="module")
def area() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Scenes labelled by the area of their skin: the lower and the upper third, as the skin-area proxy is."""
    pictures, masks, _ = drawn(180, 64)
    share = np.array([mask.mean() for mask in masks])
    low, high = np.quantile(share, [1 / 3, 2 / 3])
    chosen = np.flatnonzero((share <= low) | (share >= high))
    return [pictures[i] for i in chosen], [masks[i] for i in chosen], (share[chosen] >= high).astype(int)


@pytest.fixture(scope="module")
def fitted(area: tuple) -> SkinMapClassifier:
    pictures, masks, labels = area
    return clone(SMALL).fit(pictures[:80], labels[:80], masks[:80])


def test_it_ranks_pictures_by_their_skin(fitted: SkinMapClassifier, area: tuple) -> None:
    pictures, _, labels = area
    unsafe = fitted.predict_proba(pictures[80:])[:, 1]
    assert roc_auc_score(labels[80:], unsafe) > 0.8
    np.testing.assert_array_equal(fitted.predict(pictures[80:]), unsafe >= 0.5)


@pytest.mark.parametrize("name", odd())
def test_odd_pictures_have_a_score(fitted: SkinMapClassifier, name: str) -> None:
    found = fitted.predict_proba([odd()[name]])
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)
    features = fitted.features_.transform([odd()[name]])
    assert features.shape == (1, len(fitted.features_.get_feature_names_out()))
    assert np.isfinite(features).all()
    assert ColorHistogram(4).fit([odd()[name]]).transform([odd()[name]]).sum() > 0


def test_no_picture_gives_no_row(fitted: SkinMapClassifier) -> None:
    assert fitted.predict_proba([]).shape == (0, 2)


def test_the_same_seed_gives_the_same_scores(fitted: SkinMapClassifier, area: tuple) -> None:
    pictures, masks, labels = area
    again = clone(SMALL).fit(np.stack(pictures[:80]), labels[:80], masks[:80])
    np.testing.assert_array_equal(fitted.predict_proba(pictures[80:]), again.predict_proba(pictures[80:]))


def test_features_of_training_pictures_come_from_models_that_have_not_seen_them() -> None:
    # Every picture has a colour of its own, and a mask at random: held out, a model knows nothing about it.
    rng = np.random.default_rng(0)
    pictures = [np.full((20, 20, 3), color, np.uint8) for color in rng.integers(0, 256, (30, 3))]
    masks = [np.full((20, 20), index % 2 == 0) for index in range(30)]
    features = SkinMapFeatures(COLORS, folds=3)
    held_out = features.fit_transform(pictures, None, masks)
    seen = features.transform(pictures)
    mean = features.get_feature_names_out().tolist().index("mean")
    truth = np.arange(30) % 2 == 0
    assert roc_auc_score(truth, seen[:, mean]) == 1
    assert roc_auc_score(truth, held_out[:, mean]) < 0.8
    twice = SkinMapFeatures(COLORS, folds=3).fit_transform(pictures * 2, None, masks * 2, np.tile(np.arange(30), 2))
    assert roc_auc_score(np.tile(truth, 2), twice[:, mean]) < 0.8
    leaking = SkinMapFeatures(COLORS, folds=3).fit_transform(pictures * 2, None, masks * 2)
    assert roc_auc_score(np.tile(truth, 2), leaking[:, mean]) > 0.8


def test_any_pixel_model_gives_maps_and_a_boosted_one_its_own(area: tuple) -> None:
    pictures, masks, _ = area
    for model in (COLORS, clone(BOOSTED).set_params(trees=3)):
        known, maps = fit_with_maps(model, pictures[:10], [*masks[:9], None], folds=2)
        assert maps.shape == (10, SITES, SITES)
        assert ((maps >= 0) & (maps <= 1)).all()
        np.testing.assert_array_equal(site_map(known, pictures[20]), site_map(known, pictures[20]))
    assert site_map(known, pictures[20]).shape == (SITES, SITES)


def test_features_measure_what_their_names_say() -> None:
    site_map = np.zeros((SITES, SITES), np.float32)
    site_map[:20, 20:] = 1  # the upper right quarter
    site_map[30:33, 4:7] = 0.6
    found = map_features(site_map, np.full((WORKING_SIZE, WORKING_SIZE, 3), 90, np.uint8))
    size = SITES * SITES
    assert found["mean"] == pytest.approx((400 + 9 * 0.6) / size)
    assert found["share_0.5"] == pytest.approx(409 / size)
    assert found["share_0.7"] == pytest.approx(400 / size)
    assert found["doubt"] == pytest.approx(9 * 0.24 / size)
    assert (found["cell_2_0_1"], found["cell_2_1_1"], found["cell_4_0_3"]) == pytest.approx((1, 0, 1))
    assert (found["regions"], found["largest"], found["second"]) == pytest.approx((2, 0.25, 9 / size))
    assert (found["compactness"], found["box_filled"], found["box_height"]) == pytest.approx((1, 1, 0.5))
    assert found["on_border"] == pytest.approx(0.25)
    assert found["right_mean"] > 0.2 > -0.2 > found["down_mean"]
    assert found["contrast_intensity"] == pytest.approx(0, abs=1e-3)


def test_a_histogram_counts_shares_of_colors() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:4] = (255, 0, 130)
    histogram = ColorHistogram(bins=2).fit([picture])
    row = dict(zip(histogram.get_feature_names_out(), histogram.transform([picture])[0], strict=True))
    assert row.pop("color_1_0_1") == pytest.approx(np.sqrt(0.4))
    assert row.pop("color_0_0_0") == pytest.approx(np.sqrt(0.6))
    assert not any(row.values())
    red, blue = (255, 0, 130), (40, 40, 250)
    pictures = [np.array([red] * count + [blue] * (9 - count), np.uint8).reshape(3, 3, 3) for count in range(10)]
    found = ColorHistogramClassifier(bins=2).fit(pictures, np.arange(10) > 4).predict_proba(pictures)[:, 1]
    assert (np.diff(found) > 0).all()
    assert found[4] < 0.5 < found[5]


def test_what_cannot_be_fitted_is_refused(area: tuple) -> None:
    pictures, masks, labels = area
    with pytest.raises(FigleafError, match="0 of 80 pictures have a mask"):
        clone(SMALL).fit(pictures[:80], labels[:80])
    with pytest.raises(FigleafError, match="0 for safe or 1 for unsafe"):
        clone(SMALL).fit(pictures[:80], labels[:80] + 1, masks[:80])
    with pytest.raises(FigleafError, match="folds=1"):
        SkinMapClassifier(COLORS, folds=1).fit(pictures[:80], labels[:80], masks[:80])
    with pytest.raises(FigleafError, match="bins=65"):
        ColorHistogram(65).fit(pictures)
