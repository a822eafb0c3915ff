"""Maps that depend on what was learnt change when it is forgotten; guided backpropagation's do not."""

import numpy as np
import pytest
import torch

from figleaf.data.scenes import render
from figleaf.explain.sanity import cascade
from figleaf.vgg.network import VGG
from small_vgg import network


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return np.stack([render(3, index, 64).rgb_u8 for index in range(6)])


@pytest.fixture(scope="module")
def net(scenes: np.ndarray) -> VGG:
    return network(head="gap")


@pytest.mark.parametrize("method", ["cam", "hirescam", "gradcam"])
def test_maps_of_a_network_that_forgets_are_other_maps(net: VGG, scenes: np.ndarray, method: str) -> None:
    found = cascade(net, scenes, 1, method)
    assert [one.layer for one in found] == list(reversed(list(net.layers)))
    assert found[-1].ssim < 0.7  # the ranks of 2 x 2 cells may agree by chance


def test_guided_backpropagation_goes_on_drawing_edges(net: VGG, scenes: np.ndarray) -> None:
    guided = cascade(net, scenes, 1, "guided_backprop")
    others = [cascade(net, scenes, 1, method) for method in ("cam", "hirescam")]
    head = len(guided) // 2  # with the deeper half forgotten
    assert guided[head].ssim > max(other[head].ssim for other in others)
    assert guided[head].rank > 0.5


def test_the_network_itself_forgets_nothing(net: VGG, scenes: np.ndarray) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layers: list[str] = []
    first = cascade(net, scenes[:2], 0, "hirescam", on_layer=layers.append)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert layers[0] == "predictions"
    assert cascade(net, scenes[:2], 0, "hirescam") == first
    assert cascade(net, scenes[:2], 0, "hirescam", seed=1) != first


def test_both_halves_of_a_factored_layer_are_randomised() -> None:
    net = VGG(depth=11, width=0.0625, input_size=32, fc_ranks=(8, 0)).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = [likeness.layer for likeness in cascade(net, pictures, 1, "hirescam")]
    assert found[:4] == ["predictions", "fc2", "fc1", "fc1_down"]
