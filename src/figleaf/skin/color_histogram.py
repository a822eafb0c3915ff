"""The floor for every system here: how often which colour occurs in a picture, and a linear classifier on it.

Swain & Ballard, "Color Indexing" (IJCV 7(1) 1991), for the histogram; square roots of its shares make differences
Hellinger's, in which rare and common colours count alike.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.skin.fitted_colors import color_bins
from figleaf.skin.image_system import ImageSystem, checked_labels
from figleaf.skin.pictures import Mask, Pictures, checked_picture


class ColorHistogram(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Pictures as square roots of the shares of `bins` cubed bins of RGB, float64 (N, bins^3); nothing to fit."""

    def __init__(self, bins: int = 8) -> None:
        self.bins = bins

    def fit(self, pictures: Pictures, labels: ArrayLike | None = None) -> Self:
        """Check `bins` and that these are pictures."""
        if not 1 <= self.bins <= 64:
            raise FigleafError(f"bins={self.bins}: expected 1 to 64")
        for row in range(len(pictures)):
            checked_picture(pictures[row])
        self.fitted_ = True
        return self

    def transform(self, pictures: Pictures) -> NDArray[np.float64]:
        """The histograms (N, bins^3); their squares add up to 1."""
        check_is_fitted(self)
        size = self.bins**3
        rows = np.empty((len(pictures), size))
        for row, picture in zip(rows, pictures, strict=True):
            numbers = color_bins(checked_picture(picture), self.bins).reshape(-1)
            row[:] = np.sqrt(np.bincount(numbers, minlength=size) / len(numbers))
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """`color_R_G_B` with the number of the bin of each channel."""
        return np.array([f"color_{r}_{g}_{b}" for r, g, b in np.ndindex((self.bins,) * 3)], dtype=object)


class ColorHistogramClassifier(ImageSystem):
    """Logistic regression on `ColorHistogram`; `inverse_penalty` is scikit-learn's C. Masks are not looked at."""

    def __init__(self, bins: int = 8, inverse_penalty: float = 10.0) -> None:
        self.bins = bins
        self.inverse_penalty = inverse_penalty

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit to pictures and their labels (N,), 0 or 1."""
        if not self.inverse_penalty > 0:
            raise FigleafError(f"inverse_penalty={self.inverse_penalty}: expected more than 0")
        known = checked_labels(labels, len(pictures))
        self.histogram_ = ColorHistogram(self.bins).fit(pictures)
        self.classifier_ = LogisticRegression(C=self.inverse_penalty, max_iter=2000)
        self.classifier_.fit(self.histogram_.transform(pictures), known)
        return self

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe."""
        check_is_fitted(self)
        probabilities: NDArray[np.float64] = self.classifier_.predict_proba(self.histogram_.transform(pictures))
        return probabilities
