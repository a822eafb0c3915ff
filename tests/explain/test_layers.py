"""The layers that are looked at, by name."""

import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.explain.layers import activations, last_relu, relu_of, require_layers, shown_layers, up_to_wanted
from small_vgg import network


@pytest.mark.parametrize(("depth", "last"), [(11, "block5_conv2"), (16, "block5_conv3"), (19, "block5_conv3")])
def test_one_layer_a_block_is_shown_at_every_depth(depth: int, last: str) -> None:
    names = shown_layers(network(depth=depth))
    assert [name[:6] for name in names] == ["block1", "block2", "block3", "block4", "block5"]
    assert names[-1] == last


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", ["block1_conv1", "block3_conv2", "block5_conv3"])
def test_what_enters_a_relu_gives_its_activation(name: str, batch_norm: bool) -> None:
    net = network(batch_norm=batch_norm)
    rgb = 255 * torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = up_to_wanted(net, name)(rgb)
    torch.testing.assert_close(wanted.clamp_min(0), activations(net, rgb, [name])[name], rtol=1e-4, atol=1e-5)


def test_activations_are_what_hooks_see() -> None:
    net = network()
    seen: dict[str, torch.Tensor] = {}
    for name in ("block2_conv2", "block5_conv3"):
        relu_of(net, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.clone()}))
    rgb = 255 * torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        net(rgb)
    for name, maps in activations(net, rgb, ["block5_conv3", "block2_conv2"]).items():
        torch.testing.assert_close(maps, seen[name])


def test_the_last_relu_is_the_one_before_the_last_pooling() -> None:
    net = network()
    assert last_relu(net) is net.features[-2]


def test_a_layer_that_is_none_is_named_with_those_there_are() -> None:
    with pytest.raises(FigleafError, match=r"layers=\['block6_conv1'\].*VGG11: block1_conv1, block2_conv1"):
        require_layers(network(depth=11), ["block1_conv1", "block6_conv1"])


def test_looking_leaves_the_network_as_it_was() -> None:
    net = network()
    rgb = 255 * torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = net(rgb)
        up_to_wanted(net, "block5_conv3")(rgb)
        assert torch.equal(net(rgb), before)
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.features) == 13
