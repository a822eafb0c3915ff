"""Ap-apid's six rules: what the largest regions of skin in a picture must look like for it to be called nude.

R. Ap-apid, "An Algorithm for Nudity Detection" (PCSC 2005). nude.js and nudepy, named after it, leave out the polygon
(rule d and half of e), add a rule of their own (fewer than three regions: not nude) and drop small regions.

What the paper leaves open is settled here as follows.

* Regions are 8-connected; of regions of one size the one that comes first in reading order counts as the larger.
* The bounding polygon is the convex hull of the leftmost, rightmost, uppermost and lowermost pixels of each of the
  three largest regions (of several leftmost the uppermost; of several uppermost the leftmost). Pixels whose centres lie
  in the hull or on its border are its area, so that it has one however few they are.
* Intensity is (R + G + B) / 3, on a scale from 0 to 1.
* The colour model is a parameter: the paper's own limits in RGB and HSV are not known here.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from figleaf.skin.image_system import MaskRule, beyond
from figleaf.skin.pictures import Mask, RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel

MIN_SKIN = 0.15  # a: of the picture
MIN_THREE_REGIONS = (0.35, 0.30, 0.30)  # b: of the skin; one of the three must reach its own
MIN_LARGEST_REGION = 0.45  # c: of the skin
ENOUGH_SKIN, MIN_IN_POLYGON = 0.30, 0.55  # d: of the picture; of the polygon
MAX_REGIONS, MIN_INTENSITY = 60, 0.25  # e: number; mean within the polygon

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class RegionFacts:
    """What the rules ask about a picture; all but `regions`, a count, in [0, 1].

    `skin`: share of the picture. `largest` (3,): the largest regions' shares of the skin, 0 where there are fewer.
    `polygon` (H, W): the bounding polygon. `in_polygon`: skin's share of it; `intensity`: mean brightness within it.
    """

    skin: float
    regions: int
    largest: tuple[float, float, float]
    polygon: Mask
    in_polygon: float
    intensity: float


def region_facts(rgb_u8: RgbU8, skin: Mask) -> RegionFacts:
    """Measure a picture (H, W, 3) with its mask of skin (H, W)."""
    regions, count = ndimage.label(skin, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:3]
    largest = np.zeros(3)
    largest[: len(order)] = sizes[order] / max(1, sizes.sum())
    polygon = _bounding_polygon(regions, [int(index) + 1 for index in order])
    inside = np.count_nonzero(polygon)
    return RegionFacts(
        skin=float(skin.mean()),
        regions=int(count),
        largest=(float(largest[0]), float(largest[1]), float(largest[2])),
        polygon=polygon,
        in_polygon=np.count_nonzero(skin & polygon) / inside if inside else 0.0,
        intensity=float(checked_picture(rgb_u8)[polygon].mean() / 255) if inside else 0.0,
    )


def _bounding_polygon(regions: NDArray[np.integer], chosen: list[int]) -> Mask:
    """The pixels (H, W) within the convex hull of the outermost pixels of the `chosen` regions."""
    corners = []
    for number in chosen:
        rows, columns = np.nonzero(regions == number)  # in reading order
        by_column = np.lexsort((rows, columns))
        last_column, last_row = columns == columns.max(), rows == rows.max()
        outermost = (by_column[0], np.flatnonzero(last_column)[0], 0, np.flatnonzero(last_row)[0])
        corners += [(columns[pixel], rows[pixel]) for pixel in outermost]
    if not corners:
        return np.zeros(regions.shape, np.bool_)
    return _within_hull(np.array(corners, np.int32), regions.shape)


def _within_hull(corners: NDArray[np.int32], shape: tuple[int, ...]) -> Mask:
    """Pixels of a picture of this shape (H, W) in or on the convex hull of `corners` (K, 2), x and y; K >= 1."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)  # all there is of a hull that is but a line
    hull = cv2.convexHull(corners)[:, 0].astype(np.int64)
    side = [
        (end_x - start_x) * (y - start_y) - (end_y - start_y) * (x - start_x)
        for (start_x, start_y), (end_x, end_y) in zip(hull, np.roll(hull, -1, axis=0), strict=True)
    ]
    within: Mask = inside & (np.all([s >= 0 for s in side], axis=0) | np.all([s <= 0 for s in side], axis=0))
    return within


def rule_margins(facts: RegionFacts) -> dict[str, float]:
    """How far each of the rules a to e is from calling the picture not nude; below 0 where it does so.

    Differences of logits (of logarithms for the number of regions), so that they are finite and comparable.
    """
    few_regions = float(np.log((MAX_REGIONS + 0.5) / (facts.regions + 0.5)))
    return {
        "a": beyond(facts.skin, MIN_SKIN),
        "b": max(beyond(share, least) for share, least in zip(facts.largest, MIN_THREE_REGIONS, strict=True)),
        "c": beyond(facts.largest[0], MIN_LARGEST_REGION),
        "d": max(beyond(facts.skin, ENOUGH_SKIN), beyond(facts.in_polygon, MIN_IN_POLYGON)),
        "e": max(few_regions, beyond(facts.intensity, MIN_INTENSITY)),
    }


class ApApidRules(MaskRule):
    """The rules as a system: unsafe when none of a to e says that the picture is not nude.

    The score is the smallest margin of the five; at the published decision its probability is a half.
    """

    def __init__(self, pixel_model: PixelModel) -> None:
        self.pixel_model = pixel_model

    def margin(self, rgb_u8: RgbU8) -> float:
        """The smallest margin of the rules."""
        return min(rule_margins(region_facts(rgb_u8, self.pixel_model_.skin_mask(rgb_u8))).values())
