"""Superpixels: a picture as a few hundred patches of one colour, what each looks like, and which of them touch."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from figleaf.data.decode import RgbU8

Labels = NDArray[np.int32]
Floats = NDArray[np.float64]

COUNT = 250
# SLIC's weight of distance in space against distance in colour, and the blur before it in pixels. With its authors' 10
# and no blur the patches of a grainy picture fall to dust, and become one when that is swept up.
COMPACTNESS, _BLUR = 20.0, 1.0
# Patches of a larger picture come from a reduced copy: 250 of them show no more than that does.
_MOST_PIXELS = 512 * 512
# Fleck, Forsyth & Bregler's radii for texture, in pixels of a picture with H + W = 320.
_MEDIAN_RADIUS, _TEXTURE_RADIUS = 4, 6
_HALF_PERIMETER = 320

FEATURES = ("lightness", "a", "b", "texture")


def superpixels(rgb_u8: RgbU8, count: int = COUNT) -> Labels:
    """About `count` patches of (H, W, 3): labels int32 (H, W), 0 to K - 1, each label one connected patch.

    SLIC (Achanta et al. 2012) in Lab. A picture of no more than `count` pixels has a patch for every pixel.
    """
    height, width = rgb_u8.shape[:2]
    if height * width <= count:
        return np.arange(height * width, dtype=np.int32).reshape(height, width)
    reduction = (height * width / _MOST_PIXELS) ** 0.5
    if reduction <= 1:
        return _slic(rgb_u8, count)
    small = (max(1, round(width / reduction)), max(1, round(height / reduction)))
    labels = _slic(np.asarray(cv2.resize(rgb_u8, small, interpolation=cv2.INTER_AREA)), count)
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.int32)


def _slic(rgb_u8: RgbU8, count: int) -> Labels:
    found = slic(rgb_u8, n_segments=count, compactness=COMPACTNESS, sigma=_BLUR, start_label=0)
    return relabelled(found)


def relabelled(labels: NDArray[np.integer]) -> Labels:
    """The same patches numbered 0 to K - 1 without gaps, in the order of their first pixel, row by row."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return number[inverse].reshape(labels.shape)


def appearance(rgb_u8: RgbU8) -> NDArray[np.float32]:
    """What each pixel looks like: `FEATURES`, float32 (H, W, 4): CIE L (0 to 100), a, b, and texture in units of L.

    Texture is the amplitude of Fleck, Forsyth & Bregler (1996), of lightness instead of their log intensity: the median
    over a window of the distance from the median over a smaller one. Unlike a variance it does not call an edge
    texture. Windows are squares that grow with the picture.
    """
    lab = cv2.cvtColor(rgb_u8.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    # Eight bits, for which OpenCV's median takes a window of any size in constant time; 255 / 100 levels a unit of L.
    lightness_u8 = np.rint(lab[..., 0] * 2.55).astype(np.uint8)
    scale = sum(rgb_u8.shape[:2]) / _HALF_PERIMETER
    away = cv2.absdiff(lightness_u8, cv2.medianBlur(lightness_u8, _window(_MEDIAN_RADIUS * scale)))
    texture = cv2.medianBlur(away, _window(_TEXTURE_RADIUS * scale)).astype(np.float32) / 2.55
    return np.dstack([lab, texture])


def _window(radius: float) -> int:
    # OpenCV takes odd sides, and at most 255.
    return min(2 * max(1, round(radius)) + 1, 255)


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Which of K patches touch.

    `pairs` int (E, 2), each once with the smaller label first, sorted; `lengths` int (E,): how many pairs of pixels do.
    """

    pairs: NDArray[np.intp]
    lengths: NDArray[np.intp]


def adjacency(labels: Labels, *, diagonal: bool = False) -> Adjacency:
    """The neighbours among the patches of `labels` (H, W), 0 to K - 1; negative labels are nobody's neighbour.

    With `diagonal`, pixels that touch at a corner are neighbours, too, and count in the lengths.
    """
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    if diagonal:
        sides += [(labels[:-1, :-1], labels[1:, 1:]), (labels[:-1, 1:], labels[1:, :-1])]
    touching = np.concatenate([np.stack([one.ravel(), other.ravel()], axis=1) for one, other in sides]).astype(np.intp)
    touching = touching[(touching[:, 0] != touching[:, 1]) & (touching.min(axis=1) >= 0)]
    touching.sort(axis=1)
    count = int(labels.max()) + 1
    keys, lengths = np.unique(touching[:, 0] * count + touching[:, 1], return_counts=True)
    return Adjacency(np.stack([keys // count, keys % count], axis=1), lengths)


@dataclass(frozen=True, eq=False)
class Patches:
    """K patches: pixels in each (K,), mean of F features (K, F), and variance within (K, F)."""

    sizes: NDArray[np.intp]
    means: Floats
    variances: Floats


def pooled(labels: Labels, features: NDArray[np.floating]) -> Patches:
    """Mean and variance of `features` (H, W, F) over each patch of `labels` (H, W), 0 to K - 1, none of them empty."""
    flat = labels.ravel()
    values = features.reshape(len(flat), -1)
    sizes = np.bincount(flat)
    sums = np.stack([np.bincount(flat, values[:, f]) for f in range(values.shape[1])], axis=1)
    means = sums / sizes[:, None]
    # About the patch's own mean: a difference of large squares would leave rounding where a patch has one colour.
    away = values - means[flat]
    squares = np.stack([np.bincount(flat, away[:, f] ** 2) for f in range(values.shape[1])], axis=1)
    return Patches(sizes, means, squares / sizes[:, None])
