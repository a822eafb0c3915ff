"""Maps of skin for the pictures that a pixel model was fitted to, made by models that have not seen them.

Fitted trees are surer of the pictures they know than of any other: a classifier trained on their own maps would trust
maps too much. So each training picture gets its map from a model fitted without the picture's group.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from figleaf.data.decode import resize
from figleaf.progress import track
from figleaf.skin.boosted_pixels import BoostedPixels
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.pixel_planes import SITES, Plane
from figleaf.skin.training_pixels import folds_by_group


def site_map(model: PixelModel, rgb_u8: RgbU8) -> Plane:
    """A fitted model's P(skin) on the grid of sites (SITES, SITES), for features of whole pictures."""
    if isinstance(model, BoostedPixels):
        return model.site_map(rgb_u8)
    probability = model.skin_probability(checked_picture(rgb_u8))
    # By the one resize rule, which knows pictures: 255 steps are fine enough for shares and means
    grey = np.repeat(np.rint(probability * 255).astype(np.uint8)[..., None], 3, axis=2)
    found: Plane = resize(grey, SITES)[..., 0].astype(np.float32) / np.float32(255)
    return found


def fit_with_maps(
    model: PixelModel,
    pictures: Pictures,
    masks: Sequence[Mask | None] | None,
    groups: ArrayLike | None = None,
    *,
    folds: int = 3,
    random_state: int = 0,
) -> tuple[PixelModel, NDArray[np.float32]]:
    """A clone of `model` fitted to all masks, and held-out maps of all pictures (N, SITES, SITES).

    `groups` (N,): pictures that are held out together; by default each alone. A boosted model has folds of its own.
    """
    fitted: PixelModel = clone(model)
    if isinstance(fitted, BoostedPixels):
        return fitted, fitted.fit_with_maps(pictures, masks, groups)
    given = [None] * len(pictures) if masks is None else list(masks)
    numbers = np.arange(len(pictures)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    fold = folds_by_group(numbers, folds, random_state)
    fitted.fit(pictures, given)
    maps = np.empty((len(pictures), SITES, SITES), np.float32)
    for number in track(range(int(fold.max()) + 1), "Skin, held out"):
        known = np.flatnonzero(fold != number).tolist() if fold.any() else list(range(len(pictures)))
        partial = clone(model).fit([pictures[row] for row in known], [given[row] for row in known])
        for row in np.flatnonzero(fold == number).tolist():
            maps[row] = site_map(partial, pictures[row])
    return fitted, maps
