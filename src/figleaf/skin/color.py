"""The colour spaces of the classical skin detectors, the log-opponent one of Fleck, Forsyth & Bregler first.

Fleck & Forsyth, "Naked People Skin Filter" (mfleck.cs.illinois.edu/naked-skin.html): logarithms turn the strength of
the light into a constant added to all planes, so that differences of planes, hue and texture do not depend on it.
YCbCr is ITU-R BT.601, in full range (as in JPEG) or studio range (as in video, where Chai & Ngan's limits come from).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from figleaf.skin.pictures import RgbU8, checked_picture

FloatPlane = NDArray[np.float64]

LOG_GAIN = 105.0  # brings the logarithms of 1 to 256 to 0 to 253
ZERO_MARGIN_PX = 10  # the edge of a picture, where frames and scanners leave values of their own
SCALE_UNIT_PX = 320  # height + width of the picture for which the filter's radii are given


@dataclass(frozen=True)
class LogOpponent:
    """Planes (H, W) of the log-opponent space: `intensity` 0 to 253, `rg` (red-green) and `by` (blue-yellow)."""

    intensity: FloatPlane
    rg: FloatPlane
    by: FloatPlane


def scale(height: int, width: int) -> float:
    """SCALE, the size of a picture in units in which height + width is 320 px; every radius is multiplied with it."""
    return (height + width) / SCALE_UNIT_PX


def zero_response(rgb_u8: RgbU8) -> int:
    """What the camera answers to darkness: the smallest value of any plane, 10 px of edge left out.

    Nothing is left of a picture of 20 px or less: 0, as nothing is known about its camera.
    """
    margin = ZERO_MARGIN_PX
    inside = checked_picture(rgb_u8)[margin:-margin, margin:-margin]
    return int(inside.min()) if inside.size else 0


def noise_field(height: int, width: int, random_state: int) -> NDArray[np.float64]:
    """Uniform noise in [0, 1) for every value of a picture, (H, W, 3).

    A function of seed and size alone: what is done to a picture is not blurred by other noise before and after.
    """
    return np.random.default_rng(random_state).random((height, width, 3))


def log_response(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """L(x) = 105 log10(x + 1) for x >= 0; the 1 keeps the colours of very dark regions from being blown up."""
    logs: NDArray[np.float64] = LOG_GAIN * np.log10(values + 1.0)
    return logs


def log_opponent(rgb_u8: RgbU8, *, zero_offset: bool = True, noise: bool = True, random_state: int = 0) -> LogOpponent:
    """The planes I = L(G), Rg = L(R) - L(G), By = L(B) - (L(G) + L(R)) / 2 of a picture (H, W, 3).

    Green is the intensity because the other planes of some cameras have a poor resolution. `zero_offset` first takes
    the camera's zero response from all values, `noise` adds a random part of a unit, against bands in dark areas.
    """
    height, width, _ = checked_picture(rgb_u8).shape
    values = rgb_u8.astype(np.float64)
    if zero_offset:
        values = np.maximum(values - zero_response(rgb_u8), 0.0)  # below it only at the edge
    if noise:
        values = values + noise_field(height, width, random_state)
    red, green, blue = np.moveaxis(log_response(values), -1, 0)
    return LogOpponent(intensity=green, rg=red - green, by=blue - (green + red) / 2)


def hue_deg(rg: FloatPlane, by: FloatPlane) -> FloatPlane:
    """Direction of a colour in the log-opponent plane, -180 to 180 degrees; 90 is red, 180 yellow, grey is 0."""
    degrees: FloatPlane = np.degrees(np.arctan2(rg, by))
    return degrees


def saturation(rg: FloatPlane, by: FloatPlane) -> FloatPlane:
    """Distance of a colour from grey in the log-opponent plane."""
    distance: FloatPlane = np.sqrt(rg**2 + by**2)
    return distance


class YcbcrRange(StrEnum):
    """`FULL`: all of 0 to 255 (JPEG). `STUDIO`: luma 16 to 235, chroma 16 to 240 (video)."""

    FULL = "full"
    STUDIO = "studio"


def ycbcr(rgb: NDArray[np.float64], value_range: YcbcrRange = YcbcrRange.FULL) -> NDArray[np.float64]:
    """RGB (..., 3) from 0 to 255 as BT.601 Y, Cb, Cr (..., 3), not rounded; grey has Cb = Cr = 128."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - luma) / 1.772, (red - luma) / 1.402
    if value_range is YcbcrRange.STUDIO:
        luma, cb, cr = 16 + luma * (219 / 255), cb * (224 / 255), cr * (224 / 255)
    return np.stack([luma, 128 + cb, 128 + cr], axis=-1)


def hsv(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB (..., 3) from 0 to 255 as hue in degrees [0, 360), saturation and value in [0, 1]; hue of grey is 0."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    largest = rgb.max(axis=-1)
    spread = largest - rgb.min(axis=-1)
    divisor = np.where(spread > 0, spread, 1.0)
    sixths = np.where(
        largest == red,
        (green - blue) / divisor % 6,
        np.where(largest == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = np.where(spread > 0, 60 * sixths % 360, 0.0)
    chroma = spread / np.where(largest > 0, largest, 1.0)
    return np.stack([hue, chroma, largest / 255], axis=-1)
