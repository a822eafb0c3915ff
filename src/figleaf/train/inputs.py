"""From the configuration to pictures and labels."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.config import AugmentConfig, DataConfig, ModelConfig, SearchConfig, SkinConfig
from figleaf.data.augment import ViewThenColors, build_augmentation
from figleaf.data.cache import DecodedImages, data_hash, decode_cached
from figleaf.data.manifest import SPLITS, Manifest, load_manifest
from figleaf.data.manifest_file import manifest_file
from figleaf.data.masks import HALF, Masks, decode_masks
from figleaf.data.pca_color import ColorBasis
from figleaf.data.sources import digits_manifest, scenes_manifest
from figleaf.data.splits import assign_fold, cut
from figleaf.errors import FigleafError


def read_manifest(data: DataConfig, home: Path) -> Manifest:
    """The samples that `data` describes, with its fold and its calib split cut. Made first when they are drawn."""
    if data.source == "scenes":
        manifest = scenes_manifest(home / "data", count=data.count, seed=data.seed, size=data.size)
    elif data.source == "digits":
        manifest = digits_manifest(home / "data")
    else:
        file = manifest_file(data.manifest)
        manifest = load_manifest(file, classes=data.classes, unsafe=data.unsafe, name=data.name, root=data.root)
    if data.slice_by is not None:
        manifest = manifest.sliced_by(data.slice_by)
    if data.fold is not None:
        manifest = assign_fold(manifest, fold=data.fold, folds=data.folds, seed=data.seed)
    if data.calib_fraction and "train" in manifest.splits and "calib" not in manifest.splits:
        try:
            manifest = cut(manifest, fraction=data.calib_fraction, seed=data.seed)
        except FigleafError as error:
            raise FigleafError(f"data.calib_fraction={data.calib_fraction}: {error}; 0 cuts none") from error
    return manifest


def decode_for(manifest: Manifest, size: int, data: DataConfig, home: Path) -> DecodedImages:
    """The manifest's pictures at `size` x `size`, from the cache in `home`."""
    return decode_cached(manifest, size, **_cache(data, home))


def masks_for(manifest: Manifest, size: int, data: DataConfig, home: Path) -> Masks:
    """The manifest's masks at `size` x `size`, from the cache in `home`."""
    return decode_masks(manifest, size, **_cache(data, home))


def _cache(data: DataConfig, home: Path) -> dict[str, Any]:
    return {"folder": home / "cache", "max_pixels": data.max_pixels, "limit_bytes": int(data.cache_gb * 1e9)}


@dataclass(frozen=True)
class Inputs:
    """Everything a run reads: the manifest, its pictures at the network's size and, where larger, for augmentation.

    The masks of both are there for what learns from masks, see `reads_masks`.
    """

    manifest: Manifest
    pictures: DecodedImages
    larger: DecodedImages
    masks: Masks | None = None
    larger_masks: Masks | None = None

    @cached_property
    def data_hash(self) -> str:
        """Identity of the samples and of what their files hold: pictures and, where they are read, masks."""
        masks = () if self.masks is None else self.masks.files.content_sha256
        return data_hash(self.manifest, [*self.pictures.content_sha256, *masks])

    def rows(self, split: str) -> NDArray[np.int64]:
        """Manifest rows of `split` whose picture could be read. Raises `FigleafError` when there is none."""
        in_split = (self.manifest.table["split"] == split).to_numpy()
        readable = np.array([error is None for error in self.pictures.errors], dtype=bool)
        rows = np.flatnonzero(in_split & readable)
        if not in_split.any():
            known = ", ".join(self.manifest.splits)
            raise FigleafError(
                f"{self.manifest.name}: there is no split {split!r}, only {known}; a run needs train and val"
            )
        if not len(rows):
            first = int(np.flatnonzero(in_split)[0])
            raise FigleafError(
                f"{self.manifest.name}: the split {split!r} holds {in_split.sum()} samples, none of them readable, as "
                f"{self.manifest.paths[first]}: {self.pictures.errors[first]}; `figleaf data check` lists what is wrong"
            )
        return rows

    def masked_rows(self, split: str) -> NDArray[np.int64]:
        """Those of `rows` whose mask could be read. Raises `FigleafError` when none has one, or none shows skin."""
        rows, masks = self.rows(split), self.masks
        assert masks is not None, "the inputs were loaded with masks"
        found = rows[masks.usable[rows]]
        way_out = "which learns from pictures that are white where there is skin; or use model.head=gap"
        if not len(found):
            reasons = [reason for reason in masks.files.errors if reason]
            raise FigleafError(
                f"{self.manifest.name}: none of the {len(rows)} samples of the split {split!r} has a mask that can be "
                f"read{f' ({reasons[0]})' if reasons else ''}: fill the manifest's column 'mask' for model.head=dense, "
                f"{way_out}"
            )
        if not any(masks.share_u8(row).max() >= HALF for row in found):
            raise FigleafError(
                f"{self.manifest.name}: no mask of the split {split!r} holds a pixel of {HALF} or more: mend the files "
                f"of the manifest's column 'mask' for model.head=dense, {way_out}"
            )
        return found

    def warnings(self) -> list[str]:
        """A line for train or val with one class, nothing safe or nothing unsafe, one for splits that no run reads, and
        one for pictures that cannot be read.

        Such a run can be wanted, so this is no error. Raises `FigleafError` as `rows` does.
        """
        found, has_unsafe = [], bool(self.manifest.unsafe)
        no_auroc = (
            "it has no AUROC, so the weights of the lowest loss on val are kept; data.unsafe=[] keeps those of the "
            "best accuracy, and a study chooses its arm by another select.key in study.yaml, such as val/accuracy"
        )
        effects = {
            "train": "the network cannot learn to tell them from anything else",
            "val": no_auroc if has_unsafe else "its accuracy says nothing of other classes",
        }
        for split, effect in effects.items():
            rows = self.rows(split)
            present = [self.manifest.classes[label] for label in sorted(set(self.manifest.labels[rows].tolist()))]
            unsafe = {name in self.manifest.unsafe for name in present}
            if len(present) == 1 or (has_unsafe and len(unsafe) == 1):
                lacks = f" and nothing {'safe' if True in unsafe else 'unsafe'}" if has_unsafe else ""
                found.append(f"{split} holds only {', '.join(present)} (samples: {len(rows)}){lacks}: {effect}")
        if unread := [split for split in self.manifest.splits if split not in SPLITS]:
            found.append(
                f"no run reads the split {', '.join(unread)}, only {', '.join(SPLITS)}; if it is no slip, "
                f"`figleaf evaluate split={unread[0]}` measures on it"
            )
        if unreadable := sum(error is not None for error in self.pictures.errors):
            found.append(
                f"{unreadable} of {len(self.manifest)} pictures cannot be read and are left out; `figleaf data check` "
                "lists them with the reasons"
            )
        has_masks = self.masks is not None and self.masks.usable.any()
        if self.masks is not None and has_masks and (lacking := int((~self.masks.usable & self.pictures.usable).sum())):
            found.append(f"{lacking} of {len(self.manifest)} samples have no mask that can be read and teach no pixels")
        return found

    def augmentation(self, settings: AugmentConfig, size: int, seed: int) -> ViewThenColors:
        """The training augmentation, but for mirroring in turn; the colour basis comes from the training split alone.

        Raises `FigleafError` for settings that contradict each other.
        """
        if settings.alternate and not settings.reflect:
            raise FigleafError("augment.alternate=true: is how pictures are mirrored; set augment.reflect=true, too")
        pca = settings.pca_color in ("eig01", "std")
        return build_augmentation(
            size=size,
            translate=settings.translate,
            larger=settings.larger,
            reflect=settings.reflect and not settings.alternate,
            scale_min=settings.scale_min,
            color_jitter=settings.color_jitter,
            pca_color=settings.pca_color,
            pca_strength=settings.pca_strength,
            basis=ColorBasis.fit(self.pictures.pixels, seed, self.rows("train")) if pca else None,
        )


def reads_masks(model: ModelConfig | SkinConfig | SearchConfig) -> bool:
    """Whether such a model learns from masks as well as from pictures."""
    return isinstance(model, SkinConfig) or (isinstance(model, ModelConfig) and model.head == "dense")


def load_inputs(data: DataConfig, size: int, larger: float, home: Path, *, masks: bool = False) -> Inputs:
    """Read the manifest and decode (or open the cache of) its pictures and, where asked for, its masks."""
    manifest = read_manifest(data, home)
    sizes = dict.fromkeys((size, round(size * larger)))
    pictures = [decode_for(manifest, side, data, home) for side in sizes]
    found: list[Masks | None] = [None]
    if masks:
        found = [decode_masks(manifest, side, **_cache(data, home)) for side in sizes]
    return Inputs(manifest, pictures[0], pictures[-1], found[0], found[-1])
