"""The skin filter of Fleck, Forsyth & Bregler (1996): colour and texture in a tight stage, cleaned up, checked again.

Fleck & Forsyth, "Naked People Skin Filter" (mfleck.cs.illinois.edu/naked-skin.html), used in "Finding naked people"
(ECCV 1996). The authors' page gives limits with "between" and "no larger than"; the limits of the last stage are those
that the ports quote from it, in which the upper saturation is uncertain (130 here; one port has 180).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.skin import color
from figleaf.skin.color import FloatPlane, LogOpponent
from figleaf.skin.pictures import Mask, RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.texture import Mode, amplitude, checked_mode, median, share_in_disc

COLOR_RADIUS = 2.0  # of the medians over Rg and By, in units of SCALE
MAX_TEXTURE = 5.0
CLEAN_UP_RADIUS = 24.0  # in units of SCALE
CLEAN_UP_SHARE = 1 / 8
# Hue in degrees and saturation of the two kinds of skin, bounds excluded: as it gets yellower, it gets more saturated.
REDDISH = ((110.0, 150.0), (20.0, 60.0))
YELLOWISH = ((130.0, 170.0), (30.0, 130.0))
RELAXED = ((110.0, 180.0), (0.0, 130.0))  # bounds included
STAGES = ("filter", "tight", "relaxed")

# Planes of skin lie well inside: red minus green above 0, blue minus yellow below it, both no further than 130.
_LOWEST_RG, _LOWEST_BY = -128.0, -192.0


@dataclass(frozen=True)
class Colors:
    """Planes (H, W) of the smoothed colours: `rg`, `by`, `hue_deg` and `saturation`."""

    rg: FloatPlane
    by: FloatPlane
    hue_deg: FloatPlane
    saturation: FloatPlane


@dataclass(frozen=True)
class FilterSteps:
    """Everything that the filter finds on its way, planes and masks (H, W); `scale` is SCALE.

    `tight`: colour and texture of skin. `cleaned`: near enough to such pixels. `relaxed`: roughly the colour of skin.
    `skin`: the answer, what is cleaned and relaxed. `texture` is None where the filter does without it.
    """

    scale: float
    planes: LogOpponent
    colors: Colors
    texture: FloatPlane | None
    tight: Mask
    cleaned: Mask
    relaxed: Mask
    skin: Mask


def smoothed_colors(planes: LogOpponent, scale: float, mode: Mode) -> Colors:
    """Hue and saturation after a median of radius 2 SCALE over Rg and By."""
    rg = median(planes.rg, COLOR_RADIUS * scale, mode, low=_LOWEST_RG)
    by = median(planes.by, COLOR_RADIUS * scale, mode, low=_LOWEST_BY)
    return Colors(rg=rg, by=by, hue_deg=color.hue_deg(rg, by), saturation=color.saturation(rg, by))


def tight_colors(colors: Colors) -> Mask:
    """Pixels (H, W) whose colour is strictly inside one of the two boxes of the tight stage."""
    hue, sat = colors.hue_deg, colors.saturation
    mask = np.zeros(hue.shape, np.bool_)
    for (hue_low, hue_high), (sat_low, sat_high) in (REDDISH, YELLOWISH):
        mask |= (hue > hue_low) & (hue < hue_high) & (sat > sat_low) & (sat < sat_high)
    return mask


def relaxed_colors(colors: Colors) -> Mask:
    """Pixels (H, W) whose colour is inside the box of the last stage."""
    (hue_low, hue_high), (_, sat_high) = RELAXED
    mask: Mask = (colors.hue_deg >= hue_low) & (colors.hue_deg <= hue_high) & (colors.saturation <= sat_high)
    return mask


def cleaned_up(tight: Mask, scale: float) -> Mask:
    """Pixels (H, W) with an eighth or more of the disc of radius 24 SCALE around them marked."""
    cleaned: Mask = share_in_disc(tight, CLEAN_UP_RADIUS * scale) >= CLEAN_UP_SHARE
    return cleaned


class FleckFilter(PixelModel):
    """The filter of 1996 as a pixel model that answers with 0 and 1; there is nothing to fit.

    `mode`: "exact" or "fast" medians, see `figleaf.skin.texture`. `stage`: whose mask is the answer, that of the whole
    "filter", of the "tight" stage or of the "relaxed" colours alone. `texture`, `zero_offset`, `noise`, `clean_up` and
    `relaxed` leave out a part when False. `random_state` seeds the noise.
    """

    def __init__(
        self,
        mode: str = "exact",
        stage: str = "filter",
        texture: bool = True,
        zero_offset: bool = True,
        noise: bool = True,
        clean_up: bool = True,
        relaxed: bool = True,
        threshold: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.mode = mode
        self.stage = stage
        self.texture = texture
        self.zero_offset = zero_offset
        self.noise = noise
        self.clean_up = clean_up
        self.relaxed = relaxed
        self.threshold = threshold
        self.random_state = random_state

    def steps(self, rgb_u8: RgbU8) -> FilterSteps:
        """Everything found on the way in a picture (H, W, 3)."""
        mode = checked_mode(self.mode)
        height, width, _ = checked_picture(rgb_u8).shape
        scale = color.scale(height, width)
        planes = color.log_opponent(
            rgb_u8, zero_offset=self.zero_offset, noise=self.noise, random_state=self.random_state
        )
        colors = smoothed_colors(planes, scale, mode)
        texture = amplitude(planes.intensity, scale, mode) if self.texture else None
        tight = tight_colors(colors)
        if texture is not None:
            tight &= texture <= MAX_TEXTURE
        cleaned = cleaned_up(tight, scale) if self.clean_up else tight
        relaxed = relaxed_colors(colors)
        return FilterSteps(
            scale=scale,
            planes=planes,
            colors=colors,
            texture=texture,
            tight=tight,
            cleaned=cleaned,
            relaxed=relaxed,
            skin=cleaned & relaxed if self.relaxed else cleaned,
        )

    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """0 or 1 for every pixel (H, W): the mask of the chosen stage."""
        if self.stage not in STAGES:
            raise FigleafError(f"stage={self.stage}: expected {', '.join(STAGES)}")
        steps = self.steps(rgb_u8)
        mask = {"filter": steps.skin, "tight": steps.tight, "relaxed": steps.relaxed}[self.stage]
        return mask.astype(np.float32)
