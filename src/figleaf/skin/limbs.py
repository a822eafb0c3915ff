"""Limb segments in a mask of skin: straight ribbons, as the projections of cylinders.

Fleck, Forsyth & Bregler ("Finding Naked People", ECCV 1996; IJCV 32(1) 1999) look for people as assemblies of nearly
cylindrical parts. Under scaled-orthographic imaging a cylinder projects to a straight ribbon of constant width. Theirs
come from pairs of edges; here they come from the mask's medial axes, which are cut into pieces along which place and
width are linear functions of the way: a dynamic programme finds the cuts of least cost, by direction and width at once.
The constants are ours, chosen on the training split of the drawn scenes.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.medial_axes import Path, medial_paths
from figleaf.skin.pictures import Mask

Floats = NDArray[np.float64]

ELONGATION = 1.2  # least length / width of a segment; a foreshortened limb is shorter than its anatomy says
LONGEST = 3.6  # length / width beyond which a ribbon is two segments of a straight limb
TAPER = 0.35  # most change of the half-width for each unit of length
NARROWEST = 0.01  # least half-width, as a share of the root of the picture's area
_DEVIATION = 0.16  # of a point from a piece, in half-widths, that costs 1
_CUT_COST = 9.0
_STEP = 0.25  # samples along a path, in median half-widths


@dataclass(frozen=True)
class Segment:
    """A ribbon from `start` to `end` (x, y) in pixels, the ends of its axis, with half-widths `radii` there."""

    start: tuple[float, float]
    end: tuple[float, float]
    radii: tuple[float, float]

    @property
    def length(self) -> float:
        """Of the axis, in pixels."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    @property
    def width(self) -> float:
        """The mean one, in pixels."""
        return self.radii[0] + self.radii[1]

    @property
    def elongation(self) -> float:
        """Length over width."""
        return self.length / max(self.width, 1e-9)

    def halves(self) -> tuple["Segment", "Segment"]:
        """Cut in the middle."""
        middle = ((self.start[0] + self.end[0]) / 2, (self.start[1] + self.end[1]) / 2)
        radius = self.width / 2
        return Segment(self.start, middle, (self.radii[0], radius)), Segment(middle, self.end, (radius, self.radii[1]))


def limb_segments(mask: Mask) -> list[Segment]:
    """The segments in a mask (H, W), True for skin; longest first."""
    least = NARROWEST * float(np.sqrt(mask.size))
    found = []
    for path in medial_paths(mask):
        for piece in straight_pieces(path):
            if piece.width / 2 < least or piece.elongation < ELONGATION:
                continue
            if abs(piece.radii[1] - piece.radii[0]) > TAPER * piece.length:
                continue
            found += list(piece.halves()) if piece.elongation > LONGEST else [piece]
    return sorted(found, key=lambda segment: -segment.length)


def straight_pieces(path: Path) -> list[Segment]:
    """A path cut into ribbons that are straight and of linear width, so that deviations and cuts cost least."""
    way, values = _sampled(path)
    if len(way) < 3:
        return []
    cost, fits = _costs(way, values)
    count = len(way)
    best = np.full(count, np.inf)
    best[0] = 0.0
    before = np.zeros(count, np.intp)
    for last in range(1, count):
        totals = best[:last] + cost[:last, last] + _CUT_COST
        before[last] = int(np.argmin(totals))
        best[last] = totals[before[last]]
    cuts = [count - 1]
    while cuts[-1] > 0:
        cuts.append(int(before[cuts[-1]]))
    cuts.reverse()
    return [fits(first, last) for first, last in pairwise(cuts)]


def _sampled(path: Path) -> tuple[Floats, Floats]:
    """Samples at even steps: their way (N,) from the start and x, y, half-width (N, 3), smoothed over the grid."""
    steps = np.hypot(*np.diff(path.points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = int(along[-1] / max(_STEP * float(np.median(path.radius)), along[-1] / 150, 1e-9)) + 1
    way = np.linspace(0, along[-1], count)
    raw = np.column_stack([path.points, path.radius])
    values = np.column_stack([np.interp(way, along, column) for column in raw.T])
    if count >= 5:
        kernel = np.array([0.25, 0.5, 0.25])
        values[1:-1] = np.column_stack([np.convolve(column, kernel, "valid") for column in values.T])
    return way, values


def _costs(way: Floats, values: Floats):  # type: ignore[no-untyped-def]
    """Costs (N, N) of a piece from one sample to another, and a function that gives its ribbon.

    Weighted least squares by sums that grow along the path, so that all N^2 fits take N^2 steps.
    """
    weight = 1 / (_DEVIATION * np.maximum(values[:, 2], 1e-9)) ** 2
    way = way / max(way[-1], 1e-9)

    def sums(column: Floats) -> Floats:
        total = np.concatenate([[0.0], np.cumsum(column)])
        return np.asarray(total[None, 1:] - total[:-1, None])  # [first, last], both included

    w, s, ss = sums(weight), sums(weight * way), sums(weight * way**2)
    spread = np.maximum(ss - s**2 / np.maximum(w, 1e-12), 1e-12)
    cost = np.zeros_like(w)
    slopes, means = [], []
    for column in values.T:
        shifted = column - column.mean()  # against cancellation
        v, sv, vv = sums(weight * shifted), sums(weight * way * shifted), sums(weight * shifted**2)
        slope = (sv - s * v / np.maximum(w, 1e-12)) / spread
        cost += np.maximum(vv - v**2 / np.maximum(w, 1e-12) - slope**2 * spread, 0)
        slopes.append(slope)
        means.append(v / np.maximum(w, 1e-12) + column.mean())

    def ribbon(first: int, last: int) -> Segment:
        centre = s[first, last] / w[first, last]
        ends = [
            [float(m[first, last] + k[first, last] * (way[i] - centre)) for m, k in zip(means, slopes, strict=True)]
            for i in (first, last)
        ]
        (x0, y0, r0), (x1, y1, r1) = ends
        return Segment((x0, y0), (x1, y1), (max(r0, 0.0), max(r1, 0.0)))

    return np.triu(cost, 1), ribbon
