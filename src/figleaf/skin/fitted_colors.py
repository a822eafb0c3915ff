"""Models of skin colour whose numbers come from labelled pixels: a histogram, Gaussians, boosted trees.

Classifiers of single colours, X (N, 3) in RGB from 0 to 255; `FittedColorPixels` makes a pixel model of one, fitted to
pictures and masks.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.mixture import GaussianMixture
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from figleaf.errors import FigleafError
from figleaf.skin.color import hsv, log_response, ycbcr
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture
from figleaf.skin.pixel_model import ColorRule, PixelModel, rgb_columns
from figleaf.skin.published_mixture import log_of_sum
from figleaf.skin.training_pixels import masked_pictures, require_trees, sampled_colors

FloatArray = NDArray[np.float64]

_MIN_VARIANCE = 4.0  # of a Gaussian, in squared units of 255: a heap of equal pixels is no point
_ROWS_AT_A_TIME = 1 << 16


class FittedColors(ColorRule):
    """A classifier of colours that learns. `skin_prior`: the share of skin to assume; None for that of the data."""

    skin_prior: float | None

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from colours X (N, 3), 0 to 255, and y (N,); of two classes the second, in sorted order, is skin."""
        if self.skin_prior is not None and not 0 < self.skin_prior < 1:
            raise FigleafError(f"skin_prior={self.skin_prior}: expected 0 < x < 1, or null for the share in the data")
        check_classification_targets(y)
        super().fit(X, y)
        X, y = validate_data(self, X, y, reset=False)
        if len(self.classes_) == 2:
            skin = y == self.classes_[1]
            self._learn(rgb_columns(X), skin)
            share = float(skin.mean())
            self.prior_shift_ = 0.0 if self.skin_prior is None else float(logit(self.skin_prior) - logit(share))
        return self

    def predict(self, X: Any) -> Any:
        """The likelier class (N,) of each colour; the first, no skin, where both are as likely."""
        likelier = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[likelier]

    def color_probability(self, rgb: FloatArray) -> FloatArray:
        """P(skin) (N,) of colours (N, 3), under `skin_prior`."""
        check_is_fitted(self)
        if len(self.classes_) == 1:
            return np.ones(len(rgb))  # of the only class there is
        known = [self._logit(rgb[start : start + _ROWS_AT_A_TIME]) for start in range(0, len(rgb), _ROWS_AT_A_TIME)]
        probability: FloatArray = expit(np.concatenate(known) + self.prior_shift_)
        return probability

    @abstractmethod
    def _learn(self, rgb: FloatArray, skin: NDArray[np.bool_]) -> None:
        """Fit to colours (N, 3) and whether each is skin (N,), of both kinds."""

    @abstractmethod
    def _logit(self, rgb: FloatArray) -> FloatArray:
        """Logit (N,) of skin of colours (N, 3), for the share of skin that was learned from."""


class HistogramColors(FittedColors):
    """Jones & Rehg's histograms: P(skin | rgb) is the share of skin among the known pixels of the same bin of RGB.

    "Statistical Color Models with Application to Skin Detection" (CVPR 1999); they found 32 `bins` a channel best.
    `smoothing` pixels are added to every bin, in the proportion in which the data are skin or not (an m-estimate; with
    a proportion of a half it would be Laplace's rule): a bin never seen has the share of skin of the whole.
    """

    def __init__(self, bins: int = 32, smoothing: float = 4.0, skin_prior: float | None = None) -> None:
        self.bins = bins
        self.smoothing = smoothing
        self.skin_prior = skin_prior

    def _learn(self, rgb: FloatArray, skin: NDArray[np.bool_]) -> None:
        if not 1 <= self.bins <= 256 or self.smoothing <= 0:
            raise FigleafError(
                f"bins={self.bins}, smoothing={self.smoothing}: expected 1 to 256 bins, and smoothing > 0 (without it "
                "colours that were never seen have no probability)"
            )
        numbers = color_bins(rgb, self.bins)
        self.skin_counts_ = np.bincount(numbers[skin], minlength=self.bins**3)
        self.other_counts_ = np.bincount(numbers[~skin], minlength=self.bins**3)

    def _logit(self, rgb: FloatArray) -> FloatArray:
        numbers = color_bins(rgb, self.bins)
        posterior = smoothed_share(self.skin_counts_, self.other_counts_, self.smoothing)
        found: FloatArray = logit(posterior[numbers])
        return found


class MixtureColors(FittedColors):
    """A mixture of Gaussians for the colours of skin and one for all others; P(skin | rgb) by Bayes' rule.

    Jones & Rehg's second model (CRL-98-11), fitted by EM (scikit-learn): `components` Gaussians a class with a
    `covariance` that is "full" or, as theirs, "diag".
    """

    def __init__(
        self, components: int = 8, covariance: str = "full", skin_prior: float | None = None, random_state: int = 0
    ) -> None:
        self.components = components
        self.covariance = covariance
        self.skin_prior = skin_prior
        self.random_state = random_state

    def _learn(self, rgb: FloatArray, skin: NDArray[np.bool_]) -> None:
        if self.components < 1:
            raise FigleafError(f"components={self.components}: expected at least 1")
        if self.covariance not in ("full", "diag"):
            raise FigleafError(f"covariance={self.covariance}: expected full or diag")
        self.skin_mixture_, self.other_mixture_ = self._mixture(rgb[skin]), self._mixture(rgb[~skin])
        self.log_odds_ = float(logit(skin.mean()))

    def _mixture(self, rgb: FloatArray) -> GaussianMixture:
        distinct = len(np.unique(rgb, axis=0))
        mixture = GaussianMixture(
            min(self.components, distinct),
            covariance_type=self.covariance,
            reg_covar=_MIN_VARIANCE,
            random_state=self.random_state,
        )
        # EM takes two samples at least; a single pixel said twice has the same mean and no more spread
        return mixture.fit(rgb if len(rgb) > 1 else np.repeat(rgb, 2, axis=0))

    def _logit(self, rgb: FloatArray) -> FloatArray:
        return log_density(self.skin_mixture_, rgb) - log_density(self.other_mixture_, rgb) + self.log_odds_


class BoostedColors(FittedColors):
    """Gradient-boosted trees on a colour in five spaces: RGB, log-opponent, YCbCr, HSV and normalised rgb."""

    def __init__(
        self,
        trees: int = 100,
        leaves: int = 31,
        learning_rate: float = 0.1,
        skin_prior: float | None = None,
        random_state: int = 0,
    ) -> None:
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.skin_prior = skin_prior
        self.random_state = random_state

    def _learn(self, rgb: FloatArray, skin: NDArray[np.bool_]) -> None:
        # Without early stopping, which would set pixels of the same pictures aside and stop too late
        require_trees(self.trees, self.leaves)
        self.boosting_ = HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(color_coordinates(rgb), skin)

    def _logit(self, rgb: FloatArray) -> FloatArray:
        found: FloatArray = self.boosting_.decision_function(color_coordinates(rgb))
        return found


class FittedColorPixels(PixelModel):
    """A classifier of colours fitted to the masks of pictures and applied to every pixel.

    At most `pixels_per_picture` pixels of each picture are learned from, drawn at random: neighbours look alike.
    """

    def __init__(
        self, colors: FittedColors, pixels_per_picture: int = 1000, threshold: float = 0.5, random_state: int = 0
    ) -> None:
        self.colors = colors
        self.pixels_per_picture = pixels_per_picture
        self.threshold = threshold
        self.random_state = random_state

    def fit(
        self, pictures: Pictures, masks: Sequence[Mask | None] | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fit to the pictures with a mask; `groups` are not looked at. Raises `FigleafError` where there is none."""
        known = masked_pictures(pictures, masks)
        colors, skin = sampled_colors(known, self.pixels_per_picture, self.random_state)
        if skin.all() or not skin.any():
            raise FigleafError(
                f"pixels_per_picture={self.pixels_per_picture}: all pixels drawn are of one kind; raise it"
            )
        self.colors_: FittedColors = clone(self.colors).fit(colors, skin)
        return self

    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """P(skin) of every pixel, (H, W)."""
        check_is_fitted(self)
        colors = checked_picture(rgb_u8).reshape(-1, 3).astype(np.float64)
        return self.colors_.color_probability(colors).astype(np.float32).reshape(rgb_u8.shape[:2])


def log_density(mixture: GaussianMixture, rgb: FloatArray) -> FloatArray:
    """Natural logarithm of the density (N,) at colours (N, 3): `score_samples` of a mixture of K in one product.

    scikit-learn goes from Gaussian to Gaussian, which costs several times as long for every pixel of a picture.
    """
    diagonal = mixture.covariance_type == "diag"
    precisions = mixture.precisions_ if not diagonal else mixture.precisions_[:, None, :] * np.eye(rgb.shape[1])
    # (x - m)' P (x - m), multiplied out: P weighs the products of channels, -2 P m the channels
    linear = np.einsum("kij,kj->ki", precisions, mixture.means_)
    products = (rgb[:, :, None] * rgb[:, None, :]).reshape(len(rgb), -1)
    distance = products @ precisions.reshape(len(precisions), -1).T - 2 * rgb @ linear.T
    constant = np.linalg.slogdet(precisions)[1] - (linear * mixture.means_).sum(axis=1)
    logs = np.log(mixture.weights_) + (constant - rgb.shape[1] * np.log(2 * np.pi) - distance) / 2
    return log_of_sum(logs)


def color_bins(rgb: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """The number (...) of the bin of each colour (..., 3), 0 to 255, in a cube of bins x bins x bins."""
    red, green, blue = np.moveaxis(rgb.astype(np.int64) * bins // 256, -1, 0)
    numbers: NDArray[np.int64] = (red * bins + green) * bins + blue
    return numbers


def smoothed_share(skin: NDArray[np.integer], other: NDArray[np.integer], smoothing: float) -> FloatArray:
    """Share of skin in every bin, `smoothing` pixels of the overall mixture added to each: never 0 or 1."""
    # As if one pixel of each kind were known beyond the data: a share even of no pixels
    overall = (skin.sum() + 1) / (skin.sum() + other.sum() + 2)
    share: FloatArray = (skin + smoothing * overall) / (skin + other + smoothing)
    return share


def color_coordinates(rgb: FloatArray) -> FloatArray:
    """Colours (N, 3), 0 to 255, as (N, 15): trees cut along axes, so that each space offers cuts of its own."""
    red, green, blue = np.moveaxis(log_response(rgb), -1, 0)
    opponent = np.stack([green, red - green, blue - (green + red) / 2], axis=-1)
    hue, saturation, value = np.moveaxis(hsv(rgb), -1, 0)
    around_red = np.where(hue > 180, hue - 360, hue)  # skin lies about red: no cut through it
    share = rgb / (rgb.sum(axis=-1, keepdims=True) + 1)
    parts = [rgb, opponent, ycbcr(rgb), np.stack([around_red, saturation, value], axis=-1), share]
    return np.concatenate(parts, axis=-1)
