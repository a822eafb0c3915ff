"""AlexNet's PCA colour augmentation: one random shift along the principal axes of the training set's RGB values.

Krizhevsky, Sutskever & Hinton (2012), section 4.1. Two conventions for the size of the shift are in use; see `Scaling`.
It is drawn once for an image and is the same for all its pixels: a change of the light, not noise. (The operation that
albumentations calls FancyPCA takes the axes of the single image and maps its centred pixels linearly: nearly a no-op.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]

# Enough for three digits of the covariance; ImageNet's would otherwise take hours and gain nothing.
_PIXELS_FOR_A_FIT = 4_000_000


class Scaling(StrEnum):
    """What one standard deviation along an axis is multiplied with.

    `EIG01` is the paper's text, read on the [0, 1] scale where alone it makes sense: the eigenvalue, a variance.
    `STD` is the paper's own code (cuda-convnet2, convdata.py): the standard deviation, about twice as strong.
    """

    EIG01 = "eig01"
    STD = "std"


@dataclass(frozen=True)
class ColorBasis:
    """Principal axes of RGB values in [0, 1]: `axes` (3, 3) with one axis a column, `variances` (3,), largest first."""

    axes: FloatArray
    variances: FloatArray

    @classmethod
    def fit(cls, pixels: UInt8Array, seed: int = 0, rows: Sequence[int] | IntArray | None = None) -> Self:
        """Find the axes of the images `rows` (default: all) of `pixels` (N, H, W, 3), RGB; give the training split's.

        About four million pixels, drawn with `seed`, are looked at, image by image, so a memory map is never read as a
        whole. Raises ValueError when `rows` is empty.
        """
        chosen = np.arange(len(pixels)) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(chosen) == 0:
            raise ValueError("a colour basis needs at least one image")
        rng = np.random.default_rng(seed)
        per_image = max(1, _PIXELS_FOR_A_FIT // len(chosen))
        count, total, products = 0, np.zeros(3), np.zeros((3, 3))
        for row in chosen:
            levels = pixels[row].reshape(-1, 3)
            if len(levels) > per_image:
                levels = levels[rng.integers(0, len(levels), per_image)]
            # Sums of whole numbers below 2**53 are exact in float64: the result knows no summation order.
            x = levels.astype(np.float64)
            count, total, products = count + len(x), total + x.sum(axis=0), products + x.T @ x
        mean = total / count
        return cls.from_covariance((products / count - np.outer(mean, mean)) / 255.0**2)

    @classmethod
    def from_covariance(cls, covariance: FloatArray) -> Self:
        """Give the axes of a covariance (3, 3) of RGB values in [0, 1]."""
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
        # The sign of an axis means nothing; fixing it makes the stored basis the same on every LAPACK.
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
        return cls(axes * np.sign(largest), variances)

    def shift(self, rng: Generator, strength: float, scaling: Scaling) -> FloatArray:
        """Draw one image's shift (3,), in units of full scale, with a standard deviation of `strength` on each axis."""
        size = self.variances if scaling is Scaling.EIG01 else np.sqrt(self.variances)
        return self.axes @ (rng.normal(0.0, strength, 3) * size)

    def to_dict(self) -> dict[str, Any]:
        """Give plain lists: `axes` by rows (R, G, B), `variances`."""
        return {"axes": self.axes.tolist(), "variances": self.variances.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` gave."""
        return cls(np.asarray(values["axes"], np.float64), np.asarray(values["variances"], np.float64))


@dataclass(frozen=True)
class PcaColor:
    """The augmentation: shifts an image (H, W, 3), uint8 RGB, by one draw from `basis`."""

    basis: ColorBasis
    strength: float
    scaling: Scaling

    def __call__(self, rgb_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give the shifted image; at strength 0, an equal one."""
        return add_shift_u8(rgb_u8, self.basis.shift(rng, self.strength, self.scaling))


def add_shift_u8(rgb_u8: UInt8Array, shift: FloatArray) -> UInt8Array:
    """Add `shift` (3,), in units of full scale, to every pixel of (H, W, 3): rounded to whole levels, clipped to 0-255.

    A whole number added to whole numbers with saturation is one vector instruction: rounding the shift rather than the
    sum gives the same picture, several times faster than a look-up table or float arithmetic.
    """
    levels = np.clip(np.rint(shift * 255.0), -255.0, 255.0).tolist()
    # Signed constants would take OpenCV out of uint8; each channel is moved by one of the two calls only.
    up = [max(level, 0.0) for level in levels]
    down = [max(-level, 0.0) for level in levels]
    shifted = cv2.subtract(cv2.add(rgb_u8, (*up, 0.0)), (*down, 0.0))
    return np.asarray(shifted, dtype=np.uint8)
