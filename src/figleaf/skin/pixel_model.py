"""What a pixel model is: something that says for every pixel of a picture how probable it is that it shows skin.

Two kinds of estimators meet here. A *pixel model* works on pictures (H, W, 3), so that it may look at a pixel's
surroundings. A *color rule* is scikit-learn's plain kind of classifier: it works on colours (N, 3), one pixel a row,
and has nothing to learn. `RulePixels` makes a pixel model of a color rule.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture


class PixelModel(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """A model of skin in pictures. Constructor argument `threshold`: from which probability a pixel is called skin."""

    threshold: float

    def fit(
        self, pictures: Pictures, masks: Sequence[Mask | None] | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Learn from pictures and their masks of skin, None where unknown. Published rules learn nothing.

        What fits in steps holds out whole `groups` (N,).
        """
        self.fitted_ = True
        return self

    @abstractmethod
    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """P(skin) of every pixel of a picture (H, W, 3), as (H, W) in [0, 1]."""

    def skin_mask(self, rgb_u8: RgbU8) -> Mask:
        """The pixels (H, W) whose probability reaches the threshold."""
        mask: Mask = self.skin_probability(rgb_u8) >= self.threshold
        return mask


class ColorRule(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """A classifier of colours with published constants: fitting it takes over the names of the classes, no more.

    X is (N, 3), RGB from 0 to 255, and is clipped to that range. For scikit-learn's sake other widths are taken, too:
    missing columns count as 0, further ones are not looked at. Of two classes the second, in sorted order, is skin.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Take the names of the two classes from y (N,)."""
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) > 2:
            raise ValueError(f"Only binary classification is supported: y has {len(self.classes_)} classes")
        return self

    @abstractmethod
    def color_probability(self, rgb: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(skin) (N,) of colours (N, 3) from 0 to 255. Needs no fit."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, 2) of no skin and skin; (N, 1) where `fit` saw a single class."""
        check_is_fitted(self)
        skin = self.color_probability(rgb_columns(validate_data(self, X, reset=False)))
        if len(self.classes_) == 1:
            return np.ones((len(skin), 1))
        return np.stack([1 - skin, skin], axis=1)

    def predict(self, X: Any) -> Any:
        """The class (N,) of each colour: the second from a probability of a half on."""
        probabilities = self.predict_proba(X)
        return self.classes_[(probabilities[:, -1] >= 0.5).astype(int) * (len(self.classes_) - 1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = True  # on data that are not colours of skin
        return tags


class RulePixels(PixelModel):
    """A color rule applied to every pixel of a picture; there is nothing to fit."""

    def __init__(self, rule: ColorRule, threshold: float = 0.5) -> None:
        self.rule = rule
        self.threshold = threshold

    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """P(skin) of every pixel, (H, W)."""
        colors = checked_picture(rgb_u8).reshape(-1, 3).astype(np.float64)
        return self.rule.color_probability(colors).astype(np.float32).reshape(rgb_u8.shape[:2])


def rgb_columns(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """X (N, d) as colours (N, 3): clipped to 0 to 255, missing columns 0, further ones left out."""
    rgb = np.zeros((len(X), 3))
    known = min(3, X.shape[1])
    rgb[:, :known] = np.clip(X[:, :known], 0, 255)
    return rgb
