"""What the skin lab takes for a picture: uint8 RGB, (H, W, 3), at least one pixel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError

RgbU8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Pictures = NDArray[np.uint8] | Sequence[RgbU8]  # (N, H, W, 3), or a list of (H, W, 3)


def checked_mask(mask: Mask, rgb_u8: RgbU8) -> Mask:
    """The mask as bool, any number but 0 is skin; FigleafError unless it is as large as its picture (H, W, 3)."""
    found = np.asarray(mask)
    if found.shape != rgb_u8.shape[:2]:
        raise FigleafError(f"mask of shape {found.shape}: expected {rgb_u8.shape[:2]}, as its picture")
    return found.astype(np.bool_)


def checked_picture(rgb_u8: RgbU8) -> RgbU8:
    """The same picture; FigleafError unless it is uint8 (H, W, 3) with H, W >= 1."""
    if not isinstance(rgb_u8, np.ndarray) or rgb_u8.dtype != np.uint8:
        found = getattr(rgb_u8, "dtype", type(rgb_u8).__name__)
        raise FigleafError(f"picture of {found}: expected uint8 RGB from 0 to 255; convert with .astype(numpy.uint8)")
    if rgb_u8.ndim != 3 or rgb_u8.shape[2] != 3 or rgb_u8.size == 0:
        raise FigleafError(f"picture of shape {rgb_u8.shape}: expected (H, W, 3) with at least one pixel")
    return rgb_u8
