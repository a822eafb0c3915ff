"""Views against NumPy's padding and slicing, torchvision's resize, and the distributions they are said to have."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as F

from figleaf.data.view import Geometry, View

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / a + y / b) for a, b in ((9, 7), (5, 11), (13, 6))]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("top", "left"), [(-5, -3), (0, 0), (13, 2), (11, 20), (-8, 22), (16, -8)])
def test_a_view_over_the_edge_shows_numpys_reflected_padding(top: int, left: int, mirrored: bool) -> None:
    shown = Geometry(32).render(IMAGE, View(top, left, 32, 32, mirrored))
    padded = np.pad(IMAGE, ((10, 10), (10, 10), (0, 0)), mode="reflect")
    expected = padded[top + 10 : top + 42, left + 10 : left + 42]
    assert np.array_equal(shown, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize(("height", "width"), [(30, 36), (20, 28), (36, 26)])
def test_a_small_view_is_enlarged_as_torchvision_does(height: int, width: int) -> None:
    image = smooth(40, 48)
    shown = Geometry(48).render(image, View(3, 5, height, width, False))
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = F.resized_crop(tensor, 3, 5, height, width, [48, 48], antialias=False).permute(1, 2, 0).numpy()
    assert np.abs(shown.astype(int) - expected).max() <= 2


def test_much_larger_views_are_averaged_not_sampled() -> None:
    fine = np.indices((64, 64)).sum(axis=0) % 2 * 255  # a checkerboard that sampling would turn black or white
    shown = Geometry(8).render(fine.astype(np.uint8), View(0, 0, 64, 64, False))
    assert np.abs(shown.astype(int) - 127).max() <= 1


def test_a_mask_is_seen_through_the_same_view_as_its_image() -> None:
    geometry = Geometry(32, translate=0.2, scale_min=0.4)
    for seed in range(20):
        view = geometry.draw(40, 48, np.random.default_rng(seed))
        assert np.array_equal(geometry.render(IMAGE, view)[..., 0], geometry.render(IMAGE[..., 0].copy(), view))


def draws(geometry: Geometry, side: int, count: int = 3000) -> list[View]:
    rng = np.random.default_rng(0)
    return [geometry.draw(side, side, rng) for _ in range(count)]


def test_scale_jitter_is_uniform_in_area_within_the_aspect_limits_and_inside_the_picture() -> None:
    views = draws(Geometry(64, scale_min=0.3), side=400)
    areas = np.array([view.height * view.width for view in views]) / 400**2
    aspects = np.array([view.width / view.height for view in views])
    assert stats.kstest(areas, stats.uniform(0.3, 0.7).cdf).pvalue > 0.01
    assert 0.74 < aspects.min() < 0.76
    assert 1.32 < aspects.max() < 1.35
    assert abs(np.log(aspects).mean()) < 0.01
    assert all(v.top >= 0 and v.left >= 0 and v.top + v.height <= 400 and v.left + v.width <= 400 for v in views)


def test_aspects_are_relative_to_the_pictures_own() -> None:
    rng = np.random.default_rng(0)
    views = [Geometry(64, scale_min=0.3).draw(300, 600, rng) for _ in range(500)]
    aspects = np.array([view.width / view.height for view in views]) / 2
    assert 0.73 < aspects.min() < aspects.max() < 1.36


def test_translation_reaches_every_offset_about_equally_often() -> None:
    views = draws(Geometry(64, translate=0.125), side=64)
    for offsets in ([view.top for view in views], [view.left for view in views]):
        values, counts = np.unique(offsets, return_counts=True)
        assert values.tolist() == list(range(-8, 9))
        assert stats.chisquare(counts).pvalue > 0.01
    assert {(view.height, view.width) for view in views} == {(64, 64)}


@pytest.mark.parametrize(("size", "larger"), [(64, 1.143), (32, 1.25), (224, 256 / 224), (96, 1.1), (7, 1.3)])
def test_a_crop_from_a_larger_cache_is_never_resampled(size: int, larger: float) -> None:
    geometry = Geometry(size, larger=larger)
    views = draws(geometry, geometry.source_size, count=400)
    assert {(view.height, view.width) for view in views} == {(size, size)}
    assert {view.top for view in views} == set(range(geometry.source_size - size + 1))


def test_half_of_the_views_are_mirrored_or_none() -> None:
    assert abs(np.mean([view.mirrored for view in draws(Geometry(8), side=8)]) - 0.5) < 0.03
    assert not any(view.mirrored for view in draws(Geometry(8, reflect=False), side=8))


def test_settings_take_the_same_numbers_from_the_generator() -> None:
    states = []
    for geometry in (Geometry(8), Geometry(8, scale_min=0.5, translate=0.1), Geometry(8, reflect=False, larger=2.0)):
        rng = np.random.default_rng(1)
        geometry.draw(16, 16, rng)
        states.append(rng.bit_generator.state["state"]["state"])
    assert len(set(states)) == 1
