"""The best whole-picture system here that is no network: a map of skin, described in numbers, beside the colours.

Two levels, each fitted on what the one below says about pictures that it has not seen: a pixel model's maps
(`held_out_maps`), then a linear classifier on the picture's colour histogram, then the two final classifiers on the
features of the map (`map_features`) and that classifier's logit: a linear one and boosted trees, whose logits are
averaged. Wolpert, "Stacked generalization" (Neural Networks 5, 1992).
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.skin.color_histogram import ColorHistogramClassifier
from figleaf.skin.held_out_maps import fit_with_maps, site_map
from figleaf.skin.image_system import ImageSystem, checked_labels
from figleaf.skin.map_features import feature_matrix
from figleaf.skin.pictures import Mask, Pictures, checked_picture
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.pixel_planes import working_picture
from figleaf.skin.training_pixels import folds_by_group


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
    """See the module's docstring. `folds`: how often a part of the pictures, whole groups, is held out.

    `bins`: of the colour histogram, a channel; 0 leaves it out. `trees`, `leaves`, `learning_rate`: of the boosting.
    `inverse_penalty`: C of the linear classifier.
    """

    def __init__(
        self,
        pixel_model: PixelModel,
        folds: int = 3,
        bins: int = 8,
        trees: int = 150,
        leaves: int = 8,
        learning_rate: float = 0.05,
        inverse_penalty: float = 0.03,
        random_state: int = 0,
    ) -> None:
        self.pixel_model = pixel_model
        self.folds = folds
        self.bins = bins
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.inverse_penalty = inverse_penalty
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
        if self.bins:
            rows = np.column_stack([rows, self._held_out_color_logits(pictures, known, groups)])
            self.colors_ = ColorHistogramClassifier(self.bins).fit(pictures, known)
        self.linear_: Pipeline = make_pipeline(
            StandardScaler(), LogisticRegression(C=self.inverse_penalty, max_iter=2000)
        ).fit(rows, known)
        self.boosting_ = HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            max_features=0.3,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(rows, known)
        return self

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe."""
        check_is_fitted(self)
        if not len(pictures):
            return np.empty((0, 2))
        rows = self.features_.transform(pictures)
        if self.bins:
            rows = np.column_stack([rows, _logits(self.colors_, pictures)])
        unsafe = expit((self.linear_.decision_function(rows) + self.boosting_.decision_function(rows)) / 2)
        return np.stack([1 - unsafe, unsafe], axis=1)

    def _held_out_color_logits(
        self, pictures: Pictures, labels: NDArray[np.int64], groups: ArrayLike | None
    ) -> NDArray[np.float64]:
        """Logits (N,) of the colour histogram's classifier by fold."""
        numbers = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        fold = folds_by_group(numbers, self.folds, self.random_state)
        logits = np.empty(len(labels))
        for number in range(int(fold.max()) + 1):
            inside = fold == number
            known = ~inside if fold.any() else inside
            if len(set(labels[known])) < 2:
                raise FigleafError(
                    f"folds={self.folds}: without one of them all labels are the same; take fewer folds or add groups"
                )
            of_rest = ColorHistogramClassifier(self.bins).fit(_chosen(pictures, known), labels[known])
            logits[inside] = _logits(of_rest, _chosen(pictures, inside))
        return logits


def _logits(colors: ColorHistogramClassifier, pictures: Pictures) -> NDArray[np.float64]:
    found: NDArray[np.float64] = colors.classifier_.decision_function(colors.histogram_.transform(pictures))
    return found


def _chosen(pictures: Pictures, chosen: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    return [pictures[row] for row in np.flatnonzero(chosen).tolist()]
