"""Whether augmentation keeps labels that are shares of a mask: on the photos where present, on scenes always."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from figleaf.data.decode import decode, resize
from figleaf.data.label_check import LabelRule, label_drift, load_masks
from figleaf.data.scenes import THRESHOLD, render
from figleaf.data.view import Geometry
from figleaf.errors import FigleafError

SKIN_AREA = LabelRule(positive_from=0.32, negative_to=0.10)
DEFAULT = Geometry(64, translate=0.0625, scale_min=0.6)


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Skin and figure masks of 120 scenes, (N, 64, 64), 0 or 255."""
    drawn = [render(5, index, 64) for index in range(120)]
    skin, figures = (np.stack([getattr(s, name) for s in drawn]) for name in ("skin_mask", "figure_mask"))
    return skin.astype(np.uint8) * 255, figures.astype(np.uint8) * 255


@pytest.fixture
def photo_masks(shared: Path) -> np.ndarray:
    """Skin masks of a fifth of the photos, (N, 64, 64)."""
    root = shared / "data" / "skin_area"
    return load_masks([root / path for path in pd.read_csv(root / "manifest.csv")["mask"][::5]], 64)


def dropped(masks: np.ndarray, share_of: Callable[[np.ndarray], float], threshold: float) -> float:
    """Share of the draws in which a mask that starts at or over the threshold comes out under it."""
    over = [mask for mask in masks if mask.mean() / 255 >= threshold]
    return float(np.mean([share_of(mask) < threshold for mask in over for _ in range(4)]))


def torchvisions_crop(mask: np.ndarray) -> float:
    top, left, height, width = RandomResizedCrop.get_params(torch.empty(1, *mask.shape), (0.08, 1), (3 / 4, 4 / 3))
    return float(mask[top : top + height, left : left + width].mean()) / 255


def test_zero_padding_and_torchvisions_crop_lose_the_labels_as_stated(photo_masks: np.ndarray) -> None:
    """The figures of the design, by independent means: 13 % and 19 %."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def zero_padded(mask: np.ndarray) -> float:
        top, left = rng.integers(0, 17, 2)
        return float(np.pad(mask, 8)[top : top + 64, left : left + 64].mean()) / 255

    assert dropped(photo_masks, torchvisions_crop, 0.32) == pytest.approx(0.13, abs=0.03)
    assert dropped(photo_masks, zero_padded, 0.32) == pytest.approx(0.19, abs=0.03)


def test_our_defaults_turn_next_to_no_photo_into_the_other_label(photo_masks: np.ndarray) -> None:
    ours = label_drift(photo_masks, DEFAULT, SKIN_AREA)
    torchvisions = label_drift(photo_masks, Geometry(64, scale_min=0.08), SKIN_AREA)
    assert ours["positive"].images > 300
    assert ours["negative"].images > 300
    assert max(drift.flipped for drift in ours.values()) < 0.001
    assert torchvisions["positive"].flipped > 0.01
    assert ours["positive"].left < torchvisions["positive"].left


def test_our_defaults_keep_the_labels_of_scenes(scenes: tuple[np.ndarray, np.ndarray]) -> None:
    skin, figures = scenes
    rule = LabelRule(THRESHOLD, THRESHOLD)
    ours = label_drift(skin, DEFAULT, rule, within_u8=figures)
    torchvisions = label_drift(skin, Geometry(64, scale_min=0.08), rule, within_u8=figures)
    assert ours["positive"].images + ours["negative"].images == 120
    assert max(drift.left for drift in ours.values()) < 0.01
    assert torchvisions["positive"].left > 0.02


def test_without_a_gap_what_leaves_one_label_has_the_other(scenes: tuple[np.ndarray, np.ndarray]) -> None:
    skin, figures = scenes
    for drift in label_drift(skin, Geometry(64, scale_min=0.1), LabelRule(0.5, 0.5), within_u8=figures).values():
        assert drift.left == drift.flipped


def test_rates_are_counted_by_label() -> None:
    """Left half white: whole views hold one half, views of the left hold more, of the right less."""
    half = np.zeros((8, 40, 40), np.uint8)
    half[:, :, :20] = 255
    shifts = Geometry(20, larger=2.0, reflect=False)  # 20 x 20 views: the share is uniform between 1 and 0
    drift = label_drift(half, shifts, LabelRule(0.5, 0.25), views=250)
    assert drift["positive"].images == 8
    assert drift["positive"].left == pytest.approx(0.5, abs=0.05)
    assert drift["positive"].flipped == pytest.approx(0.25, abs=0.05)
    assert (drift["negative"].images, drift["negative"].left, drift["negative"].flipped) == (0, 0.0, 0.0)


def test_images_in_the_gap_are_left_out() -> None:
    masks = np.full((3, 8, 8), 51, np.uint8)  # a share of 0.2
    drift = label_drift(masks, Geometry(8), SKIN_AREA)
    assert drift["positive"].images == drift["negative"].images == 0


def test_reflection_alone_keeps_every_label() -> None:
    masks = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    drift = label_drift(masks, Geometry(16), LabelRule(0.5, 0.5))
    assert drift["positive"].images + drift["negative"].images == 20
    assert all(d.left == 0 for d in drift.values())


def test_a_picture_whose_figures_left_the_view_shows_no_skin() -> None:
    corner = np.zeros((1, 40, 40), np.uint8)
    corner[:, :4, :4] = 255
    drift = label_drift(corner, Geometry(20, larger=2.0), LabelRule(0.5, 0.5), within_u8=corner, views=100)
    assert drift["positive"].flipped == pytest.approx(1 - (4 / 21) ** 2, abs=0.1)


def test_masks_are_squashed_like_their_images(tmp_path: Path) -> None:
    Image.fromarray(np.triu(np.full((30, 50), 255, np.uint8))).save(tmp_path / "mask.png")
    loaded = load_masks([tmp_path / "mask.png"], 16)
    assert loaded.shape == (1, 16, 16)
    assert np.array_equal(loaded[0], resize(decode(tmp_path / "mask.png"), 16)[..., 1])


@pytest.mark.parametrize(("positive", "negative"), [(0.1, 0.3), (1.2, 0.1), (0.3, -0.1)])
def test_an_impossible_rule_is_refused(positive: float, negative: float) -> None:
    with pytest.raises(FigleafError, match="expected 0 <= negative_to <= positive_from <= 1"):
        LabelRule(positive, negative)


def test_mask_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(FigleafError, match=r"mask .*broken\.png: not an image .* needs all masks"):
        load_masks([tmp_path / "broken.png"], 16)
