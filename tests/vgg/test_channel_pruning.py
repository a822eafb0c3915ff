"""Pruned networks: the same answers as the masked original, at the cost that was asked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from figleaf.errors import FigleafError
from figleaf.vgg import cost
from figleaf.vgg.channel_pruning import prune
from figleaf.vgg.low_rank import factorise
from figleaf.vgg.network import VGG
from small_vgg import network, pictures

HEADS = [
    {"head": "gap"},
    {"head": "fc", "batch_norm": False},
    {"head": "fc", "input_size": 32},
    {"head": "fc", "adaptive_pool": True},
    {"head": "dense"},
]


def small(**changes: object) -> VGG:
    net = network(**{"depth": 11, "width": 0.125, **changes})
    # Scales that differ, as training leaves them, and some below zero.
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(torch.randn(len(layer.weight)))
                layer.bias.copy_(torch.randn(len(layer.bias)))
    return net


def logits(net: VGG) -> torch.Tensor:
    with torch.inference_mode():
        return net(torch.from_numpy(pictures(2, net.input_size)).permute(0, 3, 1, 2))


@contextmanager
def masked(net: VGG, kept: Mapping[str, Sequence[int]]) -> Iterator[VGG]:
    """`net` with the outputs of every activation that are not kept set to zero, by hooks of this test's own."""
    modules = list(net.modules())
    hooks = []
    for name, channels in kept.items():
        start = next(place for place, module in enumerate(modules) if module is net.layers[name])
        relu = next(module for module in modules[start:] if isinstance(module, nn.ReLU))
        gone = [channel for channel in range(len(net.layers[name].get_parameter("weight"))) if channel not in channels]

        def hide(_module: nn.Module, _given: object, output: torch.Tensor, gone: list[int] = gone) -> torch.Tensor:
            hidden = output.clone()
            hidden[:, gone] = 0
            return hidden

        hooks.append(relu.register_forward_hook(hide))
    yield net
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("changes", HEADS)
@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_a_pruned_network_answers_as_the_masked_original_at_the_cost_that_was_asked_for(
    changes: dict[str, object], of: str
) -> None:
    net = small(**changes)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    share = 0.75 if changes["head"] == "dense" else 0.5
    pruned = prune(net, share, of=of, multiple=1)  # type: ignore[arg-type]
    with masked(net, pruned.kept) as original:
        torch.testing.assert_close(logits(pruned.net), logits(original), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(logits(pruned.net), logits(net), atol=1e-3), "pruning has to change something here"
    measure = cost.gmacs if of == "macs" else cost.parameters
    # No more than was asked, and no more was taken than the next channel costs.
    assert share - 0.03 < measure(pruned.net) / measure(net) <= share
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items()), "left as it is"


def test_scales_of_batch_norms_rank_channels_of_all_layers_together() -> None:
    net = small(head="gap")
    pruned = prune(net, 0.6, by="bn_scale", multiple=1)
    scales = {name: net.layers[name.replace("_conv", "_bn")].get_parameter("weight").abs() for name in pruned.kept}
    kept = [scales[name][list(channels)] for name, channels in pruned.kept.items()]
    # One threshold: what is above it stays, and a layer keeps a smaller one only for its least share.
    floors = {name: max(1, round(0.1 * len(scale))) for name, scale in scales.items()}
    free = [scale for scale, (name, of) in zip(kept, pruned.kept.items(), strict=True) if len(of) > floors[name]]
    gone = [
        scales[name][channel] for name, of in pruned.kept.items() for channel in {*range(len(scales[name]))} - {*of}
    ]
    assert torch.cat(free).min() >= max(gone)
    with masked(net, pruned.kept) as original:
        torch.testing.assert_close(logits(pruned.net), logits(original), atol=1e-4, rtol=1e-3)


def test_channels_are_whole_multiples_where_the_layer_has_them() -> None:
    pruned = prune(small(width=0.5, head="gap"), 0.4, multiple=8).net
    assert pruned.channels is not None
    assert all(count % 8 == 0 for count in pruned.channels)
    assert min(pruned.channels) >= 8


def test_a_pruned_network_can_be_pruned_and_factored_further() -> None:
    once = prune(small(head="fc"), 0.6, multiple=1).net
    factored = factorise(once, ranks=[20, 10])
    twice = prune(factored, 0.6, multiple=1)
    assert twice.net.fc_ranks == (20, 10)
    assert cost.gmacs(twice.net) <= 0.6 * cost.gmacs(factored)
    with masked(factored, twice.kept) as original:
        torch.testing.assert_close(logits(twice.net), logits(original), atol=1e-4, rtol=1e-3)


def test_cost_of_a_pruned_network_agrees_with_pytorchs_own_counter() -> None:
    net = prune(small(head="fc"), 0.5, multiple=1).net
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, 64, 64))
    assert cost.gmacs(net) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-12)


def test_least_important_channels_go_first() -> None:
    net = small(head="gap", batch_norm=False)
    weight = net.convolutions["block3_conv1"].weight
    with torch.no_grad():
        weight[5] *= 1e-4
        net.convolutions["block3_conv2"].weight[:, 5] *= 1e-4
    kept = prune(net, 0.97, multiple=1).kept["block3_conv1"]
    assert 5 not in kept
    assert len(kept) >= len(weight) - 3


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({}, {"share": 1.0}, r"prune=1\.0: expected 0 < x < 1"),
        ({}, {"share": 0.001}, r"prune=0\.001: out of reach: 0\.\d+ of macs is left .* a smaller multiple=8"),
        ({"batch_norm": False}, {"share": 0.5, "by": "bn_scale"}, "no batch norms whose scales could tell"),
        ({}, {"share": 0.5, "by": "hope"}, "by=hope multiple=8: expected macs or parameters"),
    ],
)
def test_what_cannot_be_pruned_is_said(changes: dict[str, object], arguments: dict[str, object], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        prune(small(**{"head": "gap", **changes}), **arguments)  # type: ignore[arg-type]
