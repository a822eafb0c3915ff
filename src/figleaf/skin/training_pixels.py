"""Which pictures, pixels and folds a pixel model learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold

from figleaf.errors import FigleafError
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture


@dataclass(frozen=True, eq=False)
class MaskedPictures:
    """The pictures whose mask is known: `pictures` and `masks` of equal sizes, `index` (K,) of each in what was given.

    `groups` (K,) numbers pictures that belong together; each is on its own where no groups were given.
    """

    pictures: list[RgbU8]
    masks: list[Mask]
    index: NDArray[np.intp]
    groups: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.pictures)


def masked_pictures(
    pictures: Pictures, masks: Sequence[Mask | None] | None, groups: ArrayLike | None = None
) -> MaskedPictures:
    """Those of `pictures` (N) with a mask. Raises `FigleafError` unless there is skin and something else to learn."""
    given = [None] * len(pictures) if masks is None else list(masks)
    named = np.arange(len(pictures)) if groups is None else np.asarray(groups)
    if len(given) != len(pictures) or named.shape != (len(pictures),):
        raise FigleafError(
            f"{len(pictures)} pictures with {len(given)} masks and groups of shape {named.shape}: expected one of each"
        )
    index = np.array([row for row, mask in enumerate(given) if mask is not None], np.intp)
    chosen = [checked_picture(pictures[row]) for row in index]
    known = [np.asarray(given[row], np.bool_) for row in index]
    for row, picture, mask in zip(index, chosen, known, strict=True):
        if mask.shape != picture.shape[:2]:
            raise FigleafError(f"mask {row} of shape {mask.shape}: expected {picture.shape[:2]}, as its picture")
    if not (any(mask.any() for mask in known) and any(not mask.all() for mask in known)):
        raise FigleafError(
            f"{len(known)} of {len(pictures)} pictures have a mask, and these do not show both skin and other pixels: "
            "a model of skin is fitted to masks of both (the mask column of the manifest)"
        )
    return MaskedPictures(chosen, known, index, np.unique(named[index], return_inverse=True)[1])


def sampled_colors(
    known: MaskedPictures, pixels_per_picture: int, random_state: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours (M, 3) and whether each is skin (M,), at most `pixels_per_picture` of each picture, drawn at random.

    Drawn without regard to the mask, so that the share of skin is that of the pictures.
    """
    if pixels_per_picture < 1:
        raise FigleafError(f"pixels_per_picture={pixels_per_picture}: expected at least 1")
    rng = np.random.default_rng(random_state)
    colors, skin = [], []
    for picture, mask in zip(known.pictures, known.masks, strict=True):
        drawn = rng.permutation(mask.size)[:pixels_per_picture]
        colors.append(picture.reshape(-1, 3)[drawn])
        skin.append(mask.reshape(-1)[drawn])
    return np.concatenate(colors), np.concatenate(skin)


def folds_by_group(groups: NDArray[np.intp], folds: int, random_state: int) -> NDArray[np.intp]:
    """The fold (N,) of each sample, from 0, no group in two; fewer folds where there are fewer groups.

    All are in fold 0 when there is one group: then nothing can be held out.
    """
    if folds < 2:
        raise FigleafError(f"folds={folds}: expected at least 2")
    fold = np.zeros(len(groups), np.intp)
    count = min(folds, len(np.unique(groups)))
    if count > 1:
        parts = GroupKFold(count, shuffle=True, random_state=random_state).split(fold, groups=groups)
        for number, (_, held_out) in enumerate(parts):
            fold[held_out] = number
    return fold


def require_trees(trees: int, leaves: int) -> None:
    """Raises `FigleafError` for numbers of which no boosted trees can be made."""
    if trees < 1:
        raise FigleafError(f"trees={trees}: expected at least 1")
    if leaves < 2:
        raise FigleafError(f"leaves={leaves}: expected at least 2")
