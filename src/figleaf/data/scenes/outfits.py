"""What a mannequin wears: the cloth of its garments and how far they reach along each part.

Cloth differs from skin by its weave, its folds and the seam at its hem; a quarter of the garments have its colours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from figleaf.data.scenes.colors import skin_like, vivid
from figleaf.data.scenes.skeleton import PART

Array = NDArray[np.float32]

GARMENTS = ("top", "bottom", "shoes")
GARMENT_OF_PART = np.array([
    GARMENTS.index("shoes" if "foot" in part else "bottom" if part.endswith(("hips", "thigh", "shin")) else "top")
    for part in PART
])  # fmt: skip
"""Index into GARMENTS of what dresses each part, in the order of SEGMENTS."""

_SHORTEST = 0.33  # every figure wears at least short trousers, this far down the thigh
_WEAVES: dict[str, Callable[[Array, Array], Array]] = {  # of phases along and around the part; > 0 is the second colour
    "ribs": lambda along, around: np.float32(0.45) * np.sin(around) - np.float32(0.55),
    "rings": lambda along, around: 3 * np.sin(along),
    "stripes": lambda along, around: 3 * np.sin(around),
    "checks": lambda along, around: 5 * np.sin(np.float32(0.7) * along) * np.sin(np.float32(0.7) * around),
    "dots": lambda along, around: np.cos(along) + np.cos(around) - np.float32(0.7),
    "twill": lambda along, around: 3 * np.sin(along + around),
}


@dataclass(frozen=True)
class Cloth:
    """A weave of two `colors` (2, 3) in linear RGB, its `period` in picture sides, and the depth of its `folds`.

    The period is tied to the picture, not to the figure, so that cloth on a distant figure is not mistaken for skin.
    """

    weave: str
    colors: Array
    period: float
    folds: float

    @classmethod
    def draw(cls, rng: Generator) -> "Cloth":
        """Any cloth; in the colours of skin its weave is a bold one."""
        like_skin = rng.random() < 0.25
        first = skin_like(rng) if like_skin else vivid(rng)
        second = first * np.float32(0.25) if first.mean() > 0.25 else first + np.float32(0.6) * (1 - first)
        weave = list(_WEAVES)[rng.integers(1 if like_skin else 0, len(_WEAVES))]
        return cls(weave, np.stack([first, second]), float(rng.uniform(0.05, 0.065)), float(rng.uniform(0.1, 0.3)))

    def albedo(self, along: Array, around: Array) -> Array:
        """Linear RGB (N, 3) at N places (N,), in picture sides, along the part and around it."""
        a, b = along * np.float32(2 * np.pi / self.period), around * np.float32(2 * np.pi / self.period)
        share = np.clip(0.5 + 0.5 * _WEAVES[self.weave](a, b), 0, 1)
        folds = 1 + np.float32(self.folds) * np.sin(3.1 * b + 2 * np.sin(1.7 * a)) * np.sin(0.9 * a)
        color: Array = (self.colors[0] + share[:, None] * (self.colors[1] - self.colors[0])) * folds[:, None]
        return color


def draw_reach(rng: Generator, dressed: float) -> Array:
    """How far cloth reaches along each part (L,), from 0 to 1 at its far end.

    `dressed` runs from -1 (short trousers only) through 0 (anything) to 1 (all but head and hands).
    """
    sleeve = np.clip(rng.uniform(0, 2.2) + 1.6 * dressed, 0, 1.95) * (rng.random() < 0.5 + 0.9 * dressed)
    leg = np.clip(rng.uniform(_SHORTEST, 2.2) + 1.6 * dressed, _SHORTEST, 1.95)
    reach = {
        "hips": 1, "chest": sleeve > 0, "upper_arm": min(sleeve, 1), "forearm": max(sleeve - 1, 0),
        "thigh": min(leg, 1), "shin": max(leg - 1, 0), "foot": rng.random() > 0.5 - 0.5 * dressed,
    }  # fmt: skip
    return np.array([reach.get(part.removeprefix("l_").removeprefix("r_"), 0) for part in PART], np.float32)
