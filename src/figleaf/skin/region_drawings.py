"""Drawings of how a picture falls into regions: its patches, the graph, the parts, skin regions and their outlines.

Each takes the picture as uint8 RGB (H, W, 3) and gives one of the same size. Colours are those of Okabe & Ito (2008),
which stay apart for colour-blind readers; larger pictures get thicker lines.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import RgbU8
from figleaf.skin.regions import Outline, Segmentation, outlines
from figleaf.skin.superpixels import Labels, pooled

PALETTE = np.array(
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [240, 228, 66]],
    np.uint8,
)
_BLUE, _VERMILION, _YELLOW = PALETTE[0], PALETTE[1], PALETTE[6]


def draw_patches(rgb_u8: RgbU8, patches: Labels) -> RgbU8:
    """The borders of superpixels over the picture."""
    drawn = rgb_u8.copy()
    drawn[borders(patches)] = _YELLOW
    return drawn


def draw_graph(rgb_u8: RgbU8, found: Segmentation) -> RgbU8:
    """The graph over the dimmed picture: a line for each edge, from vermilion (weak) over white to blue (strong).

    What counts is the weight for each pixel of border, against the strongest.
    """
    drawn = (rgb_u8 // 3 + 90).astype(np.uint8)
    row, column = np.indices(found.patches.shape)
    centres = pooled(found.patches, np.dstack([column, row]).astype(np.float64)).means
    pairs = found.adjacency.pairs
    weights = np.asarray(found.weights[pairs[:, 0], pairs[:, 1]]).ravel() / found.adjacency.lengths
    strength = weights / weights.max(initial=1e-300)
    white = np.full(3, 255.0)
    for (first, second), value in zip(pairs.tolist(), strength.tolist(), strict=True):
        end, share = (_BLUE, 2 * value - 1) if value > 0.5 else (_VERMILION, 1 - 2 * value)
        color = (white + share * (end - white)).tolist()
        _line(drawn, centres[first], centres[second], color)
    return drawn


def draw_parts(rgb_u8: RgbU8, labels: Labels) -> RgbU8:
    """Each part in its mean colour, with its border."""
    drawn = np.rint(pooled(labels, rgb_u8.astype(np.float32)).means[labels]).astype(np.uint8)
    drawn[borders(labels)] = _YELLOW
    return drawn


def draw_skin_regions(rgb_u8: RgbU8, regions: Labels, opacity: float = 0.6) -> RgbU8:
    """Regions 1, 2, ... under a veil of the palette's colours in turn; what is 0 in grey."""
    grey = np.repeat(cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    veil = PALETTE[(regions - 1) % len(PALETTE)]
    mixed = np.rint(opacity * veil + (1 - opacity) * rgb_u8).astype(np.uint8)
    return np.where((regions > 0)[..., None], mixed, grey)


def draw_outlines(rgb_u8: RgbU8, regions: Labels, tolerance: float = 1.0) -> RgbU8:
    """The polygons around regions 1, 2, ... in the palette's colours in turn, their corners as dots."""
    drawn = rgb_u8.copy()
    for region in range(1, int(regions.max(initial=0)) + 1):
        color = PALETTE[(region - 1) % len(PALETTE)].tolist()
        _polygons(drawn, outlines(regions == region, tolerance), color)
    return drawn


def borders(labels: Labels) -> NDArray[np.bool_]:
    """Pixels (H, W) whose right or lower neighbour has another label."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def _polygons(canvas: RgbU8, found: Sequence[Outline], color: list[int]) -> None:
    width = _width(canvas)
    for outline in found:
        for polygon in (outline.outer, *outline.holes):
            cv2.polylines(canvas, [polygon], True, color, width, cv2.LINE_AA)
            for corner in polygon.tolist():
                cv2.circle(canvas, corner, width, color, cv2.FILLED, cv2.LINE_AA)


def _line(canvas: RgbU8, start: NDArray[np.float64], end: NDArray[np.float64], color: list[float]) -> None:
    first, second = (np.rint(point).astype(int).tolist() for point in (start, end))
    cv2.line(canvas, first, second, color, _width(canvas), cv2.LINE_AA)


def _width(canvas: RgbU8) -> int:
    return max(1, round(float(min(canvas.shape[:2])) / 250))
