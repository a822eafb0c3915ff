"""The best pixel model here that is no network: boosted trees on colour, surroundings, texture, and their own answer.

Three models follow one another, each seeing what the one before it said. A histogram of colours gives a first map; a
first round of trees sees it together with the planes of `pixel_planes`; a second round sees the map of the first, in
the manner of auto-context (Tu, "Auto-context and its application to high-level vision tasks", CVPR 2008). At last a
guided filter brings the outlines back that were lost on the coarse map.

What a model is trained on must look like what it will meet. So for training each map comes from a model that has not
seen the picture's group: the histograms and the first round are fitted once for every fold, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.fitted_colors import color_bins, smoothed_share
from figleaf.skin.guided import guided_filter
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_picture
from figleaf.skin.pixel_model import PixelModel
from figleaf.skin.pixel_planes import (
    SITE_STRIDE,
    SITES,
    Plane,
    Planes,
    at_size,
    map_planes,
    picture_planes,
    rows_at,
    smoothed_at_sites,
    working_mask,
    working_picture,
)
from figleaf.skin.training_pixels import MaskedPictures, folds_by_group, masked_pictures, require_trees

_BINS = 32  # of the histogram, a channel: Jones & Rehg
_SMOOTHING = 4.0  # pixels added to each of its bins
_L2 = 1.0
_PLANES_SEEN = 0.3  # share of the planes that a cut may choose from: faster, and trees that err in different ways
_GUIDE_PARTS = 20  # the guided filter's radius is this part of (H + W) / 2: 8 px at 160 px
_MAP_NAMES = ("color", "first")  # whose map each round looks at: the histogram's, the first round's


class BoostedPixels(PixelModel):
    """Boosted trees fitted to masks; see the module's docstring for how they follow one another.

    `rounds`: 1 without, 2 with auto-context. `trees`, `leaves`, `learning_rate`, `min_leaf` (pixels): of each round.
    `pixels_per_picture` are drawn for training, at random. `folds`: by how many models the training maps are made.
    `outline`: epsilon of the guided filter, in squared units of full scale; None leaves it out.
    """

    def __init__(
        self,
        rounds: int = 2,
        trees: int = 120,
        leaves: int = 31,
        learning_rate: float = 0.12,
        min_leaf: int = 50,
        pixels_per_picture: int = 60,
        folds: int = 3,
        outline: float | None = 1e-3,
        threshold: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.rounds = rounds
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_leaf = min_leaf
        self.pixels_per_picture = pixels_per_picture
        self.folds = folds
        self.outline = outline
        self.threshold = threshold
        self.random_state = random_state

    def fit(
        self, pictures: Pictures, masks: Sequence[Mask | None] | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fit to the pictures with a mask. `groups` (N,): pictures that belong together and are held out together.

        Raises `FigleafError` where no mask shows both skin and something else.
        """
        self._fit(masked_pictures(pictures, masks, groups), want_maps=False)
        return self

    def fit_with_maps(
        self, pictures: Pictures, masks: Sequence[Mask | None] | None, groups: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Fit, and give every picture's site map (N, SITES, SITES) by trees that have not seen its group.

        For models on top of this one. The maps of the first round, which the trees of the second look at, are held out
        in the same folds; the first rounds behind the *other* folds' maps know the group, which is the usual and small
        imperfection of stacking. Pictures without a mask get the fitted model's own map.
        """
        known = masked_pictures(pictures, masks, groups)
        held_out = dict(zip(known.index.tolist(), self._fit(known, want_maps=True), strict=True))
        maps = [held_out[row] if row in held_out else self.site_map(pictures[row]) for row in range(len(pictures))]
        return np.stack(maps)

    def site_map(self, rgb_u8: RgbU8) -> Plane:
        """P(skin) at the sites of a picture (H, W, 3), (SITES, SITES): coarse, and cheaper than every pixel."""
        check_is_fitted(self)
        working = working_picture(rgb_u8)
        planes = picture_planes(working)
        found = _color_map(self.histogram_, working)
        for name, boosting in zip(_MAP_NAMES, self.rounds_, strict=False):
            planes |= map_planes(name, found, working)
            found = _answer(boosting, planes)
        return found

    def skin_probability(self, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """P(skin) of every pixel of a picture (H, W, 3), (H, W)."""
        return self.at_pixels(self.site_map(rgb_u8), rgb_u8)

    def at_pixels(self, site_map: Plane, rgb_u8: RgbU8) -> NDArray[np.float32]:
        """A site map (SITES, SITES) of a picture (H, W, 3) at its pixels (H, W), with the picture's outlines."""
        height, width, _ = checked_picture(rgb_u8).shape
        found = at_size(site_map, height, width)
        if self.outline is not None:
            radius = round((height + width) / (2 * _GUIDE_PARTS))
            found = guided_filter(rgb_u8, found, radius_px=radius, epsilon=self.outline)
        return np.clip(found, 0, 1)

    def _fit(self, known: MaskedPictures, *, want_maps: bool) -> list[Plane]:
        """Fit all rounds; the held-out maps of the last one where they are wanted, which takes as long again."""
        self._check()
        working = [working_picture(picture) for picture in known.pictures]
        small = [working_mask(mask) for mask in known.masks]
        fold = folds_by_group(known.groups, self.folds, self.random_state)
        training = _Training(working, fold, self._drawn_sites(len(known)))
        skin = training.labels(small)
        self.histogram_, maps = _histograms(training, small)
        rows = training.rows_of_pictures()
        self.rounds_: list[HistGradientBoostingClassifier] = []
        for number in range(self.rounds):
            rows = np.concatenate([rows, training.rows_of_maps(_MAP_NAMES[number], maps)], axis=1)
            self.rounds_.append(self._boosting(rows, skin))
            if want_maps or number + 1 < self.rounds:
                maps = training.held_out_maps(self._boosting_by_fold(rows, skin, training))
        return maps

    def _check(self) -> None:
        if self.rounds not in (1, 2):
            raise FigleafError(f"rounds={self.rounds}: expected 1, or 2 for auto-context")
        require_trees(self.trees, self.leaves)
        if not 1 <= self.pixels_per_picture <= SITES * SITES:
            raise FigleafError(f"pixels_per_picture={self.pixels_per_picture}: expected 1 to {SITES * SITES}")
        if self.outline is not None and not self.outline > 0:
            raise FigleafError(f"outline={self.outline}: expected a number above 0, or null for no guided filter")

    def _drawn_sites(self, count: int) -> NDArray[np.intp]:
        """Sites (count, pixels_per_picture) to learn from, drawn without regard to the mask."""
        order = np.random.default_rng(self.random_state).random((count, SITES * SITES))
        return np.argpartition(order, self.pixels_per_picture - 1, axis=1)[:, : self.pixels_per_picture]

    def _boosting(self, rows: NDArray[np.float32], skin: NDArray[np.bool_]) -> HistGradientBoostingClassifier:
        if skin.all() or not skin.any():
            raise FigleafError(
                f"pixels_per_picture={self.pixels_per_picture}, folds={self.folds}: all pixels to learn from are of "
                "one kind; more pixels, fewer folds or more pictures with masks are needed"
            )
        # Without early stopping, which would set pixels of the same pictures aside and stop too late
        return HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            min_samples_leaf=self.min_leaf,
            l2_regularization=_L2,
            max_features=_PLANES_SEEN,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(rows, skin)

    def _boosting_by_fold(
        self, rows: NDArray[np.float32], skin: NDArray[np.bool_], training: "_Training"
    ) -> list[HistGradientBoostingClassifier]:
        """For each fold a model that has not seen it; the model of all where there is a single group."""
        folds = training.fold.max() + 1
        if folds == 1:
            return self.rounds_[-1:]
        of_row = np.repeat(training.fold, self.pixels_per_picture)
        return [self._boosting(rows[of_row != fold], skin[of_row != fold]) for fold in range(folds)]


@dataclass(frozen=True, eq=False)
class _Training:
    """K working pictures, the fold (K,) of each, the sites (K, n) to learn from, and the maps so far.

    `maps`: for each name one map a picture, by models that have not seen its fold.
    """

    working: list[RgbU8]
    fold: NDArray[np.intp]
    drawn: NDArray[np.intp]
    maps: dict[str, list[Plane]] = field(default_factory=dict)

    def labels(self, working_masks: list[Mask]) -> NDArray[np.bool_]:
        """Whether each site to learn from is skin (K n,)."""
        at_sites = [mask[::SITE_STRIDE, ::SITE_STRIDE].reshape(-1) for mask in working_masks]
        return np.concatenate([mask[sites] for mask, sites in zip(at_sites, self.drawn, strict=True)])

    def rows_of_pictures(self) -> NDArray[np.float32]:
        """The planes of the pictures at the sites to learn from, (K n, F)."""
        pairs = track(zip(self.working, self.drawn, strict=True), "Colour and texture", len(self.working))
        return np.concatenate([rows_at(picture_planes(working), sites) for working, sites in pairs])

    def rows_of_maps(self, name: str, maps: list[Plane]) -> NDArray[np.float32]:
        """Take in maps, one a picture; their planes at the sites to learn from, (K n, F)."""
        self.maps[name] = maps
        triples = zip(maps, self.working, self.drawn, strict=True)
        return np.concatenate(
            [rows_at(map_planes(name, site_map, working), sites) for site_map, working, sites in triples]
        )

    def held_out_maps(self, by_fold: list[HistGradientBoostingClassifier]) -> list[Plane]:
        """The map of each picture by the model of its fold."""
        found = []
        for number in track(range(len(self.working)), "Skin, held out", len(self.working)):
            planes = picture_planes(self.working[number])
            for name, maps in self.maps.items():
                planes |= map_planes(name, maps[number], self.working[number])
            found.append(_answer(by_fold[self.fold[number]], planes))
        return found


def _histograms(training: _Training, masks: list[Mask]) -> tuple[NDArray[np.float32], list[Plane]]:
    """P(skin) by bin of colour (_BINS cubed,) and each picture's map of it, counted without its own fold."""
    folds = int(training.fold.max()) + 1
    counts = np.zeros((folds, 2, _BINS**3), np.int64)
    for fold, working, mask in zip(training.fold, training.working, masks, strict=True):
        numbers = color_bins(working, _BINS)
        for kind, chosen in enumerate((~mask, mask)):
            counts[fold, kind] += np.bincount(numbers[chosen], minlength=_BINS**3)
    total = counts.sum(axis=0)
    without = [total - counts[fold] if folds > 1 else total for fold in range(folds)]
    histograms = [smoothed_share(skin, other, _SMOOTHING).astype(np.float32) for other, skin in [*without, total]]
    maps = [
        _color_map(histograms[fold], working) for fold, working in zip(training.fold, training.working, strict=True)
    ]
    return histograms[-1], maps


def _color_map(histogram: NDArray[np.float32], working: RgbU8) -> Plane:
    return smoothed_at_sites(histogram[color_bins(working, _BINS)])


def _answer(boosting: HistGradientBoostingClassifier, planes: Planes) -> Plane:
    """P(skin) at all sites, (SITES, SITES)."""
    logits = boosting.decision_function(rows_at(planes))
    probability: Plane = expit(logits).astype(np.float32).reshape(SITES, SITES)
    return probability
