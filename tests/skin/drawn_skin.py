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


def odd() -> dict[str, np.ndarray]:
    """Pictures that must not bring a system down."""
    rng = np.random.default_rng(0)
    return {
        "one pixel": np.full((1, 1, 3), (200, 140, 110), np.uint8),
        "one colour": np.full((30, 40, 3), (200, 140, 110), np.uint8),
        "all black": np.zeros((30, 40, 3), np.uint8),
        "all white": np.full((30, 40, 3), 255, np.uint8),
        "10,000 x 3": rng.integers(0, 256, (10_000, 3, 3), dtype=np.uint8),
        "3 x 10,000": rng.integers(0, 256, (3, 10_000, 3), dtype=np.uint8),
    }
