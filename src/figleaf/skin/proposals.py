"""Region proposals in the manner of selective search: superpixels merged step by step, each step's box a proposal.

Uijlings, van de Sande, Gevers & Smeulders (2013), "Selective Search for Object Recognition", section 3. Of their
variants this is one: CIE Lab, and SLIC's superpixels in the place of Felzenszwalb's. Similarity of two neighbours is
the sum of four terms in [0, 1]: intersections of colour and of texture histograms, smallness, and how well they fill
their common box.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.boxes import Boxes, distinct
from figleaf.skin.pictures import RgbU8, checked_picture
from figleaf.skin.superpixels import adjacency, superpixels

Floats = NDArray[np.float64]
_COLOR_BINS, _ORIENTATIONS, _TEXTURE_BINS = 25, 8, 10  # as in the paper
_SUPERPIXELS = 100
_STEEPEST = 64.0  # of a channel's grey levels a pixel; steeper gradients share the last bin


@dataclass
class _Region:
    """A region while it grows."""

    size: int
    box: NDArray[np.int64]
    color: Floats
    texture: Floats

    def merged(self, other: "_Region") -> "_Region":
        total = self.size + other.size

        def mean(one: Floats, another: Floats) -> Floats:
            return (one * self.size + another * other.size) / total

        return _Region(
            total, _hull(self.box, other.box), mean(self.color, other.color), mean(self.texture, other.texture)
        )


def proposals(rgb_u8: RgbU8, most: int = 50, least_area: float = 0.01) -> Boxes:
    """At most `most` boxes (B, 4) around things of one colour and texture in a picture (H, W, 3), the largest first.

    Those that cover less than `least_area` of the picture, or nearly the same as another, are left out. The last merge,
    the whole picture, is always there.
    """
    height, width = checked_picture(rgb_u8).shape[:2]
    labels = superpixels(rgb_u8, _SUPERPIXELS)
    regions = dict(enumerate(_initial(rgb_u8, labels)))
    neighbours: dict[int, set[int]] = {number: set() for number in regions}
    similar: dict[tuple[int, int], float] = {}
    for one, other in adjacency(labels).pairs.tolist():
        neighbours[one].add(other)
        neighbours[other].add(one)
        similar[one, other] = _similarity(regions[one], regions[other], height * width)
    found = [region.box for region in regions.values()]
    while similar:
        one, other = max(similar, key=similar.__getitem__)
        new = len(found)
        regions[new] = regions.pop(one).merged(regions.pop(other))
        found.append(regions[new].box)
        around = (neighbours.pop(one) | neighbours.pop(other)) - {one, other}
        for pair in [pair for pair in similar if {one, other} & set(pair)]:
            del similar[pair]
        neighbours[new] = around
        for neighbour in around:
            neighbours[neighbour] = (neighbours[neighbour] - {one, other}) | {new}
            similar[neighbour, new] = _similarity(regions[neighbour], regions[new], height * width)
    boxes = np.stack(found)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    large = boxes[areas >= least_area * height * width]
    ordered = large[np.argsort(-(large[:, 2:] - large[:, :2]).prod(axis=1), kind="stable")]
    return distinct(ordered, 0.8)[:most]


def _initial(rgb_u8: RgbU8, labels: NDArray[np.int32]) -> list[_Region]:
    count = int(labels.max()) + 1
    lab = cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2LAB)
    color = _histograms(labels, [lab[..., c].astype(np.intp) * _COLOR_BINS // 256 for c in range(3)], _COLOR_BINS)
    texture = _histograms(labels, _gradients(lab), _TEXTURE_BINS)
    rows, columns = np.indices(labels.shape)
    flat = labels.ravel()
    ends = [np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)]
    boxes = np.empty((count, 4), np.int64)
    for axis, place in enumerate((rows.ravel(), columns.ravel())):
        low, high = ends[0].copy(), ends[1].copy()
        np.minimum.at(low, flat, place)
        np.maximum.at(high, flat, place)
        boxes[:, axis], boxes[:, axis + 2] = low, high + 1
    sizes = np.bincount(flat)
    return [_Region(int(sizes[i]), boxes[i], color[i], texture[i]) for i in range(count)]


def _gradients(lab_u8: RgbU8) -> list[NDArray[np.intp]]:
    """Bins (H, W) of the slope in each of eight directions, for each channel: Gaussian derivatives at sigma 1."""
    found = []
    for channel in range(3):
        smooth = cv2.GaussianBlur(lab_u8[..., channel].astype(np.float32), (0, 0), 1.0)
        dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 8
        for angle in 2 * np.pi * np.arange(_ORIENTATIONS) / _ORIENTATIONS:
            slope = np.clip(dx * np.cos(angle) + dy * np.sin(angle), 0, _STEEPEST)
            found.append(np.minimum(slope / _STEEPEST * _TEXTURE_BINS, _TEXTURE_BINS - 1).astype(np.intp))
    return found


def _histograms(labels: NDArray[np.int32], bins: list[NDArray[np.intp]], n_bins: int) -> Floats:
    """Of each patch, the histograms of all planes side by side, with sum 1: (K, planes * n_bins)."""
    count = int(labels.max()) + 1
    parts = [np.bincount(labels.ravel() * n_bins + plane.ravel(), minlength=count * n_bins) for plane in bins]
    found = np.concatenate([part.reshape(count, n_bins) for part in parts], axis=1).astype(np.float64)
    summed: Floats = found / found.sum(axis=1, keepdims=True)
    return summed


def _similarity(one: _Region, other: _Region, pixels: int) -> float:
    together = one.size + other.size
    box = _hull(one.box, other.box)
    covered = float((box[2:] - box[:2]).prod())
    return float(
        np.minimum(one.color, other.color).sum()
        + np.minimum(one.texture, other.texture).sum()
        + (1 - together / pixels)
        + (1 - (covered - together) / pixels)
    )


def _hull(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])
