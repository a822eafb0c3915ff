"""Creases: dark lines in skin, along which one part of a body lies before another.

A mask has no edge between a bare arm and the chest behind it, but the picture has one: a round limb darkens towards its
outline. There the logarithm of the lightness, which a change of light shifts but does not bend, has a valley. How deep
it is, is the larger of its second derivatives at a scale (Lindeberg, IJCV 30(2) 1998, normalised by the scale squared).
Everything happens at the size at which medial axes are found.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.medial_axes import WORKING_SIDE, working_share, working_size
from figleaf.skin.pictures import Mask, RgbU8

Plane = NDArray[np.float32]

FINE_PX, COARSE_PX = 1.5, 2.5  # scales of valleys
_DARKEST = 4.0  # of L* from 0 to 100, added before the logarithm: below it there is noise


@dataclass(frozen=True, eq=False)
class WorkingPicture:
    """A picture (H, W, 3) and its mask (H, W) at the working size, `share` (h, w) of skin and CIELAB `lab` (h, w, 3).

    `to_picture` (2,) are pixels of the picture for one of the working size, along x and y.
    """

    share: Plane
    lab: Plane
    to_picture: NDArray[np.float64]

    @classmethod
    def of(cls, rgb_u8: RgbU8, mask: Mask) -> "WorkingPicture":
        """Resized with the aspect kept, the longer side to `WORKING_SIDE`."""
        size, share = working_size(mask.shape), working_share(mask)
        filter_ = cv2.INTER_CUBIC if max(mask.shape) < WORKING_SIDE else cv2.INTER_AREA
        rgb = np.ascontiguousarray(rgb_u8, np.float32) / 255
        lab = cv2.cvtColor(cv2.resize(rgb, size, interpolation=filter_).clip(0, 1), cv2.COLOR_RGB2LAB)
        height, width = mask.shape
        return cls(share, lab, np.array([width / size[0], height / size[1]]))

    @cached_property
    def creases(self) -> tuple[Plane, Plane]:
        """`crease_strength` at the fine and at the coarse scale."""
        fine, coarse = (crease_strength(self.lab[..., 0], sigma) for sigma in (FINE_PX, COARSE_PX))
        return fine, coarse

    def cut(self, scale: int, least: float) -> Mask:
        """The mask (h, w) without those pixels inside it at which crease number `scale` is at least so strong."""
        mask = self.share >= 0.5
        inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
        return np.asarray(mask & ~(inside & (self.creases[scale] > least)))


def crease_strength(lightness: Plane, sigma_px: float) -> Plane:
    """Depth of the valleys of log lightness, L* from 0 to 100 (H, W); negative on ridges, 0 where it is even."""
    smooth = cv2.GaussianBlur(np.log(lightness + _DARKEST), (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((2, 0), (0, 2), (1, 1)))
    larger = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return np.asarray(larger * sigma_px**2, np.float32)
