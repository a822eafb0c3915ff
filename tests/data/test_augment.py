"""Augmentation belongs to the sample, keeps uint8, and does what its settings say."""

import pickle
from collections.abc import Iterable

import albumentations
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from figleaf.data.augment import Albumentation, Augmentation, build_augmentation, sample_generator
from figleaf.data.collate import image_batch
from figleaf.data.pca_color import ColorBasis
from figleaf.errors import FigleafError

SIZE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)
PIXELS.flags.writeable = False  # as the decode cache is
BASIS = ColorBasis.fit(PIXELS)
KINDS: dict[str, dict[str, object]] = {
    "mirror": {},
    "translate": {"translate": 0.125},
    "larger": {"larger": 1.25},
    "scale": {"scale_min": 0.6},
    "jitter": {"color_jitter": 0.4},
    "eig01": {"pca_color": "eig01", "pca_strength": 1.0},
    "std": {"pca_color": "std"},
    "fancy_pca": {"pca_color": "fancy_pca", "pca_strength": 3.0},
    "all": {"translate": 0.1, "larger": 1.25, "scale_min": 0.5, "color_jitter": 0.2, "pca_color": "std"},
    "all_fancy": {"scale_min": 0.5, "color_jitter": 0.2, "pca_color": "fancy_pca", "pca_strength": 3.0},
}


def build(kind: str) -> Augmentation:
    return build_augmentation(size=SIZE, basis=BASIS, **KINDS[kind])  # type: ignore[arg-type]


def augmented(augmentation: Augmentation, order: Iterable[int], *, seed: int = 7, epoch: int = 3) -> dict[int, bytes]:
    return {i: augmentation(PIXELS[i], sample_generator(seed, epoch, i)).tobytes() for i in order}


class Samples(Dataset[np.ndarray]):
    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.augmentation(PIXELS[index], sample_generator(7, 3, index))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_comes_out_the_same_whatever_came_before_it(kind: str) -> None:
    forwards = augmented(build(kind), range(12))
    one = build(kind)
    augmented(one, [5, 5, 5], epoch=9)  # a used object
    assert augmented(one, reversed(range(12))) == forwards
    ranks = [augmented(build(kind), range(rank, 12, 3)) for rank in range(3)]
    assert {i: image for rank in ranks for i, image in rank.items()} == forwards


@pytest.mark.parametrize("kind", ["all", "all_fancy"])
def test_worker_processes_change_nothing(kind: str) -> None:
    alone, shared_out = (
        torch.cat(list(DataLoader(Samples(build(kind)), batch_size=3, num_workers=workers, collate_fn=image_batch)))
        for workers in (0, 2)
    )
    assert torch.equal(alone, shared_out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_augmentation_does_the_same_as_for_spawned_workers(kind: str) -> None:
    original = build(kind)
    augmented(original, range(4), epoch=1)
    assert augmented(pickle.loads(pickle.dumps(original)), range(12)) == augmented(build(kind), range(12))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_epoch_and_index_each_change_the_draw(kind: str) -> None:
    augmentation, image = build(kind), PIXELS[0]
    for which in range(3):
        keys = [tuple(value if place == which else 1 for place in range(3)) for value in range(24)]
        seen = {augmentation(image, sample_generator(*key)).tobytes() for key in keys}
        assert len(seen) == 2 if kind == "mirror" else len(seen) > 12


def test_generators_of_neighbouring_samples_are_unrelated() -> None:
    draws = np.array([[sample_generator(s, e, i).random(4) for i in range(50)] for s in range(4) for e in range(10)])
    assert len(np.unique(draws)) == draws.size
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.03
    assert abs(draws.mean() - 0.5) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_out_is_a_new_contiguous_uint8_square(kind: str) -> None:
    augmentation = build(kind)
    for index in range(12):
        image = augmentation(PIXELS[index], sample_generator(0, 0, index))
        assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert not np.shares_memory(image, PIXELS)


def test_with_everything_off_the_picture_stays_and_is_still_a_copy() -> None:
    off = build_augmentation(size=40, reflect=False)
    image = off(PIXELS[0], sample_generator(0, 0, 0))
    assert np.array_equal(image, PIXELS[0])
    assert not np.shares_memory(image, PIXELS)


def test_color_operations_do_not_move_the_crop() -> None:
    """So arms of a study that differ in colour alone see the same crops of the same pictures."""
    plain = build_augmentation(size=SIZE, scale_min=0.5, translate=0.1)
    shifted = build_augmentation(size=SIZE, scale_min=0.5, translate=0.1, pca_color="std", basis=BASIS)
    mid = (PIXELS // 4 + 96).astype(np.uint8)  # far from 0 and 255: nothing is clipped
    for index in range(12):
        a, b = (operation(mid[index], sample_generator(1, 2, index)).astype(int) for operation in (plain, shifted))
        assert np.ptp(b - a, axis=(0, 1)).tolist() == [0, 0, 0]


def test_color_jitter_keeps_grey_grey_and_within_its_range() -> None:
    grey = np.full((SIZE, SIZE, 3), 100, np.uint8)
    jitter = build_augmentation(size=SIZE, color_jitter=0.2)
    values = np.array([jitter(grey, sample_generator(0, 0, i)) for i in range(200)])
    assert np.array_equal(values.min(axis=3), values.max(axis=3))
    assert 79 <= values.min() < 85
    assert 115 < values.max() <= 121


def test_nested_albumentations_transforms_follow_the_sample_too() -> None:
    """Were one generator missed, a used or permuted pipeline would give other pictures."""

    def nested() -> Albumentation:
        a = albumentations
        return Albumentation(
            a.Compose(
                [
                    a.OneOf(
                        [a.HueSaturationValue(p=1.0), a.RandomBrightnessContrast(p=1.0), a.GaussNoise(p=1.0)], p=0.9
                    ),
                    a.SomeOf([a.FancyPCA(alpha=2.0, p=1.0), a.ISONoise(p=1.0), a.RGBShift(p=1.0)], n=2),
                    a.Sequential([a.CoarseDropout(p=0.7), a.Compose([a.ShiftScaleRotate(p=0.8)])], p=0.9),
                ]
            )
        )

    forwards = augmented(nested(), range(12))
    used = nested()
    augmented(used, [3, 1, 3], epoch=5)
    assert augmented(used, reversed(range(12))) == forwards
    assert augmented(used, range(12), epoch=4) != forwards


def test_a_batch_is_one_copy_in_channels_last_memory() -> None:
    batch = image_batch(list(PIXELS))
    assert (batch.shape, batch.dtype) == ((12, 3, 40, 40), torch.uint8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch.numpy(), PIXELS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_min", 0.0),
        ("scale_min", 1.5),
        ("translate", -0.1),
        ("translate", 0.7),
        ("larger", 0.5),
        ("color_jitter", 1.0),
        ("pca_strength", -1.0),
        ("pca_color", "eig255"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value_and_the_way_out(key: str, value: object) -> None:
    with pytest.raises(FigleafError, match=rf"augment\.{key}={value}: expected"):
        build_augmentation(size=SIZE, **{key: value})  # type: ignore[arg-type]


def test_pca_color_without_a_basis_is_refused() -> None:
    with pytest.raises(ValueError, match="ColorBasis"):
        build_augmentation(size=SIZE, pca_color="std")
