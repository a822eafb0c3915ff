"""The medial axes of a mask as paths: ordered points, each with the half-width of the mask around it.

The axis of a figure's silhouette is a tree (a graph where it has holes). Spurs that reach no further than the disc they
start from are noise of the outline and are cut off; at each junction the two branches that continue one another best
become one path, so that a limb is not cut in two where another one leaves it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import medial_axis

from figleaf.skin.pictures import Mask

Floats = NDArray[np.float64]
Point = tuple[int, int]

WORKING_SIDE = 192  # longer side in pixels at which axes are found: a forearm of a whole figure is 8 px wide there
_SMOOTHING_PX = 1.2
_SMALLEST_PART = 0.002  # of the picture: smaller parts and holes are noise
_BEYOND_FRAME_PX = 24  # a limb that the frame cuts goes on, and its axis does not fork into the corners
_SPUR = 1.15  # a branch with a free end is a spur up to so many half-widths of the mask at its junction
_LOOK_PX = 8  # how much of a branch says where it is going
_STRAIGHT_ON_DEG, _WIDTH_STEP = 40.0, 1.8  # what one path may do at a junction


@dataclass(frozen=True, eq=False)
class Path:
    """An axis in order: `points` (N, 2), x and y in pixels of the picture, and `radius` (N,), half-widths in pixels."""

    points: Floats
    radius: Floats


def medial_paths(mask: Mask) -> list[Path]:
    """The axes of a mask (H, W), cleaned of holes and parts below 0.2 % of it; none where nothing is left.

    Found at `WORKING_SIDE` pixels, whatever the mask's size, so that its noise is the same and a huge one takes no
    longer.
    """
    height, width = mask.shape
    share = working_share(mask)
    size = (share.shape[1], share.shape[0])
    work = _cleaned(share)
    if not work.any():
        return []
    edge = _BEYOND_FRAME_PX
    # The generator settles ties between pixels at the same distance: fixed, so that a mask has one answer
    axis, distance = medial_axis(np.pad(work, edge, mode="edge"), return_distance=True, rng=0)  # type: ignore[no-untyped-call]
    inner = (slice(edge, edge + size[1]), slice(edge, edge + size[0]))
    graph = _Graph(axis[inner], distance[inner])
    graph.prune()
    to_picture = np.array([width / size[0], height / size[1]])
    found = []
    for path in graph.paths():
        rows, columns = np.array(path).T
        points = (np.stack([columns, rows], axis=1) + 0.5) * to_picture
        found.append(Path(points, graph.distance[rows, columns] * float(np.sqrt(to_picture.prod()))))
    return found


def working_size(shape: Sequence[int]) -> tuple[int, int]:
    """Width and height at which a picture (H, W, ...) is worked on: its aspect, the longer side `WORKING_SIDE`."""
    height, width = shape[:2]
    scale = WORKING_SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def working_share(mask: Mask) -> NDArray[np.float32]:
    """The share of skin of a mask (H, W) in each pixel of the working size."""
    filter_ = cv2.INTER_LINEAR if max(mask.shape) < WORKING_SIDE else cv2.INTER_AREA
    share = cv2.resize(mask.astype(np.float32), working_size(mask.shape), interpolation=filter_)
    return np.asarray(share, np.float32)


def _cleaned(share: NDArray[np.float32]) -> Mask:
    smooth = cv2.GaussianBlur(share, (0, 0), _SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE)
    least = max(1, round(_SMALLEST_PART * share.size))
    mask = _without_small(smooth >= 0.5, least, np.ones((3, 3)))
    return ~_without_small(~mask, least, None)


def _without_small(mask: Mask, least: int, neighbours: NDArray[np.float64] | None) -> Mask:
    labels, _ = ndimage.label(mask, neighbours)
    large = np.bincount(labels.ravel()) >= least
    large[0] = False
    return np.asarray(large[labels], np.bool_)


class _Graph:
    """Pixels of an axis as branches between junctions and free ends."""

    def __init__(self, axis: Mask, distance: Floats) -> None:
        self.distance = distance
        rows, columns = np.nonzero(axis)
        self.pixels: set[Point] = set(zip(rows.tolist(), columns.tolist(), strict=True))

    def neighbours(self, pixel: Point) -> list[Point]:
        """The neighbours of a pixel along the axis: across a corner only where no straight way leads there."""
        row, column = pixel
        straight = [(row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)]
        found = [p for p in straight if p in self.pixels]
        for step_row in (-1, 1):
            for step_column in (-1, 1):
                corner = (row + step_row, column + step_column)
                beside = ((row + step_row, column), (row, column + step_column))
                if corner in self.pixels and not any(p in self.pixels for p in beside):
                    found.append(corner)
        return found

    def branches(self) -> Iterator[list[Point]]:
        """Every way from a junction or free end to the next, both included; rings without either are opened."""
        around = {pixel: self.neighbours(pixel) for pixel in sorted(self.pixels)}
        stops = {pixel for pixel, near in around.items() if len(near) != 2}
        seen: set[Point] = set()
        walked: set[tuple[Point, Point]] = set()
        for stop in [*sorted(stops), *around]:
            if stop in seen:
                continue
            if stop not in stops:
                stops.add(stop)  # on a ring
            seen.add(stop)
            for first in around[stop]:
                if (stop, first) in walked:
                    continue
                way = [stop, first]
                while way[-1] not in stops:
                    way.append(next(p for p in around[way[-1]] if p != way[-2]))
                walked |= {(way[0], way[1]), (way[-1], way[-2])}
                seen.update(way)
                yield way

    def prune(self, rounds: int = 3) -> None:
        """Cut spurs off, the shorter ones of a round first; what was a junction may be none afterwards."""
        for _ in range(rounds):
            ways = list(self.branches())
            degree: dict[Point, int] = {}
            for way in ways:
                for end in (way[0], way[-1]):
                    degree[end] = degree.get(end, 0) + 1
            cut = False
            for way in sorted(ways, key=len):
                free, fixed = (way, way[::-1]) if degree[way[0]] == 1 else (way[::-1], way)
                junction = fixed[0]
                if degree[free[0]] != 1 or degree[junction] < 3:
                    continue
                reach = np.hypot(free[0][0] - junction[0], free[0][1] - junction[1])
                if reach <= _SPUR * self.distance[junction]:
                    self.pixels -= set(free[:-1])
                    degree[junction] -= 1
                    cut = True
            if not cut:
                return

    def paths(self) -> list[list[Point]]:
        """Branches joined where they go straight on through a junction."""
        ways = [way for way in self.branches() if len(way) > 2]
        at: dict[Point, list[tuple[int, int]]] = {}
        for number, way in enumerate(ways):
            for end in (0, -1):
                at.setdefault(self._junction(way[end]), []).append((number, end))
        mate: dict[tuple[int, int], tuple[int, int]] = {}
        for ends in at.values():
            pairs = sorted((self._turn(ways, a, b), a, b) for i, a in enumerate(ends) for b in ends[i + 1 :])
            for turn, a, b in pairs:
                if turn <= _STRAIGHT_ON_DEG and a not in mate and b not in mate and a[0] != b[0]:
                    mate[a], mate[b] = b, a
        return _chained(ways, mate)

    def _junction(self, pixel: Point) -> Point:
        """A name for the junction a pixel belongs to: junctions on a grid are often two or three pixels."""
        cluster, queue = {pixel}, [pixel]
        while queue:
            for near in self.neighbours(queue.pop()):
                if near not in cluster and len(self.neighbours(near)) > 2:
                    cluster.add(near)
                    queue.append(near)
        return min(cluster)

    def _turn(self, ways: list[list[Point]], one: tuple[int, int], other: tuple[int, int]) -> float:
        """By how many degrees a path would turn that goes on from the one branch to the other; inf for a wide step."""
        headings, widths = [], []
        for number, end in (one, other):
            way = ways[number] if end == 0 else ways[number][::-1]
            skip = min(len(way) - 1, int(self.distance[way[0]] * 0.5))  # the bend within the disc of the junction
            far = way[min(len(way) - 1, skip + _LOOK_PX)]
            near = way[skip] if way[skip] != far else way[0]
            headings.append(np.arctan2(far[0] - near[0], far[1] - near[1]))
            widths.append(np.median([self.distance[p] for p in way[skip : skip + _LOOK_PX]]))
        step = max(widths) / max(min(widths), 1e-9)
        between = abs((headings[0] - headings[1] + np.pi) % (2 * np.pi) - np.pi)
        return float(np.rad2deg(np.pi - between)) if step <= _WIDTH_STEP else np.inf


def _chained(ways: list[list[Point]], mate: dict[tuple[int, int], tuple[int, int]]) -> list[list[Point]]:
    used: set[int] = set()
    found: list[list[Point]] = []
    starts = [(n, end) for n in range(len(ways)) for end in (0, -1) if (n, end) not in mate]
    rings = [(n, 0) for n in range(len(ways))]
    for start in [*starts, *rings]:
        here: tuple[int, int] | None = start
        chain: list[Point] = []
        while here is not None and here[0] not in used:
            number, end = here
            used.add(number)
            chain += ways[number] if end == 0 else ways[number][::-1]
            here = mate.get((number, -1 if end == 0 else 0))
        if chain:
            found.append(chain)
    return found
