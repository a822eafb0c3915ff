import numpy as np

from figleaf.skin.probability_drawings import draw_probability


def test_brightness_grows_with_probability_and_keeps_the_picture() -> None:
    plain = np.full((5, 101, 3), (90, 140, 60), np.uint8)
    ramp = np.linspace(0, 1, 101)[None].repeat(5, axis=0)
    drawn = draw_probability(plain, ramp).astype(int)
    assert drawn.shape == plain.shape
    luma = drawn[0] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luma) > -0.6).all()  # of rounding
    assert luma[-1] > luma[0] + 80
    assert drawn[0, 0, 2] > drawn[0, 0, 0]  # blue
    assert drawn[0, -1, 0] > drawn[0, -1, 2]  # yellow
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    shown = draw_probability(noise, np.full((20, 20), 0.5)).mean(axis=2)
    assert np.corrcoef(shown.ravel(), noise.mean(axis=2).ravel())[0, 1] > 0.99
