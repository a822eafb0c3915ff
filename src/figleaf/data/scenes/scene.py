"""One picture of the embedded data set: posed, framed, dressed, lit, and labelled from its own masks."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from figleaf.data.scenes import backgrounds, outfits, raster
from figleaf.data.scenes.colors import illuminant, skin_tone
from figleaf.data.scenes.skeleton import ENDS, SEGMENTS, Build, Camera, FloatArray, Posed, frame, pose

Array = NDArray[np.float32]

CLASSES = ("covered", "exposed")
UNSAFE = ("exposed",)
SERIES = 4
"""Consecutive pictures that share a place and a cast: one group, two pictures of each label, one split."""
THRESHOLD = 0.5
"""A picture is exposed when at least this share of its figures' pixels is skin."""
MARGIN = 0.2
"""Outfits are drawn until the share lies this far from the threshold, where the picture allows it."""
_SPLITS = ("train", "val", "test", "train", "train", "train", "train", "test", "train", "train")
_EMPTY = 0.2  # share of the covered pictures that show no figure
_GRID = 2  # samples per pixel, each way


@dataclass(frozen=True)
class Scene:
    """A picture of S x S pixels with K figures (K is 0 to 3).

    `rgb_u8` (S, S, 3); `figure_mask`, `skin_mask` (S, S) bool, the second being exposed skin; `joints` (K, J, 2), x to the right
    and y down in pixels from the picture's corner, named by `JOINTS`, inside the frame or not. For each part in the order of
    `SEGMENTS`: `radius_px` (K, L, 2) at its two ends, `tilt_deg` (K, L) out of the picture's plane (towards the viewer is positive)
    and `visible` (K, L), the share of its axis that is inside the frame and in front. `attributes` names what slices are made of:
    background, count, truncation, view, tone; and the exposed share.
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
    skin: Array
    cloths: tuple[outfits.Cloth, ...]

    @classmethod
    def draw(cls, rng: Generator) -> "_Mannequin":
        tone = rng.uniform(1, 10)
        build = Build(rng.uniform(0.88, 1.25), rng.uniform(0.94, 1.06), rng.uniform(0.92, 1.12))
        return cls(build, tone, skin_tone(rng, tone), tuple(outfits.Cloth.draw(rng) for _ in range(3)))


@dataclass(frozen=True)
class _Shot:
    """Figures in the frame of a picture, seen on the fine grid."""

    figures: Posed
    surface: raster.Surface
    azimuths_deg: FloatArray
    camera: Camera


def render(seed: int, index: int, size: int) -> Scene:
    """Picture number `index` of the set `seed`, of size x size pixels; a function of these three numbers alone."""
    series, member = divmod(index, SERIES)
    common = np.random.default_rng(SeedSequence([seed, 0, series]))
    rng = np.random.default_rng(SeedSequence([seed, 1, index]))
    place = backgrounds.Place.draw(common)
    cast = [_Mannequin.draw(common) for _ in range(3)]
    exposed = bool(common.permutation(SERIES)[member] % 2)
    count = 0 if not exposed and rng.random() < _EMPTY else int(rng.choice([1, 2, 3], p=[0.72, 0.2, 0.08]))
    cast = [cast[k] for k in rng.permutation(3)[:count]]

    shot = _shoot(rng, cast, size)
    reach = np.zeros((0, len(SEGMENTS)), np.float32)
    for attempt in range(12 if count else 0):
        if attempt and attempt % 4 == 0:
            shot = _shoot(rng, cast, size)
        reach = np.stack([outfits.draw_reach(rng, (1 - 2 * exposed) * (attempt % 4) / 3) for _ in cast])
        share = 1 - float(_covered(shot.surface, reach).mean())
        if (share >= THRESHOLD) == exposed and abs(share - THRESHOLD) >= MARGIN:
            break

    rgb, figure, skin = _draw(rng, place, cast, shot, reach, size)
    share = float(skin.sum() / max(figure.sum(), 1))
    return Scene(
        rgb_u8=rgb,
        figure_mask=figure,
        skin_mask=skin,
        joints=shot.figures.joints[..., :2],
        radius_px=shot.figures.radii,
        tilt_deg=_tilt_deg(shot.figures),
        visible=_visible(shot, size),
        label=CLASSES[int(count > 0 and share >= THRESHOLD)],
        split=_SPLITS[series % len(_SPLITS)],
        group=f"series{series:05d}",
        slice=place.kind,
        attributes={
            "background": place.kind,
            "count": count,
            **_attributes(cast, shot, size),
            "exposed_share": round(share, 4),
        },
    )


def _tilt_deg(figures: Posed) -> FloatArray:
    """Angle (K, L) of each part's axis out of the picture's plane."""
    bones = figures.joints[:, ENDS[:, 1]] - figures.joints[:, ENDS[:, 0]]
    tilt: FloatArray = np.rad2deg(np.arctan2(bones[..., 2], np.hypot(bones[..., 0], bones[..., 1])))
    return tilt


def _visible(shot: _Shot, size: int) -> FloatArray:
    """Share (K, L) of nine points along each part's axis where that part is what one sees."""
    parts = raster.Parts.of(shot.figures, _GRID)
    owner = np.full((size * _GRID, size * _GRID), -1)
    owner[shot.surface.mask] = shot.surface.part
    at = parts.start[:, None, :2] + np.linspace(0, 1, 9)[:, None] * (parts.end - parts.start)[:, None, :2]
    column, row = np.floor(at).astype(int).transpose(2, 0, 1)
    inside = (column >= 0) & (row >= 0) & (column < len(owner)) & (row < len(owner))
    seen = owner[row.clip(0, len(owner) - 1), column.clip(0, len(owner) - 1)] == np.arange(len(row))[:, None]
    return (inside & seen).mean(1).reshape(len(shot.figures.joints), len(SEGMENTS))


def _attributes(cast: list[_Mannequin], shot: _Shot, size: int) -> dict[str, str]:
    """Truncation by the frame; view and skin tone of the figure that takes most of the picture; "none" without figures."""
    if not cast:
        return {"truncation": "none", "view": "none", "tone": "none"}
    main = int(np.bincount(shot.surface.part // len(SEGMENTS), minlength=len(cast)).argmax())
    places = shot.figures.joints[..., :2]
    turned = abs(shot.azimuths_deg[main])
    view = "above" if shot.camera.elevation_deg > 40 else "front" if turned < 45 else "side" if turned < 135 else "back"
    return {
        "truncation": "whole" if ((places >= 0) & (places <= size)).all() else "cut",
        "view": view,
        "tone": "light" if cast[main].tone < 4 else "medium" if cast[main].tone < 7 else "dark",
    }


def _shoot(rng: Generator, cast: list[_Mannequin], size: int) -> _Shot:
    """Pose the figures side by side and point the camera at them."""
    figures = [pose(rng, mannequin.build) for mannequin in cast]
    azimuths = rng.uniform(-180, 180, len(cast))
    elevation = rng.normal(8, 12) if rng.random() < 0.75 else rng.uniform(20, 80)
    roll = rng.normal(0, 6) if rng.random() < 0.75 else rng.uniform(-180, 180)
    camera = Camera(float(elevation), float(roll))
    place = np.arange(len(cast)) - (len(cast) - 1) / 2
    positions = np.stack(
        [place * 0.45 + rng.normal(0, 0.05, len(cast)), np.zeros(len(cast)), rng.normal(0, 0.3, len(cast))], axis=1
    )
    zoom = rng.uniform(0.8, 0.98) if rng.random() < 0.5 else rng.uniform(1.1, 1.7)
    if not cast:
        none = Posed(np.zeros((0, 20, 3)), np.zeros((0, len(SEGMENTS), 3, 3)), np.zeros((0, len(SEGMENTS), 2)))
        return _Shot(none, raster.cast(raster.Parts.of(none, _GRID), size * _GRID), azimuths, camera)
    framed = frame(rng, camera.look(figures, azimuths, positions), size, zoom)
    return _Shot(framed, raster.cast(raster.Parts.of(framed, _GRID), size * _GRID), azimuths, camera)


def _covered(surface: raster.Surface, reach: Array) -> NDArray[np.bool_]:
    """Which surface points (N,) wear cloth."""
    ends = reach.reshape(-1)[surface.part]
    covered: NDArray[np.bool_] = (surface.along < ends) | (ends == 1)
    return covered


def _draw(
    rng: Generator, place: backgrounds.Place, cast: list[_Mannequin], shot: _Shot, reach: Array, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """The developed picture (size, size, 3) uint8 with its figure and skin masks."""
    surface = shot.surface
    light = np.array((rng.uniform(-0.8, 0.8), -rng.uniform(0.2, 0.9), rng.uniform(0.4, 1.0)), np.float32)
    light /= np.linalg.norm(light)
    covered = _covered(surface, reach)
    layer = np.zeros((size * _GRID, size * _GRID, 5), np.float32)
    layer[surface.mask, :3] = _shade(surface, light, _albedo(shot, cast, covered, reach, size), covered)
    layer[surface.mask, 3] = 1
    layer[surface.mask, 4] = ~covered
    layer = sum(layer[i::_GRID, j::_GRID] for i in range(_GRID) for j in range(_GRID)) / _GRID**2

    picture = backgrounds.paint(place, rng, size)
    alpha = layer[..., 3:4]
    if len(cast):
        reach_px = 0.035 * size * rng.uniform(0.5, 1.6)
        shift = np.array([[1, 0, -light[0] * 1.5 * reach_px], [0, 1, -light[1] * 1.5 * reach_px]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(layer[..., 3], shift, (size, size)), (0, 0), reach_px)
        picture *= 1 - 0.6 * shadow[..., None]
    picture = picture * (1 - alpha) + layer[..., :3]

    fall = rng.normal(0, 0.35, 2)
    at = (np.arange(size) + 0.5) / size - 0.5
    gradient = np.exp(fall[0] * at[None, :] + fall[1] * at[:, None]).astype(np.float32)
    picture *= gradient[..., None] * illuminant(rng)
    encoded = 255 * np.power(np.clip(picture, 0, 1), np.float32(1 / 2.2))
    encoded += rng.standard_normal(encoded.shape, dtype=np.float32) * np.float32(rng.uniform(0.3, 3.0))
    rgb = np.clip(np.rint(encoded), 0, 255).astype(np.uint8)
    figure = layer[..., 3] >= 0.5
    return rgb, figure, figure & (layer[..., 4] >= 0.5 * layer[..., 3])


def _albedo(shot: _Shot, cast: list[_Mannequin], covered: NDArray[np.bool_], reach: Array, size: int) -> Array:
    """Linear RGB (N, 3) of skin and cloth under white light."""
    surface = shot.surface
    owner, piece = np.divmod(surface.part, len(SEGMENTS))
    albedo = np.zeros((len(owner), 3), np.float32)
    if not cast:
        return albedo
    bones = raster.Parts.of(shot.figures, 1)
    lengths = np.linalg.norm(bones.end - bones.start, axis=1)
    sides = shot.figures.frames.reshape(-1, 3, 3).astype(np.float32)[surface.part]
    angle = np.arctan2(
        np.einsum("ni,ni->n", surface.normal, sides[..., 0]), np.einsum("ni,ni->n", surface.normal, sides[..., 2])
    )
    u = surface.along * lengths[surface.part] / np.float32(size)
    v = angle * bones.radii[surface.part].mean(1) / np.float32(size)
    garment = outfits.garment_of(piece)
    edge = reach.reshape(-1)[surface.part] - surface.along
    hem = (np.abs(edge) * lengths[surface.part] < 0.012 * size) & (edge < 0.9)
    for number, mannequin in enumerate(cast):
        mine = owner == number
        albedo[mine & ~covered] = mannequin.skin
        for kind, cloth in enumerate(mannequin.cloths):
            worn = mine & covered & (garment == kind)
            if worn.any():
                albedo[worn] = cloth.albedo(u[worn], v[worn], cloth.period)
    albedo[hem & covered] *= np.float32(0.55)
    return albedo


def _shade(surface: raster.Surface, light: Array, albedo: Array, covered: NDArray[np.bool_]) -> Array:
    """Light leaving the surface (N, 3): wrapped Lambert, light from above, contact shade, and a sheen on skin."""
    diffuse = np.clip((surface.normal @ light + np.float32(0.25)) / np.float32(1.25), 0, None)
    sky = np.float32(0.5) - np.float32(0.5) * surface.normal[:, 1]
    half = light + np.array((0, 0, 1), np.float32)
    half /= np.linalg.norm(half)
    sheen = np.clip(surface.normal @ half, 0, None) ** 20 * np.where(covered, np.float32(0.0), np.float32(0.09))
    near = _openness(surface)
    energy = (np.float32(0.85) * diffuse + np.float32(0.28) * sky + np.float32(0.06)) * near
    return albedo * energy[:, None] + sheen[:, None]


def _openness(surface: raster.Surface) -> Array:
    """How little of the light is kept away by nearer parts beside each point (N,): a blurred depth's excess over its own."""
    weight = surface.mask.astype(np.float32)
    depth = np.zeros_like(weight)
    depth[surface.mask] = surface.depth
    reach = max(3, surface.mask.shape[0] // 16) | 1
    mean = cv2.blur(depth, (reach, reach))[surface.mask] / cv2.blur(weight, (reach, reach))[surface.mask]
    openness: Array = 1 - np.clip((mean - surface.depth) / np.float32(2.5 * reach), 0, 0.55)
    return openness
