"""Parts of limbs seen by a network: what it learns, how its maps fit a picture, and the one that we ship."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_skin import odd
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_network import PLANES_IN, LimbNetwork, answer, restored
from figleaf.skin.limb_parts import COSINE, DRAWN, KINDS, NEARNESS, NONE, OF_KINDS, PLANES, SIDE, LimbParts, drawn_parts
from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.storage import load_system, save_system

SKIN, CLOTH = np.array([215, 160, 130]), np.array([40, 60, 120])


def bar(rng: np.random.Generator) -> tuple[RgbU8, Mask, NDArray[np.float32]]:
    """A bar of skin, a thin one a forearm and a thick one a thigh, upright or lying, and its target."""
    thick, lying = rng.random(2) < 0.5
    radius, centre = (14 if thick else 6), rng.uniform(30, 66)
    away = np.abs(np.arange(SIDE) + 0.5 - centre) / radius
    within = np.zeros((SIDE, SIDE), np.bool_)
    within[15:81] = away < 1
    target = np.zeros((SIDE, SIDE, 4), np.float32)
    target[within] = [3 if thick else 2, -1, 0, 0]
    target[..., 3] = np.where(within, 1 - away, 0)
    picture = np.where(within[..., None], SKIN, CLOTH).astype(np.uint8)
    if lying:
        target[..., 1] *= -1
        return picture.transpose(1, 0, 2).copy(), within.T.copy(), target.transpose(1, 0, 2).copy()
    return picture, within, target


def test_it_learns_where_limbs_are_of_which_kind_and_how_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, masks, targets = (list(column) for column in zip(*(bar(rng) for _ in range(72)), strict=True))
    everything = [np.ones_like(mask) for mask in masks]  # a mask that says nothing: the picture has to
    parts = LimbParts(epochs=30, batch=16).fit(pictures[8:], [masks[8:], everything[8:]], np.stack(targets[8:]))
    for picture, mask, target in zip(pictures[:8], [*masks[:4], *everything[:4]], targets[:8], strict=True):
        seen = parts.seen(WorkingPicture.of(picture, mask))
        limb = target[..., 0] > 0
        found = seen[..., NONE] < 0.5
        assert (limb & found).sum() / (limb | found).sum() > 0.8
        kind = int(target[limb][0, 0])
        assert (seen[limb][:, OF_KINDS].argmax(axis=1) == kind - 1).mean() > 0.8
        assert np.sign(np.median(seen[limb][:, COSINE])) == target[limb][0, 1]
        assert seen[target[..., 3] > 0.9][:, NEARNESS].mean() > 0.6 > 0.3 > seen[~limb][:, NEARNESS].mean()
    again, facts = load_system(save_system(parts, tmp_path / "parts.safetensors", {"of": "bars"}))
    assert facts["of"] == "bars"
    working = WorkingPicture.of(pictures[0], masks[0])
    np.testing.assert_array_equal(again.maps(working), parts.maps(working))


def test_fitting_twice_is_the_same_and_another_fit_is_not_answered_by_the_first() -> None:
    rng = np.random.default_rng(0)
    pictures, masks, targets = (list(column) for column in zip(*(bar(rng) for _ in range(4)), strict=True))
    parts = LimbParts(epochs=1, batch=2).fit(pictures, [masks], np.stack(targets))
    working = WorkingPicture.of(pictures[0], masks[0])
    first = parts.seen(working)
    np.testing.assert_array_equal(parts.fit(pictures, [masks], np.stack(targets)).seen(working), first)
    parts.set_params(random_state=1).fit(pictures, [masks], np.stack(targets))
    assert np.abs(parts.seen(working) - first).max() > 1e-3
    with pytest.raises(FigleafError, match=r"targets of shape \(3, 96, 96, 4\): expected \(4, 96, 96, 4\)"):
        parts.fit(pictures, [masks], np.stack(targets[:3]))


def test_what_cannot_be_learnt_from_is_refused_by_name() -> None:
    picture, mask, target = bar(np.random.default_rng(0))
    good = {"pictures": [picture] * 2, "masks": [[mask] * 2], "targets": np.stack([target] * 2)}
    for changed, told in (
        ({"pictures": []}, "expected square ones, at least one"),
        ({"pictures": [picture[:50]] * 2}, "expected square ones"),
        ({"pictures": [picture / 255] * 2}, "picture of float64: expected uint8"),
        ({"masks": []}, "masks: expected one or more series of 2"),
        ({"masks": [[mask]]}, "masks: expected one or more series of 2"),
        ({"masks": [[mask[::2, ::2]] * 2]}, r"mask of shape \(48, 48\): expected \(96, 96\)"),
        ({"targets": good["targets"][..., :3]}, r"targets of shape \(2, 96, 96, 3\)"),
        ({"targets": good["targets"] + 4}, "targets: expected kinds from 0 to 4"),
    ):
        with pytest.raises(FigleafError, match=told):
            LimbParts(epochs=1).fit(**(good | changed))  # type: ignore[arg-type]
    with pytest.raises(FigleafError, match="epochs=0, batch=32: expected at least 1"):
        LimbParts(epochs=0).fit(**good)  # type: ignore[arg-type]


def test_a_mask_of_numbers_is_taken_for_what_it_says_and_the_random_state_of_others_is_left_alone() -> None:
    picture, mask, target = bar(np.random.default_rng(0))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fits = [LimbParts(epochs=1).fit([picture], [[one]], target[None]) for one in (mask, (255 * mask).astype(np.uint8))]
    np.testing.assert_array_equal(torch.rand(3), expected)
    working = WorkingPicture.of(picture, mask)
    np.testing.assert_array_equal(fits[0].seen(working), fits[1].seen(working))


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (96, 64), (33, 47)])
def test_planes_of_any_size_are_answered(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    planes = np.random.default_rng(0).random((*shape, PLANES_IN), np.float32)
    found = answer(LimbNetwork().eval(), planes)
    assert found.shape == (*shape, PLANES)
    np.testing.assert_allclose(found[..., : 1 + len(KINDS)].sum(axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("name", odd())
def test_the_maps_of_odd_pictures_are_at_the_working_size(name: str) -> None:
    picture = odd()[name]
    working = WorkingPicture.of(picture, np.ones(picture.shape[:2], np.bool_))
    maps = drawn_parts().maps(working)
    assert maps.shape == (*working.share.shape, PLANES)
    assert np.isfinite(maps).all()


def test_the_one_that_is_shipped_says_from_what_it_is() -> None:
    parts, facts = load_system(DRAWN)
    assert isinstance(parts, LimbParts)
    assert facts["command"] == "python benchmarks/fit_limb_parts.py"
    assert facts["held_out"]["limb_iou"] > 0.5
    assert drawn_parts() is drawn_parts()


def test_weights_of_another_network_are_refused_by_name() -> None:
    with pytest.raises(FigleafError, match="weights of another network than this figleaf's, fit it again"):
        restored({"first": np.zeros(3, np.float32)})
    weights = dict(drawn_parts().weights_)
    weights["last.bias"] = np.full_like(weights["last.bias"], np.nan)
    with pytest.raises(FigleafError, match="weights that are no numbers"):
        restored(weights)
