"""What counts as a visible limb segment of a drawn scene, and which of them a list of found segments contains.

*Limb segments* are upper arms, forearms, thighs and shins. One is *visible* when at least half of its axis is inside
the frame, not hidden and exposed skin, and the exposed part is at least as long as it is wide: a clothed limb is not in
a mask of skin, and one that points at the camera projects to a disc, which has no axis. It is *outlined* when, besides,
what lies beside it is no skin along half of that part, on both sides: only then does a mask show its two edges.

It is *found* by one segment, and a segment finds one limb segment only (an assignment, longest overlap first), when
their directions differ by at most 25 degrees, the axis found covers half of the exposed axis within one half-width, is
at most twice as long and between half and twice as wide. A segment that finds nothing is *false*, duplicates too, save
one along the trunk (both ends within a chest or hips), which the groups need as a part of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.data.scenes.skeleton import ENDS, JOINTS, PART, SEGMENTS
from figleaf.skin.limb_parts import KINDS
from figleaf.skin.limbs import Segment

Floats = NDArray[np.float64]
LIMBS = [number for name, number in PART.items() if name.endswith(("arm", "thigh", "shin"))]
_SAMPLES = 41
_TURN_DEG = 25.0


@dataclass(frozen=True)
class Limb:
    """A visible limb segment: the exposed part of its axis as points (N, 2), half-width, tilt in degrees, outlined.

    `part`: its number in the skeleton.
    """

    part: int
    points: Floats
    radius: float
    tilt_deg: float
    outlined: bool


def visible_limbs(
    joints: Floats, radius_px: Floats, tilt_deg: Floats, visible: Floats, skin: NDArray[np.bool_]
) -> list[Limb]:
    """The visible limb segments of one scene's figures (3, ...), as `figures.npz` holds them, NaN for no figure."""
    found = []
    for figure in range(len(joints)):
        if np.isnan(joints[figure]).any():
            continue
        for part in LIMBS:
            start, end = joints[figure, ENDS[part, 0]], joints[figure, ENDS[part, 1]]
            axis = start + np.linspace(0, 1, _SAMPLES)[:, None] * (end - start)
            exposed = _inside(axis, skin)
            radius = float(radius_px[figure, part].mean())
            length = float(np.hypot(*(end - start)))
            if min(visible[figure, part], exposed.mean()) < 0.5 or exposed.mean() * length < 2 * radius:
                continue
            across = np.array([start[1] - end[1], end[0] - start[0]]) / length
            beside = [~_inside(axis + side * (1.5 * radius + 1) * across, skin) for side in (-1, 1)]
            outlined = bool((beside[0] & beside[1])[exposed].mean() >= 0.5)
            found.append(Limb(part, axis[exposed], radius, abs(float(tilt_deg[figure, part])), outlined))
    return found


def part_targets(limbs: Sequence[Limb], skin: NDArray[np.bool_]) -> NDArray[np.float16]:
    """What `LimbParts` learns to see of visible limbs in the exposed skin (H, W): (H, W, 4), see its `fit`.

    Where two lie over one another the pixel goes to the one whose axis is nearer, in half-widths.
    """
    height, width = skin.shape
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    nearest = np.ones(len(centres))
    found = np.zeros((len(centres), 4))
    for limb in limbs:
        start, end = limb.points[0], limb.points[-1]
        away = distances(centres, start, end) / limb.radius
        double = 2 * np.arctan2(*(end - start)[::-1])
        kind = 1 + KINDS.index(SEGMENTS[limb.part].name.split("_", 1)[1])
        nearer = away < nearest
        nearest[nearer] = away[nearer]
        found[nearer, :3] = kind, np.cos(double), np.sin(double)
    found[:, 3] = 1 - nearest
    found[~skin.ravel()] = 0
    return found.reshape(height, width, 4).astype(np.float16)


def trunk_axes(joints: Floats, radius_px: Floats) -> list[tuple[Floats, Floats, float]]:
    """Neck, pelvis and half-width of each figure's trunk."""
    neck, pelvis, chest = JOINTS.index("neck"), JOINTS.index("pelvis"), PART["chest"]
    return [
        (joint[neck], joint[pelvis], 1.6 * float(radius[chest].max()))
        for joint, radius in zip(joints, radius_px, strict=True)
        if not np.isnan(joint).any()
    ]


def _inside(points: Floats, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    column, row = np.floor(points).astype(int).T
    height, width = mask.shape
    within = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    return np.asarray(within & mask[row.clip(0, height - 1), column.clip(0, width - 1)])


def cover(limb: Limb, segment: Segment) -> float:
    """Share of the limb's exposed axis that the segment covers; 0 where it cannot have found it."""
    start, end = np.array(segment.start), np.array(segment.end)
    bone = limb.points[-1] - limb.points[0]
    heading = end - start
    cosine = abs(bone @ heading) / max(float(np.linalg.norm(bone) * np.linalg.norm(heading)), 1e-9)
    if np.rad2deg(np.arccos(min(1.0, cosine))) > _TURN_DEG or segment.length > 2 * np.linalg.norm(bone):
        return 0.0
    if not 0.5 <= segment.width / (2 * limb.radius) <= 2:
        return 0.0
    return float((distances(limb.points, start, end) <= limb.radius).mean())


def distances(points: Floats, start: Floats, end: Floats) -> Floats:
    """Distances (N,) of points (N, 2) from the line between two others, not beyond its ends."""
    way = np.asarray(end - start)
    share = np.clip((points - start) @ way / max(float(way @ way), 1e-9), 0, 1)
    return np.asarray(np.hypot(*(points - start - share[:, None] * way).T))


def matched(limbs: Sequence[Limb], segments: Sequence[Segment]) -> dict[int, int]:
    """Which segment found which limb, both by number: best covered first, one to one."""
    pairs = sorted(
        ((-cover(limb, segment), i, j) for i, limb in enumerate(limbs) for j, segment in enumerate(segments)),
    )
    found: dict[int, int] = {}
    for covered, i, j in pairs:
        if covered <= -0.5 and i not in found and j not in found.values():
            found[i] = j
    return found


def is_trunk(segment: Segment, trunks: Sequence[tuple[Floats, Floats, float]]) -> bool:
    """Whether both ends of a segment lie within one trunk, and it is as wide as half of one at least."""
    ends = np.array([segment.start, segment.end])
    return any(
        bool((distances(ends, neck, pelvis) <= radius).all()) and segment.width >= 0.8 * radius
        for neck, pelvis, radius in trunks
    )


def found_and_false(
    limbs: Sequence[Limb], trunks: Sequence[tuple[Floats, Floats, float]], segments: Sequence[Segment]
) -> tuple[dict[int, int], list[int]]:
    """Which segment found which limb, as in `matched`, and which segments are false."""
    pairs = matched(limbs, segments)
    rest = [number for number in range(len(segments)) if number not in pairs.values()]
    return pairs, [number for number in rest if not is_trunk(segments[number], trunks)]
