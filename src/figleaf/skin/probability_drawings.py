"""A map of skin probabilities drawn over its picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from figleaf.skin.pictures import RgbU8, checked_picture


def draw_probability(rgb_u8: RgbU8, probability: NDArray[np.floating]) -> RgbU8:
    """The picture (H, W, 3) in grey under its map (H, W) in [0, 1]: dark blue at 0 to yellow at 1 (cividis).

    Cividis (Nunez, Anderton & Renslow 2018) reads the same with and without colour vision deficiency.
    """
    levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)[..., ::-1].astype(np.float64)  # from BGR
    grey = checked_picture(rgb_u8).astype(np.float64).mean(axis=2, keepdims=True)
    drawn: RgbU8 = np.rint(0.35 * grey + 0.65 * colors).astype(np.uint8)
    return drawn
