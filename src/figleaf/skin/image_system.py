"""What an image system is: a scikit-learn classifier of whole pictures, and how a rule on a quantity becomes one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.skin.pictures import Mask, Pictures, RgbU8
from figleaf.skin.pixel_model import PixelModel

_NEVER_CERTAIN = 1e-6


class ImageSystem(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """A system that calls pictures safe (0) or unsafe (1)."""

    @abstractmethod
    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn from pictures, their labels (N,) of 0 and 1, and their masks of skin, None where unknown.

        A system that fits in steps holds out whole `groups` (N,), so that no step learns from what the next is told.
        """

    @abstractmethod
    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe."""

    def check(self) -> None:
        """Raises `FigleafError` for a constant outside its range, as far as that is known before the fit."""

    def predict(self, pictures: Pictures) -> NDArray[np.int64]:
        """0 or 1 (N,): unsafe from a probability of a half on."""
        return (self.predict_proba(pictures)[:, 1] >= 0.5).astype(np.int64)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """Safe, unsafe."""
        return np.array([0, 1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class MaskRule(ImageSystem):
    """A rule on the mask that a pixel model finds: a margin for each picture, unsafe from 0 on.

    Fitting fits the pixel model, if it has something to learn, to the pictures and masks; the rule's own constants are
    given, so labels are not looked at.
    """

    pixel_model: PixelModel

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the pixel model. Raises `FigleafError` for a constant outside its range, before anything is fitted."""
        self.check()
        zeros_and_ones(labels, len(pictures))
        self.pixel_model_: PixelModel = clone(self.pixel_model).fit(pictures, masks, groups)
        return self

    @abstractmethod
    def margin(self, rgb_u8: RgbU8) -> float:
        """How far one picture (H, W, 3) is beyond the rule's thresholds, as a difference of logits; see `beyond`."""

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2): a half or more of unsafe exactly where the rule says so."""
        check_is_fitted(self)
        unsafe = expit(np.array([self.margin(picture) for picture in pictures], np.float64))
        return np.stack([1 - unsafe, unsafe], axis=1)


def beyond(quantity: float, threshold: float) -> float:
    """logit(quantity) - logit(threshold), for a quantity in [0, 1] that a rule compares with a threshold.

    At least 0 exactly when the quantity is at least the threshold; finite at 0 and 1, where the last 1e-6 is cut off.
    """
    inside = np.clip(quantity, _NEVER_CERTAIN, 1 - _NEVER_CERTAIN)
    return float(logit(inside) - logit(threshold))


def checked_labels(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    """Labels (N,) as 0 and 1, of both kinds; FigleafError otherwise."""
    found = zeros_and_ones(labels, count)
    if not np.array_equal(np.unique(found), [0, 1]):
        raise FigleafError(f"labels with the values {np.unique(found).tolist()}: expected both 0 and 1 to be there")
    return found


def zeros_and_ones(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    """Labels (N,) as 0 and 1, perhaps of one kind only; FigleafError otherwise."""
    found: NDArray[Any] = np.asarray(labels)
    if found.shape != (count,) or not np.isin(found, [0, 1]).all():
        raise FigleafError(
            f"labels of shape {found.shape} with the values {np.unique(found).tolist()[:5]}: "
            f"expected one for each of {count} pictures, 0 for safe or 1 for unsafe"
        )
    return found.astype(np.int64)
