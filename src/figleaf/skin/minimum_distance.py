"""Minimum-distance classifiers: a row belongs to the class whose mean is nearest.

In Euclidean distance of standardised features, or in Mahalanobis's, of the pooled covariance within the classes (Duda,
Hart & Stork, "Pattern Classification", section 2.6). Probabilities are those of Gaussians of that covariance and of
classes that are equally frequent, so that the likeliest class is the nearest.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

Floats = NDArray[np.float64]
_LEAST_SPREAD = 1e-9  # a feature that never changes says nothing


class NearestMean(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The nearest class mean, each feature in units of its standard deviation within the classes."""

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the means of classes y (N,) from X (N, d)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, which = np.unique(y, return_inverse=True)
        self.means_ = np.stack([X[which == number].mean(axis=0) for number in range(len(self.classes_))])
        self.whitening_ = self._whitening(X - self.means_[which])
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities (N, classes): the nearer, the likelier."""
        return np.asarray(softmax(-(self.distances(X) ** 2) / 2, axis=1))

    def predict(self, X: Any) -> Any:
        """The nearest class (N,)."""
        nearest = np.argmin(self.distances(X), axis=1)  # first, as it says so where nothing is fitted
        return self.classes_[nearest]

    def distances(self, X: Any) -> Floats:
        """How far X (N, d) is from each class, (N, classes), in standard deviations."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        white, means = X @ self.whitening_, self.means_ @ self.whitening_
        return np.stack([np.linalg.norm(white - mean, axis=1) for mean in means], axis=1)

    def _whitening(self, deviations: Floats) -> Floats:
        spread = deviations.std(axis=0)
        return np.diag(1 / np.where(spread > _LEAST_SPREAD, spread, 1.0))


class MahalanobisMean(NearestMean):
    """The nearest class mean in Mahalanobis distance; `shrinkage` in [0, 1] of the correlations towards none."""

    def __init__(self, shrinkage: float = 0.1) -> None:
        self.shrinkage = shrinkage

    def _whitening(self, deviations: Floats) -> Floats:
        scale = super()._whitening(deviations)
        scaled = deviations @ scale
        covariance = (1 - self.shrinkage) * (scaled.T @ scaled) / len(scaled)
        covariance += self.shrinkage * np.eye(len(covariance))
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(scale @ (vectors / np.sqrt(np.maximum(values, _LEAST_SPREAD))))
