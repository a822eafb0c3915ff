"""From geometry to a picture: albedo, light, contact shade and shadow in linear light, then developed to 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from figleaf.data.scenes.colors import encode, illuminant
from figleaf.data.scenes.outfits import GARMENT_OF_PART, Cloth
from figleaf.data.scenes.raster import Parts, Surface
from figleaf.data.scenes.skeleton import SEGMENTS, Figures

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """A key light: `direction` (3,) towards it in view space, its colour `gain` (3,), `falloff` (2,) along x and y over
    the picture, and the blur of its shadows, `softness`, in picture sides."""

    direction: Array
    gain: Array
    falloff: NDArray[np.float64]
    softness: float

    @classmethod
    def draw(cls, rng: Generator) -> "Light":
        """Light from above and from the viewer's side."""
        towards = np.array((rng.uniform(-0.8, 0.8), -rng.uniform(0.2, 0.9), rng.uniform(0.4, 1.0)), np.float32)
        falloff, softness = rng.normal(0, 0.3, 2), rng.uniform(0.018, 0.055)
        return cls(towards / np.linalg.norm(towards), illuminant(rng), falloff, float(softness))


@dataclass(frozen=True)
class Worn:
    """One figure's colours: its `skin` (3,) and its cloths in the order of GARMENTS."""

    skin: Array
    cloths: Sequence[Cloth]


def albedo(surface: Surface, parts: Parts, figures: Figures, reach: Array, worn: Sequence[Worn]) -> Array:
    """Linear RGB (N, 3) of skin and cloth under white light; cloth reaches along the parts as far as `reach` (K, L)."""
    side = len(surface.owner)
    color = np.zeros((len(surface.part), 3), np.float32)
    owner, segment = np.divmod(surface.part, len(SEGMENTS))
    turns = figures.turns.reshape(-1, 3, 3).astype(np.float32)
    side_way, front_way = (np.einsum("ni,ni->n", surface.normal, turns[:, :, axis][surface.part]) for axis in (0, 2))
    length = (parts.lengths / side).astype(np.float32)[surface.part]
    along = surface.along * length
    around = np.arctan2(side_way, front_way) * (parts.radii.mean(1) / side).astype(np.float32)[surface.part]
    ends = reach.reshape(-1)[surface.part]
    dressed = is_dressed(surface, reach)
    garment = np.where(dressed, GARMENT_OF_PART[segment], -1)
    for number, one in enumerate(worn):
        mine = owner == number
        color[mine] = one.skin
        for kind, cloth in enumerate(one.cloths):
            here = mine & (garment == kind)
            if here.any():
                color[here] = cloth.albedo(along[here], around[here])
    seam = dressed & (ends < 1) & ((ends - surface.along) * length < 0.012)
    color[seam] *= np.float32(0.5)
    return color


def is_dressed(surface: Surface, reach: Array) -> NDArray[np.bool_]:
    """Which of the N samples that see a figure see cloth; a part dressed to its end has its rounding dressed too."""
    ends = reach.reshape(-1)[surface.part]
    dressed: NDArray[np.bool_] = (surface.along.clip(0) < ends) | (ends >= 1)
    return dressed


def shade(surface: Surface, color: Array, light: Light, dressed: NDArray[np.bool_]) -> Array:
    """Light that leaves the surface (N, 3): wrapped Lambert, light from above, contact shade, and a sheen on skin."""
    diffuse = np.clip((surface.normal @ light.direction + np.float32(0.25)) / np.float32(1.25), 0, None)
    above = np.float32(0.5) - np.float32(0.5) * surface.normal[:, 1]
    half = light.direction + np.array((0, 0, 1), np.float32)
    sheen = np.clip(surface.normal @ (half / np.linalg.norm(half)), 0, None) ** 20 * np.float32(0.09)
    energy = (np.float32(0.85) * diffuse + np.float32(0.28) * above + np.float32(0.06)) * _openness(surface)
    shaded: Array = color * energy[:, None] + np.where(dressed, np.float32(0), sheen)[:, None]
    return shaded


def average(surface: Surface, values: Array, samples: int, size: int) -> Array:
    """Mean (size, size, C) over each pixel's samples x samples places of values (N, C), 0 where no figure is seen."""
    pixel = surface.row // samples * size + surface.column // samples
    sums = [np.bincount(pixel, channel, size * size) for channel in values.T]
    mean: Array = (np.stack(sums, axis=1) / samples**2).astype(np.float32).reshape(size, size, -1)
    return mean


def compose(background: Array, figures: Array, coverage: Array, light: Light) -> Array:
    """The figures (S, S, 3), weighted by their coverage (S, S), before the background on which their shadow falls."""
    size = len(coverage)
    blur = light.softness * size
    shift = np.eye(2, 3, dtype=np.float32)
    shift[:, 2] = -1.5 * blur * light.direction[:2]
    shadow = cv2.GaussianBlur(cv2.warpAffine(coverage, shift, (size, size)), (0, 0), blur)
    picture: Array = background * (1 - np.float32(0.6) * shadow)[..., None]
    picture *= (1 - coverage)[..., None]
    picture += figures
    return picture


def develop(rng: Generator, picture: Array, light: Light) -> NDArray[np.uint8]:
    """The picture (S, S, 3) uint8 under coloured, uneven light, with a sensor's noise."""
    at = (np.arange(len(picture)) + 0.5) / len(picture) - 0.5
    rows, columns = np.exp(light.falloff[1] * at).astype(np.float32), np.exp(light.falloff[0] * at).astype(np.float32)
    values = 255 * encode(picture * (rows[:, None, None] * (columns[:, None] * light.gain)))
    noise = np.float32(rng.uniform(0.3, 3.0))
    values += noise * rng.standard_normal(values.shape, dtype=np.float32)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _openness(surface: Surface) -> Array:
    """Share of the light (N,) that nearer parts nearby leave to each sample: their mean depth's excess over its own."""
    grid = len(surface.owner)
    window = (grid // 16 | 1,) * 2
    depth, seen = np.zeros((grid, grid), np.float32), np.zeros((grid, grid), np.float32)
    depth[surface.row, surface.column], seen[surface.row, surface.column] = surface.depth, 1
    mean = (cv2.blur(depth, window) / np.maximum(cv2.blur(seen, window), 1e-6))[surface.row, surface.column]
    openness: Array = 1 - np.clip((mean - surface.depth) / np.float32(2.5 * window[0]), 0, 0.55)
    return openness
