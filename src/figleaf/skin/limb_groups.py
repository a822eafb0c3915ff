"""Groups of limb segments that the geometry of a skeleton allows: limbs, girdles, spine and thigh.

After Fleck, Forsyth & Bregler ("Finding Naked People", ECCV 1996), who group ribbons into limbs, two limbs into a
girdle, and a trunk with a thigh; their limits are not published in numbers, so these are ours. A limb is two segments
that meet in a joint; upper limits on the ratio of lengths come from anatomy, but a part that leans out of the picture's
plane is shorter than it is, so that the lower ones are loose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.limbs import Segment, limb_segments
from figleaf.skin.pictures import Mask

Floats = NDArray[np.float64]

JOINT_GAP = 1.0  # between two ends that meet, in mean widths
WIDTH_RATIO = 2.0  # of two segments of a limb, the wider to the narrower
LENGTH_RATIO = 2.5  # the longer to the shorter: 1.3 by anatomy, the rest for foreshortening
SHARPEST_DEG = 25.0  # the angle of a joint: a limb folded further is one blob
GIRDLE_WIDTHS = (0.5, 4.5)  # between the proximal ends of two limbs, in their mean widths
GIRDLE_LENGTH = 1.5  # the same in mean lengths of the limbs, at most
LIKE_LENGTH, LIKE_WIDTH = 2.5, 1.7  # of the two limbs of a girdle, which are left and right
TRUNK_WIDTH = (1.3, 4.5)  # of a trunk, in widths of the thigh that leaves it
TRUNK_LENGTH = (0.5, 2.5)  # of a trunk, in lengths of the thigh
TRUNK_GAP = 0.75  # from the end of a trunk to the thigh's, in widths of the trunk

NAMES = ("skin_share", "largest_part", "segments", "limbs", "girdles", "spine_thighs", "longest_segment", "complexity")


@dataclass(frozen=True)
class LimbPair:
    """Two segments that meet: `inner` is the wider one, which in limbs is the one next to the body."""

    inner: Segment
    outer: Segment
    root: tuple[float, float]
    joint: tuple[float, float]

    @property
    def length(self) -> float:
        """Along both."""
        return self.inner.length + self.outer.length


@dataclass(frozen=True)
class Girdle:
    """Two limbs, left and right of shoulders or hips."""

    limbs: tuple[LimbPair, LimbPair]


@dataclass(frozen=True)
class SpineThigh:
    """A trunk and a segment that leaves one of its ends."""

    trunk: Segment
    thigh: Segment


@dataclass(frozen=True)
class Groups:
    """All that was found in a mask."""

    segments: tuple[Segment, ...]
    limbs: tuple[LimbPair, ...]
    girdles: tuple[Girdle, ...]
    spine_thighs: tuple[SpineThigh, ...]

    @property
    def complexity(self) -> int:
        """The largest structure: 0 nothing, 1 a segment, 2 a limb, 3 a girdle or a spine with a thigh, 4 both."""
        if self.girdles or self.spine_thighs:
            return 4 if self.girdles and self.spine_thighs else 3
        return 2 if self.limbs else 1 if self.segments else 0


def limb_groups(mask: Mask) -> Groups:
    """The segments in a mask (H, W) and their groups."""
    return grouped(limb_segments(mask))


def grouped(segments: Sequence[Segment]) -> Groups:
    """The groups that segments form; each segment is in one limb at most, the one with the closest joint."""
    limbs = _limbs(segments)
    girdles = tuple(Girdle(pair) for pair in combinations(limbs, 2) if _is_girdle(*pair))
    spines = tuple(
        SpineThigh(trunk, thigh)
        for trunk in segments
        for thigh in segments
        if trunk is not thigh and _is_spine_thigh(trunk, thigh)
    )
    return Groups(tuple(segments), limbs, girdles, spines)


def group_features(mask: Mask, groups: Groups) -> Floats:
    """The numbers `NAMES` (8,) about a mask (H, W) and its groups; shares and lengths against the picture's."""
    from scipy import ndimage

    parts, count = ndimage.label(mask, np.ones((3, 3)))
    largest = np.bincount(parts.ravel())[1:].max() / mask.size if count else 0.0
    diagonal = float(np.hypot(*mask.shape))
    longest = max((segment.length for segment in groups.segments), default=0.0) / diagonal
    counts = [len(found) for found in (groups.segments, groups.limbs, groups.girdles, groups.spine_thighs)]
    return np.array([mask.mean(), largest, *counts, longest, groups.complexity], np.float64)


def _limbs(segments: Sequence[Segment]) -> tuple[LimbPair, ...]:
    proposals = []
    for (i, one), (j, other) in combinations(enumerate(segments), 2):
        gap, joint, root, tip = _closest_ends(one, other)
        if gap > JOINT_GAP * (one.width + other.width) / 2 or not _alike(one, other):
            continue
        if _angle_deg(np.array(root), np.array(joint), np.array(tip)) < SHARPEST_DEG:
            continue
        first_is_inner = one.width >= other.width
        pair = LimbPair(one, other, root, joint) if first_is_inner else LimbPair(other, one, tip, joint)
        proposals.append((gap / (one.width + other.width), i, j, pair))
    taken: set[int] = set()
    found = []
    for _, i, j, pair in sorted(proposals, key=lambda proposal: proposal[:3]):
        if not taken & {i, j}:
            taken |= {i, j}
            found.append(pair)
    return tuple(found)


def _alike(one: Segment, other: Segment) -> bool:
    widths, lengths = sorted((one.width, other.width)), sorted((one.length, other.length))
    return widths[1] <= WIDTH_RATIO * widths[0] and lengths[1] <= LENGTH_RATIO * lengths[0]


def _closest_ends(
    one: Segment, other: Segment
) -> tuple[float, tuple[float, float], tuple[float, float], tuple[float, float]]:
    """How far apart the nearest ends are, the point between them, and the other end of each."""
    ways = [
        (float(np.hypot(a[0] - b[0], a[1] - b[1])), a, b, far_a, far_b)
        for a, far_a in ((one.start, one.end), (one.end, one.start))
        for b, far_b in ((other.start, other.end), (other.end, other.start))
    ]
    gap, a, b, far_a, far_b = min(ways)
    return gap, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), far_a, far_b


def _angle_deg(one: Floats, corner: Floats, other: Floats) -> float:
    first, second = one - corner, other - corner
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.rad2deg(np.arccos(np.clip(first @ second / max(norms, 1e-9), -1, 1))))


def _is_girdle(one: LimbPair, other: LimbPair) -> bool:
    between = float(np.hypot(one.root[0] - other.root[0], one.root[1] - other.root[1]))
    width = (one.inner.width + other.inner.width) / 2
    lengths, widths = sorted((one.length, other.length)), sorted((one.inner.width, other.inner.width))
    return (
        GIRDLE_WIDTHS[0] * width <= between <= GIRDLE_WIDTHS[1] * width
        and between <= GIRDLE_LENGTH * sum(lengths) / 2
        and lengths[1] <= LIKE_LENGTH * lengths[0]
        and widths[1] <= LIKE_WIDTH * widths[0]
    )


def _is_spine_thigh(trunk: Segment, thigh: Segment) -> bool:
    gap, joint, root, tip = _closest_ends(trunk, thigh)
    return (
        TRUNK_WIDTH[0] * thigh.width <= trunk.width <= TRUNK_WIDTH[1] * thigh.width
        and TRUNK_LENGTH[0] * thigh.length <= trunk.length <= TRUNK_LENGTH[1] * thigh.length
        and gap <= TRUNK_GAP * trunk.width
        and _angle_deg(np.array(root), np.array(joint), np.array(tip)) >= SHARPEST_DEG
    )
