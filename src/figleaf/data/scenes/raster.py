"""Ray-cast tapered capsules in numpy: which part is seen at each pixel, how far, and with which normal.

Orthographic rays make every discriminant a quadratic polynomial of the pixel coordinates, so a part costs a few array
operations over its bounding box; normals are computed afterwards, once, for the pixels that are seen.
The intersection is Inigo Quilez's rounded cone (iquilezles.org/articles/intersectors), a flattened part being a round one in a
space stretched along its front.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.data.scenes.skeleton import ENDS, FLATNESS, TRIMS, Posed

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Parts:
    """P tapered capsules in pixels: centres `start`, `end` (P, 3), and `axis` (P, 3), `radii` (P, 2) in the space that `stretch` (P, 3, 3) maps to."""

    start: Array
    end: Array
    axis: Array
    radii: Array
    stretch: Array

    @classmethod
    def of(cls, figures: Posed, pixels_per_pixel: int) -> "Parts":
        """The parts of all figures, figure by figure, on a grid so many times finer than the figures' pixels."""
        joints = figures.joints * pixels_per_pixel
        first, last = joints[:, ENDS[:, 0]], joints[:, ENDS[:, 1]]
        start = (first + TRIMS[:, :1] * (last - first)).reshape(-1, 3)
        end = (last + TRIMS[:, 1:] * (first - last)).reshape(-1, 3)
        front = figures.frames[..., 2].reshape(-1, 3)
        flatness = np.tile(FLATNESS, len(joints))[:, None, None]
        stretch = np.eye(3) + (flatness - 1) * front[:, :, None] * front[:, None, :]
        axis = (stretch @ (end - start)[:, :, None])[..., 0]
        radii = figures.radii.reshape(-1, 2) * pixels_per_pixel
        return cls(*(a.astype(np.float32) for a in (start, end, axis, radii, stretch)))


@dataclass(frozen=True)
class Surface:
    """What is seen: `mask` (S, S) and, for its N pixels in row order, `part` (N,), `depth` (N,), `along` (N,) from 0 at the part's start to 1, `normal` (N, 3)."""

    mask: NDArray[np.bool_]
    part: NDArray[np.int16]
    depth: Array
    along: Array
    normal: Array


def cast(parts: Parts, size: int) -> Surface:
    """The nearest surface at each pixel centre of a (size, size) grid; the viewer is at z = +infinity."""
    depth = np.full((size, size), -np.inf, np.float32)
    owner = np.full((size, size), -1, np.int16)
    reach = parts.radii.max(1)
    ends = np.stack([parts.start, parts.end])
    lows = np.clip(np.floor(ends.min(0)[:, :2] - reach[:, None]), 0, size).astype(int)
    highs = np.clip(np.ceil(ends.max(0)[:, :2] + reach[:, None]), 0, size).astype(int)
    for number, ((x0, y0), (x1, y1)) in enumerate(zip(lows, highs, strict=True)):
        if x0 >= x1 or y0 >= y1:
            continue
        window = (slice(y0, y1), slice(x0, x1))
        z = _front(parts, number, np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        nearer = z > depth[window]
        depth[window][nearer] = z[nearer]
        owner[window][nearer] = number
    mask = owner >= 0
    rows, columns = np.nonzero(mask)
    part = owner[mask]
    points = np.stack([columns + 0.5, rows + 0.5, depth[mask]], axis=1).astype(np.float32)
    along, normal = _surface(parts, part, points)
    return Surface(mask, part, points[:, 2], along, normal)


def _front(parts: Parts, number: int, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> Array:
    """Depth of one part's front over the grid ys x xs, -inf beside it."""
    start, axis, stretch = (a[number].astype(np.float64) for a in (parts.start, parts.axis, parts.stretch))
    r0, r1 = (float(r) for r in parts.radii[number])
    x, y = (xs - start[0]), (ys - start[1])
    speed = float(np.linalg.norm(stretch[:, 2]))
    ray = -stretch[:, 2] / speed
    taper, length2, m2 = r0 - r1, float(axis @ axis), float(axis @ ray)
    d2 = length2 - taper * taper
    # Polynomials of (x, y, 1) as symmetric matrices; rays start in the plane z = start[2].
    lift = np.column_stack([stretch[:, 0], stretch[:, 1], np.zeros(3)])
    origin2 = lift.T @ lift
    m1, m3 = axis @ lift, ray @ lift
    one = np.array((0.0, 0.0, 1.0))
    k2 = d2 - m2 * m2
    k2 = k2 if abs(k2) > 1e-6 * d2 else 1e-6 * d2
    k1 = d2 * m3 - m2 * m1 + m2 * taper * r0 * one
    offset = m1 - taper * r0 * one
    k0 = d2 * origin2 - np.outer(offset, offset) - d2 * r0 * r0 * np.outer(one, one)
    far = m3 - m2 * one  # the second sphere's own m3
    far2 = origin2 - np.outer(m1, one) - np.outer(one, m1) + length2 * np.outer(one, one)

    def line(c: NDArray[np.float64]) -> Array:
        return ((c[1] * y + c[2])[:, None] + (c[0] * x)[None, :]).astype(np.float32)

    def root(quadratic: NDArray[np.float64]) -> Array:
        """Square root of the polynomial, NaN where it is negative: NaN loses every comparison below."""
        rows = (quadratic[1, 1] * y + 2 * quadratic[1, 2]) * y + quadratic[2, 2]
        columns = (quadratic[0, 0] * x + 2 * quadratic[0, 2]) * x
        values = rows[:, None] + columns[None, :] + np.outer(2 * quadratic[0, 1] * y, x)
        return np.sqrt(values, dtype=np.float32, casting="same_kind")

    with np.errstate(invalid="ignore"):
        cone = (-root(np.outer(k1, k1) - k2 * k0) - line(k1)) / np.float32(k2)
        height = line(offset) + cone * np.float32(m2)
        cone[~((height > 0) & (height < d2))] = np.nan
        ball0 = -line(m3) - root(np.outer(m3, m3) - origin2 + r0 * r0 * np.outer(one, one))
        ball1 = -line(far) - root(np.outer(far, far) - far2 + r1 * r1 * np.outer(one, one))
    distance = np.fmin(np.fmin(cone, ball0), ball1)
    front = np.float32(start[2]) - distance / np.float32(speed)
    return np.where(np.isnan(front), np.float32(-np.inf), front)


def _surface(parts: Parts, part: NDArray[np.int16], points: Array) -> tuple[Array, Array]:
    """Position along its part and unit normal in view space of each surface point."""
    axis, radii, stretch = parts.axis[part], parts.radii[part], parts.stretch[part]
    taper = radii[:, 0] - radii[:, 1]
    local = np.einsum("nij,nj->ni", stretch, points - parts.start[part])
    d2 = np.einsum("ni,ni->n", axis, axis) - taper * taper
    along = np.clip((np.einsum("ni,ni->n", axis, local) - radii[:, 0] * taper) / d2, 0, 1)
    normal = np.einsum("nji,nj->ni", stretch, local - along[:, None] * axis)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return along, normal
