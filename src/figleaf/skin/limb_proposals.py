"""Many hypotheses of limb segments: the ribbons of a mask, and those of the mask cut along the creases of its picture.

A mask alone shows the limbs that have no skin beside them. Each cut brings out others and breaks some: what all of them
propose is pooled, with where it comes from, and something else has to choose (`figleaf.skin.limb_judge`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limbs import Segment, limb_segments
from figleaf.skin.pictures import Mask, RgbU8

Floats = NDArray[np.float64]

# The scale of the creases, 0 fine and 1 coarse, and the least strength; chosen on the training split of drawn scenes.
CUTS = ((0, 0.2), (0, 0.45), (1, 0.25), (1, 0.6))
SOURCES = 1 + len(CUTS)  # the mask as it is comes first
_CREASE_PX = 0.5  # what a cut takes from a ribbon's half-width
_SAMPLES = 15


@dataclass(frozen=True, eq=False)
class Proposals:
    """N `segments` in pixels of the picture, and the cut (N,) that each comes from, 0 for none."""

    segments: list[Segment]
    source: NDArray[np.intp]


def limb_proposals(rgb_u8: RgbU8, mask: Mask, working: WorkingPicture | None = None) -> Proposals:
    """The segments of a mask (H, W) and of its cuts along the creases of the picture (H, W, 3)."""
    working = WorkingPicture.of(rgb_u8, mask) if working is None else working
    found = [limb_segments(mask)]
    found += [[_in_picture(one, working) for one in limb_segments(working.cut(*cut))] for cut in CUTS]
    source = np.repeat(np.arange(SOURCES), [len(segments) for segments in found])
    return Proposals([segment for segments in found for segment in segments], source)


def _in_picture(segment: Segment, working: WorkingPicture) -> Segment:
    x, y = working.to_picture.tolist()
    (x0, y0), (x1, y1) = segment.start, segment.end
    wider = float(np.sqrt(x * y))
    first, last = ((radius + _CREASE_PX) * wider for radius in segment.radii)
    return Segment((x0 * x, y0 * y), (x1 * x, y1 * y), (first, last))


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
