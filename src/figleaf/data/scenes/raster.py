"""Ray casting of tapered capsules in numpy: which part is seen at each sample of a grid, where on it, and its normal.

The intersection is Inigo Quilez's rounded cone (iquilezles.org/articles/intersectors); a flattened part is a round one
in a space stretched along its front. Under orthographic rays each of its discriminants is a quadratic polynomial of the
sample's place, so a part costs a few array operations over its bounding box. Normals are worked out afterwards, once,
for what is seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.data.scenes.skeleton import ENDS, SEGMENTS, Figures, FloatArray

Array = NDArray[np.float32]
_FLATNESS = np.array([segment.flat for segment in SEGMENTS])
_TRIMS = np.array([segment.trim for segment in SEGMENTS])
_ONE = np.array((0.0, 0.0, 1.0))  # the constant 1 as a polynomial of (x, y, 1)


@dataclass(frozen=True)
class Parts:
    """P = K * L capsules: centres `start`, `end` (P, 3) in view space; `stretch` (P, 3, 3) maps to the space in which
    the part is round, with the axis `axis` (P, 3) and the radii `radii` (P, 2)."""

    start: FloatArray
    end: FloatArray
    stretch: FloatArray
    axis: FloatArray
    radii: FloatArray

    @classmethod
    def of(cls, figures: Figures) -> "Parts":
        """The parts of all figures, figure by figure."""
        first, last = figures.joints[:, ENDS[:, 0]], figures.joints[:, ENDS[:, 1]]
        start = (first + _TRIMS[:, :1] * (last - first)).reshape(-1, 3)
        end = (last + _TRIMS[:, 1:] * (first - last)).reshape(-1, 3)
        front = figures.turns[..., 2].reshape(-1, 3)
        flatness = np.tile(_FLATNESS, len(figures.joints))[:, None, None]
        stretch = np.eye(3) + (flatness - 1) * front[:, :, None] * front[:, None, :]
        axis = (stretch @ (end - start)[:, :, None])[..., 0]
        return cls(start, end, stretch, axis, figures.radii.reshape(-1, 2))

    @property
    def lengths(self) -> FloatArray:
        """Distance (P,) between each part's centres."""
        length: FloatArray = np.linalg.norm(self.end - self.start, axis=1)
        return length


@dataclass(frozen=True)
class Surface:
    """What is seen on a grid of (G, G) samples.

    `owner` (G, G) is the part seen at each sample, -1 where there is none. For the N samples that see one, in row
    order: `row`, `column`, `part` (N,), `depth` (N,) towards the viewer, `along` (N,) from 0 at the part's start to 1
    at its end and beyond on its rounded ends, and the unit `normal` (N, 3).
    """

    owner: NDArray[np.int16]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    part: NDArray[np.int16]
    depth: Array
    along: Array
    normal: Array


def cast(parts: Parts, grid: int) -> Surface:
    """What a viewer at z = +infinity sees at the centres of grid x grid unit squares."""
    depth = np.full((grid, grid), -np.inf, np.float32)
    owner = np.full((grid, grid), -1, np.int16)
    reach = parts.radii.max(1, keepdims=True)
    ends = np.stack([parts.start, parts.end])[..., :2]
    low = np.floor(ends.min(0) - reach).clip(0, grid).astype(int)
    high = np.ceil(ends.max(0) + reach).clip(0, grid).astype(int)
    rays, centres = _Rays.of(parts), np.arange(grid, dtype=np.float32) + np.float32(0.5)
    for number, ((x0, y0), (x1, y1)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if x0 >= x1 or y0 >= y1:
            continue
        x, y, z = parts.start[number].tolist()
        front = rays.front(number, centres[x0:x1] - x, centres[y0:y1] - y)
        front += z
        nearer = front > depth[y0:y1, x0:x1]
        np.copyto(depth[y0:y1, x0:x1], front, where=nearer)
        np.copyto(owner[y0:y1, x0:x1], np.int16(number), where=nearer)
    row, column = np.nonzero(owner >= 0)
    part, seen = owner[row, column], depth[row, column]
    along, normal = _place_and_normal(parts, part, np.stack([column + 0.5, row + 0.5, seen], axis=1).astype(np.float32))
    return Surface(owner, row, column, part, seen, along, normal)


@dataclass(frozen=True)
class _Rays:
    """Each part's ray equations, as polynomials of (x, y, 1) relative to its start; names as in the source.

    With distance t along a ray: the cone's t solves k2 t^2 + 2 k1 t + k0 = 0 and is taken where 0 < offset + m2 t < d2;
    a sphere's t is -`lead` - sqrt(`square`).
    """

    k2: FloatArray  # (P,)
    k1: FloatArray  # (P, 3), linear
    cone: FloatArray  # (P, 3, 3), quadratic: k1^2 - k2 k0
    offset: FloatArray  # (P, 3)
    m2: FloatArray  # (P,)
    d2: FloatArray  # (P,)
    lead: FloatArray  # (2, P, 3)
    square: FloatArray  # (2, P, 3, 3)
    speed: FloatArray  # (P,)

    @classmethod
    def of(cls, parts: Parts) -> "_Rays":
        """The equations for rays that start in the plane of each part's start and run away from the viewer."""
        speed = np.linalg.norm(parts.stretch[:, :, 2], axis=1)
        ray = -parts.stretch[:, :, 2] / speed[:, None]
        lift = parts.stretch.copy()
        lift[:, :, 2] = 0  # (x, y, 1) to the ray's start in the part's round space
        r0, r1 = parts.radii[:, 0, None, None], parts.radii[:, 1, None, None]
        taper = parts.radii[:, 0] - parts.radii[:, 1]
        length2 = (parts.axis**2).sum(1)
        d2 = length2 - taper**2
        m1, m2, m3 = _dot(parts.axis, lift), (parts.axis * ray).sum(1), _dot(ray, lift)
        m5 = np.swapaxes(lift, 1, 2) @ lift
        one = np.outer(_ONE, _ONE)
        offset = m1 - (taper * parts.radii[:, 0])[:, None] * _ONE
        k2 = d2 - m2**2
        k2 = np.where(np.abs(k2) < 1e-6 * d2, 1e-6 * d2, k2)
        k1 = d2[:, None] * m3 - m2[:, None] * offset
        k0 = d2[:, None, None] * (m5 - r0**2 * one) - _outer(offset, offset)
        far = m3 - m2[:, None] * _ONE
        shift = _outer(m1, np.broadcast_to(_ONE, m1.shape))
        m7 = m5 - shift - np.swapaxes(shift, 1, 2) + length2[:, None, None] * one
        square = np.stack([_outer(m3, m3) - m5 + r0**2 * one, _outer(far, far) - m7 + r1**2 * one])
        cone = _outer(k1, k1) - k2[:, None, None] * k0
        return cls(k2, k1, cone, offset, m2, d2, np.stack([m3, far]), square, speed)

    def front(self, number: int, x: Array, y: Array) -> Array:
        """Depth of one part's front over the grid y (H,) by x (W,), relative to its start; NaN where rays miss it."""
        yy, xx, y = (y * y)[:, None], x * x, y[:, None]

        def linear(coefficients: FloatArray) -> Array:
            a, b, c = coefficients.tolist()
            values: Array = (b * y + c) + a * x
            return values

        def root(coefficients: FloatArray) -> Array:
            (a, h, g), (_, b, f), (_, _, c) = coefficients.tolist()
            values: Array = (2 * h * y) * x
            values += a * xx + 2 * g * x
            values += b * yy + 2 * f * y + c
            return np.sqrt(values, out=values)

        with np.errstate(invalid="ignore"):  # a ray that misses is NaN, which loses every comparison
            distance = root(self.cone[number])
            distance += linear(self.k1[number])
            distance *= -1 / self.k2[number].item()
            height = distance * self.m2[number].item()
            height += linear(self.offset[number])
            distance[~((height > 0) & (height < self.d2[number].item()))] = np.nan
            for end in (0, 1):
                ball = root(self.square[end, number])
                ball += linear(self.lead[end, number])
                np.fmin(distance, np.negative(ball, out=ball), out=distance)
        distance *= -1 / self.speed[number].item()
        return distance


def _dot(vector: FloatArray, matrix: FloatArray) -> FloatArray:
    product: FloatArray = (vector[:, None, :] @ matrix)[:, 0]
    return product


def _outer(left: FloatArray, right: FloatArray) -> FloatArray:
    product: FloatArray = left[:, :, None] * right[:, None, :]
    return product


def _place_and_normal(parts: Parts, part: NDArray[np.int16], points: Array) -> tuple[Array, Array]:
    """Position along its part (N,) and unit normal (N, 3) of each surface point (N, 3)."""
    axis, stretch = parts.axis.astype(np.float32)[part], parts.stretch.astype(np.float32)[part]
    taper = parts.radii[:, 0] - parts.radii[:, 1]
    d2 = ((parts.axis**2).sum(1) - taper**2).astype(np.float32)[part]
    offset = (parts.radii[:, 0] * taper).astype(np.float32)[part]
    local = np.einsum("nij,nj->ni", stretch, points - parts.start.astype(np.float32)[part])
    along = (np.einsum("ni,ni->n", axis, local) - offset) / d2
    normal = np.einsum("nji,nj->ni", stretch, local - along.clip(0, 1)[:, None] * axis)
    normal /= np.sqrt(np.einsum("ni,ni->n", normal, normal))[:, None]
    return along, normal
