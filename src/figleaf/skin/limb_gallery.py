"""Limb proposals verified: each is compared with a gallery of views per class, and kept where the nearest is a limb's.

Hypothesis and verification: the geometry of `limbs` proposes ribbons, their looks (`limb_views`) decide. The gallery
holds for each class of parts, and for what is none, the means of a few *views*: arms and legs look different from the
side, from the front, before a background or before the body. The nearest in Mahalanobis distance is the answer.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from figleaf.skin.limb_views import view_features
from figleaf.skin.limbs import Segment
from figleaf.skin.minimum_distance import Floats, MahalanobisMean
from figleaf.skin.pictures import Mask, RgbU8

NO_LIMB = "none"
DRAWN = Path(__file__).with_name("limb_gallery.safetensors")


class NearestView(MahalanobisMean):
    """The class that has the nearest of up to `views` means, found by k-means within each class.

    Distances are Mahalanobis's, of the covariance within the views.
    """

    def __init__(self, views: int = 2, shrinkage: float = 0.1, random_state: int = 0) -> None:
        super().__init__(shrinkage)
        self.views = views
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the views of classes y (N,) from X (N, d)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, of_class = np.unique(y, return_inverse=True)
        spread = X.std(axis=0)
        scaled = X / np.where(spread > 0, spread, 1.0)
        of_view = np.zeros(len(X), np.intp)
        self.class_of_view_ = np.zeros(0, np.intp)
        for number in range(len(self.classes_)):
            rows = np.flatnonzero(of_class == number)
            views = min(self.views, len(np.unique(scaled[rows], axis=0)))
            found = KMeans(views, n_init=4, random_state=self.random_state).fit_predict(scaled[rows])
            of_view[rows] = len(self.class_of_view_) + found
            self.class_of_view_ = np.concatenate([self.class_of_view_, np.full(views, number)])
        self.means_ = np.stack([X[of_view == number].mean(axis=0) for number in range(len(self.class_of_view_))])
        self.whitening_ = self._whitening(X - self.means_[of_view])
        return self

    def distances(self, X: Any) -> Floats:
        """How far X (N, d) is from each class's nearest view, (N, classes), in standard deviations."""
        to_views = super().distances(X)
        nearest = [to_views[:, self.class_of_view_ == number].min(axis=1) for number in range(len(self.classes_))]
        return np.stack(nearest, axis=1)


class LimbGallery(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Verifies limb proposals: those are kept whose evidence reaches `margin`.

    The evidence is how much nearer the nearest limb's view is than the nearest one of no limb, as a difference of half
    squared distances: a log likelihood ratio, were the views Gaussians.
    """

    def __init__(self, views: int = 2, shrinkage: float = 0.1, margin: float = 0.0, random_state: int = 0) -> None:
        self.views = views
        self.shrinkage = shrinkage
        self.margin = margin
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn from features (N, SIZE) of proposals and the part (N,) that each is, `NO_LIMB` for none."""
        self.nearest_ = NearestView(self.views, self.shrinkage, self.random_state).fit(X, y)
        return self

    def evidence(self, X: Any) -> NDArray[np.float64]:
        """For each row of features (N, SIZE) by how much it looks like a limb rather than like none, (N,)."""
        check_is_fitted(self)
        X = np.asarray(X, np.float64)
        if not len(X):
            return np.zeros(0)
        half_squares = self.nearest_.distances(X) ** 2 / 2
        limb = np.asarray(self.nearest_.classes_) != NO_LIMB
        return np.asarray(half_squares[:, ~limb].min(axis=1) - half_squares[:, limb].min(axis=1))

    def verified(self, rgb_u8: RgbU8, mask: Mask, segments: Sequence[Segment]) -> list[Segment]:
        """Those segments of a picture (H, W, 3) and its mask (H, W) that look like limbs, in their order."""
        evidence = self.evidence(view_features(rgb_u8, mask, segments))
        return [segment for segment, found in zip(segments, evidence, strict=True) if found >= self.margin]


@cache
def drawn_gallery() -> LimbGallery:
    """The gallery that the package brings, of limbs of drawn scenes; `benchmarks/fit_limb_gallery.py` made it."""
    from figleaf.skin.storage import load_system

    gallery, _ = load_system(DRAWN)
    assert isinstance(gallery, LimbGallery)
    return gallery
