"""What filters look for: higher than where it began, seeded, the same alone as in company; the dead are said to be."""

import numpy as np
import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.explain.filters import CLASSIC, FOURIER, RECIPES, Recipe, maximise
from figleaf.explain.layers import up_to_wanted
from figleaf.vgg.network import VGG
from small_vgg import network

SHORT = {"classic": Recipe("pixels", 20, 1.0), "fourier": Recipe("fourier", 20, 0.05, 12.0, 0.1, 10.0)}


def response(net: VGG, layer: str, number: int, picture: np.ndarray) -> float:
    with torch.no_grad():
        maps = up_to_wanted(net, layer)(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float())
    return float(maps[0, number].mean())


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("layer", ["block1_conv1", "block3_conv2"])
def test_a_filters_picture_drives_it_higher_than_noise_does(recipe: str, layer: str) -> None:
    net = network()
    found = maximise(net, layer, [0, 3, 5], SHORT[recipe])
    noise = np.random.default_rng(0).integers(108, 148, (64, 64, 3), dtype=np.uint8)
    for number, picture, claimed in zip(found.filters, found.pictures, found.response, strict=True):
        reached = response(net, layer, number, picture)
        assert reached > response(net, layer, number, noise)
        assert reached == pytest.approx(claimed, rel=0.02, abs=0.02)  # the pictures are rounded to whole levels


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_picture_depends_on_its_own_seed_alone(recipe: str) -> None:
    net = network()
    together = maximise(net, "block2_conv1", [1, 4, 6], SHORT[recipe])
    alone = maximise(net, "block2_conv1", [4], SHORT[recipe])
    in_twos = maximise(net, "block2_conv1", [1, 4, 6], SHORT[recipe], batch=2)
    other = maximise(net, "block2_conv1", [4], SHORT[recipe], seed=1)
    apart = np.abs(together.pictures[1].astype(int) - alone.pictures[0])
    assert (apart > 8).mean() < 0.02  # rounding is not the same in a batch of another size
    assert (np.abs(together.pictures.astype(int) - in_twos.pictures) > 8).mean() < 0.02
    assert (np.abs(other.pictures[0].astype(int) - alone.pictures[0]) > 8).mean() > 0.05
    again = maximise(net, "block2_conv1", [4], SHORT[recipe])
    assert np.array_equal(again.pictures, alone.pictures)


def test_a_dead_filter_is_said_to_be_dead() -> None:
    net = network(batch_norm=False)
    with torch.no_grad():
        conv = net.convolutions["block1_conv1"]
        conv.weight[2] = 0
        conv.bias[2] = -1  # type: ignore[index]
    found = maximise(net, "block1_conv1", [1, 2], SHORT["classic"])
    assert found.dead.tolist() == [False, True]
    assert found.response[1] == pytest.approx(-1)


@pytest.mark.parametrize("objective", ["mean", "sum", "centre"])
def test_objectives_climb_what_they_name(objective: str) -> None:
    net = network()
    found = maximise(net, "block3_conv1", [2], SHORT["classic"], objective=objective)
    with torch.no_grad():
        maps = up_to_wanted(net, "block3_conv1")(torch.from_numpy(found.pictures).permute(0, 3, 1, 2).float())[:, 2]
    reached = {"mean": maps.mean(), "sum": maps.sum(), "centre": maps[0, 8, 8]}[objective]
    assert found.response[0] == pytest.approx(float(reached), rel=0.05, abs=0.05)


def test_size_progress_and_mode() -> None:
    net = network().train()
    steps: list[int] = []
    found = maximise(net, "block1_conv1", range(5), Recipe("fourier", 3, 0.05), size=40, batch=4, on_step=steps.append)
    assert found.pictures.shape == (5, 40, 40, 3)
    assert sum(steps) == 15
    assert net.training
    assert all(weight.grad is None for weight in net.parameters())


def test_no_filters_give_no_pictures() -> None:
    assert maximise(network(), "block1_conv1", [], CLASSIC).pictures.shape == (0, 64, 64, 3)


def test_a_filter_or_layer_that_is_none_is_named() -> None:
    with pytest.raises(FigleafError, match=r"block1_conv1 has 8 filters, counted from 0: there is no 8"):
        maximise(network(), "block1_conv1", [0, 8], FOURIER)
    with pytest.raises(FigleafError, match="block9_conv1"):
        maximise(network(), "block9_conv1", [0], FOURIER)


@pytest.mark.slow
def test_full_size_networks_at_224_px() -> None:
    found = maximise(VGG(depth=19, head="fc"), "block2_conv1", [0, 1], Recipe("fourier", 1, 0.05, 12.0, 0.1, 10.0))
    assert found.pictures.shape == (2, 224, 224, 3)
