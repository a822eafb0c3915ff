"""What a mannequin wears: how far each garment reaches along each part, and the cloth it is made of.

Cloth is told from skin by its texture: woven patterns, folds, and the seam at its hem. Half of it is in the colours of skin.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from figleaf.data.scenes.colors import skin_like, vivid
from figleaf.data.scenes.skeleton import SEGMENTS

Array = NDArray[np.float32]

PATTERNS = ("plain", "rings", "stripes", "checks", "dots", "twill")
_PART = {segment.name: number for number, segment in enumerate(SEGMENTS)}
TOP, BOTTOM, SHOES = range(3)
_GARMENT = np.array([
    BOTTOM if name.endswith(("hips", "thigh", "shin")) else SHOES if name.endswith("foot") else TOP for name in _PART
])  # fmt: skip
_SHORTEST = 0.33  # every figure wears at least short trousers, this far down the thigh


@dataclass(frozen=True)
class Cloth:
    """A pattern of two colours in linear RGB, with its period and the depth of its folds."""

    pattern: str
    colors: Array
    period: float
    folds: float

    @classmethod
    def draw(cls, rng: Generator) -> "Cloth":
        """Half in the colours of skin and then always patterned; the rest of any colour, patterned or plain."""
        if rng.random() < 0.4:
            first, patterned = skin_like(rng), True
        else:
            first, patterned = vivid(rng), rng.random() < 0.8
        light = first.mean() > 0.25
        second = first * np.float32(0.25) if light else first + np.float32(0.6) * (1 - first)
        pattern = str(rng.choice(PATTERNS[1:])) if patterned else "plain"
        colors = np.clip(np.stack([first, second]), 0.004, 0.95)
        return cls(pattern, colors.astype(np.float32), float(rng.uniform(0.05, 0.065)), float(rng.uniform(0.1, 0.3)))

    def albedo(self, u: Array, v: Array, period: float) -> Array:
        """Linear RGB (N, 3) at cloth coordinates u (along the part) and v (around it)."""
        a, b = u * np.float32(2 * np.pi / period), v * np.float32(2 * np.pi / period)
        wave = {
            "plain": lambda: np.full_like(a, -1),
            "rings": lambda: np.sin(a) * 3,
            "stripes": lambda: np.sin(b) * 3,
            "checks": lambda: np.sin(a * np.float32(0.7)) * np.sin(b * np.float32(0.7)) * 5,
            "dots": lambda: np.cos(a) + np.cos(b) - np.float32(0.7),
            "twill": lambda: np.sin(a + b) * 3,
        }[self.pattern]()
        share = np.clip(0.5 + 0.5 * wave, 0, 1)[:, None]
        folds = 1 + self.folds * np.sin(3.1 * b + 2 * np.sin(1.7 * a)) * np.sin(0.9 * a)
        color: Array = (self.colors[0] + share * (self.colors[1] - self.colors[0])) * folds[:, None].astype(np.float32)
        return color


def draw_reach(rng: Generator, dressed: float) -> Array:
    """How far cloth reaches along each part (L,), 0 to 1; `dressed` from -1 (short trousers only) through 0 (anything) to 1 (all but head and hands)."""
    reach = np.zeros(len(SEGMENTS), np.float32)
    sleeve = np.clip(rng.uniform(0.0, 2.2) + 1.6 * dressed, 0, 1.95)
    leg = np.clip(rng.uniform(_SHORTEST, 2.2) + 1.6 * dressed, _SHORTEST, 1.95)
    top = rng.random() < 0.5 + 0.9 * dressed
    reach[_PART["hips"]] = 1
    if top:
        reach[_PART["chest"]] = 1
    for side in "lr":
        reach[_PART[f"{side}_thigh"]], reach[_PART[f"{side}_shin"]] = min(leg, 1), max(leg - 1, 0)
        if top:
            reach[_PART[f"{side}_upper_arm"]], reach[_PART[f"{side}_forearm"]] = min(sleeve, 1), max(sleeve - 1, 0)
        reach[_PART[f"{side}_foot"]] = 1
    if rng.random() < 0.5 - 0.5 * dressed:
        reach[[_PART["l_foot"], _PART["r_foot"]]] = 0
    return reach


def garment_of(part: NDArray[np.int16]) -> NDArray[np.int64]:
    """Which garment (TOP, BOTTOM, SHOES) dresses each of these parts."""
    garment: NDArray[np.int64] = _GARMENT[part]
    return garment
