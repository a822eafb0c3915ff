"""Drawings of limb segments and the groups they form, over a picture (H, W, 3), in colours of Okabe & Ito (2008)."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import RgbU8
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_groups import Groups
from figleaf.skin.limb_parts import OF_KINDS, drawn_parts
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, checked_mask, checked_picture
from figleaf.skin.region_drawings import PALETTE

_LINE_BITS = 4  # OpenCV's fractions of a pixel
_DARKENED = 0.4  # what is left of the picture under the colours of kinds


def draw_segments(rgb_u8: RgbU8, segments: Sequence[Segment]) -> RgbU8:
    """Each segment's outline and axis in the palette's colours in turn."""
    drawn = np.array(rgb_u8, order="C")
    for number, segment in enumerate(segments):
        ribbon(drawn, segment, PALETTE[number % len(PALETTE)].tolist())
    return drawn


def draw_groups(rgb_u8: RgbU8, groups: Groups) -> RgbU8:
    """Segments in yellow, those of limbs in blue with a dot at the joint, spine and thigh in green.

    A vermilion line runs between the two limbs of each girdle.
    """
    drawn = np.array(rgb_u8, order="C")
    blue, vermilion, green, yellow = (PALETTE[number].tolist() for number in (0, 1, 2, 6))
    paired = [segment for limb in groups.limbs for segment in (limb.inner, limb.outer)]
    trunks = [segment for found in groups.spine_thighs for segment in (found.trunk, found.thigh)]
    for segment in groups.segments:
        ribbon(drawn, segment, green if segment in trunks else blue if segment in paired else yellow)
    width = max(1, round(min(drawn.shape[:2]) / 250))
    for girdle in groups.girdles:
        roots = np.array([limb.root for limb in girdle.limbs])
        cv2.polylines(drawn, [_fixed(roots)], False, vermilion, width + 1, cv2.LINE_AA, _LINE_BITS)
    for limb in groups.limbs:
        (centre,) = _fixed(np.array([limb.joint])).tolist()
        cv2.circle(drawn, centre, (2 * width + 1) << _LINE_BITS, vermilion, cv2.FILLED, cv2.LINE_AA, _LINE_BITS)
    return drawn


def draw_kinds(rgb_u8: RgbU8, mask: Mask) -> RgbU8:
    """The picture darkened where the network that looks at it with its mask (H, W) sees no limbs, and these coloured.

    Upper arms are orange, forearms light blue, thighs green, shins vermilion, the surer the brighter.
    """
    mask = checked_mask(mask, checked_picture(rgb_u8))
    maps = drawn_parts().maps(WorkingPicture.of(rgb_u8, mask))
    height, width = mask.shape
    kinds = cv2.resize(maps[..., OF_KINDS], (width, height), interpolation=cv2.INTER_LINEAR)
    colors = PALETTE[[4, 5, 2, 1]].astype(np.float64)
    mixed = _DARKENED * rgb_u8 + (1 - _DARKENED) * (kinds @ colors)
    return np.asarray(np.rint(mixed).clip(0, 255), np.uint8)


def ribbon(canvas: RgbU8, segment: Segment, color: list[int]) -> None:
    """Draw one segment into the canvas: the quadrilateral of its two edges, and its axis."""
    start, end = np.array(segment.start), np.array(segment.end)
    across = np.array([start[1] - end[1], end[0] - start[0]]) / max(segment.length, 1e-9)
    first, last = segment.radii
    corners = [start + first * across, end + last * across, end - last * across, start - first * across]
    width = max(1, round(min(canvas.shape[:2]) / 250))
    cv2.polylines(canvas, [_fixed(np.array(corners))], True, color, width, cv2.LINE_AA, _LINE_BITS)
    cv2.polylines(canvas, [_fixed(np.array([start, end]))], False, color, width + 1, cv2.LINE_AA, _LINE_BITS)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    # Coordinates here have a pixel's centre at a half, OpenCV's at a whole number
    return np.rint((points - 0.5) * (1 << _LINE_BITS)).astype(np.int32)
