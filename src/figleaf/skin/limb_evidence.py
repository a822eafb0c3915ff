"""What speaks for a proposed limb segment: its looks, its two edges, and how many ways lead to it.

Forsyth & Fleck's ribbons are pairs of edges. Here a ribbon comes first, and what lies along its edges is measured: the
profile across it of creases, of skin, and of slopes of lightness and colour.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.skin.creases import Plane, WorkingPicture
from figleaf.skin.limb_proposals import SOURCES, Proposals, Relations, limb_proposals
from figleaf.skin.limb_views import SIZE as VIEW_SIZE
from figleaf.skin.limb_views import crop_waves, view_features
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8, checked_picture

Floats = NDArray[np.float64]

# Across a ribbon, in half-widths from its axis: its edges are at 1.
_OFFSETS = np.array([-1.5, -1.2, -1.0, -0.8, -0.5, 0.0, 0.5, 0.8, 1.0, 1.2, 1.5])
_BEYOND = np.array([0.5, 1.0, 1.5])  # of its ends, in half-widths
_ALONG = np.linspace(0.05, 0.95, 13)
_PROFILES, _ENDED = 5, 2  # planes
_WAVES = 6  # of a crop, for each of skin, fine and coarse creases: these are narrower than what `limb_views` shows
_STRENGTHS = (-0.5, 1.5)  # of creases, beyond which they are cut off
SIZE = VIEW_SIZE + _PROFILES * len(_OFFSETS) + _ENDED * 2 * len(_BEYOND) + SOURCES + 5 + 3 * _WAVES**2
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
        rgb_u8, mask = checked_picture(rgb_u8), np.asarray(mask, np.bool_)
        if mask.shape != rgb_u8.shape[:2]:
            raise FigleafError(f"mask of shape {mask.shape}: expected {rgb_u8.shape[:2]}, as its picture")
        working = WorkingPicture.of(rgb_u8, mask)
        proposals = limb_proposals(rgb_u8, mask, working)
        return cls(proposals, proposal_features(rgb_u8, mask, working, proposals))


def proposal_features(rgb_u8: RgbU8, mask: Mask, working: WorkingPicture, proposals: Proposals) -> NDArray[np.float32]:
    """The evidence for each of N proposals in a picture (H, W, 3) with a mask (H, W), (N, SIZE).

    In turn: `view_features`; for each of fine creases, coarse creases, share of skin and slopes across of lightness and
    colour the lesser of both sides at each offset, the greater ones, and the axis; fine creases and skin beyond the
    ends; from which sources a like segment comes, and from how many; in how many wider segments it lies, and how many
    narrower ones lie in it; its source; the number of proposals; `crop_waves` of skin and of fine and coarse creases.
    The same from either end and in the mirror.
    """
    segments = proposals.segments
    if not segments:
        return np.zeros((0, SIZE), np.float32)
    ribbons = [_at_working_size(one, working) for one in segments]
    edges = np.stack([_edges(working, one) for one in ribbons])
    planes = np.dstack([working.share, *(plane.clip(*_STRENGTHS) for plane in working.creases)])
    waves = np.stack([crop_waves(planes, one, _WAVES) for one in ribbons])
    return np.hstack([view_features(rgb_u8, mask, segments), edges, _company(proposals), waves]).astype(np.float32)


def _at_working_size(segment: Segment, working: WorkingPicture) -> Segment:
    x, y = working.to_picture.tolist()
    (x0, y0), (x1, y1) = segment.start, segment.end
    narrower = float(np.sqrt(x * y))
    return Segment((x0 / x, y0 / y), (x1 / x, y1 / y), (segment.radii[0] / narrower, segment.radii[1] / narrower))


def _edges(working: WorkingPicture, ribbon: Segment) -> Floats:
    start, end, radii = (np.array(pair) for pair in (ribbon.start, ribbon.end, ribbon.radii))
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across = np.array([-along[1], along[0]])
    radius = radii[0] + _ALONG * (radii[1] - radii[0])
    axis = start + _ALONG[:, None] * (end - start)
    at = axis[None] + _OFFSETS[:, None, None] * radius[None, :, None] * across  # (offsets, along, 2)
    fine, coarse = working.creases
    slopes = [np.abs(_sampled(x, at) * across[0] + _sampled(y, at) * across[1]) for x, y in working.gradients]
    planes = [_sampled(fine, at), _sampled(coarse, at), _sampled(working.share, at), slopes[0], slopes[1] + slopes[2]]
    found = [_of_both_sides(plane.mean(axis=1)) for plane in planes]
    beyond = np.stack([start - _BEYOND[:, None] * radii[0] * along, end + _BEYOND[:, None] * radii[1] * along])
    found += [np.sort(_sampled(plane, beyond), axis=0).ravel() for plane in (fine, working.share)]
    return np.concatenate(found)


def _of_both_sides(profile: Floats) -> Floats:
    """The lesser and the greater of the values at equal distances to both sides, and the one in the middle."""
    half = len(profile) // 2
    sides = np.sort(np.stack([profile[:half], profile[::-1][:half]]), axis=0)
    return np.concatenate([sides.ravel(), profile[half : half + 1]])


def _sampled(plane: Plane, at: Floats) -> Floats:
    x, y = np.moveaxis((at - 0.5).astype(np.float32), -1, 0)  # a pixel's centre is at a half
    found = cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float64)


def _company(proposals: Proposals) -> Floats:
    between = Relations.of(proposals.segments)
    width = np.log(np.maximum(between.radius, 1e-9))
    alike = (np.minimum(between.cover, between.cover.T) > _AGREE_COVER) & (between.angle_deg < _AGREE_DEG)
    alike &= np.abs(width[:, None] - width[None]) < _AGREE_WIDTH
    votes = np.stack([alike[:, proposals.source == source].any(axis=1) for source in range(SOURCES)], axis=1)
    within = (between.cover > _WITHIN_COVER) & (width[None] - width[:, None] > np.log(_WITHIN_WIDTH))
    counts = [votes.sum(axis=1), within.sum(axis=1), within.sum(axis=0), proposals.source]
    return np.column_stack([votes, *counts, np.full(len(votes), len(votes))]).astype(np.float64)
