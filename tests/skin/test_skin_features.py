"""Jones & Rehg's seven numbers, measured again by hand, and the classifiers on them."""

import numpy as np
import pytest
from literal_regions import literal_regions
from numpy.typing import NDArray
from skin_pictures import SKIN, odd_pictures, plain, scene
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from figleaf.errors import FigleafError
from figleaf.skin.pictures import RgbU8
from figleaf.skin.pixel_model import PixelModel, RulePixels
from figleaf.skin.pixel_rules import KovacRule
from figleaf.skin.published_mixture import JonesRehgMixture
from figleaf.skin.skin_features import NAMES, SkinFeatures, SkinFeaturesClassifier


class RedPixels(PixelModel):
    """Red as the probability."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        return rgb_u8[..., 0].astype(np.float32) / 255


def named(row: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, row.tolist(), strict=True))


def test_the_seven_numbers_are_what_they_say() -> None:
    rgb_u8 = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    found = named(SkinFeatures(RedPixels()).fit([rgb_u8[:10]]).transform([rgb_u8])[0])
    red = rgb_u8[..., 0] / np.float32(255)
    mask = red >= 0.5
    regions = literal_regions(mask)
    seen = {tuple(color) for color in (rgb_u8[:10] // 8).reshape(-1, 3).tolist()}
    unseen = [tuple(color) not in seen for color in (rgb_u8 // 8).reshape(-1, 3).tolist()]
    assert found == pytest.approx(
        {
            "skin_share": mask.mean(),
            "mean_skin_probability": red[mask].mean(),
            "largest_component": max(map(len, regions)) / mask.size,
            "components": len(regions),
            "unseen_colors": np.mean(unseen),
            "height": 30,
            "width": 40,
        }
    )
    assert 0 < found["unseen_colors"] < 1


def test_names_are_in_the_order_of_the_columns() -> None:
    assert SkinFeatures(RedPixels()).get_feature_names_out().tolist() == list(NAMES)


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_have_finite_features(name: str) -> None:
    rgb_u8 = odd_pictures()[name]
    features = SkinFeatures(RulePixels(JonesRehgMixture())).fit([plain(2, 2, SKIN)]).transform([rgb_u8])
    assert features.shape == (1, 7)
    assert features.dtype == np.float64
    assert np.isfinite(features).all()


def test_no_pictures_give_no_rows() -> None:
    assert SkinFeatures(RedPixels()).fit([plain(2, 2, SKIN)]).transform([]).shape == (0, 7)


@pytest.mark.parametrize("classifier", ["logistic", "boosting"])
def test_a_classifier_learns_what_the_share_of_skin_tells(classifier: str) -> None:
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    for index in range(80):
        rgb_u8 = rng.integers(0, 100, (24, 24, 3), dtype=np.uint8)
        labels.append(index % 2)
        rgb_u8[: 12 + 8 * (index % 2) - 4, :, 0] = 230
        pictures.append(rgb_u8)
    system = SkinFeaturesClassifier(RedPixels(), classifier).fit(pictures[:60], labels[:60])
    probability = system.predict_proba(pictures[60:])
    assert probability.sum(axis=1) == pytest.approx(np.ones(20))
    assert roc_auc_score(labels[60:], probability[:, 1]) == 1.0
    assert system.predict(pictures[60:]).tolist() == labels[60:]


def test_the_same_seed_gives_the_same_trees() -> None:
    pictures = [scene(index, 48) for index in range(40)]
    labels = [index % 2 for index in range(40)]
    one, two = (
        SkinFeaturesClassifier(RulePixels(KovacRule()), "boosting", random_state=3).fit(pictures, labels)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.predict_proba(pictures), two.predict_proba(pictures))


def test_what_is_fitted_is_kept_in_plain_attributes() -> None:
    system = SkinFeaturesClassifier(RedPixels()).fit([plain(2, 2, SKIN), plain(2, 2, (0, 0, 0))], [1, 0])
    assert {name for name in vars(system) if name.endswith("_")} == {"features_", "classifier_"}
    assert {name for name in vars(system.features_) if name.endswith("_")} == {"pixel_model_", "seen_"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1, 1], r"with the values \[1\]"), ([0, 2], r"\[0, 2\]"), ([0], r"shape \(1,\)")],
)
def test_labels_must_be_zero_and_one(labels: list[int], message: str) -> None:
    pictures = [plain(2, 2, SKIN), plain(2, 2, (0, 0, 0))]
    with pytest.raises(FigleafError, match=message):
        SkinFeaturesClassifier(RedPixels()).fit(pictures, labels)


def test_a_classifier_that_is_none_is_refused() -> None:
    with pytest.raises(FigleafError, match="classifier=forest: expected logistic or boosting"):
        SkinFeaturesClassifier(RedPixels(), "forest").fit([], [])


def test_before_a_fit_there_are_no_features() -> None:
    with pytest.raises(NotFittedError):
        SkinFeatures(RedPixels()).transform([plain(2, 2, SKIN)])
