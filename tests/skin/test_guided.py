import numpy as np
import pytest

from figleaf.skin.guided import guided_filter


def literal(rgb_u8: np.ndarray, plane: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """He, Sun & Tang's equations 19 to 21, window by window; borders mirrored as far as the windows reach."""
    pad = 2 * radius
    guide = np.pad(rgb_u8 / 255, ((pad, pad), (pad, pad), (0, 0)), "symmetric")
    values = np.pad(plane.astype(float), pad, "symmetric")
    height, width = values.shape
    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    for row in range(radius, height - radius):
        for column in range(radius, width - radius):
            window = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
            colors, targets = guide[window].reshape(-1, 3), values[window].ravel()
            covariance = np.cov(colors.T, bias=True) + epsilon * np.eye(3)
            cross = (colors * targets[:, None]).mean(axis=0) - colors.mean(axis=0) * targets.mean()
            slopes[row, column] = np.linalg.solve(covariance, cross)
            offsets[row, column] = targets.mean() - slopes[row, column] @ colors.mean(axis=0)
    found = np.zeros((height, width))
    for row in range(pad, height - pad):
        for column in range(pad, width - pad):
            window = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
            found[row, column] = (
                slopes[window].reshape(-1, 3).mean(axis=0) @ guide[row, column] + offsets[window].mean()
            )
    return found[pad:-pad, pad:-pad]


@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
def test_it_is_the_published_filter(epsilon: float) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    plane = rng.random((13, 17)).astype(np.float32)
    found = guided_filter(rgb, plane, radius_px=2, epsilon=epsilon)
    inner = np.s_[2:-2, 2:-2]  # at the very border slopes are averaged over mirrored slopes there, not recomputed
    np.testing.assert_allclose(found[inner], literal(rgb, plane, 2, epsilon)[inner], atol=2e-4)


def test_a_blurred_map_gets_the_outline_of_the_picture_back() -> None:
    rgb = np.full((40, 40, 3), (60, 90, 140), np.uint8)
    rgb[:, 21:] = (210, 160, 130)
    blurred = np.clip((np.arange(40, dtype=np.float32) - 12) / 16, 0, 1)[None].repeat(40, axis=0)
    found = guided_filter(rgb, blurred, radius_px=8, epsilon=1e-3)
    assert found[20, 21] - found[20, 20] > 5 * (blurred[20, 21] - blurred[20, 20])


def test_a_plain_picture_smooths_and_a_constant_stays() -> None:
    plain = np.full((20, 30, 3), 77, np.uint8)
    noise = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    assert guided_filter(plain, noise, radius_px=3, epsilon=1e-3).std() < 0.3 * noise.std()
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    constant = np.full((20, 30), 0.3, np.float32)
    np.testing.assert_allclose(guided_filter(picture, constant, radius_px=5, epsilon=1e-3), 0.3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2000)])
def test_a_radius_beyond_the_picture_is_no_trouble(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    plane = rng.random(shape).astype(np.float32)
    assert np.isfinite(guided_filter(picture, plane, radius_px=60, epsilon=1e-3)).all()
    np.testing.assert_array_equal(guided_filter(picture, plane, radius_px=0, epsilon=1e-3), plane)
