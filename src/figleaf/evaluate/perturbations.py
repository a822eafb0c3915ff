"""What happens to pictures on their way, as functions of uint8 RGB (H, W, 3): recompressed, resized, relit, framed.

None of them changes what a picture shows. A score that moves under them says something of the system, not of the
picture. All are deterministic.
"""

import io
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figleaf.data.decode import resize

RgbU8 = NDArray[np.uint8]
Perturbation = Callable[[RgbU8], RgbU8]


def jpeg(quality: int) -> Perturbation:
    """Compressed as JPEG of `quality` (1 to 95, Pillow's scale; chroma at half the resolution) and decoded again."""

    def compressed(rgb_u8: RgbU8) -> RgbU8:
        buffer = io.BytesIO()
        Image.fromarray(rgb_u8).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        return np.asarray(Image.open(buffer).convert("RGB"))

    return compressed


def rescaled(factor: float, *, nearest: bool = False) -> Perturbation:
    """Made smaller (or larger) by `factor` and left so: with antialiasing, or, as careless code does it, without."""

    def smaller(rgb_u8: RgbU8) -> RgbU8:
        height, width = (max(1, round(side * factor)) for side in rgb_u8.shape[:2])
        if nearest:
            return np.asarray(cv2.resize(rgb_u8, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        return resize(rgb_u8, (height, width))

    return smaller


def brightness(factor: float) -> Perturbation:
    """Every value times `factor`, rounded and clipped: exposure on gamma-encoded values, as editors do it."""
    return lambda rgb_u8: _scaled(rgb_u8, (factor, factor, factor))


def temperature(warmth: float) -> Perturbation:
    """Red times 1 + `warmth` and blue times 1 - `warmth`: the light of a lamp, or, below 0, of the sky."""
    return lambda rgb_u8: _scaled(rgb_u8, (1 + warmth, 1.0, 1 - warmth))


def blur(share: float) -> Perturbation:
    """Gaussian blur; sigma is `share` of the shorter side."""

    def blurred(rgb_u8: RgbU8) -> RgbU8:
        sigma = max(share * min(rgb_u8.shape[:2]), 1e-3)
        return np.asarray(cv2.GaussianBlur(rgb_u8, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.uint8)

    return blurred


def border(share: float, grey: int = 0) -> Perturbation:
    """A frame of one `grey` around the picture, `share` of each side wide."""

    def framed(rgb_u8: RgbU8) -> RgbU8:
        high, wide = (round(share * side) for side in rgb_u8.shape[:2])
        return np.pad(rgb_u8, ((high, high), (wide, wide), (0, 0)), constant_values=grey)

    return framed


def mirror(rgb_u8: RgbU8) -> RgbU8:
    """Left and right exchanged."""
    return np.ascontiguousarray(rgb_u8[:, ::-1])


# Under the names that stand in the `variant` column of predictions and in the keys of metrics.
PERTURBATIONS: Mapping[str, Perturbation] = {
    "jpeg_50": jpeg(50),
    "jpeg_20": jpeg(20),
    "half_size": rescaled(0.5),
    "half_size_nearest": rescaled(0.5, nearest=True),
    "darker": brightness(0.7),
    "brighter": brightness(1.3),
    "warm": temperature(0.15),
    "cool": temperature(-0.15),
    "blur": blur(0.015),
    "black_border": border(0.1),
    "white_border": border(0.1, 255),
    "mirror": mirror,
}


def _scaled(rgb_u8: RgbU8, factors: tuple[float, float, float]) -> RgbU8:
    found: RgbU8 = np.clip(np.rint(rgb_u8 * np.array(factors)), 0, 255).astype(np.uint8)
    return found
