"""Pictures as short vectors whose Euclidean distances say how alike they are: scikit-learn transformers.

Each takes pictures, uint8 (N, H, W, 3) or a list of (H, W, 3), and gives float64 (N, d). `size` is the side at which
the pictures should be decoded for it; any other works as well.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from figleaf.data.decode import RgbU8, resize
from figleaf.errors import FigleafError

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8] | Sequence[RgbU8]
State = dict[str, NDArray[Any]]


class Code(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What the codes have in common: their fitted state as arrays, to be stored and brought back."""

    size: int

    def fit(self, pictures: Pictures, y: object = None) -> Self:
        """Learn nothing; for those that need no more than a picture."""
        return self

    def transform(self, pictures: Pictures) -> Floats:
        """The codes (N, d) of N pictures."""
        raise NotImplementedError

    def state(self) -> State:
        """What `fit` has learned, by name."""
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def restore(self, state: State) -> Self:
        """Become what `state` was taken from; the parameters must be the same."""
        for name, value in state.items():
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class ColorHistogram(Code):
    """A histogram of `bins`^3 RGB colours, and how alike the colours are.

    `distance="quadratic"` is QBIC's: (h - g)' A (h - g) with A_ij = 1 - d_ij / max d, d the distance of two bins'
    colours (Hafner et al. 1995; here in CIE Lab). Differences of histograms add up to 0, and on these A is positive
    semidefinite, so that the distance is a Euclidean one between A^(1/2) h, which any index of vectors can search.
    "hellinger" knows no colour to be like another: the Euclidean distance of the roots.
    """

    def __init__(
        self, *, bins: int = 8, distance: Literal["quadratic", "hellinger"] = "quadratic", size: int = 96
    ) -> None:
        self.bins = bins
        self.distance = distance
        self.size = size

    def transform(self, pictures: Pictures) -> Floats:
        """Codes (N, bins^3)."""
        _one_of("distance", self.distance, ("quadratic", "hellinger"))
        shares = np.stack([self.histogram(picture) for picture in pictures])
        return np.asarray(np.sqrt(shares) if self.distance == "hellinger" else shares @ quadratic_root(self.bins))

    def histogram(self, rgb_u8: RgbU8) -> Floats:
        """Share of the pixels in each bin, (bins^3,), red changing slowest."""
        place = (rgb_u8.reshape(-1, 3).astype(np.intp) * self.bins) // 256
        filled = np.bincount((place[:, 0] * self.bins + place[:, 1]) * self.bins + place[:, 2], minlength=self.bins**3)
        return np.asarray(filled / len(place))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """One name for each number of a code."""
        return numbered("color", self.bins**3)


def similarity(bins: int) -> Floats:
    """QBIC's A (bins^3, bins^3): 1 for a colour and itself, 0 for the two that are furthest apart."""
    levels = (np.arange(bins) + 0.5) / bins
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    lab = cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2LAB)[0].astype(np.float64)
    distance = np.sqrt(((lab[:, None] - lab[None]) ** 2).sum(axis=-1))
    return np.asarray(1 - distance / max(distance.max(), 1e-12))


def quadratic_root(bins: int) -> Floats:
    """The symmetric R (bins^3, bins^3) with (h - g)' A (h - g) = |R h - R g|^2 for histograms of the same sum."""
    a = similarity(bins)
    a -= a.mean(axis=0)
    a -= a.mean(axis=1, keepdims=True)  # changes nothing for differences that add up to 0
    values, vectors = np.linalg.eigh(a)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


class Thumbnail(Code):
    """The picture at `side` x `side` pixels, on its first `components` principal axes among those it was fitted on."""

    def __init__(self, *, side: int = 16, components: int = 64, size: int = 64) -> None:
        self.side = side
        self.components = components
        self.size = size

    def fit(self, pictures: Pictures, y: object = None) -> Self:
        """Find the axes; fewer where there are not so many pictures."""
        pixels = self._pixels(pictures)
        self.mean_ = pixels.mean(axis=0)
        centred = pixels - self.mean_
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, : min(self.components, *pixels.shape)]
        # The sign of an axis means nothing; fixing it makes codes the same on every LAPACK.
        self.axes_ = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
        return self

    def transform(self, pictures: Pictures) -> Floats:
        """Codes (N, components)."""
        check_is_fitted(self)
        return np.asarray((self._pixels(pictures) - self.mean_) @ self.axes_)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """One name for each number of a code."""
        check_is_fitted(self)
        return numbered("axis", self.axes_.shape[1])

    def _pixels(self, pictures: Pictures) -> Floats:
        return np.stack([resize(picture, self.side).ravel() for picture in pictures]) / 255.0

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "axes_")


class DctCode(Code):
    """The lowest frequencies of the picture at 32 x 32 pixels: `luma`^2 of its brightness, `chroma`^2 of each colour.

    As JPEG would keep them (YCbCr, cosine transform), of the whole picture instead of its blocks.
    """

    _SIDE = 32

    def __init__(self, *, luma: int = 8, chroma: int = 4, size: int = 64) -> None:
        self.luma = luma
        self.chroma = chroma
        self.size = size

    def transform(self, pictures: Pictures) -> Floats:
        """Codes (N, luma^2 + 2 chroma^2)."""
        return np.stack([self._code(picture) for picture in pictures])

    def _code(self, rgb_u8: RgbU8) -> Floats:
        ycc = cv2.cvtColor(resize(rgb_u8, self._SIDE), cv2.COLOR_RGB2YCrCb).astype(np.float64) / 255
        waves = dctn(ycc, axes=(0, 1), norm="ortho")
        sides = (self.luma, self.chroma, self.chroma)
        return np.concatenate([waves[:side, :side, channel].ravel() for channel, side in enumerate(sides)])

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """One name for each number of a code."""
        return numbered("wave", self.luma**2 + 2 * self.chroma**2)


def numbered(kind: str, count: int) -> NDArray[np.object_]:
    """The names `kind`_0 to `kind`_(count - 1)."""
    return np.array([f"{kind}_{number}" for number in range(count)], dtype=object)


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in (names := tuple(known)):
        raise FigleafError(f"{name}={value}: expected {' or '.join(names)}")
