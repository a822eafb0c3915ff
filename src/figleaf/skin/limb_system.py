"""The grouper as a system: a picture with enough skin is unsafe only where its skin forms a structure of limbs.

As in the paper the area comes first and the grouper has the last word: "a sufficiently complex structure was found".
Another system learns from labels what the numbers about the groups say, by minimum distance.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.area import FLECK_AREA
from figleaf.skin.image_system import ImageSystem, MaskRule, beyond, checked_labels
from figleaf.skin.limb_gallery import drawn_gallery
from figleaf.skin.limb_groups import Groups, group_features, grouped
from figleaf.skin.limb_judge import drawn_judge
from figleaf.skin.limbs import limb_segments
from figleaf.skin.minimum_distance import MahalanobisMean, NearestMean
from figleaf.skin.pictures import Mask, Pictures, RgbU8, checked_mask, checked_picture
from figleaf.skin.pixel_model import PixelModel

STRUCTURES = {"segment": 1, "limb": 2, "girdle": 3, "both": 4}
DISTANCES: Mapping[str, type[NearestMean]] = {"nearest_mean": NearestMean, "mahalanobis": MahalanobisMean}
_STEP_LOGIT = 2.0  # between the bounds that two levels of missing structure set


class LimbRule(MaskRule):
    """Unsafe when the share of skin reaches `area` in (0, 1) and the skin holds at least the named `structure`.

    "segment": one ribbon; "limb": two that meet; "girdle": two limbs side by side, or a trunk with a thigh; "both" of
    these. `verified` and `judged`: see `picture_groups`. The score is the margin of the area; where structure is
    missing at most -1, and 2 less a further level, so that it is at least 0 exactly where both hold.
    """

    def __init__(
        self,
        pixel_model: PixelModel,
        area: float = FLECK_AREA,
        structure: str = "girdle",
        verified: bool = False,
        judged: bool = False,
    ) -> None:
        self.pixel_model = pixel_model
        self.area = area
        self.structure = structure
        self.verified = verified
        self.judged = judged

    def groups(self, rgb_u8: RgbU8) -> Groups:
        """What was found in a picture (H, W, 3)."""
        return self._groups(rgb_u8, self.pixel_model_.skin_mask(checked_picture(rgb_u8)))

    def _groups(self, rgb_u8: RgbU8, mask: Mask) -> Groups:
        return picture_groups(rgb_u8, mask, verified=self.verified, judged=self.judged)

    def check(self) -> None:
        """Raises `FigleafError` for an area outside its range and for an unknown structure."""
        if not 0 < self.area < 1:
            raise FigleafError(f"area={self.area}: expected 0 < x < 1")
        if self.structure not in STRUCTURES:
            raise FigleafError(f"structure={self.structure}: expected {', '.join(STRUCTURES)}")

    def margin(self, rgb_u8: RgbU8) -> float:
        """The smaller of the margins of area and structure."""
        self.check()
        mask = self.pixel_model_.skin_mask(checked_picture(rgb_u8))
        found = self._groups(rgb_u8, mask)
        levels = found.complexity - STRUCTURES[self.structure]
        share = beyond(float(mask.mean()), self.area)
        return min(share, _STEP_LOGIT * (levels + 0.5)) if levels < 0 else share


class LimbDistance(ImageSystem):
    """A minimum-distance classifier, see `DISTANCES`, of the numbers about a picture's skin and its groups of limbs."""

    def __init__(
        self,
        pixel_model: PixelModel,
        distance: str = "mahalanobis",
        verified: bool = False,
        judged: bool = False,
    ) -> None:
        self.pixel_model = pixel_model
        self.distance = distance
        self.verified = verified
        self.judged = judged

    def fit(
        self,
        pictures: Pictures,
        labels: ArrayLike,
        masks: Sequence[Mask | None] | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the pixel model, and the class means to the labels (N,)."""
        if self.distance not in DISTANCES:
            raise FigleafError(f"distance={self.distance}: expected {', '.join(DISTANCES)}")
        labels = checked_labels(labels, len(pictures))
        self.pixel_model_: PixelModel = clone(self.pixel_model).fit(pictures, masks, groups)
        self.classifier_ = DISTANCES[self.distance]().fit(self._features(pictures), labels)
        return self

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, 2) of safe and unsafe: the nearer, the likelier."""
        check_is_fitted(self)
        return self.classifier_.predict_proba(self._features(pictures)) if len(pictures) else np.zeros((0, 2))

    def _features(self, pictures: Pictures) -> NDArray[np.float64]:
        rows = []
        for picture in track(pictures, "Limbs", len(pictures)):
            mask = self.pixel_model_.skin_mask(checked_picture(picture))
            groups = picture_groups(picture, mask, verified=self.verified, judged=self.judged)
            rows.append(group_features(mask, groups))
        return np.stack(rows)


def picture_groups(rgb_u8: RgbU8, mask: Mask, *, verified: bool = False, judged: bool = False) -> Groups:
    """The groups in the mask (H, W) of a picture (H, W, 3).

    With `judged` of the likeliest of many ribbons, from between creases of the skin and where a network sees limbs, as
    `drawn_judge` says, else of the mask's own. With `verified` only those count that look like a limb of the drawn
    gallery. Raises `FigleafError` where the two do not fit one another.
    """
    mask = checked_mask(mask, checked_picture(rgb_u8))
    segments = drawn_judge().limbs(rgb_u8, mask) if judged else limb_segments(mask)
    return grouped(drawn_gallery().verified(rgb_u8, mask, segments) if verified else segments)
