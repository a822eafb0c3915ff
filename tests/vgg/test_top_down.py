"""The dense head: logits of every pixel, from every stage, with weights that come and go like any others."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from figleaf.vgg import cost
from figleaf.vgg.dense import DenseScorer
from figleaf.vgg.network import VGG, freeze
from figleaf.vgg.scorer import TorchScorer
from figleaf.vgg.weights import init_from_shallower, initialise, load, save


def dense(**changes: object) -> VGG:
    torch.manual_seed(0)
    return VGG(**{"depth": 11, "width": 0.0625, "input_size": 64, "head": "dense", "dropout": 0.0, **changes})


def pictures(count: int, height: int = 64, width: int = 64) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (96, 160), (224, 32)])
def test_every_pixel_of_a_picture_of_any_size_gets_its_logits(height: int, width: int) -> None:
    assert dense(classes=3).eval()(pictures(2, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize(("depth", "batch_norm"), itertools.product((11, 13, 16, 19), (False, True)))
def test_loss_at_initialisation_is_that_of_guessing(depth: int, batch_norm: bool) -> None:
    net = dense(depth=depth, batch_norm=batch_norm).train()
    truth = torch.randint(0, 2, (8, 64, 64))
    assert F.cross_entropy(net(pictures(8)), truth).item() == pytest.approx(math.log(2), abs=0.03)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_one_batch_is_learnt_by_heart(batch_norm: bool) -> None:
    """Pixel by pixel: the targets are noise, which only the finest stage can follow."""
    net = dense(batch_norm=batch_norm, width=0.25).train()
    coarse = torch.randint(0, 2, (2, 1, 8, 8), generator=torch.Generator().manual_seed(2)).float()
    truth = F.interpolate(coarse, scale_factor=4)[:, 0].long()
    rgb = pictures(2, 32, 32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.005)
    for _ in range(150):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(rgb), truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_picture_moved_by_32_pixels_has_its_map_moved_by_32_pixels(batch_norm: bool) -> None:
    """Away from the borders: within 98 pixels of them, what a stage sees holds some of the padding."""
    net = dense(batch_norm=batch_norm).eval()
    torch.nn.init.normal_(net.layers["predictions"].weight, 0, 1)  # type: ignore[arg-type]
    rgb = pictures(1, 288, 320)
    with torch.inference_mode():
        here, there = net(rgb), net(torch.roll(rgb, (32, 32), (2, 3)))
    inside = slice(98, 288 - 98 - 32), slice(98, 320 - 98 - 32)
    moved = slice(98 + 32, 288 - 98), slice(98 + 32, 320 - 98)
    assert here[0][:, *inside].std() > 0.1, "there is something to compare"
    torch.testing.assert_close(there[0][:, *moved], here[0][:, *inside], atol=1e-4, rtol=1e-4)
    assert (there[0][:, *inside] - here[0][:, *inside]).abs().max() > 0.1


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_gradient_of_a_sample_touches_only_that_sample_in_evaluation(batch_norm: bool) -> None:
    net = dense(batch_norm=batch_norm).eval()
    rgb = pictures(4).float().requires_grad_()
    net(rgb)[2].sum().backward()
    assert rgb.grad is not None
    assert rgb.grad.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [2]


def test_every_stage_has_a_say() -> None:
    net = dense(depth=13).train()
    F.cross_entropy(net(pictures(2)), torch.zeros(2, 64, 64, dtype=torch.long)).backward()
    for name, layer in net.layers.items():
        assert layer.weight.grad.abs().max() > 0, name  # type: ignore[union-attr]


def test_dropout_stands_before_the_last_layer_and_only_in_training() -> None:
    net, rgb = dense(dropout=0.9), pictures(1)
    assert torch.equal(net.eval()(rgb), net(rgb))
    assert not torch.equal(net.train()(rgb), net(rgb))


@pytest.mark.parametrize("changes", [{}, {"depth": 19, "width": 0.3, "batch_norm": False}, {"input_size": 96}])
def test_gmacs_agree_with_pytorchs_own_counter(changes: dict[str, object]) -> None:
    with torch.device("meta"):
        net = dense(**changes).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, net.input_size, net.input_size))
    assert cost.gmacs(net) == pytest.approx(counter.get_total_flops() / 2e9, rel=1e-12)


def test_activation_checkpointing_changes_no_gradient_and_no_running_statistic() -> None:
    plain, checkpointed = dense(), dense(checkpoint_activations=True)
    for net in (plain, checkpointed):
        net.train()(pictures(4)).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]
    for (name, a), b in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_file_gives_the_same_network_back(tmp_path: Path) -> None:
    net = dense(depth=13).train()
    net(pictures(4))  # the batch norms' statistics move
    again, metadata = load(save(net, tmp_path / "net.safetensors", {"seed": 3}))
    assert (again.hyperparameters, metadata) == (net.hyperparameters, {"seed": 3})
    with torch.inference_mode():
        assert torch.equal(again(pictures(2)), net.eval()(pictures(2)))


def test_a_pretrained_encoder_is_taken_and_the_head_stays_as_drawn(tmp_path: Path) -> None:
    encoder = dense(head="gap")
    weights = save(encoder, tmp_path / "gap.safetensors", {})
    torch.manual_seed(5)
    net = VGG(depth=11, width=0.0625, input_size=64, head="dense")
    head = {name: tensor.clone() for name, tensor in net.classifier.state_dict().items()}
    report = initialise(net, str(weights))
    assert report.same_features
    assert report.left[0] == "lateral5"
    for name, tensor in net.features.state_dict().items():
        assert torch.equal(tensor, encoder.features.state_dict()[name]), name
    for name, tensor in net.classifier.state_dict().items():
        assert torch.equal(tensor, head[name]), name


def test_a_dense_network_is_taken_whole_and_its_encoder_by_another_head(tmp_path: Path) -> None:
    trained = dense()
    weights = save(trained, tmp_path / "dense.safetensors", {})
    torch.manual_seed(5)
    whole, encoder = (VGG(depth=11, width=0.0625, input_size=64, head=head) for head in ("dense", "gap"))
    assert initialise(whole, str(weights)).left == ()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name
    report = initialise(encoder, str(weights))
    assert report.same_features
    assert report.left == ("predictions",)


def test_a_deeper_network_starts_from_a_shallower_ones_head() -> None:
    shallow, deep = dense(), dense(depth=16)
    torch.nn.init.ones_(shallow.layers["merge2"].weight)  # type: ignore[arg-type]
    copied = init_from_shallower(deep, shallow)
    assert {"block1_conv1", "lateral5", "merge2", "predictions"} <= set(copied)
    assert torch.equal(deep.layers["merge2"].weight, shallow.layers["merge2"].weight)  # type: ignore[arg-type]


def test_frozen_stages_do_not_move_while_the_head_learns_from_them() -> None:
    net = dense()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    freeze(net, 5)
    net.train()
    F.cross_entropy(net(pictures(4)), torch.ones(4, 64, 64, dtype=torch.long)).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not {name for name in moved if name.startswith("features")}
    assert {"classifier.lateral1.weight", "classifier.lateral5_bn.running_mean"} <= moved


def test_dense_evaluation_of_a_dense_head_is_the_share_of_skin_in_the_larger_picture() -> None:
    net = dense().eval()
    size = net.input_size + 32
    scorer = DenseScorer(TorchScorer(net, ("safe", "unsafe"), ("unsafe",)), size)
    rgb_u8 = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    with torch.inference_mode():
        share = net(torch.from_numpy(rgb_u8).permute(0, 3, 1, 2)).softmax(1)[:, 1].mean((1, 2))
    logits = torch.from_numpy(scorer.logits(rgb_u8))
    torch.testing.assert_close(logits.softmax(1)[:, 1], share, rtol=1e-4, atol=1e-5)
    assert cost.dense_gmacs(net, size) == cost.gmacs(net, size) > cost.gmacs(net)


@pytest.mark.slow
def test_a_step_at_full_width_and_224_pixels() -> None:
    net = dense(depth=16, width=1.0, input_size=224).train()
    assert sum(p.numel() for p in net.parameters()) == cost.parameters(net) == 14_723_136 + 781_954
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    truth = torch.zeros(1, 224, 224, dtype=torch.long)
    first = F.cross_entropy(net(pictures(1, 224, 224)), truth)
    first.backward()
    optimizer.step()
    assert first.item() == pytest.approx(math.log(2), abs=0.1)
    with torch.no_grad():
        assert F.cross_entropy(net(pictures(1, 224, 224)), truth) < first
