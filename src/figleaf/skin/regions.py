"""Regions of a picture: the parts that normalised cuts give, and the regions that skin pixels form."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array, csr_array
from skimage.measure import label as connected_components

from figleaf.data.decode import RgbU8
from figleaf.skin.ncut import normalized_cut
from figleaf.skin.superpixels import (
    COUNT,
    Adjacency,
    Labels,
    Patches,
    adjacency,
    appearance,
    pooled,
    superpixels,
)

# Differences of colour (CIE Lab) and of texture (amplitude in units of L) that make two patches strangers. Chosen with
# THRESHOLD on drawn scenes of the training split, by how well parts agree with the figures' masks.
COLOR_SCALE, TEXTURE_SCALE = 8.0, 3.0
THRESHOLD = 0.005
MOST = 40
# For skin regions: lightness, colour (a and b), texture. Skin is round, and its shading is no border.
SKIN_SCALES = (24.0, 8.0, 8.0, 4.0)
# Weights below this share of the largest are raised to it: a picture stays connected, and so has second eigenvectors.
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A picture in parts: `labels` int32 (H, W), 0 to K - 1; and the graph that was cut.

    `patches` int32 (H, W) are the graph's nodes, `adjacency` its edges, `weights` theirs, sparse and symmetric.
    """

    labels: Labels
    patches: Labels
    adjacency: Adjacency
    weights: csr_array


def segment(
    rgb_u8: RgbU8,
    *,
    count: int = COUNT,
    color_scale: float = COLOR_SCALE,
    texture_scale: float = TEXTURE_SCALE,
    threshold: float = THRESHOLD,
    most: int = MOST,
) -> Segmentation:
    """The parts of a picture (H, W, 3), by normalised cuts of the graph of its superpixels (Shi & Malik 2000).

    Only patches that touch are joined, with the length of their border in pixels times
    exp(-(difference in colour / `color_scale`)^2 - (difference in texture / `texture_scale`)^2). `count` and the other
    arguments are those of `superpixels` and `normalized_cut`. Every part is connected.
    """
    patches = superpixels(rgb_u8, count)
    touching = adjacency(patches)
    found = pooled(patches, appearance(rgb_u8))
    weights = affinity(found, touching, color_scale, texture_scale)
    parts = normalized_cut(weights, threshold=threshold, most=most)
    return Segmentation(parts[patches].astype(np.int32), patches, touching, weights)


def affinity(patches: Patches, touching: Adjacency, color_scale: float, texture_scale: float) -> csr_array:
    """The weights (K, K) of the graph of K patches with the features of `appearance`; see `segment`."""
    first, second = touching.pairs.T
    difference = patches.means[first] - patches.means[second]
    strangeness = (difference[:, :3] ** 2).sum(axis=1) / color_scale**2 + (difference[:, 3] / texture_scale) ** 2
    weight = touching.lengths * np.exp(-strangeness)
    weight = np.maximum(weight, _LEAST_WEIGHT * weight.max(initial=0.0))
    count = len(patches.sizes)
    edges = (np.concatenate([weight, weight]), (np.concatenate([first, second]), np.concatenate([second, first])))
    return csr_array(coo_array(edges, shape=(count, count)))


def skin_regions(
    rgb_u8: RgbU8,
    skin: NDArray[np.bool_],
    *,
    scales: Sequence[float] = SKIN_SCALES,
    gap: float = 0.03,
    least: float = 0.002,
) -> Labels:
    """Skin pixels grouped into regions: labels int32 (H, W), 1 to K, the largest region first; 0 elsewhere.

    The pixels of the mask `skin` (H, W) fall into 8-connected pieces, each within one superpixel. Neighbours in colour
    and texture are merged, the most alike first, as long as the means of two differ by less than `scales` (of L, a, b
    and texture, added in quadrature). Pieces count as neighbours across up to `gap` of the mean of height and width, so
    that a bracelet does not cut off a hand. Regions below `least` of the picture are left out.
    """
    if not skin.any():
        return np.zeros(skin.shape, np.int32)
    within = np.where(skin, superpixels(rgb_u8) + 1, 0)
    pieces = _pieces(within)
    inside = pieces >= 0
    features = appearance(rgb_u8) / np.asarray(scales, np.float32)
    found = pooled(pieces[inside][None], np.asarray(features[inside][None], np.float32))
    reach = gap * sum(skin.shape) / 4  # from both sides
    merged = merge(found, adjacency(_grown(pieces, reach), diagonal=True).pairs)
    sizes = np.bincount(merged, found.sizes)
    kept = [int(region) for region in np.argsort(-sizes, kind="stable") if sizes[region] >= least * skin.size]
    number = np.zeros(len(sizes) + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    # The last entry is that of -1, no skin.
    return np.asarray(number[np.append(merged, len(sizes))[pieces]])


def _pieces(labels: Labels) -> Labels:
    """The 8-connected pieces of one label, 0 to K - 1; -1 where the label is 0."""
    found = connected_components(labels, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    return np.asarray(found, np.int32) - 1


def _grown(labels: Labels, reach: float) -> Labels:
    """Labels spread to the pixels within `reach` of them that have none (-1)."""
    if reach < 1:
        return labels
    distance, nearest = distance_transform_edt(labels < 0, return_indices=True)
    return np.where(distance <= reach, labels[tuple(nearest)], -1).astype(np.int32)


def merge(patches: Patches, pairs: NDArray[np.intp], limit: float = 1.0) -> NDArray[np.intp]:
    """Groups (K,) of patches, numbered from 0: the two neighbours whose means are nearest become one, again and again.

    Until the nearest are `limit` or more apart, in the unit of the features. `pairs` (E, 2) are the neighbours. A
    group's mean is that of its pixels; its neighbours are those of its members.
    """
    sizes, means = [float(size) for size in patches.sizes], list(patches.means)
    neighbours: list[set[int]] = [set() for _ in sizes]
    parent = list(range(len(sizes)))
    for first, second in pairs.tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)

    def apart(one: int, other: int) -> float:
        return float(np.linalg.norm(means[one] - means[other]))

    queue = [(apart(one, other), one, other) for one, other in pairs.tolist()]
    heapq.heapify(queue)
    alive = [True] * len(sizes)
    while queue:
        distance, one, other = heapq.heappop(queue)
        if distance >= limit:
            break
        if not (alive[one] and alive[other]):
            continue
        # A new node for every merger, so that a distance in the queue is never out of date.
        new = len(sizes)
        size = sizes[one] + sizes[other]
        means.append((sizes[one] * means[one] + sizes[other] * means[other]) / size)
        sizes.append(size)
        parent += [new]
        parent[one] = parent[other] = new
        alive[one] = alive[other] = False
        alive.append(True)
        neighbours.append({n for n in neighbours[one] | neighbours[other] if alive[n]})
        for neighbour in neighbours[new]:
            neighbours[neighbour].add(new)
            heapq.heappush(queue, (apart(neighbour, new), neighbour, new))
    for node in reversed(range(len(parent))):
        parent[node] = parent[parent[node]]
    return np.unique(parent[: len(patches.sizes)], return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class Outline:
    """The border of an 8-connected region: `outer` int32 (N, 2), x and y of pixels of the region, closed, in order.

    `holes` are borders of the same kind, through pixels of the holes, each 4-connected.
    """

    outer: NDArray[np.int32]
    holes: tuple[NDArray[np.int32], ...]

    def fill(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The region as a mask of `shape` (H, W): the very pixels, when the outline was made without tolerance."""
        canvas = np.zeros(shape[:2], np.uint8)
        cv2.fillPoly(canvas, [self.outer], 1)
        for hole in self.holes:
            cv2.fillPoly(canvas, [hole], 0)
        return canvas.astype(bool)


def outlines(region: NDArray[np.bool_], tolerance: float = 0.0) -> list[Outline]:
    """The polygons around a region, a mask (H, W): one for each of its 8-connected pieces, largest first.

    With a `tolerance` in pixels corners are left out (Ramer, Douglas & Peucker) as long as the border stays that near.
    """
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    order = sorted(range(1, count), key=lambda piece: -int(statistics[piece, cv2.CC_STAT_AREA]))
    return [_outline(np.asarray(pieces == piece), tolerance) for piece in order]


def _outline(piece: NDArray[np.bool_], tolerance: float) -> Outline:
    # Holes are 4-connected, so that no ring of them can lie around pixels of an 8-connected piece.
    padded = np.pad(~piece, 1, constant_values=True).astype(np.uint8)
    count, outside = cv2.connectedComponents(padded, connectivity=4)
    outside = outside[1:-1, 1:-1]
    holes = tuple(_border(np.asarray(outside == hole), tolerance) for hole in range(2, count))
    return Outline(_border(np.asarray(outside != 1), tolerance), holes)


def _border(filled: NDArray[np.bool_], tolerance: float) -> NDArray[np.int32]:
    """The border of a connected mask without holes."""
    # Two levels of hierarchy would do the same for a mask with holes, which there are none of.
    (contour, *_), _ = cv2.findContours(filled.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if tolerance > 0:
        contour = cv2.approxPolyDP(contour, tolerance, True)
    return np.asarray(contour.reshape(-1, 2), np.int32)
