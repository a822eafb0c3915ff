"""Crop schemes: which boxes of a picture a classifier of whole pictures is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import ndimage

from figleaf.errors import FigleafError
from figleaf.skin.boxes import Boxes, distinct, whole, widened, windows
from figleaf.skin.pictures import RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel, RulePixels
from figleaf.skin.pixel_rules import KovacRule
from figleaf.skin.proposals import proposals

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


class CropScheme(Protocol):
    """Where to look in a picture."""

    def boxes(self, rgb_u8: RgbU8) -> Boxes:
        """The boxes (B, 4) of a picture (H, W, 3), B >= 1, the whole picture first."""


@dataclass(frozen=True)
class SlidingWindows:
    """The whole picture, and windows of each of `shares` of its sides."""

    shares: tuple[float, ...] = (0.75, 0.5)
    overlap: float = 0.5

    def boxes(self, rgb_u8: RgbU8) -> Boxes:
        """See `CropScheme`."""
        height, width = checked_picture(rgb_u8).shape[:2]
        found = [windows(height, width, share, self.overlap) for share in self.shares]
        return distinct(np.concatenate([whole(height, width), *found]))


@dataclass(frozen=True)
class RegionProposals:
    """The whole picture, and what `figleaf.skin.proposals` finds in it."""

    most: int = 20
    least_area: float = 0.04

    def boxes(self, rgb_u8: RgbU8) -> Boxes:
        """See `CropScheme`."""
        height, width = checked_picture(rgb_u8).shape[:2]
        found = proposals(rgb_u8, self.most, self.least_area)
        return distinct(np.concatenate([whole(height, width), found]))


@dataclass(frozen=True)
class SkinRegions:
    """The whole picture, and a box around each connected region of skin, the largest first."""

    pixel_model: PixelModel = field(default_factory=lambda: RulePixels(KovacRule()))
    most: int = 10
    least_area: float = 0.01  # of the picture, in skin
    margin: float = 0.15

    def boxes(self, rgb_u8: RgbU8) -> Boxes:
        """See `CropScheme`."""
        mask = self.pixel_model.skin_mask(checked_picture(rgb_u8))
        labels, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        order = np.argsort(-sizes, kind="stable")[: self.most]
        slices = ndimage.find_objects(labels)
        found = [
            [slices[i][0].start, slices[i][1].start, slices[i][0].stop, slices[i][1].stop]
            for i in order
            if sizes[i] >= self.least_area * mask.size
        ]
        around = widened(np.array(found, np.int64).reshape(-1, 4), mask.shape, self.margin)
        return distinct(np.concatenate([whole(*mask.shape), around]))


SCHEMES: Mapping[str, Callable[[], CropScheme]] = {
    "windows": SlidingWindows,
    "proposals": RegionProposals,
    "skin_regions": SkinRegions,
}


def scheme_called(name: str) -> CropScheme:
    """The scheme of that name with its defaults. Raises `FigleafError` that lists the names there are."""
    if name not in SCHEMES:
        raise FigleafError(f"scheme={name}: expected one of {', '.join(SCHEMES)}")
    return SCHEMES[name]()
