"""How rough a picture is, place by place: the texture amplitude of Fleck, Forsyth & Bregler, made of two medians.

Medians are taken in two ways. `exact` looks at discs, cut off at the picture's edge, in planes kept to a quarter of a
unit (the authors' planes run to 254: whole units). `fast` looks at squares of the same area, the picture's edge
repeated, in planes of whole units: OpenCV's 8-bit median, which takes the same time whatever the radius.

A median here is a value of the plane: of an even number of values it is the upper one of the two in the middle. So
medians of rounded values are rounded medians, and nothing is lost beyond the rounding of the planes themselves.
"""

import math
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import rank

from figleaf.errors import FigleafError
from figleaf.skin.color import FloatPlane
from figleaf.skin.pictures import Mask

SMOOTHING_RADIUS = 4.0  # of the intensity, in units of SCALE
AMPLITUDE_RADIUS = 6.0  # of the deviations from it
MAX_AMPLITUDE = 63.0  # more is cut off: the filter asks whether it is 5 or less
_MAX_FAST_RADIUS_PX = 144  # its square has 255 px a side: OpenCV counts a window in 16 bits


class Mode(StrEnum):
    """How medians are taken: `EXACT` in discs and quarters of a unit, `FAST` in squares and whole units."""

    EXACT = "exact"
    FAST = "fast"

    @property
    def step(self) -> float:
        """What values are rounded to."""
        return 0.25 if self is Mode.EXACT else 1.0


def checked_mode(mode: str) -> Mode:
    """The mode of this name; FigleafError for any other."""
    if mode not in set(Mode):
        raise FigleafError(f"mode={mode}: expected {' or '.join(Mode)}")
    return Mode(mode)


def disc(radius_px: float) -> NDArray[np.uint8]:
    """All offsets no further than `radius_px` >= 0 from the middle, as 1 in an odd square (2r + 1, 2r + 1) of 0."""
    reach = int(radius_px)
    squares = np.arange(-reach, reach + 1) ** 2
    inside: NDArray[np.bool_] = squares[:, None] + squares[None, :] <= radius_px * radius_px
    return inside.astype(np.uint8)


def window(radius_px: float, height: int, width: int) -> NDArray[np.uint8]:
    """The disc without the rows and columns that lie outside a picture of this size from wherever one looks."""
    shape = disc(radius_px)
    rows, columns = min(len(shape) // 2, height - 1), min(len(shape) // 2, width - 1)
    middle = len(shape) // 2
    return shape[middle - rows : middle + rows + 1, middle - columns : middle + columns + 1]


def rounded(plane: FloatPlane, mode: Mode) -> FloatPlane:
    """The plane to a quarter of a unit, or to a whole one: what the medians of this mode see."""
    return np.rint(plane / mode.step) * mode.step


def median(plane: FloatPlane, radius_px: float, mode: Mode, *, low: float) -> FloatPlane:
    """Median of every pixel's surroundings in a plane (H, W), in the mode's steps; `radius_px` >= 0.

    Values are cut off at `low` below and 255 above it.
    """
    levels = np.clip(np.rint((plane - low) / mode.step), 0, round(255 / mode.step))
    if mode is Mode.FAST:
        found = _median_of_squares(levels.astype(np.uint8), radius_px)
    else:
        disc = window(radius_px, *plane.shape)
        found = rank.median(levels.astype(np.uint16), disc)  # type: ignore[no-untyped-call]
    return low + mode.step * found.astype(np.float64)


def _median_of_squares(levels: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Median of squares as large as the discs; of every few of their pixels where they hold more than OpenCV counts."""
    stride = math.ceil(radius_px / _MAX_FAST_RADIUS_PX) or 1
    reach = round((math.sqrt(math.pi) * radius_px / stride - 1) / 2) if radius_px >= 1 else 0
    found = cv2.medianBlur(np.ascontiguousarray(levels[::stride, ::stride]), 2 * reach + 1)
    full: NDArray[np.uint8] = found.repeat(stride, axis=0).repeat(stride, axis=1)
    return full[: levels.shape[0], : levels.shape[1]]


def amplitude(intensity: FloatPlane, scale: float, mode: Mode) -> FloatPlane:
    """Texture amplitude (H, W), 0 to 63: the median of how far the intensity lies from its own median.

    med_{6 SCALE}(|I - med_{4 SCALE}(I)|) in units of the log intensity, so independent of the light. `scale` is SCALE.
    """
    known = rounded(intensity, mode)
    deviation = np.abs(known - median(known, SMOOTHING_RADIUS * scale, mode, low=0.0))
    return median(np.minimum(deviation, MAX_AMPLITUDE), AMPLITUDE_RADIUS * scale, mode, low=0.0)


def share_in_disc(mask: Mask, radius_px: float) -> FloatPlane:
    """Part of the disc around each pixel that is marked, (H, W) in [0, 1]. At the edge, of the disc in the picture."""
    offsets = window(radius_px, *mask.shape).astype(np.float32)

    def counted(marked: NDArray[np.float32]) -> FloatPlane:
        sums = cv2.filter2D(marked, cv2.CV_32F, offsets, borderType=cv2.BORDER_CONSTANT)
        counts: FloatPlane = np.rint(sums).astype(
            np.float64
        )  # a Fourier transform leaves whole numbers not quite whole
        return counts

    return counted(mask.astype(np.float32)) / counted(np.ones(mask.shape, np.float32))
