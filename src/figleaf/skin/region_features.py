"""A region of a picture in numbers: colour, texture, shape and place, as in QBIC (Niblack et al. 1993)."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import RgbU8
from figleaf.skin.superpixels import Floats, Labels, appearance, pooled

_BINS = 6
# Edges of the histograms of L, a and b; nearly all colours of photographs lie within, the others in the end bins.
_RANGES = ((0.0, 100.0), (-40.0, 50.0), (-40.0, 60.0))
_HU = tuple(f"hu_{number}" for number in range(1, 8))

# The features of a region in blocks, each block weighed as a whole when regions are compared.
BLOCKS: Mapping[str, tuple[str, ...]] = {
    "color": (
        *("L_mean", "a_mean", "b_mean", "L_sd", "a_sd", "b_sd", "La_covariance", "Lb_covariance", "ab_covariance"),
        *(f"{channel}_bin_{number}" for channel in "Lab" for number in range(_BINS)),
    ),
    "texture": ("amplitude", "fine_gradient", "coarse_gradient", "direction", "direction_cos", "direction_sin"),
    "shape": ("area", "eccentricity", "solidity", "extent", "orientation_cos", "orientation_sin", *_HU),
    "place": ("x", "y"),
}
FEATURES = tuple(f"{block}_{name}" for block, names in BLOCKS.items() for name in names)


def describe(rgb_u8: RgbU8, labels: Labels) -> tuple[Floats, Floats]:
    """The features (K, 42) of the K regions of `labels` (H, W) in the order of `FEATURES`, and their areas (K,).

    `labels` are 0 to K - 1, none empty; areas are shares of the picture. Squared and higher amounts (covariances, Hu's
    moments, areas) stand as signed roots or logarithms, so that a few giants do not rule every distance. Directions are
    doubled angles, which have no seam at 180 degrees. All values are finite, for a region of one pixel, too.
    """
    looks = appearance(rgb_u8)
    color = _color(looks[..., :3], labels)
    texture = _texture(looks, labels)
    shape_and_place = np.array([_shape(np.asarray(labels == label)) for label in range(int(labels.max()) + 1)])
    features = np.hstack([color, texture, shape_and_place])
    return features, np.bincount(labels.ravel()) / labels.size


def _color(lab: NDArray[np.float32], labels: Labels) -> Floats:
    patches = pooled(labels, lab)
    away = lab - patches.means[labels]
    products = np.stack([away[..., i] * away[..., j] for i, j in ((0, 1), (0, 2), (1, 2))], axis=-1)
    covariances = pooled(labels, products).means
    count = len(patches.sizes)
    histograms = []
    for channel, (low, high) in enumerate(_RANGES):
        place = np.clip((lab[..., channel] - low) / (high - low) * _BINS, 0, _BINS - 1).astype(np.intp)
        filled = np.bincount((labels * _BINS + place).ravel(), minlength=count * _BINS).reshape(count, _BINS)
        histograms.append(filled / patches.sizes[:, None])
    roots = np.sign(covariances) * np.sqrt(np.abs(covariances))
    return np.hstack([patches.means, np.sqrt(patches.variances), roots, *histograms])


def _texture(looks: NDArray[np.float32], labels: Labels) -> Floats:
    lightness = looks[..., 0]
    gradients = []
    for sigma in (0.7, 2.0):
        smooth = cv2.GaussianBlur(lightness, (0, 0), sigma)
        x, y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
        gradients.append((x, y))
    (x, y), (coarse_x, coarse_y) = gradients
    # The structure tensor's doubled angle: its length over the sum of squares says whether there is one direction.
    maps = np.dstack(
        [looks[..., 3], np.hypot(x, y), np.hypot(coarse_x, coarse_y), x * x + y * y, x * x - y * y, 2 * x * y]
    )
    means = pooled(labels, maps).means
    total = np.maximum(means[:, 3], 1e-6)
    direction = np.hypot(means[:, 4], means[:, 5]) / total
    return np.column_stack([np.log1p(means[:, :3]), direction, means[:, 4] / total, means[:, 5] / total])


def _shape(region: NDArray[np.bool_]) -> list[float]:
    """Shape and place of one region of a picture, from its moments and its convex hull."""
    height, width = region.shape
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    box = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    moments = cv2.moments(box, binaryImage=True)
    area = moments["m00"]
    # A pixel is a square, not a point: its own second moment is 1/12. So a line has a width, and a dot no direction.
    xx, yy, xy = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12, moments["mu11"] / area
    spread = np.hypot(xx - yy, 2 * xy)
    large, small = (xx + yy + spread) / 2, (xx + yy - spread) / 2
    eccentricity = float(np.sqrt(max(1 - small / large, 0.0)))
    turn = np.arctan2(2 * xy, xx - yy)
    hu = cv2.HuMoments(moments).ravel()
    # From 1e-10 up: beyond it Hu's moments are noise.
    hu_logs = np.sign(hu) * np.maximum(np.log10(np.abs(hu) + 1e-300) + 10, 0.0)
    return [
        float(np.log(area / region.size)),
        eccentricity,
        float(area / _hull_area(box)),
        float(area / box.size),
        eccentricity * float(np.cos(turn)),
        eccentricity * float(np.sin(turn)),
        *hu_logs.tolist(),
        (columns[0] + moments["m10"] / area + 0.5) / width,
        (rows[0] + moments["m01"] / area + 0.5) / height,
    ]


def _hull_area(box: NDArray[np.uint8]) -> float:
    """Area of the convex hull of the pixels of a mask, each a unit square: at least their number."""
    y, x = np.nonzero(box)
    # The first and last pixel of each row hold all corners of the hull.
    first = np.flatnonzero(np.r_[True, y[1:] != y[:-1]])
    last = np.r_[first[1:], len(y)] - 1
    ends = np.concatenate([np.column_stack([x[first], y[first]]), np.column_stack([x[last] + 1, y[last]])])
    corners = np.concatenate([ends, ends + np.array([0, 1])]).astype(np.float32)
    return float(cv2.contourArea(cv2.convexHull(corners)))
