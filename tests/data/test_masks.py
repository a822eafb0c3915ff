"""Masks are decoded beside their pictures and move with them, for any worker and after any interruption."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from figleaf.data.augment import ViewThenColors, build_augmentation
from figleaf.data.cache import decode_cached
from figleaf.data.decode import DecodeError, resize
from figleaf.data.loader import EpochLoader, EvaluationLoader, MaskedSamples
from figleaf.data.manifest import Manifest
from figleaf.data.masks import Masks, decode_masks, read_mask
from figleaf.data.sampler import BatchPlan

N, SIZE = 10, 40


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Pictures in the colours of their masks; the last has none, and the one before it has a broken one."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(N):
        blocks = rng.integers(0, 2, (6, 5), dtype=np.uint8) * 255
        mask_u8 = np.kron(blocks, np.ones((10, 10), np.uint8))
        Image.fromarray(np.repeat(mask_u8[..., None], 3, axis=2)).save(tmp_path / f"{index}.png")
        Image.fromarray(mask_u8).save(tmp_path / f"{index}-mask.png")
        rows.append({"path": f"{index}.png", "label": "nsfw", "split": "train", "mask": f"{index}-mask.png"})
    rows[-1]["mask"] = ""
    (tmp_path / f"{N - 2}-mask.png").write_text("no picture")
    for file in tmp_path.iterdir():
        os.utime(file, (1e9, 1e9))  # long ago, so that hashes are remembered
    return Manifest.from_table(pd.DataFrame(rows), root=tmp_path, name="blocks")


def masks_of(manifest: Manifest, tmp_path: Path, size: int = SIZE) -> Masks:
    return decode_masks(manifest, size, folder=tmp_path / "cache")


def samples(manifest: Manifest, tmp_path: Path, augmentation: ViewThenColors, size: int = SIZE) -> MaskedSamples:
    pixels = decode_cached(manifest, size, folder=tmp_path / "cache").pixels
    masks = masks_of(manifest, tmp_path, size)
    return MaskedSamples(pixels, manifest.labels, np.flatnonzero(masks.usable), augmentation, 3, masks)


def views(**changes: object) -> ViewThenColors:
    return build_augmentation(**{"size": 32, "translate": 0.2, "reflect": True, "scale_min": 0.4, **changes})


def test_masks_are_squashed_as_their_pictures_are(manifest: Manifest, tmp_path: Path) -> None:
    masks = masks_of(manifest, tmp_path)
    assert masks.files.pixels.shape == (N - 1, SIZE, SIZE)
    pixels = decode_cached(manifest, SIZE, folder=tmp_path / "cache").pixels
    for row in range(N - 2):
        assert np.array_equal(masks.share_u8(row), pixels[row, ..., 0])
    grey = np.repeat((read_mask(tmp_path / "0-mask.png") * np.uint8(255))[..., None], 3, axis=2)
    assert np.array_equal(masks.is_skin(np.array([0]))[0], resize(grey, SIZE)[..., 0] >= 128)


def test_samples_without_a_mask_that_can_be_read_are_known(manifest: Manifest, tmp_path: Path) -> None:
    assert masks_of(manifest, tmp_path).usable.tolist() == [True] * (N - 2) + [False, False]
    with pytest.raises(DecodeError, match="not an image"):
        read_mask(tmp_path / f"{N - 2}-mask.png")


def test_masks_and_pictures_of_equal_files_are_two_entries_of_the_cache(manifest: Manifest, tmp_path: Path) -> None:
    as_pictures = manifest.with_table(manifest.table[:-2].assign(path=manifest.table["mask"][:-2]))
    decode_cached(as_pictures, SIZE, folder=tmp_path / "cache")
    decode_masks(manifest.with_table(manifest.table[:-2]), SIZE, folder=tmp_path / "cache")
    shapes = {np.load(file, mmap_mode="r").shape for file in (tmp_path / "cache").glob("*.npy")}
    assert shapes == {(N - 2, SIZE, SIZE, 3), (N - 2, SIZE, SIZE)}


@pytest.mark.parametrize("larger", [1.0, 1.5])
@pytest.mark.parametrize("colours", [False, True])
def test_a_picture_in_the_colours_of_its_mask_stays_equal_to_it(
    manifest: Manifest, tmp_path: Path, larger: float, colours: bool
) -> None:
    augmentation = views(larger=larger, color_jitter=0.3 if colours else 0.0)
    loader = EpochLoader(samples(manifest, tmp_path, augmentation, round(32 * larger)), BatchPlan(N - 2, N - 2, 1))
    seen = set()
    for epoch in range(20):
        loader.set_epoch(epoch)
        (batch,) = loader
        assert batch["mask"].shape == (N - 2, 32, 32)
        grey = batch["image"].float().mean(1)
        if not colours:  # the views are the same to the bit
            assert torch.equal(batch["mask"], batch["image"][:, 0] >= 128)
        # A change of colours moves levels, not edges: inside and outside keep apart.
        for mask, picture in zip(batch["mask"], grey, strict=True):
            if mask.any() and not mask.all():
                assert picture[mask].mean() > picture[~mask].mean() + 60
        seen |= {mask.numpy().tobytes() for mask in batch["mask"]}
    assert len(seen) > 19 * (N - 2), "views differ from epoch to epoch"


def test_colours_change_no_mask(manifest: Manifest, tmp_path: Path) -> None:
    plan = BatchPlan(N - 2, N - 2, 1)
    (plain,) = EpochLoader(samples(manifest, tmp_path, views()), plan)
    (jittered,) = EpochLoader(samples(manifest, tmp_path, views(color_jitter=0.4)), plan)
    assert torch.equal(plain["mask"], jittered["mask"])
    assert not torch.equal(plain["image"], jittered["image"])


def test_workers_and_interruptions_change_no_bit_of_a_mask(manifest: Manifest, tmp_path: Path) -> None:
    made, plan = samples(manifest, tmp_path, views()), BatchPlan(N - 2, 2, 1)
    alone, helped, resumed = EpochLoader(made, plan), EpochLoader(made, plan, workers=2), EpochLoader(made, plan)
    resumed.load_state_dict({"epoch": 0, "batches_given": 2})
    whole = list(alone)
    assert all(torch.equal(a["mask"], b["mask"]) for a, b in zip(whole, helped, strict=True))
    assert all(torch.equal(a["mask"], b["mask"]) for a, b in zip(whole[2:], resumed, strict=True))


def test_evaluation_gives_masks_untouched_and_in_order(manifest: Manifest, tmp_path: Path) -> None:
    masks = masks_of(manifest, tmp_path)
    pixels = decode_cached(manifest, SIZE, folder=tmp_path / "cache").pixels
    batches = list(EvaluationLoader(pixels, manifest.labels, np.arange(1, 8), 3, masks))
    found = torch.cat([batch["mask"] for batch in batches])
    assert np.array_equal(found.numpy(), pixels[1:8, ..., 0] >= 128)
    assert "mask" not in next(iter(EvaluationLoader(pixels, manifest.labels, np.arange(3), 3)))
