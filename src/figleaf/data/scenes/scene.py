"""One picture of the embedded data set: who is in it, how they stand, what they wear, and the label its masks give."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from figleaf.data.scenes import lighting
from figleaf.data.scenes.backgrounds import Place, paint
from figleaf.data.scenes.colors import skin_tone
from figleaf.data.scenes.outfits import GARMENTS, Cloth, draw_reach
from figleaf.data.scenes.raster import Parts, Surface, cast
from figleaf.data.scenes.skeleton import ENDS, SEGMENTS, Build, Figures, FloatArray, frame, look, pose

CLASSES = ("covered", "exposed")
UNSAFE = ("exposed",)
THRESHOLD = 0.5
"""A picture is exposed when at least this share of its figures' pixels is skin; without figures it is covered."""
MARGIN = 0.2
"""Outfits are drawn until the share lies this far from the threshold, where pose and frame allow it."""
SERIES = 4
"""Consecutive pictures that share a place and a company of mannequins: a group, two pictures of each label."""
_SPLITS = (
    "train",
    "val",
    "test",
    "train",
    "train",
    "train",
    "train",
    "test",
    "train",
    "train",
)  # of ten series in turn
_EMPTY_SHARE = 0.2  # of the covered pictures: no figure
_COUNT_SHARES = (0.72, 0.2, 0.08)  # of the others: one, two, three figures
_COMPANY = 3  # mannequins that a series chooses from
_SAMPLES = 2  # per pixel, each way
_PROBE = 48  # grid on which outfits are tried: the same at every picture size, so that the scene is, too


@dataclass(frozen=True)
class Scene:
    """A picture of S x S pixels with K figures, 0 to 3.

    `rgb_u8` (S, S, 3); `figure_mask` and, within it, `skin_mask` (S, S), what of the figures is not dressed.
    `joints` (K, J, 2) in the order of JOINTS: x to the right and y down in pixels from the picture's corner, also where
    they are hidden or outside. In the order of SEGMENTS: `radius_px` (K, L, 2) at each part's two ends; `tilt_deg`
    (K, L) of its bone out of the picture's plane, positive if its distal end is the nearer one; `visible` (K, L), the
    share of its axis that is inside the frame and not hidden. `attributes` holds background, count, truncation (whole,
    cut), view (front, side, back, above), tone (light, medium, dark) and exposed_share, the share of skin in
    `figure_mask`; view and tone are those of the largest figure, and "none" without one.
    """

    rgb_u8: NDArray[np.uint8]
    figure_mask: NDArray[np.bool_]
    skin_mask: NDArray[np.bool_]
    joints: FloatArray
    radius_px: FloatArray
    tilt_deg: FloatArray
    visible: FloatArray
    label: str
    split: str
    group: str
    slice: str
    attributes: dict[str, str | int | float]


@dataclass(frozen=True)
class _Mannequin:
    build: Build
    tone: float
    worn: lighting.Worn

    @classmethod
    def draw(cls, rng: Generator) -> "_Mannequin":
        tone = rng.uniform(1, 10)
        worn = lighting.Worn(skin_tone(rng, tone), [Cloth.draw(rng) for _ in GARMENTS])
        return cls(Build.draw(rng), tone, worn)


@dataclass(frozen=True)
class _Shot:
    """Figures in units of the picture's side, and how they were seen."""

    figures: Figures
    azimuths_deg: FloatArray
    elevation_deg: float

    @classmethod
    def draw(cls, rng: Generator, crew: list[_Mannequin]) -> "_Shot":
        """The figures side by side in poses of their own before a camera in any direction."""
        azimuths = rng.uniform(-180, 180, len(crew))
        elevation = float(rng.normal(8, 12) if rng.random() < 0.8 else rng.uniform(25, 60))
        roll = float(rng.normal(0, 6) if rng.random() < 0.8 else rng.uniform(-180, 180))
        zoom = float(rng.uniform(0.88, 1.0) if rng.random() < 0.5 else rng.uniform(1.15, 1.7))
        if not crew:
            return cls(Figures.none(), azimuths, elevation)
        line = 0.45 * (np.arange(len(crew)) - (len(crew) - 1) / 2)
        positions = np.stack([line, np.zeros(len(crew)), np.zeros(len(crew))], axis=1)
        positions += rng.normal(0, (0.05, 0, 0.3), positions.shape)
        posed = [pose(rng, mannequin.build) for mannequin in crew]
        return cls(frame(rng, look(posed, azimuths, positions, elevation, roll), zoom), azimuths, elevation)

    def cast(self, grid: int) -> tuple[Parts, Surface]:
        """The parts in samples of a grid over the picture, and what is seen of them."""
        parts = Parts.of(self.figures.scaled(grid))
        return parts, cast(parts, grid)


def render(seed: int, index: int, size: int) -> Scene:
    """Picture number `index` of the set `seed`, size x size pixels: a function of these three numbers alone.

    Another size gives the same scene with other pixels. Splits are 70 % train, 10 % val and 20 % test of the series.
    """
    series, member = divmod(index, SERIES)
    common, rng = _generator(seed, 0, series), _generator(seed, 1, index)
    place, exposed = Place.draw(common), bool(common.permutation(SERIES)[member] % 2)
    count = 0 if not exposed and rng.random() < _EMPTY_SHARE else 1 + int(rng.choice(3, p=_COUNT_SHARES))
    crew = [_Mannequin.draw(_generator(seed, 2, series, number)) for number in rng.permutation(_COMPANY)[:count]]

    shot, reach = _shoot_and_dress(rng, crew, exposed)
    light, background = lighting.Light.draw(rng), paint(place, rng, size)
    parts, surface = shot.cast(size * _SAMPLES)
    dressed = lighting.is_dressed(surface, reach)
    worn = [mannequin.worn for mannequin in crew]
    color = lighting.albedo(surface, parts, shot.figures, reach, worn)
    shaded = lighting.shade(surface, color, light, dressed)
    seen = np.concatenate([shaded, np.ones_like(shaded[:, :1]), ~dressed[:, None]], axis=1)
    layer = lighting.average(surface, seen, _SAMPLES, size)
    picture = lighting.compose(background, layer[..., :3], layer[..., 3], light)

    figure_mask = layer[..., 3] >= 0.5
    skin_mask = figure_mask & (layer[..., 4] >= 0.5 * layer[..., 3])
    share = float(skin_mask.sum() / max(figure_mask.sum(), 1))
    figures = shot.figures.scaled(size)
    bones = figures.joints[:, ENDS[:, 1]] - figures.joints[:, ENDS[:, 0]]
    return Scene(
        rgb_u8=lighting.develop(rng, picture, light),
        figure_mask=figure_mask,
        skin_mask=skin_mask,
        joints=figures.joints[..., :2],
        radius_px=figures.radii,
        tilt_deg=np.rad2deg(np.arctan2(bones[..., 2], np.hypot(bones[..., 0], bones[..., 1]))),
        visible=_visible(parts, surface).reshape(count, len(SEGMENTS)),
        label=CLASSES[int(share >= THRESHOLD)],
        split=_SPLITS[series % len(_SPLITS)],
        group=f"series{series:05d}",
        slice=place.kind,
        attributes={
            "background": place.kind,
            "count": count,
            **_looks(crew, shot, surface),
            "exposed_share": round(share, 4),
        },
    )


def _generator(*key: int) -> Generator:
    return np.random.default_rng(SeedSequence(key))


def _shoot_and_dress(rng: Generator, crew: list[_Mannequin], exposed: bool) -> tuple[_Shot, NDArray[np.float32]]:
    """A shot and the reach (K, L) of what its figures wear, well on the wanted side of the threshold if four outfits in
    each of three shots, each further towards that side, can bring it there."""
    shot, reach = _Shot.draw(rng, crew), np.zeros((0, len(SEGMENTS)), np.float32)
    for attempt in range(12 if crew else 0):
        if attempt % 4 == 0:
            shot = shot if attempt == 0 else _Shot.draw(rng, crew)
            _, probe = shot.cast(_PROBE)
        reach = np.stack([draw_reach(rng, (-1 if exposed else 1) * (attempt % 4) / 3) for _ in crew])
        share = 1 - float(lighting.is_dressed(probe, reach).mean())
        if (share >= THRESHOLD + MARGIN) if exposed else (share <= THRESHOLD - MARGIN):
            break
    return shot, reach


def _visible(parts: Parts, surface: Surface) -> FloatArray:
    """Share (P,) of nine points along each part's axis at which that part is what one sees."""
    grid = len(surface.owner)
    points = parts.start[:, None] + np.linspace(0, 1, 9)[:, None] * (parts.end - parts.start)[:, None]
    column, row = np.floor(points[..., :2]).astype(int).transpose(2, 0, 1)
    inside = (column >= 0) & (row >= 0) & (column < grid) & (row < grid)
    owner = surface.owner[row.clip(0, grid - 1), column.clip(0, grid - 1)]
    share: FloatArray = (inside & (owner == np.arange(len(row))[:, None])).mean(1)
    return share


def _looks(crew: list[_Mannequin], shot: _Shot, surface: Surface) -> dict[str, str]:
    """Truncation of any figure by the frame; view and tone of the figure that takes most of the picture."""
    if not crew:
        return {"truncation": "none", "view": "none", "tone": "none"}
    largest = int(np.bincount(surface.part // len(SEGMENTS), minlength=len(crew)).argmax())
    places, azimuth_deg, tone = shot.figures.joints[..., :2], abs(shot.azimuths_deg[largest]), crew[largest].tone
    facing = "front" if azimuth_deg < 45 else "side" if azimuth_deg < 135 else "back"
    return {
        "truncation": "whole" if ((places >= 0) & (places <= 1)).all() else "cut",
        "view": "above" if shot.elevation_deg > 30 else facing,
        "tone": "light" if tone < 4 else "medium" if tone < 7 else "dark",
    }
