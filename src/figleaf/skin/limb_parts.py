"""Where in a picture limbs are, of which kind, and how they lie: a network's word, which has the whole picture in view.

A ribbon and its edges (`limb_evidence`) do not tell an arm from a strip of a chest. Whether a pixel is of a limb, and
of which part, is learnt from drawn figures, whose parts are known, as Shotton et al. did for depth ("Real-time human
pose recognition in parts from single depth images", CVPR 2011).
"""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.medial_axes import WORKING_SIDE
from figleaf.skin.pictures import Mask, Pictures, checked_mask, checked_picture

DRAWN = Path(__file__).with_name("limb_parts.safetensors")
KINDS = ("upper_arm", "forearm", "thigh", "shin")
NONE, OF_KINDS, COSINE, SINE, NEARNESS = 0, slice(1, 5), 5, 6, 7  # the planes of a map
PLANES = 8
SIDE = 96  # longer side in pixels at which pictures are looked at: that of the drawn scenes
_LAB_UNIT = 100.0

Floats = NDArray[np.floating[Any]]


class LimbParts(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Maps of the parts of limbs in a picture and its mask of skin; see `limb_network` for what makes them."""

    def __init__(self, epochs: int = 10, batch: int = 32, random_state: int = 0) -> None:
        self.epochs = epochs
        self.batch = batch
        self.random_state = random_state

    def fit(self, pictures: Pictures, masks: Sequence[Sequence[Mask]], targets: Floats) -> Self:
        """Learn from K square pictures what is seen in them.

        `masks`: one or more series of K, of which one is drawn each time that a picture is looked at; `targets`
        (K, SIDE, SIDE, 4): the number of the kind in `KINDS` from 1, 0 for no limb; cosine and sine of twice its
        direction; nearness to its axis, 1 there and 0 at its edges. Raises `FigleafError` where they do not fit one
        another.
        """
        from figleaf.skin.limb_network import trained

        self._check(pictures, masks, targets)
        self.__dict__.pop("_network", None)
        seen = [
            np.stack(
                [
                    _looked_at(WorkingPicture.of(picture, checked_mask(mask, picture))).astype(np.float16)
                    for picture, mask in zip(pictures, of, strict=True)
                ]
            )
            for of in masks
        ]
        lab, shares = seen[0][..., :3], [one[..., 3] for one in seen]
        self.weights_: dict[str, NDArray[Any]] = trained(
            lab, shares, targets, epochs=self.epochs, batch=self.batch, seed=self.random_state
        )
        return self

    def _check(self, pictures: Pictures, masks: Sequence[Sequence[Mask]], targets: Floats) -> None:
        if min(self.epochs, self.batch) < 1:
            raise FigleafError(f"epochs={self.epochs}, batch={self.batch}: expected at least 1")
        sizes = {checked_picture(picture).shape[:2] for picture in pictures}
        if not sizes or any(height != width for height, width in sizes):
            raise FigleafError(f"pictures of {sorted(sizes)} pixels: expected square ones, at least one")
        if not masks or any(len(of) != len(pictures) for of in masks):
            raise FigleafError(f"masks: expected one or more series of {len(pictures)}, as there are pictures")
        if np.shape(targets) != (len(pictures), SIDE, SIDE, 4):
            raise FigleafError(f"targets of shape {np.shape(targets)}: expected {(len(pictures), SIDE, SIDE, 4)}")
        if not np.isin(targets[..., 0], range(1 + len(KINDS))).all() or not np.isfinite(targets).all():
            raise FigleafError(f"targets: expected kinds from 0 to {len(KINDS)} and finite numbers")

    def seen(self, working: WorkingPicture) -> Floats:
        """Of a picture with its mask, its longer side `SIDE` pixels, (h, w, PLANES).

        The probabilities of no limb and of each of `KINDS`, cosine and sine of twice the direction, and nearness.
        """
        from figleaf.skin.limb_network import answer

        check_is_fitted(self)
        return answer(self._network, _looked_at(working))

    def maps(self, working: WorkingPicture) -> Floats:
        """The same at the working size."""
        height, width = working.share.shape
        maps: Floats = cv2.resize(self.seen(working), (width, height), interpolation=cv2.INTER_LINEAR)
        return maps

    @cached_property
    def _network(self) -> Any:
        from figleaf.skin.limb_network import restored

        return restored(self.weights_)


@cache
def drawn_parts() -> LimbParts:
    """The one that the package brings, of drawn scenes; `benchmarks/fit_limb_parts.py` made it."""
    from figleaf.skin.storage import load_system

    parts, _ = load_system(DRAWN)
    assert isinstance(parts, LimbParts)
    return parts


def _looked_at(working: WorkingPicture) -> Floats:
    """L, a and b, and the share of skin, (h, w, 4)."""
    planes = np.dstack([working.lab / _LAB_UNIT, working.share])
    height, width = working.share.shape
    size = max(1, round(width * SIDE / WORKING_SIDE)), max(1, round(height * SIDE / WORKING_SIDE))
    smaller: Floats = cv2.resize(planes, size, interpolation=cv2.INTER_AREA)
    return smaller
