from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from figleaf.data.decode import resize
from figleaf.data.scenes import JOINTS, SEGMENTS, SERIES, THRESHOLD, Scene, render
from figleaf.data.scenes.backgrounds import KINDS
from figleaf.data.scenes.outfits import draw_reach
from figleaf.data.scenes.raster import Parts, cast
from figleaf.data.scenes.skeleton import PART, Build, frame, look, pose
from figleaf.vgg.network import VGG

SIZE = 48
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def some() -> list[Scene]:
    return [render(0, index, SIZE) for index in range(120)]


def same(left: Scene, right: Scene) -> bool:
    arrays = ("rgb_u8", "figure_mask", "skin_mask", "joints", "radius_px", "tilt_deg", "visible")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays)


def test_a_scene_depends_on_seed_index_and_size_alone(some: list[Scene]) -> None:
    threads = cv2.getNumThreads()
    try:
        for count, index in zip((1, 4, 2), (100, 3, 57), strict=True):
            cv2.setNumThreads(count)
            assert same(render(0, index, SIZE), some[index])
    finally:
        cv2.setNumThreads(threads)
    assert not same(render(1, 3, SIZE), some[3])


@pytest.mark.parametrize("index", [1, 2, 9])
def test_another_size_shows_the_same_scene(some: list[Scene], index: int) -> None:
    small, large = some[index], render(0, index, 2 * SIZE)
    assert large.rgb_u8.shape == (2 * SIZE, 2 * SIZE, 3)
    np.testing.assert_allclose(large.joints, 2 * small.joints)
    assert (large.label, large.slice, large.group) == (small.label, small.slice, small.group)
    shrunk = cv2.resize(large.rgb_u8, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(cv2.blur(shrunk, (5, 5)) - cv2.blur(small.rgb_u8.astype(float), (5, 5))).mean() < 6


def test_the_label_is_the_exposed_share_of_the_figures(some: list[Scene]) -> None:
    for scene in some:
        assert not (scene.skin_mask & ~scene.figure_mask).any()
        share = scene.skin_mask.sum() / max(scene.figure_mask.sum(), 1)
        assert scene.label == ("exposed" if share >= THRESHOLD else "covered")
        assert scene.attributes["exposed_share"] == pytest.approx(share, abs=1e-4)
        assert scene.figure_mask.any() == (scene.attributes["count"] != 0)


def test_hardly_a_label_hangs_on_a_few_pixels(some: list[Scene]) -> None:
    shares = np.array([scene.attributes["exposed_share"] for scene in some if scene.attributes["count"]], float)
    assert (np.abs(shares - THRESHOLD) < 0.15).mean() <= 0.02


def test_a_series_shares_place_and_split_and_holds_both_labels(some: list[Scene]) -> None:
    for start in range(0, len(some), SERIES):
        series = some[start : start + SERIES]
        assert len({(scene.group, scene.split, scene.slice) for scene in series}) == 1
    assert len({scene.group for scene in some}) == len(some) // SERIES
    assert Counter(scene.label for scene in some)["exposed"] == pytest.approx(len(some) / 2, rel=0.05)
    assert Counter(scene.split for scene in some) == {"train": 84, "val": 12, "test": 24}
    assert {scene.split for scene in some[: 3 * SERIES]} == {"train", "val", "test"}


def test_every_attribute_takes_every_value(some: list[Scene]) -> None:
    values = {key: {scene.attributes[key] for scene in some} for key in some[0].attributes}
    assert {render(0, index, 16).slice for index in range(0, 100 * SERIES, SERIES)} == set(KINDS)
    assert values["count"] == {0, 1, 2, 3}
    assert values["truncation"] == {"none", "whole", "cut"}
    assert values["view"] == {"none", "front", "side", "back", "above"}
    assert values["tone"] == {"none", "light", "medium", "dark"}


def test_skin_runs_from_very_dark_to_very_light(some: list[Scene]) -> None:
    brightness = [scene.rgb_u8[scene.skin_mask].mean() for scene in some if scene.skin_mask.sum() > 30]
    darkest, lightest = np.percentile(brightness, (5, 95))
    assert darkest < 60
    assert lightest > 180


@pytest.mark.parametrize("dressed", [-1.0, 0.0, 1.0])
def test_every_figure_wears_at_least_short_trousers(dressed: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        reach = draw_reach(rng, dressed)
        assert reach[PART["hips"]] == 1
        assert min(reach[PART["l_thigh"]], reach[PART["r_thigh"]]) >= 0.33
        assert ((reach >= 0) & (reach <= 1)).all()


def test_visible_joints_lie_on_figures(some: list[Scene]) -> None:
    on_figure = []
    for scene in some:
        for figure in range(len(scene.joints)):
            for part, segment in enumerate(SEGMENTS):
                if scene.visible[figure, part] == 1:
                    place = scene.joints[figure, [JOINTS.index(segment.start), JOINTS.index(segment.end)]].mean(0)
                    column, row = np.floor(place).astype(int)
                    on_figure.append(scene.figure_mask[row, column])
    assert len(on_figure) > 150
    assert np.mean(on_figure) > 0.98


def test_parts_outside_the_frame_are_not_visible(some: list[Scene]) -> None:
    for scene in some:
        places = scene.joints[:, [JOINTS.index(segment.end) for segment in SEGMENTS]]
        starts = scene.joints[:, [JOINTS.index(segment.start) for segment in SEGMENTS]]
        beyond = ((np.minimum(places, starts) > SIZE) | (np.maximum(places, starts) < 0)).any(-1)
        assert (scene.visible[beyond] == 0).all()


def test_tilt_explains_the_foreshortening_of_equal_bones(some: list[Scene]) -> None:
    for scene in some:
        length_px = {
            side: np.linalg.norm(
                scene.joints[:, JOINTS.index(f"{side}_knee")] - scene.joints[:, JOINTS.index(f"{side}_ankle")], axis=1
            )
            / np.cos(np.deg2rad(scene.tilt_deg[:, PART[f"{side}_shin"]]))
            for side in "lr"
        }
        np.testing.assert_allclose(length_px["l"], length_px["r"], rtol=1e-6)


def test_ray_casting_agrees_with_a_sweep_of_many_spheres() -> None:
    rng = np.random.default_rng(5)
    grid = 64
    posed = look([pose(rng, Build(1, 1, 1))], np.array([40.0]), np.zeros((1, 3)), 20, 10)
    parts = Parts.of(frame(rng, posed, 0.95).scaled(grid))
    surface = cast(parts, grid)
    y, x = np.mgrid[:grid, :grid] + 0.5
    swept = np.full((grid, grid), -np.inf)
    for start, end, stretch, (r0, r1) in zip(parts.start, parts.end, parts.stretch, parts.radii, strict=True):
        # The ellipsoid |M (p - c)| = r along a ray p = (x, y, z): a quadratic in z, the largest root is its front.
        for at in np.linspace(0, 1, 60):
            centre, radius = start + at * (end - start), r0 + at * (r1 - r0)
            lifted = np.stack([x - centre[0], y - centre[1], np.zeros_like(x)], -1) @ stretch.T
            a, b, c = stretch[:, 2] @ stretch[:, 2], lifted @ stretch[:, 2], (lifted**2).sum(-1) - radius**2
            discriminant = b * b - a * c
            front = centre[2] + (np.sqrt(np.maximum(discriminant, 0)) - b) / a
            swept = np.where(discriminant > 0, np.maximum(swept, front), swept)
    seen = surface.owner >= 0
    assert (seen == np.isfinite(swept)).mean() > 0.998
    both = seen & np.isfinite(swept)
    depth = np.full((grid, grid), np.nan)
    depth[surface.row, surface.column] = surface.depth
    assert np.percentile(np.abs(depth - swept)[both], 99) < 0.1


def test_normals_are_the_gradient_of_depth() -> None:
    rng = np.random.default_rng(1)
    grid = 400
    posed = look([pose(rng, Build(1, 1, 1))], np.array([-120.0]), np.zeros((1, 3)), 30, 0)
    surface = cast(Parts.of(frame(rng, posed, 0.95).scaled(grid)), grid)
    depth, normal = np.full((grid, grid), np.nan), np.full((grid, grid, 3), np.nan)
    depth[surface.row, surface.column], normal[surface.row, surface.column] = surface.depth, surface.normal
    assert np.linalg.norm(surface.normal, axis=1) == pytest.approx(1, abs=1e-4)
    slope_y, slope_x = np.gradient(depth)
    one_part = cv2.erode((surface.owner + 1).astype(np.uint8), np.ones((5, 5))) == cv2.dilate(
        (surface.owner + 1).astype(np.uint8), np.ones((5, 5))
    )
    flat = one_part & (normal[..., 2] > 0.5)
    assert flat.sum() > 3000
    expected = np.stack([-slope_x, -slope_y, np.ones_like(depth)], -1)[flat]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.percentile(np.abs(expected - normal[flat]).max(1), 99) < 0.03


# What follows is the set as it is published: 2,000 scenes of 96 pixels of seed 0.


@dataclass(frozen=True)
class Published:
    rgb_u8: Images
    exposed: NDArray[np.bool_]
    split: NDArray[np.str_]
    slice: NDArray[np.str_]


@pytest.fixture(scope="module")
def published() -> Published:
    scenes = [render(0, index, 96) for index in range(2000)]
    labels, splits, slices = (
        np.array([getattr(scene, name) for scene in scenes]) for name in ("label", "split", "slice")
    )
    return Published(np.stack([scene.rgb_u8 for scene in scenes]), labels == "exposed", splits, slices)


@pytest.mark.slow
def test_every_background_of_the_test_split_holds_both_labels(published: Published) -> None:
    for kind in KINDS:
        here = (published.slice == kind) & (published.split == "test")
        assert here.sum() >= 20
        assert 0.3 < published.exposed[here].mean() < 0.7


def kovac(rgb: Images, red: int, spread: int, gap: int) -> NDArray[np.bool_]:
    r, g, b = (rgb[..., channel].astype(np.int16) for channel in range(3))
    chroma = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
    scale = red / 95
    return (r > red) & (g > 40 * scale) & (b > 20 * scale) & (chroma > spread) & (r - g > gap) & (r > b)


def ycbcr(rgb: Images, low_cb: int, low_cr: int, high_cr: int) -> NDArray[np.bool_]:
    planes = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb) for image in rgb])
    cr, cb = planes[..., 1], planes[..., 2]
    return (cb >= low_cb) & (cb <= 127) & (cr >= low_cr) & (cr <= high_cr)


def hsv(rgb: Images, high_hue: int, low: float, high: float) -> NDArray[np.bool_]:
    planes = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2HSV) for image in rgb])  # hue in units of 2 degrees
    return (2 * planes[..., 0].astype(int) <= high_hue) & (planes[..., 1] >= 255 * low) & (planes[..., 1] <= 255 * high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (kovac, [(95, 15, 15), (60, 15, 8), (60, 30, 15), (20, 30, 15), (150, 15, 15), (20, 5, 2)]),
        (ycbcr, [(77, 133, 173), (95, 129, 160), (95, 133, 150), (105, 133, 150), (105, 140, 150), (77, 140, 173)]),
        (hsv, [(50, 0.23, 0.68), (35, 0.23, 0.5), (35, 0.1, 0.5), (25, 0.23, 0.68), (25, 0.35, 0.9), (50, 0.1, 0.5)]),
    ],
)
def test_the_area_of_skin_colour_does_not_give_the_label_away(
    published: Published, rule: Callable[..., NDArray[np.bool_]], settings: list[tuple[float, ...]]
) -> None:
    rgb, exposed, split = published.rgb_u8, published.exposed, published.split
    train, test = split == "train", split == "test"

    def auroc(setting: tuple[float, ...], on: NDArray[np.bool_]) -> float:
        return float(roc_auc_score(exposed[on], rule(rgb[on], *setting).mean((1, 2))))

    assert auroc(max(settings, key=lambda setting: auroc(setting, train)), test) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("space", ["rgb", "hsv"])
def test_colour_histograms_do_not_give_the_label_away(published: Published, space: str) -> None:
    rgb, exposed, split = published.rgb_u8, published.exposed, published.split
    images = rgb if space == "rgb" else np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL) for image in rgb])
    bins = (images // 32).astype(int) @ (64, 8, 1)
    histograms = np.sqrt(np.stack([np.bincount(image.ravel(), minlength=512) for image in bins]) / 96**2)
    train, val, test = (split == name for name in ("train", "val", "test"))

    def auroc(model: LogisticRegression, on: NDArray[np.bool_]) -> float:
        return float(roc_auc_score(exposed[on], model.decision_function(histograms[on])))

    models = [LogisticRegression(C=C, max_iter=300).fit(histograms[train], exposed[train]) for C in (0.1, 1, 10, 100)]
    assert auroc(max(models, key=lambda model: auroc(model, val)), test) < 0.93


@pytest.mark.slow
def test_a_small_vgg_tells_covered_from_exposed(published: Published) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    size, pad, batch, epochs = 64, 6, 16, 8
    images = torch.from_numpy(np.stack([resize(image, size) for image in published.rgb_u8])).permute(0, 3, 1, 2)
    padded = torch.nn.functional.pad(images.float(), (pad,) * 4, mode="reflect").to(torch.uint8)
    labels = torch.from_numpy(published.exposed.astype(np.int64))
    train, test = (np.flatnonzero(published.split == name) for name in ("train", "test"))
    net = VGG(depth=11, width=0.125, head="gap", dropout=0.2, input_size=size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.004, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=epochs * (len(train) // batch))
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        order = rng.permutation(train)
        for start in range(0, len(train) - batch + 1, batch):
            chosen = order[start : start + batch]
            y, x = rng.integers(0, 2 * pad + 1, 2)
            crop = padded[chosen, :, y : y + size, x : x + size]
            mirrored = torch.from_numpy(rng.random(batch) < 0.5)[:, None, None, None]
            optimizer.zero_grad()
            loss(net(torch.where(mirrored, crop.flip(-1), crop)), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(images[chunk]) for chunk in np.array_split(test, 4)])
    assert roc_auc_score(published.exposed[test], (logits[:, 1] - logits[:, 0]).numpy()) > 0.97
