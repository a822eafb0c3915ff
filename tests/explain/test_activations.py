"""Activations as tiles, and channels by how much they prefer a class."""

import numpy as np
import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.explain.activations import activation_tiles, first_channels, most_selective, selectivity
from figleaf.explain.cam import as_images
from figleaf.explain.layers import activations
from small_vgg import network, pictures


def test_tiles_are_the_chosen_channels_each_scaled_by_its_peak() -> None:
    net, rgb = network(), pictures(1)[0]
    (tiles,) = activation_tiles(net, rgb, {"block2_conv1": [5, 0]})
    maps = activations(net, as_images(net, rgb[None]), ["block2_conv1"])["block2_conv1"][0].numpy()
    assert tiles.channels == (5, 0)
    np.testing.assert_allclose(tiles.peak, maps[[5, 0]].max(axis=(1, 2)))
    np.testing.assert_allclose(tiles.tiles[0], np.rint(255 * maps[5] / maps[5].max()), atol=1)


def test_a_silent_channel_has_a_black_tile() -> None:
    net = network(batch_norm=False)
    with torch.no_grad():
        net.convolutions["block1_conv1"].weight[1] = 0
        net.convolutions["block1_conv1"].bias[1] = -1  # type: ignore[index]
    (tiles,) = activation_tiles(net, pictures(1)[0], {"block1_conv1": [0, 1]})
    assert tiles.peak[1] == 0
    assert tiles.tiles[1].max() == 0
    assert tiles.tiles[0].max() == 255


def test_selectivity_is_one_for_a_channel_that_only_one_class_wakes() -> None:
    """Channel 0 takes red minus the rest, channel 1 any light: red against blue pictures."""
    net = network(batch_norm=False)
    conv = net.convolutions["block1_conv1"]
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()  # type: ignore[union-attr]
        conv.weight[0, :, 1, 1] = torch.tensor([1.0, -1.0, -1.0])
        conv.weight[1, :, 1, 1] = 1
    net.set_normalization((0, 0, 0), (255, 255, 255))
    rgb = np.zeros((70, 64, 64, 3), np.uint8)
    rgb[:30, ..., 0] = 200
    rgb[30:, ..., 2] = 200
    labels = np.array([0] * 30 + [1] * 40)
    index = selectivity(net, ["block1_conv1"], rgb, labels)["block1_conv1"]
    assert index[0] == pytest.approx(1)
    assert index[1] == pytest.approx(0, abs=1e-6)
    assert index[2] == 0  # silent
    assert most_selective({"block1_conv1": index}, 2)["block1_conv1"][0] == 0
    assert most_selective({"block1_conv1": index}, 1) == {"block1_conv1": [0]}


def test_selectivity_follows_its_formula_for_three_classes() -> None:
    net, rgb = network(), pictures(9)
    labels = np.array([0, 1, 2] * 3)
    maps = activations(net, as_images(net, rgb), ["block3_conv1"])["block3_conv1"].mean(dim=(2, 3)).numpy()
    means = np.sort(np.stack([maps[labels == name].mean(axis=0) for name in range(3)]), axis=0)
    highest, others = means[2], means[:2].mean(axis=0)
    expected = (highest - others) / (highest + others)
    np.testing.assert_allclose(selectivity(net, ["block3_conv1"], rgb, labels)["block3_conv1"], expected, rtol=1e-4)


def test_fewer_channels_than_asked_for_are_all_of_them() -> None:
    assert first_channels(network(), ["block1_conv1"], 99) == {"block1_conv1": list(range(8))}


def test_a_layer_that_is_none_is_named() -> None:
    with pytest.raises(FigleafError, match="block7_conv1"):
        activation_tiles(network(), pictures(1)[0], {"block7_conv1": [0]})
    with pytest.raises(FigleafError, match="block7_conv1"):
        selectivity(network(), ["block7_conv1"], pictures(2), np.array([0, 1]))
