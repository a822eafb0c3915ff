"""Augmentation: uint8 pictures in, uint8 pictures out, a function of the picture and a generator alone.

The generator belongs to the sample (`sample_generator`), so what a sample becomes depends on (seed, epoch, index) and
on nothing else: not on worker processes, ranks, the order of loading, or a resume.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from figleaf.data.pca_color import ColorBasis, PcaColor, Scaling
from figleaf.data.view import Geometry
from figleaf.errors import FigleafError

UInt8Array = NDArray[np.uint8]

PCA_COLORS = ("none", *Scaling, "fancy_pca")


class Augmentation(Protocol):
    """An image (H, W, 3), uint8 RGB, and the sample's generator in; a new contiguous uint8 (S, S, 3) out."""

    def __call__(self, rgb_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give the augmented image; `rgb_u8` is left as it is."""
        ...


def sample_generator(seed: int, epoch: int, index: int) -> Generator:
    """Give the generator of sample `index` (its place in the data set, not in a batch) in one epoch, in about 10 µs."""
    return Generator(np.random.PCG64(SeedSequence((seed, epoch, index))))


def mirrored_in_turn(image_u8: UInt8Array, seed: int, epoch: int, index: int) -> UInt8Array:
    """The image (H, W[, channels]), mirrored left and right in every other epoch; a coin says in the odd or the even.

    With random mirroring a picture is seen the same way round in two epochs that follow each other half of the time.
    In turn, it never is ("alternating flip", Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU").
    """
    coin = SeedSequence((seed, index)).generate_state(1)[0]
    return np.ascontiguousarray(image_u8[:, ::-1]) if (int(coin) + epoch) % 2 else image_u8


@dataclass(frozen=True)
class RandomView:
    """Looks at a random part of the image: the geometric step."""

    geometry: Geometry

    def __call__(self, rgb_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give what a freshly drawn view shows, (size, size, 3)."""
        return self.geometry.render(rgb_u8, self.geometry.draw(rgb_u8.shape[0], rgb_u8.shape[1], rng))


@dataclass(frozen=True)
class Albumentation:
    """Any albumentations transform or composition, its randomness taken from the sample's generator.

    Left alone, a transform keeps a generator from its construction: every worker and every epoch repeats its draws.
    `set_random_state` reaches nested transforms as well, and costs a hundredth of `set_random_seed`.
    """

    transform: Any

    def __call__(self, rgb_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give the transformed image."""
        self.transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))  # noqa: S311 (not for secrets)
        return np.ascontiguousarray(self.transform(image=rgb_u8)["image"], dtype=np.uint8)


@dataclass(frozen=True)
class ViewThenColors:
    """A random view, then changes of its colours in turn, all drawing from the same generator."""

    view: RandomView
    colors: Sequence[Augmentation]

    def __call__(self, rgb_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give the image after all steps."""
        rgb_u8 = self.view(rgb_u8, rng)
        for color in self.colors:
            rgb_u8 = color(rgb_u8, rng)
        return rgb_u8

    def of_mask(self, mask_u8: UInt8Array, rng: Generator) -> UInt8Array:
        """Give what becomes of the image's mask (H, W): it is moved as the image is, and no colour of it changes.

        `rng` is to begin where the image's began; the view draws first.
        """
        return self.view(mask_u8, rng)


def build_augmentation(
    *,
    size: int,
    translate: float = 0.0,
    larger: float = 1.0,
    reflect: bool = True,
    scale_min: float = 1.0,
    color_jitter: float = 0.0,
    pca_color: str = "none",
    pca_strength: float = 0.1,
    basis: ColorBasis | None = None,
) -> ViewThenColors:
    """Give the augmentation that the `augment` configuration describes.

    Args:
        size, translate, larger, reflect, scale_min: see `figleaf.data.view.Geometry`.
        color_jitter: brightness, contrast and saturation are multiplied with factors in [1 - x, 1 + x], in random
            order. No hue: it would turn skin into something else.
        pca_color: "none", "eig01" or "std" (AlexNet's shift, see `Scaling`), "fancy_pca" (albumentations' operation).
        pca_strength: standard deviation of the draw along each axis; the paper's is 0.1.
        basis: the training split's colours; "eig01" and "std" need it.

    Raises FigleafError for a value outside its range, ValueError when a needed `basis` is missing.
    """
    if not 0 <= color_jitter < 1:
        raise FigleafError(f"augment.color_jitter={color_jitter}: expected 0 <= x < 1")
    if pca_strength < 0:
        raise FigleafError(f"augment.pca_strength={pca_strength}: expected 0 <= x")
    if pca_color not in PCA_COLORS:
        raise FigleafError(f"augment.pca_color={pca_color}: expected one of {', '.join(PCA_COLORS)}")
    geometry = Geometry(size, translate=translate, larger=larger, reflect=reflect, scale_min=scale_min)
    colors: list[Augmentation] = []
    # The published order (fb.resnet.torch): jitter first, then the shift of the light.
    if color_jitter > 0:
        colors.append(_color_jitter(color_jitter))
    if pca_color == "fancy_pca":
        colors.append(_fancy_pca(pca_strength))
    elif pca_color != "none":
        if basis is None:
            raise ValueError(f"pca_color={pca_color} needs the training split's ColorBasis")
        colors.append(PcaColor(basis, pca_strength, Scaling(pca_color)))
    return ViewThenColors(RandomView(geometry), tuple(colors))


def _color_jitter(amount: float) -> Albumentation:
    # Imported here and below: albumentations takes two seconds, and most runs have no use for it.
    import albumentations

    return Albumentation(albumentations.ColorJitter(amount, amount, amount, hue=0.0, p=1.0))


def _fancy_pca(strength: float) -> Albumentation:
    import albumentations

    return Albumentation(albumentations.FancyPCA(alpha=strength, p=1.0))
