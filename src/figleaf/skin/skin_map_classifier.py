"""The best whole-picture system here that is no network: a map of skin, described in numbers, and boosted trees.

Two levels, the upper fitted on what the lower says about pictures that it has not seen (Wolpert, "Stacked
generalization", Neural Networks 5, 1992): held-out maps of a pixel model (`held_out_maps`), then trees on the features
of the maps (`map_features`). On the skin-area proxy's validation pictures neither a linear classifier on the same
features nor the logit of a colour histogram beside them made it better.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils.validation import check_is_fitted

from figleaf.skin.held_out_maps import fit_with_maps, site_map
from figleaf.skin.image_system import ImageSystem, checked_labels
from figleaf.skin.map_features import feature_matrix
from figleaf.skin.pictures import Mask, Pictures, checked_picture
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.pixel_planes import working_picture

_FEATURES_SEEN = 0.3  # share of the features that a cut may choose from
_L2 = 1.0


class SkinMapFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Pictures as the numbers of `map_features` on a pixel model's maps, float64 (N, F).

    `fit_transform` describes the training pictures by maps that were held out (`folds`, by group), as a classifier on
    top needs them; `fit` then `transform` by maps of the model that has seen them.
    """

    def __init__(self, pixel_model: PixelModel, folds: int = 3, random_state: int = 0) -> None:
        self.pixel_model = pixel_model
        self.folds = folds
        self.random_state = random_state

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike | None = None,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the pixel model to the pictures with a mask; labels are not looked at."""
        self.fit_transform(pictures, labels, masks, groups)
        return self

    def fit_transform(
        self,
        pictures: Pictures,
        labels: ArrayLike | None = None,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Fit, and give the features (N, F) of these pictures by held-out maps."""
        self.pixel_model_, maps = fit_with_maps(
            self.pixel_model, pictures, masks, groups, folds=self.folds, random_state=self.random_state
        )
        features, self.names_ = feature_matrix(maps, [working_picture(picture) for picture in pictures])
        return features

    def transform(self, pictures: Pictures) -> NDArray[np.float64]:
        """The features (N, F)."""
        check_is_fitted(self)
        if not len(pictures):
            return np.empty((0, len(self.names_)))
        maps = np.stack([site_map(self.pixel_model_, checked_picture(picture)) for picture in pictures])
        return feature_matrix(maps, [working_picture(picture) for picture in pictures])[0]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The names of the features."""
        check_is_fitted(self)
        return np.array(self.names_, dtype=object)


class SkinMapClassifier(ImageSystem):
    """Boosted trees on `SkinMapFeatures`; `trees`, `leaves` and `learning_rate` are theirs.

    `folds`: how often a part of the training pictures, whole groups, is held out while their maps are made.
    """

    def __init__(
        self,
        pixel_model: PixelModel,
        folds: int = 3,
        trees: int = 300,
        leaves: int = 8,
        learning_rate: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.pixel_model = pixel_model
        self.folds = folds
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit to pictures (N), labels (N,) of 0 and 1, masks where known, and groups (N,) that are held out together.

        Raises `FigleafError` where no mask shows both skin and something else.
        """
        known = checked_labels(labels, len(pictures))
        self.features_ = SkinMapFeatures(self.pixel_model, self.folds, self.random_state)
        rows = self.features_.fit_transform(pictures, known, masks, groups)
        # Without early stopping, which would set pictures of the same groups aside and stop too late
        self.boosting_ = HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            max_features=_FEATURES_SEEN,
            l2_regularization=_L2,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(rows, known)
        return self

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe."""
        check_is_fitted(self)
        if not len(pictures):
            return np.empty((0, 2))
        probabilities: NDArray[np.float64] = self.boosting_.predict_proba(self.features_.transform(pictures))
        return probabilities
