"""Cost against torchvision's published figures and PyTorch's own counter."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from figleaf.vgg import cost
from figleaf.vgg.network import VGG


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_full_size_networks_cost_what_torchvision_publishes(depth: int, batch_norm: bool) -> None:
    weights = getattr(torchvision.models, f"VGG{depth}{'_BN' if batch_norm else ''}_Weights").IMAGENET1K_V1
    with torch.device("meta"):
        net = VGG(depth=depth, batch_norm=batch_norm, classes=1000)
    assert cost.parameters(net) == weights.meta["num_params"]
    assert round(cost.gmacs(net), 3) == weights.meta["_ops"]
    assert cost.megabytes(net) == pytest.approx(weights.meta["_file_size"], abs=0.02)  # a file has a header


@pytest.mark.parametrize(
    "changes", [{"head": "gap", "width": 0.3}, {"adaptive_pool": True}, {"depth": 19, "input_size": 100}]
)
def test_gmacs_agree_with_pytorchs_own_counter(changes: dict[str, object]) -> None:
    with torch.device("meta"):
        net = VGG(**{"depth": 11, "width": 0.125, "input_size": 64, **changes}).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, net.input_size, net.input_size))
    assert cost.gmacs(net) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-12)
