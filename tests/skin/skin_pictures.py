"""Pictures for the tests of the skin lab: scenes drawn by the package, noise around the colour of skin, odd sizes."""

import numpy as np

from figleaf.data import scenes
from figleaf.data.decode import resize

SKIN = (200, 140, 110)  # as the filter sees it: hue 141 degrees, saturation 26


def scene(index: int, side: int = 160) -> np.ndarray:
    """A drawn scene (side, side, 3)."""
    return resize(scenes.render(0, index, 96).rgb_u8, side)


def skin_noise(height: int, width: int, strength: float = 20.0, seed: int = 0) -> np.ndarray:
    """Patches in and about the colour of skin with noise over them, (H, W, 3): all limits of the filter are met."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // 8), -(-width // 8)
    patches = np.array(SKIN) + rng.normal(0, 35, (rows, columns, 3))
    colors = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    rough = rng.uniform(0, strength, (rows, columns, 1)).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.clip(colors + rough * rng.normal(0, 1, (height, width, 1)), 0, 255).astype(np.uint8)


def plain(height: int, width: int, rgb: tuple[int, int, int]) -> np.ndarray:
    """One colour, (H, W, 3)."""
    return np.full((height, width, 3), rgb, np.uint8)


def odd_pictures() -> dict[str, np.ndarray]:
    """One pixel, one colour, black, white, 10,000 x 3, a line: what must not bring a system down."""
    rng = np.random.default_rng(0)
    return {
        "one pixel": plain(1, 1, SKIN),
        "one colour": plain(40, 30, SKIN),
        "black": plain(30, 40, (0, 0, 0)),
        "white": plain(30, 40, (255, 255, 255)),
        "10,000 x 3": rng.integers(0, 256, (10_000, 3, 3), dtype=np.uint8),
        "1 x 300": rng.integers(0, 256, (1, 300, 3), dtype=np.uint8),
        "300 x 1": rng.integers(0, 256, (300, 1, 3), dtype=np.uint8),
        "inner line": rng.integers(0, 256, (21, 60, 3), dtype=np.uint8),
    }
