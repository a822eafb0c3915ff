"""Procedural backgrounds: four kinds in the colours of skin, which differ from it in texture alone, and four others.

A background is a function of the picture's coordinates and of one tile of noise, so the pictures of a series look at the same
place from different distances.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from figleaf.data.scenes.colors import linear, skin_like, vivid

Array = NDArray[np.float32]
_TILE = 64


@dataclass(frozen=True)
class Place:
    """What a series has in common: the kind of background, two colours in linear RGB, a noise tile, and three free numbers in [0, 1]."""

    kind: str
    base: Array
    accent: Array
    tile: Array
    traits: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: Generator) -> "Place":
        """A random place; sand, wood, brick and fur are mostly, walls and tiles half of the time, in the colours of skin."""
        kind = str(rng.choice(list(KINDS)))
        warm = rng.random() < {"sand": 0.9, "wood": 0.9, "brick": 0.75, "fur": 0.8, "wall": 0.5, "tiles": 0.5}.get(
            kind, 0.0
        )
        natural = {"sand": (0.80, 0.69, 0.50), "wood": (0.55, 0.36, 0.21), "brick": (0.60, 0.32, 0.24), "fur": (0.45, 0.40, 0.36),
                   "sky": (0.42, 0.62, 0.85), "grass": (0.33, 0.47, 0.18)}.get(kind)  # fmt: skip
        if warm:
            base = skin_like(rng)
        elif natural is not None:
            base = linear(np.clip(np.array(natural) * rng.uniform(0.75, 1.2) + rng.normal(0, 0.03, 3), 0.02, 0.98))
        else:
            base = vivid(rng)
        accent = base * np.exp(rng.normal(0, 0.35)).astype(np.float32)
        tile = rng.standard_normal((_TILE, _TILE), dtype=np.float32)
        return cls(kind, base, np.clip(accent, 0.01, 0.95), tile, rng.random(3))


class _Canvas:
    """Coordinates u, v (S, S) of a picture's pixels in its place, and noise over them."""

    def __init__(self, place: Place, size: int, turn_rad: float, zoom: float, corner: NDArray[np.float64]) -> None:
        at = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
        c, s = np.float32(zoom * np.cos(turn_rad)), np.float32(zoom * np.sin(turn_rad))
        self.x, self.y = np.broadcast_arrays(at[None, :] + np.float32(0.5), at[:, None] + np.float32(0.5))
        self.u = c * at[None, :] - s * at[:, None] + np.float32(corner[0])
        self.v = s * at[None, :] + c * at[:, None] + np.float32(corner[1])
        self.pixel = zoom / size
        self.place = place

    def noise(
        self,
        across: float,
        down: float | None = None,
        shift: float = 0.0,
        u: Array | None = None,
        v: Array | None = None,
    ) -> Array:
        """Smooth noise (S, S) of unit-variance knots, so many knots per picture width across and down; the tile repeats."""
        map_x = (self.u if u is None else u) * np.float32(across) + np.float32(shift * _TILE)
        map_y = (self.v if v is None else v) * np.float32(across if down is None else down) + np.float32(shift * 23)
        wrapped = cv2.copyMakeBorder(self.place.tile, 0, 1, 0, 1, cv2.BORDER_WRAP)
        noise: Array = cv2.remap(wrapped, np.mod(map_x, _TILE), np.mod(map_y, _TILE), cv2.INTER_LINEAR)
        return noise

    def edge(self, distance: Array, width: float) -> Array:
        """1 where distance < width, 0 beyond, softened over a pixel."""
        return np.clip((width - distance) / np.float32(1.5 * self.pixel) + 0.5, 0, 1)


def _mix(place: Place, share: Array, light: Array) -> Array:
    """(S, S, 3): from base to accent by `share`, times exp(light)."""
    share = np.clip(share, 0, 1)[..., None]
    color: Array = (place.base + share * (place.accent - place.base)) * np.exp(light)[..., None]
    return color


def _sand(c: _Canvas) -> Array:
    a, b, _ = c.place.traits
    bend = 0.05 * c.noise(4)
    ripples = np.sin((c.v + bend) * np.float32(30 + 30 * a)) * np.float32(0.05 + 0.13 * b)
    grain = 0.13 * c.noise(63, shift=0.3) + 0.10 * c.noise(37, shift=0.7)
    return _mix(c.place, 0.4 + 0.3 * c.noise(3, shift=0.5), ripples + grain)


def _wood(c: _Canvas) -> Array:
    a, b, _ = c.place.traits
    planks = np.float32(3 + 4 * a)
    row = np.floor(c.v * planks)
    inside = c.v * planks - row
    tone = np.sin(row * 12.9898 + b * 40) * np.float32(0.16)
    rings = np.sin((c.v * 26 + 1.6 * c.noise(1.6, 5, u=c.u + row * 0.37) + 0.35 * row) * np.float32(2.6))
    fibre = 0.10 * c.noise(3, 61, shift=0.4)
    gap = c.edge(np.minimum(inside, 1 - inside) / planks, 0.006)
    return _mix(c.place, 0.5 + 0.45 * rings, tone + fibre - 0.9 * gap)


def _brick(c: _Canvas) -> Array:
    a, b, mortar = c.place.traits
    courses = np.float32(7 + 5 * a)
    row = np.floor(c.v * courses)
    along = c.u * courses * np.float32(0.42) + 0.5 * np.mod(row, 2)
    column = np.floor(along)
    dx, dy = along - column, c.v * courses - row
    joint = np.minimum(np.minimum(dx, 1 - dx) / np.float32(0.42), np.minimum(dy, 1 - dy)) / courses
    tone = np.sin(row * 12.9898 + column * 78.233 + b * 30) * np.float32(0.22)
    share = 0.5 + 0.5 * np.sin(row * 39.3 + column * 11.1)
    color = _mix(c.place, share, tone + 0.08 * c.noise(50) + 0.08 * c.noise(21, shift=0.4))
    seam = c.edge(joint, 0.0075)[..., None]
    grey = np.float32(0.75 * c.place.base.mean() + 0.25 * (0.15 + 0.6 * mortar))
    return color * (1 - seam) + seam * (0.5 * grey + 0.5 * c.place.base * np.float32(0.6 + 0.9 * mortar))


def _fur(c: _Canvas) -> Array:
    a, b, _ = c.place.traits
    swirl = np.float32(0.10 + 0.10 * a) * c.noise(3, shift=0.2)
    hair = 0.26 * c.noise(7, 58, u=c.u + swirl, v=c.v + swirl) + 0.20 * c.noise(
        4, 33, shift=0.6, u=c.u - swirl, v=c.v + swirl
    )
    return _mix(c.place, 0.5 + np.float32(0.2 + 0.6 * b) * c.noise(4, shift=0.8), hair)


def _sky(c: _Canvas) -> Array:
    clouds = c.noise(2.5) + 0.5 * c.noise(6, shift=0.3) + 0.25 * c.noise(14, shift=0.6)
    cover = np.clip(clouds * np.float32(0.5) + np.float32(c.place.traits[0] - 0.4), 0, 1)[..., None]
    clear = c.place.base * (np.float32(0.85) + np.float32(0.7) * c.y[..., None])
    blend: Array = clear + cover * (np.float32(0.8) - clear)
    return blend


def _grass(c: _Canvas) -> Array:
    blades = 0.30 * c.noise(52, 12) + 0.25 * c.noise(31, 8, shift=0.4)
    return _mix(c.place, 0.5 + 0.6 * c.noise(5, shift=0.7), blades)


def _wall(c: _Canvas) -> Array:
    a, b, dado = c.place.traits
    height = np.float32(0.55 + 0.5 * dado)
    plaster = np.float32(0.02 + 0.06 * a) * (c.noise(30) + c.noise(60, shift=0.3)) + np.float32(
        0.05 + 0.1 * b
    ) * c.noise(2, shift=0.6)
    below = c.edge(height - c.y, 0.0)
    return _mix(c.place, below, plaster - 0.5 * c.edge(np.abs(c.y - height), 0.006))


def _tiles(c: _Canvas) -> Array:
    a, b, grout = c.place.traits
    count = np.float32(4 + 5 * a)
    row, column = np.floor(c.v * count), np.floor(c.u * count)
    dx, dy = c.u * count - column, c.v * count - row
    seam = c.edge(np.minimum(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy)) / count, 0.006)
    checker = np.mod(row + column, 2) if b < 0.5 else np.clip(0.5 + np.sin(row * 12.9 + column * 78.2), 0, 1)
    return _mix(c.place, checker, 0.04 * c.noise(20) + np.float32(grout - 0.7) * seam)


KINDS: dict[str, Callable[[_Canvas], Array]] = {
    "sand": _sand, "wood": _wood, "brick": _brick, "fur": _fur, "sky": _sky, "grass": _grass, "wall": _wall, "tiles": _tiles,
}  # fmt: skip
"""Every kind of background; the first four are the colours of skin."""


def paint(place: Place, rng: Generator, size: int) -> Array:
    """One view of the place: linear RGB (size, size, 3), at a distance, an angle and an offset drawn from rng."""
    level = place.kind in ("sky", "wall", "grass")
    turn = rng.normal(0, 0.06) if level else rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.15)
    return KINDS[place.kind](_Canvas(place, size, float(turn), float(rng.uniform(0.7, 1.3)), rng.uniform(0, 8, 2)))
