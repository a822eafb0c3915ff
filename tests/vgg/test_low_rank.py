"""Factored layers: exact at full rank, the nearest there is below it, and never larger than what they replace."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from figleaf.errors import FigleafError
from figleaf.vgg import cost
from figleaf.vgg.fc_head import head_names
from figleaf.vgg.low_rank import factorise, factors, spectrum_of
from figleaf.vgg.network import VGG
from small_vgg import network, pictures


def logits(net: VGG) -> torch.Tensor:
    with torch.inference_mode():
        return net(torch.from_numpy(pictures(4, net.input_size)).permute(0, 3, 1, 2))


def small(**changes: object) -> VGG:
    return network(**{"depth": 11, "head": "fc", "input_size": 32, "width": 0.125, **changes})


def product(net: VGG, name: str) -> torch.Tensor:
    return net.layers[name].get_parameter("weight") @ net.layers[f"{name}_down"].get_parameter("weight")


@pytest.mark.parametrize("changes", [{}, {"batch_norm": False, "input_size": 64}, {"adaptive_pool": True}])
def test_full_rank_gives_the_same_answers(changes: dict[str, object]) -> None:
    net = small(**changes)
    full = [min(net.layers[name].get_parameter("weight").shape) for name in ("fc1", "fc2")]
    factored = factorise(net, ranks=full)
    assert factored.fc_ranks == tuple(full)
    torch.testing.assert_close(logits(factored), logits(net), atol=1e-4, rtol=1e-4)
    assert not factored.training
    assert net.fc_ranks is None, "the network itself is left as it is"


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (50, 50)])
@pytest.mark.parametrize("rank", [1, 17, 39])
def test_what_is_lost_is_what_eckart_and_young_say(shape: tuple[int, int], rank: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) @ torch.diag(torch.linspace(3, 0.1, shape[1]))
    up, down = factors(weight, spectrum_of(weight), rank)
    assert up.shape == (shape[0], rank)
    assert down.shape == (rank, shape[1])
    left_out = torch.linalg.svdvals(weight.double())[rank:].square().sum()
    torch.testing.assert_close((weight - up @ down).double().square().sum(), left_out, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1), rtol=1e-3, atol=1e-4)


def test_a_matrix_of_low_rank_is_factored_without_loss() -> None:
    torch.manual_seed(0)
    weight = torch.randn(60, 5) @ torch.randn(5, 80)
    spectrum = spectrum_of(weight)
    assert spectrum.rank_for(1 - 1e-9) == 5
    up, down = factors(weight, spectrum, 20)  # beyond its rank there is nothing to divide by
    torch.testing.assert_close(up @ down, weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("energy", [0.3, 0.6, 0.8])
def test_energy_takes_the_least_rank_that_keeps_it(energy: float) -> None:
    net = small(input_size=64)
    factored = factorise(net, energy=energy)
    for name, rank in zip(("fc1", "fc2"), factored.fc_ranks or (), strict=True):
        squares = torch.linalg.svdvals(net.layers[name].get_parameter("weight").double()).square()
        kept = squares.cumsum(0) / squares.sum()
        assert kept[rank - 1] >= energy
        assert rank == 1 or kept[rank - 2] < energy
        torch.testing.assert_close(
            product(factored, name).square().sum().double(), squares[:rank].sum(), rtol=1e-4, atol=0
        )
    assert cost.parameters(factored) < cost.parameters(net)


def test_a_layer_that_would_not_get_smaller_stays_whole_and_none_is_refused() -> None:
    net = small()
    with torch.no_grad():  # singular values that are all alike, and five that are everything
        torch.nn.init.orthogonal_(net.layers["fc1"].get_parameter("weight"))
        net.layers["fc2"].get_parameter("weight").copy_(torch.randn(512, 5) @ torch.randn(5, 512))
    whole, rank = factorise(net, energy=0.95).fc_ranks or ()
    assert whole == 0
    assert 1 <= rank <= 5
    torch.nn.init.orthogonal_(net.layers["fc2"].get_parameter("weight"))
    with pytest.raises(FigleafError, match=r"svd=0\.95: no layer would get smaller"):
        factorise(net, energy=0.95)


def test_a_factored_network_can_be_factored_further() -> None:
    net = small(input_size=64)
    once = factorise(net, ranks=[60, 40])
    twice = factorise(once, ranks=[20, 0])
    assert twice.fc_ranks == (20, 40)
    at_once = factorise(net, ranks=[20, 40])
    torch.testing.assert_close(product(twice, "fc1"), product(at_once, "fc1"), atol=1e-4, rtol=1e-3)


def test_cost_counts_both_halves_of_a_factored_layer() -> None:
    net = factorise(small(input_size=64), ranks=[30, 20])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, 64, 64))
    assert cost.gmacs(net) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-12)
    assert cost.parameters(net) == sum(tensor.numel() for tensor in net.parameters())
    head = 30 * (256 + 512) + 512 + 20 * (512 + 512) + 512 + 2 * 512 + 2
    assert sum(tensor.numel() for tensor in net.classifier.parameters()) == head


def test_a_factored_network_can_be_drawn_anew_and_starts_as_a_whole_one_does() -> None:
    torch.manual_seed(0)
    whole = [VGG(depth=11, width=0.25, input_size=32, batch_norm=True) for _ in range(3)]
    factored = [VGG(depth=11, width=0.25, input_size=32, batch_norm=True, fc_ranks=(40, 60)) for _ in range(3)]

    def spread(nets: list[VGG]) -> float:
        hidden = [net.eval().classifier[:4](torch.rand(64, 128)).detach() for net in nets]
        return float(np.mean([float(x.std()) for x in hidden]))

    assert spread(factored) == pytest.approx(spread(whole), rel=0.25)


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({"head": "gap"}, {"energy": 0.9}, "a gap head has no fully connected layers"),
        ({}, {"energy": 1.5}, r"svd=1\.5: expected 0 < x <= 1"),
        ({}, {"ranks": [9]}, r"ranks=\[9\]: expected two, of fc1 and fc2"),
        ({}, {"ranks": [65, 9]}, r"ranks=\[65, 9\]: fc1 is \(512, 64\), expected 0 to 64"),
        ({}, {}, "either an energy or ranks"),
    ],
)
def test_what_cannot_be_factored_is_said(changes: dict[str, object], arguments: dict[str, object], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        factorise(small(**changes), **arguments)  # type: ignore[arg-type]


def test_names_of_a_head_s_layers() -> None:
    assert head_names([False]) == ("predictions",)
    assert head_names([True, False, True, False, False]) == ("fc1_down", "fc1", "fc2_down", "fc2", "predictions")
    assert head_names([]) == ()
