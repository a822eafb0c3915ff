"""The skin filter step by step in pictures: planes as colours, masks laid over the picture.

Colours are of Okabe & Ito's palette, which people with any kind of colour vision tell apart. A mask is also outlined,
and what lies outside it fades to light grey, so that it can be read in black and white.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.color import FloatPlane
from figleaf.skin.filter import MAX_TEXTURE, FilterSteps
from figleaf.skin.pictures import Mask, RgbU8, checked_picture

BLUE, GREEN, ORANGE, YELLOW = (0, 114, 178), (0, 158, 115), (213, 94, 0), (240, 228, 66)
_MIDDLE = (245, 245, 245)
_OPPONENT_SPAN = 60.0  # of Rg and By: the strongest colour of the drawing
_INTENSITY_SPAN = 253.0
_TEXTURE_SPAN = 4 * MAX_TEXTURE
_SHEET_COLUMNS, _SHEET_SIDE_PX, _CAPTION_PX, _GAP_PX = 4, 256, 22, 8


def draw_mask(rgb_u8: RgbU8, mask: Mask, color: tuple[int, int, int] = ORANGE) -> RgbU8:
    """The picture (H, W, 3), tinted and outlined where the mask (H, W) is, faded to light grey elsewhere."""
    picture = checked_picture(rgb_u8).astype(np.float64)
    grey = picture.mean(axis=2, keepdims=True)
    outside = 0.35 * grey + 0.65 * 255
    inside = 0.65 * picture + 0.35 * np.array(color)
    drawn = np.where(mask[..., None], inside, outside)
    thin = np.ones((3, 3), np.uint8)
    edge = mask & ~cv2.erode(mask.astype(np.uint8), thin, borderType=cv2.BORDER_REPLICATE).astype(np.bool_)
    drawn[edge] = color
    return _as_u8(drawn)


def draw_steps(rgb_u8: RgbU8, steps: FilterSteps) -> dict[str, RgbU8]:
    """The steps in their order, each (H, W, 3), under the names they are known by.

    Rg from green to orange, By from yellow to blue, both light grey at 0; texture from white (none) to black, and in
    blue where it is more than the tight stage allows. Without a texture test there is no such picture.
    """
    drawn = {
        "picture": checked_picture(rgb_u8),
        "intensity I": _draw_grey(steps.planes.intensity, _INTENSITY_SPAN),
        "red-green Rg, smoothed": _draw_opponent(steps.colors.rg, GREEN, ORANGE),
        "blue-yellow By, smoothed": _draw_opponent(steps.colors.by, YELLOW, BLUE),
    }
    if steps.texture is not None:
        rough = _draw_grey(_TEXTURE_SPAN - np.minimum(steps.texture, _TEXTURE_SPAN), _TEXTURE_SPAN)
        too_rough = steps.texture > MAX_TEXTURE
        rough[too_rough] = _as_u8(0.5 * rough[too_rough] + 0.5 * np.array(BLUE))
        drawn["texture amplitude"] = rough
    return drawn | {
        "tight stage": draw_mask(rgb_u8, steps.tight),
        "cleaned up": draw_mask(rgb_u8, steps.cleaned),
        "skin, verified": draw_mask(rgb_u8, steps.skin),
    }


def draw_filter(rgb_u8: RgbU8, steps: FilterSteps) -> RgbU8:
    """All steps on one sheet (H', W', 3), four in a row, with captions; small pictures are enlarged."""
    height, width = rgb_u8.shape[:2]
    factor = max(1, round(_SHEET_SIDE_PX / max(height, width)))
    panels = []
    for name, drawn in draw_steps(rgb_u8, steps).items():
        large = drawn.repeat(factor, axis=0).repeat(factor, axis=1)
        panel = np.full((large.shape[0] + _CAPTION_PX, max(large.shape[1], _SHEET_SIDE_PX), 3), 255, np.uint8)
        panel[_CAPTION_PX:, : large.shape[1]] = large
        cv2.putText(panel, name, (2, _CAPTION_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        panels.append(np.pad(panel, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=255))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % _SHEET_COLUMNS)
    rows = [panels[start : start + _SHEET_COLUMNS] for start in range(0, len(panels), _SHEET_COLUMNS)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _draw_grey(plane: FloatPlane, span: float) -> RgbU8:
    return _as_u8(np.repeat(255 * plane[..., None] / span, 3, axis=2))


def _draw_opponent(plane: FloatPlane, low: tuple[int, int, int], high: tuple[int, int, int]) -> RgbU8:
    strength = np.clip(np.abs(plane) / _OPPONENT_SPAN, 0, 1)[..., None]
    end = np.where((plane < 0)[..., None], np.array(low), np.array(high))
    return _as_u8((1 - strength) * np.array(_MIDDLE) + strength * end)


def _as_u8(values: NDArray[np.float64]) -> RgbU8:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
