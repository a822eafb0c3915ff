"""The colour basis against known covariances and published constants; the shift against plain arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from figleaf.data.pca_color import ColorBasis, PcaColor, Scaling, add_shift_u8

# Of ImageNet: fb.resnet.torch datasets/imagenet.lua, variances on the [0, 1] scale, one axis a column.
IMAGENET = ColorBasis(
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
    np.array([0.2175, 0.0188, 0.0045]),
)
# Of the same: cuda-convnet2 make-data/input_meta, standard deviations on the 0-255 scale.
CUDA_CONVNET_STD = np.array([121.78, 37.09, 19.72])


def pixels_like(covariance: np.ndarray, count: int = 40, side: int = 64, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).multivariate_normal([0.5, 0.45, 0.4], covariance, (count, side, side))
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def same_axes(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Column by column, either way round."""
    return bool(np.all(np.abs((a * b).sum(axis=0)) > 1 - tolerance))


def test_the_axes_of_a_known_covariance_are_found() -> None:
    covariance = IMAGENET.axes @ np.diag(IMAGENET.variances / 40) @ IMAGENET.axes.T  # small: nothing is clipped
    basis = ColorBasis.fit(pixels_like(covariance))
    assert same_axes(basis.axes, IMAGENET.axes, 1e-3)
    np.testing.assert_allclose(basis.variances, IMAGENET.variances / 40, rtol=0.02)


def test_all_pixels_of_few_images_give_numpys_covariance() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    pixels[..., 1] = pixels[..., 0] // 2
    basis = ColorBasis.fit(pixels)
    expected = np.cov(pixels.reshape(-1, 3).T / 255.0, bias=True)
    np.testing.assert_allclose(basis.axes @ np.diag(basis.variances) @ basis.axes.T, expected, atol=1e-12)
    assert np.all(np.diff(basis.variances) <= 0)


def test_the_fit_sees_only_the_rows_it_is_given(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    rows = np.arange(0, 20, 2)
    alone = ColorBasis.fit(pixels[rows])
    pixels[1::2] = 0
    np.save(tmp_path / "cache.npy", pixels)
    mapped = ColorBasis.fit(np.load(tmp_path / "cache.npy", mmap_mode="r"), rows=rows)
    assert mapped.to_dict() == alone.to_dict()


def test_a_sample_of_many_pixels_agrees_with_all_and_repeats_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = pixels_like(np.diag([0.02, 0.01, 0.001]))
    everything = ColorBasis.fit(pixels)
    monkeypatch.setattr("figleaf.data.pca_color._PIXELS_FOR_A_FIT", 40_000)
    sampled = ColorBasis.fit(pixels, seed=1)
    np.testing.assert_allclose(sampled.variances, everything.variances, rtol=0.05)
    assert sampled.to_dict() == ColorBasis.fit(pixels, seed=1).to_dict()
    assert sampled.to_dict() != ColorBasis.fit(pixels, seed=2).to_dict()


def test_a_basis_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        ColorBasis.fit(np.zeros((3, 4, 4, 3), np.uint8), rows=[])


def test_grey_images_shift_along_grey_only() -> None:
    grey = np.random.default_rng(0).integers(60, 200, (10, 16, 16, 1), dtype=np.uint8).repeat(3, axis=3)
    shift = ColorBasis.fit(grey).shift(np.random.default_rng(0), 0.5, Scaling.STD)
    np.testing.assert_allclose(shift, shift[0], atol=1e-6)


@pytest.mark.parametrize(("scaling", "power"), [(Scaling.EIG01, 2), (Scaling.STD, 1)])
def test_the_covariance_of_the_shifts_is_the_definition(scaling: Scaling, power: int) -> None:
    rng = np.random.default_rng(0)
    shifts = np.array([IMAGENET.shift(rng, 0.1, scaling) for _ in range(40_000)])
    sizes = 0.1 * np.sqrt(IMAGENET.variances) ** power
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=4 * sizes[0] / 200)
    expected = IMAGENET.axes @ np.diag(sizes**2) @ IMAGENET.axes.T
    np.testing.assert_allclose(np.cov(shifts.T), expected, atol=0.03 * sizes[0] ** 2)


def test_the_two_published_bases_of_imagenet_agree_when_read_as_variances_on_the_unit_scale() -> None:
    np.testing.assert_allclose((CUDA_CONVNET_STD / 255) ** 2, IMAGENET.variances, rtol=0.35)
    along_first = 255 * 0.1 * np.array([IMAGENET.variances[0], CUDA_CONVNET_STD[0] / 255])
    np.testing.assert_allclose(along_first, [5.5, 12.2], atol=0.05)  # 8-bit levels: eig01 and std at strength 0.1


def test_a_basis_survives_json() -> None:
    basis = ColorBasis.fit(pixels_like(np.diag([0.02, 0.01, 0.001]), count=2))
    again = ColorBasis.from_dict(json.loads(json.dumps(basis.to_dict())))
    assert np.array_equal(again.axes, basis.axes)
    assert np.array_equal(again.variances, basis.variances)


@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    shift=hnp.arrays(np.float64, 3, elements=st.floats(-1.5, 1.5)),
)
def test_adding_a_shift_is_rounding_then_clipping(image: np.ndarray, shift: np.ndarray) -> None:
    expected = np.clip(image.astype(np.int64) + np.rint(255 * shift).astype(np.int64), 0, 255)
    before = image.copy()
    shifted = add_shift_u8(image, shift)
    assert shifted.dtype == np.uint8
    assert np.array_equal(shifted, expected)
    assert np.array_equal(image, before)
    # ... and nowhere further than rounding from the arithmetic without it
    assert np.abs(shifted - np.clip(image + 255 * shift, 0, 255)).max() <= 0.5 + 1e-9


def test_the_shift_is_the_same_for_every_pixel_of_an_image_and_another_for_the_next() -> None:
    image = np.random.default_rng(0).integers(100, 150, (32, 32, 3), dtype=np.uint8)
    rng = np.random.default_rng(5)
    operation = PcaColor(IMAGENET, 0.1, Scaling.STD)
    first, second = (operation(image, rng).astype(int) - image for _ in range(2))
    assert np.ptp(first, axis=(0, 1)).tolist() == [0, 0, 0]
    assert first[0, 0].tolist() != second[0, 0].tolist()


def test_strength_zero_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(PcaColor(IMAGENET, 0.0, Scaling.STD)(image, np.random.default_rng(0)), image)
