"""Guided filtering: a map smoothed within the outlines of a picture, not across them.

He, Sun & Tang, "Guided Image Filtering" (ECCV 2010; TPAMI 35(6) 2013), equations 19 to 21, for a colour picture.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.pictures import RgbU8

Plane = NDArray[np.float32]


def guided_filter(rgb_u8: RgbU8, plane: Plane, *, radius_px: int, epsilon: float) -> Plane:
    """`plane` (H, W) as a linear function of the colours of `rgb_u8` (H, W, 3) in every square of `radius_px`.

    Colours count from 0 to 1; where their variance is well below `epsilon` > 0, the plane is just smoothed. The result
    may leave the range of the plane a little. A radius of 0 changes nothing.
    """
    if radius_px == 0:
        return plane
    guide = rgb_u8.astype(np.float32) / np.float32(255)
    mean, plane_mean = _box_mean(guide, radius_px), _box_mean(plane, radius_px)
    covariance: Plane = _box_mean(guide * plane[..., None], radius_px) - mean * plane_mean[..., None]
    red, green, blue = cv2.split(guide)
    products = np.dstack([red * red, red * green, red * blue, green * green, green * blue, blue * blue])
    rr, rg, rb, gg, gb, bb = cv2.split(_box_mean(products, radius_px))
    mr, mg, mb = cv2.split(mean)
    rr, gg, bb = rr - mr * mr + epsilon, gg - mg * mg + epsilon, bb - mb * mb + epsilon
    rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
    slope = _solve_symmetric(rr, rg, rb, gg, gb, bb, covariance)
    offset = plane_mean - (slope * mean).sum(axis=-1)
    found: Plane = (_box_mean(slope, radius_px) * guide).sum(axis=-1) + _box_mean(offset, radius_px)
    return found


def _solve_symmetric(
    rr: Plane, rg: Plane, rb: Plane, gg: Plane, gb: Plane, bb: Plane, right_side: Plane
) -> NDArray[np.float32]:
    """Cramer's rule for a symmetric 3 x 3 matrix at every pixel: ten times as fast as a solver called on each."""
    minor_rr, minor_rg, minor_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    minor_gg, minor_gb, minor_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * minor_rr + rg * minor_rg + rb * minor_rb
    r, g, b = cv2.split(right_side)
    rows = [
        minor_rr * r + minor_rg * g + minor_rb * b,
        minor_rg * r + minor_gg * g + minor_gb * b,
        minor_rb * r + minor_gb * g + minor_bb * b,
    ]
    solved: NDArray[np.float32] = np.dstack(rows) / determinant[..., None]
    return solved


def _box_mean(plane: Plane, radius_px: int) -> Plane:
    side = 2 * radius_px + 1
    mean: Plane = cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT)
    return mean
