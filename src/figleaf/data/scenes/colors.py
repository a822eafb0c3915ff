"""Colours of skin, of cloth and of light, as linear RGB in [0, 1] under a plain gamma of 2.

A power of 2 instead of sRGB's curve makes developing a picture one square root per value.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]

# The Monk Skin Tone scale (skintone.google), lightest first.
MONK_SCALE = np.array([
    (0xF6, 0xED, 0xE4), (0xF3, 0xE7, 0xDB), (0xF7, 0xEA, 0xD0), (0xEA, 0xDA, 0xBA), (0xD7, 0xBD, 0x96),
    (0xA0, 0x7E, 0x56), (0x82, 0x5C, 0x43), (0x60, 0x41, 0x34), (0x3A, 0x31, 0x2A), (0x29, 0x24, 0x20),
]) / 255.0  # fmt: skip


def linear(encoded: NDArray[np.float64]) -> Array:
    """Linear light of displayed values in [0, 1]."""
    return np.square(encoded).astype(np.float32)


def encode(light: Array) -> Array:
    """Displayed values in [0, 1] of linear light, clipped."""
    encoded: Array = np.sqrt(np.clip(light, 0, 1))
    return encoded


def skin_tone(rng: Generator, tone: float) -> Array:
    """Linear RGB (3,) of skin at `tone` on the Monk scale, from 1 (lightest) to 10, with an undertone of its own.

    The scale's swatches are paler than lit skin in photographs, so some redness is added.
    """
    swatch = np.array([np.interp(tone, np.arange(1, 11), MONK_SCALE[:, channel]) for channel in range(3)])
    flush = np.array((0.02, -0.045, -0.085)) * rng.uniform(0.3, 1.7) * swatch.mean()
    undertone = np.array((0.0, 1.0, -0.4)) * rng.normal(0, 0.012)
    return linear(np.clip(swatch + flush + undertone, 0.02, 0.98))


def skin_like(rng: Generator) -> Array:
    """Linear RGB (3,) in the colours of skin, for cloth and backgrounds."""
    return np.clip(skin_tone(rng, rng.uniform(1, 10)) * np.exp(rng.normal(0, 0.06, 3)), 0.004, 0.95).astype(np.float32)


def vivid(rng: Generator) -> Array:
    """Linear RGB (3,) of any hue."""
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.3, 1), rng.uniform(0.25, 0.95)
    ramp = np.clip(np.abs((hue + np.array((0.0, 4.0, 2.0))) % 6 - 3) - 1, 0, 1)
    return linear(value * (1 - saturation * (1 - ramp)))


def illuminant(rng: Generator) -> Array:
    """Gain (3,) of the light, from a dim warm lamp to bright cool daylight."""
    warmth, tint, brightness = rng.normal(0, 0.1), rng.normal(0, 0.04), rng.uniform(-0.4, 0.25)
    return np.exp(np.array((warmth, tint, -warmth)) + brightness).astype(np.float32)
