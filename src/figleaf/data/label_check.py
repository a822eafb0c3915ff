"""Does augmentation keep the label? Where the label is a share of a mask, it can be counted.

The mask is looked at through the same views as its image would be, and its share is held against the rule again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.data.augment import sample_generator
from figleaf.data.decode import DecodeError, RgbU8, decode, resize
from figleaf.data.member import File
from figleaf.data.view import Geometry
from figleaf.errors import FigleafError

UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelRule:
    """Which share of the masked pixels makes which label; in the gap between the two, an image has none.

    Positive from `positive_from` on, negative up to `negative_to`. One threshold for both: `LabelRule(t, t)`; a share
    that meets both is positive. Raises FigleafError unless 0 <= negative_to <= positive_from <= 1.
    """

    positive_from: float
    negative_to: float

    def __post_init__(self) -> None:
        if not 0 <= self.negative_to <= self.positive_from <= 1:
            raise FigleafError(
                f"label rule: negative up to {self.negative_to}, positive from {self.positive_from}: "
                "expected 0 <= negative_to <= positive_from <= 1"
            )

    def positive(self, share: NDArray[np.float64]) -> BoolArray:
        """Whether each share makes a positive."""
        return share >= self.positive_from

    def negative(self, share: NDArray[np.float64]) -> BoolArray:
        """Whether each share makes a negative."""
        return (share <= self.negative_to) & ~self.positive(share)


@dataclass(frozen=True)
class LabelDrift:
    """What became of one label under augmentation: rates over `images` x `views` draws.

    `left`: the share no longer meets the rule of its label (it may be in the gap). `flipped`: it meets the rule of the
    other label, so the network is taught something false. An image at its threshold leaves with any crop, so `left`
    says as much about how many images stand near it as about the augmentation.
    """

    images: int
    views: int
    left: float
    flipped: float


def label_drift(
    masks_u8: UInt8Array,
    geometry: Geometry,
    rule: LabelRule,
    *,
    within_u8: UInt8Array | None = None,
    views: int = 4,
    seed: int = 0,
) -> dict[str, LabelDrift]:
    """Count how often `geometry` carries a mask over the rule, for the labels "positive" and "negative".

    Args:
        masks_u8: (N, H, W), 0 to 255 (antialiased masks keep their shares), cached at `geometry.source_size`.
        within_u8: (N, H, W), what the share is taken of, such as the figures; default the whole picture. With nothing
            of it in view the share is 0.
        views: draws an image; view v of image i is that of epoch v, so these are the views that training would see.

    Images that meet neither rule to begin with are left out; a label without images has rates of 0.
    """
    shares = np.empty((len(masks_u8), views))
    for index, mask in enumerate(masks_u8):
        whole = None if within_u8 is None else within_u8[index]
        for epoch in range(views):
            view = geometry.draw(mask.shape[0], mask.shape[1], sample_generator(seed, epoch, index))
            seen = None if whole is None else geometry.render(whole, view)
            shares[index, epoch] = _share(geometry.render(mask, view), seen)
    before = np.array([_share(mask, None if within_u8 is None else within_u8[i]) for i, mask in enumerate(masks_u8)])
    positive, negative = rule.positive(shares), rule.negative(shares)
    return {
        "positive": _drift(rule.positive(before), stayed=positive, flipped=negative),
        "negative": _drift(rule.negative(before), stayed=negative, flipped=positive),
    }


def load_masks(paths: Sequence[File], size: int) -> UInt8Array:
    """Read masks (white = 255 = inside) as (N, size, size), squashed as their images are.

    Raises FigleafError that names the first that cannot be read.
    """
    return np.stack([resize(_mask(path), size)[..., 0] for path in paths])


def _mask(path: File) -> RgbU8:
    try:
        return decode(path)
    except DecodeError as error:
        raise FigleafError(f"mask {path}: {error.reason}; the augmentation check needs all masks") from error


def _share(mask_u8: UInt8Array, within_u8: UInt8Array | None) -> float:
    whole = 255 * mask_u8.size if within_u8 is None else int(within_u8.sum(dtype=np.int64))
    return int(mask_u8.sum(dtype=np.int64)) / whole if whole else 0.0


def _drift(chosen: BoolArray, *, stayed: BoolArray, flipped: BoolArray) -> LabelDrift:
    """Rates among the rows `chosen` (N,) of `stayed` and `flipped` (N, V)."""
    images, views = int(chosen.sum()), stayed.shape[1]
    if images == 0:
        return LabelDrift(0, views, 0.0, 0.0)
    return LabelDrift(images, views, float((~stayed[chosen]).mean()), float(flipped[chosen].mean()))
