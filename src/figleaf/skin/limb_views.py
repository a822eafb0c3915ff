"""A limb proposal as a picture of its own: turned upright, cropped, and compressed by the cosine transform.

Forsyth & Fleck verify what the geometry proposes by what it looks like. The crop is `LONG` lengths by `WIDE` widths, so
that both edges and what lies beside them are in it whatever the limb's size or direction; of each plane (the mask, and
L, a and b of CIELAB) the `WAVES` x `WAVES` slowest waves of its discrete cosine transform are kept (Ahmed, Natarajan &
Rao, IEEE Trans. Computers C-23, 1974), as a JPEG does.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8

Floats = NDArray[np.float64]

LONG, WIDE = 1.5, 4.0
CELLS = 16  # a side of a crop
WAVES = 4
PLANES = ("mask", "L", "a", "b")
SIZE = len(PLANES) * WAVES**2 + 3
_SAMPLES = 4  # a side of a cell, averaged: a crop is most often smaller than the part of the picture it shows
_LAB_UNIT = 100.0


def view_features(rgb_u8: RgbU8, mask: Mask, segments: Sequence[Segment]) -> Floats:
    """What each of N segments of a picture (H, W, 3) with a mask (H, W) looks like, (N, SIZE).

    The waves of `PLANES` in turn, and then the logarithms of elongation, of width against the root of the picture's
    area, and of taper. Either end of a ribbon may be its first, and its mirror image is as good a limb: of waves that
    would change their sign only the size is kept.
    """
    if not segments:
        return np.zeros((0, SIZE))
    lab = cv2.cvtColor(np.ascontiguousarray(rgb_u8, np.float32) / 255, cv2.COLOR_RGB2LAB) / _LAB_UNIT
    planes = np.concatenate([mask[..., None].astype(np.float32), lab], axis=2)
    root_area = float(np.sqrt(mask.size))
    return np.stack([np.concatenate([crop_waves(planes, one), _proportions(one, root_area)]) for one in segments])


def view(planes: NDArray[np.float32], segment: Segment) -> NDArray[np.float32]:
    """The crop (CELLS, CELLS, C) around a segment of planes (H, W, C): columns of it run along the axis."""
    start, end = np.array(segment.start), np.array(segment.end)
    along = (end - start) / max(segment.length, 1e-9)
    across = np.array([-along[1], along[0]])
    count = CELLS * _SAMPLES
    steps = (np.arange(count) + 0.5) / count - 0.5
    rows = steps[:, None, None] * (LONG * segment.length) * along
    columns = steps[None, :, None] * (WIDE * segment.width) * across
    at = ((start + end) / 2 + rows + columns - 0.5).astype(np.float32)  # a pixel's centre is at a half
    crop = cv2.remap(planes, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cells: NDArray[np.float32] = crop.reshape(CELLS, _SAMPLES, CELLS, _SAMPLES, -1).mean(axis=(1, 3))
    return cells


def crop_waves(planes: NDArray[np.float32], segment: Segment, count: int = WAVES) -> Floats:
    """The `count` squared slowest waves of the crop around a segment of planes (H, W, C), (C count^2,).

    Of waves that would change their sign from the other end or in the mirror only the size is kept.
    """
    waves = dctn(view(planes, segment).astype(np.float64), axes=(0, 1), norm="ortho")[:count, :count] / CELLS
    waves[1::2] = np.abs(waves[1::2])
    waves[:, 1::2] = np.abs(waves[:, 1::2])
    return np.moveaxis(waves, 2, 0).ravel()


def _proportions(segment: Segment, root_area: float) -> Floats:
    least, most = sorted(max(radius, 1e-3) for radius in segment.radii)
    return np.log([max(segment.elongation, 1e-3), max(segment.width, 1e-3) / root_area, most / least])
