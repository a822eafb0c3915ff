"""Rules from the literature that call a colour skin or not, with their published constants.

Kovac, Peer & Solina (2003); Chai & Ngan (1999); the limits in HSV and normalised rgb that circulate since the surveys
of the early 2000s. As published: where copies in circulation deviate, the comment beside the constant says so.
"""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.skin.color import YcbcrRange, hsv, ycbcr
from figleaf.skin.pixel_model import ColorRule

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class YesNoRule(ColorRule):
    """A rule that answers with probabilities 0 and 1."""

    @abstractmethod
    def is_skin(self, rgb: FloatArray) -> BoolArray:
        """Which of the colours (N, 3) from 0 to 255 are skin, (N,)."""

    def color_probability(self, rgb: FloatArray) -> FloatArray:
        """0 or 1 for each of the colours (N, 3)."""
        return self.is_skin(rgb).astype(np.float64)


class KovacRule(YesNoRule):
    """Kovac, Peer & Solina, "Human skin colour clustering for face detection" (EUROCON 2003), on RGB.

    `light`: "daylight" for uniform daylight, "flash" for flashlight or lateral daylight, "either" for one or the other.
    """

    def __init__(self, light: str = "daylight") -> None:
        self.light = light

    def is_skin(self, rgb: FloatArray) -> BoolArray:
        """The rule for this light."""
        if self.light not in ("daylight", "flash", "either"):
            raise FigleafError(f"light={self.light}: expected daylight, flash or either")
        red, green, blue = rgb.T
        skin = np.zeros(len(rgb), np.bool_)
        if self.light != "flash":
            # Copies in circulation have R > 45, a slip of the pen, and a further G < 100.
            bright = (red > 95) & (green > 40) & (blue > 20)
            colored = (rgb.max(axis=1) - rgb.min(axis=1) > 15) & (np.abs(red - green) > 15)
            skin |= bright & colored & (red > green) & (red > blue)
        if self.light != "daylight":
            bright = (red > 220) & (green > 210) & (blue > 170)
            skin |= bright & (np.abs(red - green) <= 15) & (red > blue) & (green > blue)
        return skin


class ChaiNganRule(YesNoRule):
    """Chai & Ngan, "Face segmentation using skin-color map in videophone applications" (1999): a box in Cb and Cr.

    `value_range` of BT.601: "studio" as in the video that the limits come from, or "full" as in JPEG and many copies.
    """

    CB = (77.0, 127.0)
    CR = (133.0, 173.0)

    def __init__(self, value_range: str = "studio") -> None:
        self.value_range = value_range

    def is_skin(self, rgb: FloatArray) -> BoolArray:
        """77 <= Cb <= 127 and 133 <= Cr <= 173."""
        if self.value_range not in set(YcbcrRange):
            raise FigleafError(f"value_range={self.value_range}: expected {' or '.join(YcbcrRange)}")
        # rounded so that 173 is not 173.00000000000003
        _, cb, cr = ycbcr(rgb, YcbcrRange(self.value_range)).round(6).T
        inside: BoolArray = (cb >= self.CB[0]) & (cb <= self.CB[1]) & (cr >= self.CR[0]) & (cr <= self.CR[1])
        return inside


class HsvRule(YesNoRule):
    """The box in hue and saturation that is commonly used: 0 to 50 degrees, 0.23 to 0.68. (nude.js: below 35.)"""

    def is_skin(self, rgb: FloatArray) -> BoolArray:
        """0 <= H <= 50 and 0.23 <= S <= 0.68."""
        hue, chroma, _ = hsv(rgb).T
        inside: BoolArray = (hue <= 50) & (chroma >= 0.23) & (chroma <= 0.68)
        return inside


class NormalisedRgbRule(YesNoRule):
    """The rule on chromaticities r, g, b = R, G, B / (R + G + B): r/g > 1.185, r b > 0.107 and r g > 0.112."""

    def is_skin(self, rgb: FloatArray) -> BoolArray:
        """The rule, multiplied out: black is not skin, and nothing is divided by zero."""
        red, green, blue = rgb.T
        total = rgb.sum(axis=1)
        inside: BoolArray = (red > 1.185 * green) & (red * blue > 0.107 * total**2) & (red * green > 0.112 * total**2)
        return inside
