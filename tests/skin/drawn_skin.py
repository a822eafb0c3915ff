"""Drawn scenes with their masks, for whatever is fitted to masks."""

from functools import cache

import numpy as np

from figleaf.data import scenes


@cache
def drawn(count: int, size: int = 96) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """`count` scenes: pictures (size, size, 3), masks of their skin (size, size), labels (count,) of 0 and 1."""
    found = [scenes.render(0, index, size) for index in range(count)]
    labels = np.array([scene.label in scenes.UNSAFE for scene in found]).astype(np.int64)
    return [scene.rgb_u8 for scene in found], [scene.skin_mask for scene in found], labels
