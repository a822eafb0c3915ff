"""Maps held against what is known: a network that looks at one place, and masks that say which."""

import numpy as np
import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.explain.cam import class_maps
from figleaf.explain.faithfulness import (
    MEASURES,
    best_threshold,
    impute,
    map_measures,
    maps_of,
    pixel_f1,
    require_map,
)
from figleaf.vgg.network import VGG
from small_vgg import network, pictures


def red_detector() -> VGG:
    """Class 1 speaks for red: the first channel passes it through all layers."""
    net = network(batch_norm=False)
    with torch.no_grad():
        for layer in net.convolutions.values():
            layer.weight.zero_()
            layer.bias.zero_()  # type: ignore[union-attr]
            layer.weight[0, 0, 1, 1] = 1
        first = net.convolutions["block1_conv1"].weight
        first[0, 1, 1, 1] = first[0, 2, 1, 1] = -1
        net.layers["predictions"].get_parameter("weight").zero_()[1, 0] = 4
        net.layers["predictions"].get_parameter("bias").copy_(torch.tensor([0.0, -2.0]))
    return net


def red_squares() -> tuple[np.ndarray, np.ndarray]:
    """Grey noise with a red square each, and the masks of the squares; none is in the middle."""
    rgb = np.random.default_rng(0).integers(90, 110, (4, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((4, 64, 64), bool)
    for row, (top, left) in enumerate([(4, 4), (4, 44), (44, 4), (44, 44)]):
        rgb[row, top : top + 16, left : left + 16] = (250, 10, 10)
        masks[row, top : top + 16, left : left + 16] = True
    return rgb, masks


def test_a_perfect_map_beats_the_floors_and_its_opposite_loses_to_them() -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    perfect = map_measures(net, rgb, masks.astype(np.float32), 1, masks)
    opposite = map_measures(net, rgb, (~masks).astype(np.float32), 1, masks)
    for floor in ("random", "gaussian"):
        measured = map_measures(net, rgb, maps_of(net, rgb, 1, floor), 1, masks)
        for name in ("insertion", "road", "pointing", "map_iou", "map_auroc"):
            assert perfect[name].mean() > measured[name].mean(), (floor, name)
        assert perfect["deletion"].mean() < measured["deletion"].mean(), floor
        assert opposite["road"].mean() < measured["road"].mean(), floor
    assert perfect["pointing"].tolist() == [1, 1, 1, 1]
    assert perfect["map_iou"].tolist() == [1, 1, 1, 1]
    assert perfect["map_auroc"].tolist() == [1, 1, 1, 1]
    assert opposite["pointing"].sum() == 0


@pytest.mark.parametrize("method", ["cam", "hirescam", "layercam"])
def test_the_maps_of_a_network_that_looks_at_one_place_are_true(method: str) -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    found = map_measures(net, rgb, maps_of(net, rgb, 1, method), 1, masks)
    floor = map_measures(net, rgb, maps_of(net, rgb, 1, "gaussian"), 1, masks)
    assert found["road"].mean() > floor["road"].mean() + 0.05
    assert found["map_auroc"].mean() > 0.65  # cells of 16 pixels and more, seen through five poolings
    assert found["silent_map"].sum() == 0


def test_measures_are_seeded_and_do_not_depend_on_the_company() -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    silent = np.zeros((4, 64, 64), np.float32)
    one, two = (map_measures(net, rgb, silent, 1, masks) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in MEASURES)
    alone = map_measures(net, rgb[:1], silent[:1], 1, masks[:1])
    assert all(alone[name][0] == pytest.approx(one[name][0], abs=1e-6) for name in MEASURES)
    other = map_measures(net, rgb, silent, 1, masks, seed=1)
    assert not np.array_equal(other["deletion"], one["deletion"])


def test_a_silent_map_is_said_to_be_and_does_as_well_as_chance() -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    found = map_measures(net, rgb, np.zeros((4, 64, 64), np.float32), 1, masks)
    assert found["silent_map"].tolist() == [1, 1, 1, 1]
    assert found["map_auroc"].tolist() == [0.5] * 4
    assert found["map_iou"].mean() < 0.1


def test_without_masks_or_with_empty_or_full_ones_only_the_answers_count() -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    maps = masks.astype(np.float32)
    masks = masks.copy()
    masks[0], masks[1] = False, True
    found = map_measures(net, rgb, maps, 1, masks)
    assert np.isnan(found["map_iou"]).tolist() == [True, True, False, False]
    assert np.isfinite(found["road"]).all()
    assert np.isnan(map_measures(net, rgb, maps, 1, None)["pointing"]).all()


def test_progress_is_told_by_the_picture() -> None:
    net, (rgb, masks) = red_detector(), red_squares()
    done: list[int] = []
    map_measures(net, rgb, masks.astype(np.float32), 1, masks, on_done=done.append)
    assert done == [1, 1, 1, 1]


def test_filling_in_keeps_what_is_kept_and_is_smooth_elsewhere() -> None:
    across = np.linspace(20, 230, 48)
    picture = np.broadcast_to(across[None, :, None], (48, 48, 3)).round().astype(np.uint8)
    removed = np.zeros((48, 48), bool)
    removed[10:30, 12:36] = True
    filled = impute(picture, removed, np.random.default_rng(0))
    assert np.array_equal(filled[~removed], picture[~removed])
    # A ramp is the mean of its neighbours everywhere: it comes back, but for the noise.
    assert np.abs(filled[removed].astype(float) - picture[removed]).mean() < 4
    assert np.array_equal(impute(picture, np.zeros_like(removed), np.random.default_rng(0)), picture)
    flat = impute(picture, np.ones_like(removed), np.random.default_rng(0))
    assert np.ptp(flat) == 0


def test_the_floors_have_the_form_they_say() -> None:
    gaussian = maps_of(network(), pictures(2), 0, "gaussian")
    assert np.array_equal(gaussian[0], gaussian[1])
    assert gaussian[0, 31:33, 31:33].min() == gaussian[0].max()
    np.testing.assert_allclose(gaussian[0], gaussian[0].T)
    random = maps_of(network(), pictures(2), 0, "random")
    assert not np.array_equal(random[0], random[1])
    assert np.array_equal(random, maps_of(network(), pictures(2), 0, "random"))
    assert not np.array_equal(random, maps_of(network(), pictures(2), 0, "random", seed=1))


def test_maps_of_a_method_are_those_it_shows() -> None:
    net = network()
    np.testing.assert_array_equal(
        maps_of(net, pictures(), 1, "hirescam"), class_maps(net, pictures(), 1, "hirescam").shown(64)
    )


def test_the_best_threshold_finds_the_masks() -> None:
    masks = red_squares()[1]
    maps = np.where(masks, 0.7, 0.4).astype(np.float32)
    at = best_threshold(maps, masks)
    assert 0.4 < at <= 0.7
    assert pixel_f1(maps, masks, at) == 1
    assert pixel_f1(maps, masks, 0.9) == 0


def test_methods_that_do_not_go_with_a_head_are_named() -> None:
    require_map("gap", "cam")
    require_map("fc", "random")
    with pytest.raises(FigleafError, match="explain=cam: not for networks with a fc head"):
        require_map("fc", "cam")
    with pytest.raises(FigleafError, match="explain=gaussian: not for networks with a dense head"):
        require_map("dense", "gaussian")
    with pytest.raises(FigleafError, match=r"explain=nothing: expected one of cam, .*gaussian"):
        require_map("gap", "nothing")
