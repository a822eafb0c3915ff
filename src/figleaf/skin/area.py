"""The oldest decision: a picture is unsafe when enough of its area is skin."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from figleaf.errors import FigleafError
from figleaf.skin.image_system import MaskRule, beyond
from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.pixel_model import PixelModel

FLECK_AREA = 0.30  # Fleck, Forsyth & Bregler: a picture passes the filter with 30 % of its area marked


class AreaRule(MaskRule):
    """Unsafe when the share of a picture's pixels that a pixel model calls skin reaches `area`, in (0, 1).

    `AreaRule(FleckFilter())` is the decision of 1996. The probability is a function of the share alone and grows with
    it.
    """

    def __init__(self, pixel_model: PixelModel, area: float = FLECK_AREA) -> None:
        self.pixel_model = pixel_model
        self.area = area

    def skin_share(self, rgb_u8: RgbU8) -> float:
        """Part of the picture (H, W, 3) that is skin, in [0, 1]."""
        return float(self.pixel_model_.skin_mask(rgb_u8).mean())

    def check(self) -> None:
        """Raises `FigleafError` for an area outside its range."""
        if not 0 < self.area < 1:
            raise FigleafError(f"area={self.area}: expected 0 < x < 1")

    def margin(self, rgb_u8: RgbU8) -> float:
        """How far the share of skin is beyond `area`."""
        self.check()
        return beyond(self.skin_share(rgb_u8), self.area)


@dataclass(frozen=True)
class Agreement:
    """How far two ways to find skin agree: parts of the `decisions` on the area and of the `pixels` that are the same.

    `iou` is the mean over pictures of intersection over union of the masks; 1 where both are empty.
    """

    decisions: float
    pixels: float
    iou: float


def agreement(one: Iterable[Mask], other: Iterable[Mask], area: float = FLECK_AREA) -> Agreement:
    """Compare masks of the same pictures; for example of the filter in `exact` and in `fast` mode."""
    same_decision, same_pixels, iou = [], [], []
    for a, b in zip(one, other, strict=True):
        union = np.count_nonzero(a | b)
        same_decision.append((a.mean() >= area) == (b.mean() >= area))
        same_pixels.append(np.mean(a == b))
        iou.append(np.count_nonzero(a & b) / union if union else 1.0)
    return Agreement(*(float(np.mean(values)) for values in (same_decision, same_pixels, iou)))
