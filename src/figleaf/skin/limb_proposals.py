"""Many hypotheses of limb segments: the ribbons of a mask, of its cuts along creases, and of what looks like limbs.

A mask alone shows the limbs that have no skin beside them. Each cut brings out others and breaks some, and so do the
maps of a network that sees parts of limbs: what all of them propose is pooled, with where it comes from, and something
else has to choose (`figleaf.skin.limb_judge`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.creases import Plane, WorkingPicture
from figleaf.skin.limb_parts import KINDS, NEARNESS, NONE, OF_KINDS
from figleaf.skin.limbs import Segment, limb_segments
from figleaf.skin.pictures import Mask

Floats = NDArray[np.float64]

# The scale of the creases, 0 fine and 1 coarse, and the least strength; chosen on the training split of drawn scenes.
CUTS = ((0, 0.2), (0, 0.45), (1, 0.25), (1, 0.6))
_LIMB, _KIND, _NEAR = 0.5, 0.4, 0.35  # least probability of a limb at all and where kinds differ, and least nearness
SOURCES = 1 + len(CUTS) + 3  # the mask as it is comes first; then the cuts, limbs, each kind by itself, and cores
_EDGE_PX = 0.5  # of the working size: what a cut takes from a ribbon's half-width
_SAMPLES = 15


@dataclass(frozen=True, eq=False)
class Proposals:
    """N `segments` in pixels of the picture, and the source (N,) that each comes from, 0 for the mask as it is."""

    segments: list[Segment]
    source: NDArray[np.intp]


def limb_proposals(mask: Mask, working: WorkingPicture, parts: Plane) -> Proposals:
    """The segments of a mask (H, W), and those that its picture and the maps of its parts (h, w, PLANES) bring out."""
    cut = [limb_segments(working.cut(*cut)) for cut in CUTS]
    there = [_in_picture(segments, working) for segments in (*cut, *_seen(working.share >= 0.5, parts))]
    found = [limb_segments(mask), *there]
    source = np.repeat(np.arange(SOURCES), [len(segments) for segments in found])
    return Proposals([segment for segments in found for segment in segments], source)


def _seen(skin: Mask, parts: Plane) -> list[list[Segment]]:
    """Of the skin that looks like limbs, like each kind of them; of cores, on skin or not, where an axis is near."""
    limb, kind = 1 - parts[..., NONE], parts[..., OF_KINDS].argmax(axis=2)
    of_kinds = [limb_segments(skin & (limb >= _KIND) & (kind == number)) for number in range(len(KINDS))]
    share = 1 / (1 - _NEAR)  # of a core's half-width to the limb's
    cores = [
        Segment(one.start, one.end, (share * one.radii[0], share * one.radii[1]))
        for one in limb_segments(parts[..., NEARNESS] >= _NEAR)
    ]
    return [limb_segments(skin & (limb >= _LIMB)), [one for found in of_kinds for one in found], cores]


def _in_picture(segments: Sequence[Segment], working: WorkingPicture) -> list[Segment]:
    x, y = working.to_picture.tolist()
    wider = float(np.sqrt(x * y))
    return [
        Segment(
            (one.start[0] * x, one.start[1] * y),
            (one.end[0] * x, one.end[1] * y),
            ((one.radii[0] + _EDGE_PX) * wider, (one.radii[1] + _EDGE_PX) * wider),
        )
        for one in segments
    ]


@dataclass(frozen=True, eq=False)
class Relations:
    """How N segments lie to one another: `cover[i, j]` is the share of i's axis inside j, `angle_deg` between the two.

    `radius` (N,) are mean half-widths.
    """

    cover: Floats
    angle_deg: Floats
    radius: Floats

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "Relations":
        """Of all pairs; (N, N), (N, N) and (N,)."""
        ends = np.array([[*one.start, *one.end] for one in segments]).reshape(-1, 4)
        start, way = ends[:, :2], ends[:, 2:] - ends[:, :2]
        radius = np.array([one.width / 2 for one in segments])
        squares = np.maximum((way**2).sum(axis=1), 1e-9)
        points = start[:, None] + np.linspace(0, 1, _SAMPLES)[None, :, None] * way[:, None]  # (N, samples, 2)
        off = points[:, None] - start[None, :, None]  # (N, N, samples, 2)
        along = ((off * way[None, :, None]).sum(axis=3) / squares[None, :, None]).clip(0, 1)
        distance = np.hypot(*np.moveaxis(off - along[..., None] * way[None, :, None], 3, 0))
        cover = (distance <= radius[None, :, None]).mean(axis=2)
        heading = way / np.sqrt(squares)[:, None]
        angle = np.rad2deg(np.arccos(np.abs(heading @ heading.T).clip(0, 1)))
        return cls(cover, angle, radius)
