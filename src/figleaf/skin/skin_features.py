"""Jones & Rehg's description of a picture by seven numbers about its skin, and classifiers on it.

Jones & Rehg, "Statistical Color Models with Application to Skin Detection" (CRL-98-11, IJCV 46(1) 2002), section on
adult images: the percentage of pixels detected as skin, the average probability of the skin pixels, the size of the
largest connected component of skin, the number of components, the percentage of colours that the histograms have never
seen, height and width. A component is 8-connected; a colour is one of 32 x 32 x 32 bins of RGB, and never seen when it
occurs in none of the pictures that the features were fitted to.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.skin.image_system import ImageSystem, checked_labels
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel

NAMES = (
    "skin_share",
    "mean_skin_probability",
    "largest_component",
    "components",
    "unseen_colors",
    "height",
    "width",
)
_BITS = 5  # 32 bins a channel
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


class SkinFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Pictures as the seven numbers `NAMES`, float64 (N, 7), on the masks and probabilities of a pixel model.

    Shares are of the picture's pixels, in [0, 1]. The mean probability is that of the pixels called skin, 0 where
    there are none.
    """

    def __init__(self, pixel_model: PixelModel) -> None:
        self.pixel_model = pixel_model

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike | None = None,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the pixel model and note the colours that occur; labels are not looked at."""
        self.pixel_model_: PixelModel = clone(self.pixel_model).fit(pictures, masks, groups)
        self.seen_ = np.zeros(1 << (3 * _BITS), np.bool_)
        for picture in pictures:
            self.seen_[_color_bins(picture)] = True
        return self

    def transform(self, pictures: Pictures) -> NDArray[np.float64]:
        """The features (N, 7) of pictures."""
        check_is_fitted(self)
        return np.array([self._of_one(picture) for picture in pictures], np.float64).reshape(-1, len(NAMES))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The seven names."""
        return np.array(NAMES, dtype=object)

    def _of_one(self, rgb_u8: RgbU8) -> tuple[float, ...]:
        probability = self.pixel_model_.skin_probability(rgb_u8)
        skin = probability >= self.pixel_model_.threshold
        components, count = ndimage.label(skin, _EIGHT_NEIGHBOURS)
        sizes = np.bincount(components.ravel(), minlength=2)[1:]
        return (
            float(skin.mean()),
            float(probability[skin].mean()) if count else 0.0,
            float(sizes.max() / skin.size),
            float(count),
            float(np.mean(~self.seen_[_color_bins(rgb_u8)])),
            float(skin.shape[0]),
            float(skin.shape[1]),
        )


class SkinFeaturesClassifier(ImageSystem):
    """Jones & Rehg's features with a classifier: "logistic" (standardised) or "boosting" (gradient-boosted trees).

    `pixel_model` is fitted to the masks, the classifier to the labels, on the same pictures.
    """

    def __init__(self, pixel_model: PixelModel, classifier: str = "logistic", random_state: int = 0) -> None:
        self.pixel_model = pixel_model
        self.classifier = classifier
        self.random_state = random_state

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit features and classifier."""
        if self.classifier not in ("logistic", "boosting"):
            raise FigleafError(f"classifier={self.classifier}: expected logistic or boosting")
        labels = checked_labels(labels, len(pictures))
        self.features_ = SkinFeatures(self.pixel_model).fit(pictures, labels, masks, groups)
        if self.classifier == "logistic":
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        else:
            classifier = HistGradientBoostingClassifier(random_state=self.random_state)
        self.classifier_ = classifier.fit(self.features_.transform(pictures), labels)
        return self

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe."""
        check_is_fitted(self)
        probabilities: NDArray[np.float64] = self.classifier_.predict_proba(self.features_.transform(pictures))
        return probabilities


def _color_bins(rgb_u8: RgbU8) -> NDArray[np.int64]:
    """The number of each pixel's bin, (H, W)."""
    red, green, blue = np.moveaxis(checked_picture(rgb_u8).astype(np.int64) >> (8 - _BITS), -1, 0)
    numbers: NDArray[np.int64] = (red << (2 * _BITS)) | (green << _BITS) | blue
    return numbers
