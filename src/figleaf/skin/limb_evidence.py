"""What speaks for a proposed limb segment: what a network sees along it and beside it, and how many ways lead to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.creases import Plane, WorkingPicture
from figleaf.skin.limb_parts import COSINE, KINDS, NEARNESS, NONE, OF_KINDS, PLANES, SINE, drawn_parts
from figleaf.skin.limb_proposals import SOURCES, Proposals, Relations, limb_proposals
from figleaf.skin.limb_views import crop_waves
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8, checked_mask, checked_picture

Floats = NDArray[np.float64]

# Across a ribbon, in half-widths from its axis: its edges are at 1.
_OFFSETS = np.array([-1.5, -1.2, -1.0, -0.8, -0.5, 0.0, 0.5, 0.8, 1.0, 1.2, 1.5])
_WITHIN, _AXIS = slice(2, 9), 5
_BEYOND = np.array([0.5, 1.0, 1.5])  # of its ends, in half-widths
_ALONG = np.linspace(0.05, 0.95, 13)
_LOW, _MIDDLE, _END = 3, 6, 3  # of these samples: the lower quartile, the median, and how many are an end
_WAVES = 5  # of a crop
_ALONG_SIZE = 3 * len(_OFFSETS) + 2 * len(KINDS) + 6 + 6 * len(_BEYOND)
_COMPANY_SIZE = SOURCES + 5
SIZE = _ALONG_SIZE + _COMPANY_SIZE + 2 * _WAVES**2
_AGREE_COVER, _AGREE_DEG, _AGREE_WIDTH = 0.6, 20.0, 0.4
_WITHIN_COVER, _WITHIN_WIDTH = 0.7, 1.3


@dataclass(frozen=True, eq=False)
class Evidence:
    """The proposals in a picture, and their `features` (N, SIZE): see `proposal_features`."""

    proposals: Proposals
    features: NDArray[np.float32]

    @classmethod
    def of(cls, rgb_u8: RgbU8, mask: Mask) -> "Evidence":
        """In a mask (H, W) of a picture (H, W, 3). Raises `FigleafError` where they do not fit one another."""
        rgb_u8 = checked_picture(rgb_u8)
        mask = checked_mask(mask, rgb_u8)
        working = WorkingPicture.of(rgb_u8, mask)
        parts = drawn_parts().maps(working)
        proposals = limb_proposals(mask, working, parts)
        return cls(proposals, proposal_features(working, parts, proposals))


def proposal_features(working: WorkingPicture, parts: Plane, proposals: Proposals) -> NDArray[np.float32]:
    """The evidence for each of N proposals in a picture with the maps of its parts (h, w, PLANES), (N, SIZE).

    In turn: what is seen along it and beside it; its company; `crop_waves` of limbs and of nearness to an axis.

    *Along*: across it the profiles of limbs, of nearness and of how well the direction fits, the lesser of both sides,
    the greater ones and the axis; the mean probabilities of the kinds within its edges; the least nearness along the
    axis, its lower quartile and its median, the least probability of a limb and the worst direction; by how much the
    kinds differ between its ends; how sure they are; beyond its ends limbs, nearness, and its own kinds.
    *Company*: from which sources a like segment comes, and from how many; in how many wider segments it lies, and how
    many narrower ones lie in it; its source; the number of proposals. The same from either end and in the mirror.
    """
    if not proposals.segments:
        return np.zeros((0, SIZE), np.float32)
    ribbons = [_at_working_size(one, working) for one in proposals.segments]
    planes = np.dstack([1 - parts[..., NONE], parts[..., NEARNESS]])
    # OpenCV takes up to four channels at a time here
    fours = [np.ascontiguousarray(parts[..., first : first + 4]) for first in range(0, PLANES, 4)]
    along = np.stack([_along(fours, one) for one in ribbons])
    waves = np.stack([crop_waves(planes, one, _WAVES) for one in ribbons])
    return np.hstack([along, _company(proposals), waves]).astype(np.float32)


def _at_working_size(segment: Segment, working: WorkingPicture) -> Segment:
    x, y = working.to_picture.tolist()
    (x0, y0), (x1, y1) = segment.start, segment.end
    narrower = float(np.sqrt(x * y))
    return Segment((x0 / x, y0 / y), (x1 / x, y1 / y), (segment.radii[0] / narrower, segment.radii[1] / narrower))


def _along(fours: Sequence[Plane], ribbon: Segment) -> Floats:
    start, end, radii = (np.array(pair) for pair in (ribbon.start, ribbon.end, ribbon.radii))
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across = np.array([-along[1], along[0]])
    radius = radii[0] + _ALONG * (radii[1] - radii[0])
    axis = start + _ALONG[:, None] * (end - start)
    seen = _sampled(fours, axis[None] + _OFFSETS[:, None, None] * radius[None, :, None] * across)
    limb, near = 1 - seen[..., NONE], seen[..., NEARNESS]
    double = along[0] ** 2 - along[1] ** 2, 2 * along[0] * along[1]
    fit = seen[..., COSINE] * double[0] + seen[..., SINE] * double[1]
    kinds = seen[..., OF_KINDS]
    own, on_axis, axis_near = kinds[_WITHIN].mean(axis=(0, 1)), kinds[_AXIS], np.sort(near[_AXIS])
    ends = on_axis[:_END].mean(axis=0), on_axis[-_END:].mean(axis=0)
    beyond = _sampled(
        fours, np.stack([start - _BEYOND[:, None] * radii[0] * along, end + _BEYOND[:, None] * radii[1] * along])
    )
    same = beyond[..., OF_KINDS] @ own / max(float(own.sum()), 1e-6)
    return np.concatenate(
        [
            *(_of_both_sides(profile.mean(axis=1)) for profile in (limb, near, fit)),
            own,
            [axis_near[0], axis_near[_LOW], axis_near[_MIDDLE], limb[_AXIS].min(), fit[_AXIS].min()],
            np.abs(ends[0] - ends[1]),
            [on_axis.max(axis=1).mean()],
            *(np.sort(plane, axis=0).ravel() for plane in (1 - beyond[..., NONE], beyond[..., NEARNESS], same)),
        ]
    )


def _of_both_sides(profile: Floats) -> Floats:
    """The lesser and the greater of the values at equal distances to both sides, and the one in the middle."""
    half = len(profile) // 2
    sides = np.sort(np.stack([profile[:half], profile[::-1][:half]]), axis=0)
    return np.concatenate([sides.ravel(), profile[half : half + 1]])


def _sampled(fours: Sequence[Plane], at: Floats) -> Floats:
    """Of planes (h, w, C), four by four, at points (..., 2), (..., C)."""
    x, y = np.moveaxis((at - 0.5).astype(np.float32), -1, 0)  # a pixel's centre is at a half
    found = [cv2.remap(four, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for four in fours]
    return np.concatenate(found, axis=-1).astype(np.float64)


def _company(proposals: Proposals) -> Floats:
    between = Relations.of(proposals.segments)
    width = np.log(np.maximum(between.radius, 1e-9))
    alike = (np.minimum(between.cover, between.cover.T) > _AGREE_COVER) & (between.angle_deg < _AGREE_DEG)
    alike &= np.abs(width[:, None] - width[None]) < _AGREE_WIDTH
    votes = np.stack([alike[:, proposals.source == source].any(axis=1) for source in range(SOURCES)], axis=1)
    within = (between.cover > _WITHIN_COVER) & (width[None] - width[:, None] > np.log(_WITHIN_WIDTH))
    counts = [votes.sum(axis=1), within.sum(axis=1), within.sum(axis=0), proposals.source]
    return np.column_stack([votes, *counts, np.full(len(votes), len(votes))]).astype(np.float64)
