"""Procedural backgrounds: four kinds often in the colours of skin, from which only texture tells them, and four others.

A background is a function of the place and of the coordinates in it: the pictures of a series show one place from
different distances and angles.
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

_KIND_SHARES = (0.1, 0.1, 0.1, 0.1, 0.15, 0.15, 0.15, 0.15)  # in the order of KINDS
_SKIN_LIKE_SHARES = {"sand": 0.6, "wood": 0.6, "brick": 0.5, "fur": 0.5, "wall": 0.25, "tiles": 0.25}
_OWN_COLORS = {
    "sand": (0.80, 0.69, 0.50), "wood": (0.55, 0.36, 0.21), "brick": (0.60, 0.32, 0.24), "fur": (0.45, 0.40, 0.36),
    "sky": (0.42, 0.62, 0.85), "grass": (0.33, 0.47, 0.18),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What the pictures of a series share: a kind of background, two colours (3,) in linear RGB, a repeating tile of
    noise, and three numbers in [0, 1] that each kind uses in its own way."""

    kind: str
    base: Array
    accent: Array
    tile: Array
    traits: tuple[float, float, float]

    @classmethod
    def draw(cls, rng: Generator) -> "Place":
        """A place of any kind in the colours of skin, in its own, or, for walls and tiles, in any."""
        kind = list(KINDS)[rng.choice(len(KINDS), p=_KIND_SHARES)]
        if rng.random() < _SKIN_LIKE_SHARES.get(kind, 0):
            base = skin_like(rng)
        elif kind in _OWN_COLORS:
            base = linear(np.array(_OWN_COLORS[kind]) * rng.uniform(0.75, 1.15) + rng.normal(0, 0.03, 3))
        else:
            base = vivid(rng)
        accent = np.clip(base * np.exp(np.float32(rng.normal(0, 0.35))), 0.01, 0.95)
        tile = np.pad(rng.standard_normal((_TILE, _TILE), dtype=np.float32), (0, 1), mode="wrap")
        return cls(kind, base, accent, tile, (rng.random(), rng.random(), rng.random()))


class _View:
    """Coordinates of pixels, `u`, `v` (S, S) in the place and `y` (S, 1) down the picture, and noise over them."""

    def __init__(self, place: Place, size: int, turn_rad: float, zoom: float, corner: NDArray[np.float64]) -> None:
        at = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
        c, s = np.float32(zoom * np.cos(turn_rad)), np.float32(zoom * np.sin(turn_rad))
        self.u = np.add.outer(-s * at, c * at + np.float32(corner[0]))
        self.v = np.add.outer(c * at, s * at + np.float32(corner[1]))
        self.y = at[:, None] + np.float32(0.5)
        self.pixel = zoom / size
        self.place = place

    def noise(self, across: float, down: float, shift: float = 0.0, *, warp: Array | float = 0.0) -> Array:
        """Smooth noise (S, S), so many independent values per unit of u and of v; `warp` is added to u."""
        columns = np.mod((self.u + np.float32(warp)) * np.float32(across) + np.float32(shift * _TILE), _TILE)
        rows = np.mod(self.v * np.float32(down) + np.float32(shift * 23), _TILE)
        noise: Array = cv2.remap(self.place.tile, columns, rows, cv2.INTER_LINEAR)
        return noise

    def within(self, distance: Array, width: float) -> Array:
        """1 where distance < width, 0 beyond, with an edge a pixel and a half wide."""
        inside: Array = np.clip((np.float32(width) - distance) / np.float32(1.5 * self.pixel) + np.float32(0.5), 0, 1)
        return inside


def _mix(place: Place, share: Array, light: Array) -> Array:
    """Linear RGB (S, S, 3): from base to accent by `share`, times exp(light)."""
    color: Array = place.base + np.clip(share, 0, 1)[..., None] * (place.accent - place.base)
    return color * np.exp(light)[..., None]


def _sand(view: _View) -> Array:
    count, depth, _ = view.place.traits
    ripples = np.sin((view.v + 0.05 * view.noise(4, 4)) * np.float32(30 + 30 * count)) * np.float32(0.05 + 0.13 * depth)
    grain = 0.13 * view.noise(63, 63, 0.3) + 0.10 * view.noise(37, 37, 0.7)
    return _mix(view.place, 0.4 + 0.3 * view.noise(3, 3, 0.5), ripples + grain)


def _wood(view: _View) -> Array:
    count, variety, _ = view.place.traits
    planks = np.float32(3 + 4 * count)
    plank = np.floor(view.v * planks)
    inside = view.v * planks - plank
    tone = np.float32(0.16) * np.sin(plank * np.float32(12.9898) + np.float32(40 * variety))
    rings = np.sin(68 * view.v + 4.2 * view.noise(1.6, 5, warp=0.37 * plank) + 0.9 * plank)
    gap = view.within(np.minimum(inside, 1 - inside) / planks, 0.006)
    return _mix(view.place, 0.5 + 0.45 * rings, tone + 0.10 * view.noise(3, 61, 0.4) - 0.9 * gap)


def _brick(view: _View) -> Array:
    count, variety, mortar = view.place.traits
    courses, stretch = np.float32(7 + 5 * count), np.float32(0.42)
    course = np.floor(view.v * courses)
    along = view.u * courses * stretch + np.float32(0.5) * np.mod(course, 2)
    brick = np.floor(along)
    dx, dy = along - brick, view.v * courses - course
    joint = np.minimum(np.minimum(dx, 1 - dx) / stretch, np.minimum(dy, 1 - dy)) / courses
    number = course * np.float32(12.9898) + brick * np.float32(78.233) + np.float32(30 * variety)
    grain = 0.08 * view.noise(50, 50) + 0.08 * view.noise(21, 21, 0.4)
    color = _mix(view.place, 0.5 + 0.5 * np.sin(3 * number), np.float32(0.22) * np.sin(number) + grain)
    grout = view.place.base * np.float32(0.3 + 0.45 * mortar) + np.float32(0.1 + 0.3 * mortar) * view.place.base.mean()
    seam = view.within(joint, 0.0075)[..., None]
    color += seam * (grout - color)
    return color


def _fur(view: _View) -> Array:
    curl, patches, _ = view.place.traits
    swirl = np.float32(0.10 + 0.10 * curl) * view.noise(3, 3, 0.2)
    hair = 0.26 * view.noise(58, 7, warp=swirl) + 0.20 * view.noise(33, 4, 0.6, warp=-swirl)
    return _mix(view.place, 0.5 + np.float32(0.2 + 0.6 * patches) * view.noise(4, 4, 0.8), hair)


def _sky(view: _View) -> Array:
    clouds = view.noise(2.5, 2.5) + 0.5 * view.noise(6, 6, 0.3) + 0.25 * view.noise(14, 14, 0.6)
    cover = np.clip(np.float32(0.5) * clouds + np.float32(view.place.traits[0] - 0.4), 0, 1)[..., None]
    clear: Array = view.place.base * (np.float32(0.85) + np.float32(0.7) * view.y[..., None])
    clear = clear + cover * (np.float32(0.8) - clear)
    return clear


def _grass(view: _View) -> Array:
    blades = 0.30 * view.noise(52, 12) + 0.25 * view.noise(31, 8, 0.4)
    return _mix(view.place, 0.5 + 0.6 * view.noise(5, 5, 0.7), blades)


def _wall(view: _View) -> Array:
    roughness, stains, dado = view.place.traits
    plaster = np.float32(0.02 + 0.06 * roughness) * (view.noise(30, 30) + view.noise(60, 60, 0.3))
    plaster += np.float32(0.05 + 0.1 * stains) * view.noise(2, 2, 0.6)
    over = view.y - np.float32(0.55 + 0.5 * dado)
    return _mix(view.place, view.within(-over, 0), plaster - 0.5 * view.within(np.abs(over), 0.006))


def _tiles(view: _View) -> Array:
    number, variety, grout = view.place.traits
    count = np.float32(4 + 5 * number)
    row, column = np.floor(view.v * count), np.floor(view.u * count)
    dx, dy = view.u * count - column, view.v * count - row
    seam = view.within(np.minimum(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy)) / count, 0.006)
    mixed = 0.5 + np.sin(row * np.float32(12.9) + column * np.float32(78.2))
    accent = np.mod(row + column, 2) if variety < 0.5 else mixed
    return _mix(view.place, accent, 0.04 * view.noise(20, 20) + np.float32(grout - 0.7) * seam)


KINDS: dict[str, Callable[[_View], Array]] = {
    "sand": _sand, "wood": _wood, "brick": _brick, "fur": _fur, "sky": _sky, "grass": _grass, "wall": _wall,
    "tiles": _tiles,
}  # fmt: skip
"""Every kind of background by name; the first four are those most often in the colours of skin."""


def paint(place: Place, rng: Generator, size: int) -> Array:
    """One view of the place: linear RGB (size, size, 3), from a distance, at an angle and an offset drawn from rng."""
    upright = place.kind in ("sky", "grass", "wall")
    turn_rad = rng.normal(0, 0.06) if upright else np.pi / 2 * rng.integers(2) + rng.normal(0, 0.15)
    return KINDS[place.kind](_View(place, size, float(turn_rad), float(rng.uniform(0.7, 1.3)), rng.uniform(0, 8, 2)))
