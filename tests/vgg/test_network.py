"""What the VGG class promises about shapes, initialisation, gradients and frozen stages."""

import itertools
import math

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG, freeze, scaled_channels

EVERY_KIND = list(itertools.product((11, 13, 16, 19), (False, True), ("fc", "gap")))


def pictures(count: int, size: int = 64) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def small(**changes: object) -> VGG:
    torch.manual_seed(0)
    return VGG(**{"depth": 11, "width": 0.125, "input_size": 64, **changes})


def torchvision_twin(depth: int, batch_norm: bool, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return getattr(torchvision.models, f"vgg{depth}{'_bn' if batch_norm else ''}")(num_classes=classes).eval()


def as_torchvision_input(rgb_u8: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (rgb_u8 / 255 - mean) / std


@pytest.mark.parametrize(("depth", "batch_norm", "head"), EVERY_KIND)
def test_every_depth_norm_and_head_gives_one_row_of_logits_a_picture(depth: int, batch_norm: bool, head: str) -> None:
    net = VGG(depth=depth, batch_norm=batch_norm, head=head, width=0.0625, input_size=64, classes=5)
    logits = net(pictures(3))
    assert logits.shape == (3, 5)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == (depth if head == "fc" else depth - 2)


@pytest.mark.parametrize(("depth", "batch_norm", "head"), EVERY_KIND)
def test_loss_at_initialisation_is_near_that_of_a_uniform_guess(depth: int, batch_norm: bool, head: str) -> None:
    """Also from scratch without batch norm at a sixteenth of the width, where signals die first."""
    torch.manual_seed(depth)
    net = VGG(depth=depth, batch_norm=batch_norm, head=head, width=0.0625, input_size=64, classes=10).train()
    loss = F.cross_entropy(net(pictures(20)), torch.arange(20) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.15)


@pytest.mark.parametrize("head", ["fc", "gap"])
def test_a_narrow_network_without_batch_norm_gets_a_gradient_it_can_learn_from(head: str) -> None:
    """With N(0, 0.01) in the narrow hidden layers it would be 0.001 of the weights at the first convolution."""
    net = small(depth=19, batch_norm=False, head=head).train()
    F.cross_entropy(net(pictures(8)), torch.arange(8) % 2).backward()
    for name, convolution in net.convolutions.items():
        assert convolution.weight.grad is not None
        relative = convolution.weight.grad.norm() / convolution.weight.norm()
        assert relative > 3e-3, name


@pytest.mark.parametrize("batch_norm", [False, True])
def test_full_width_has_torchvisions_names_and_gives_its_logits(batch_norm: bool) -> None:
    theirs = torchvision_twin(11, batch_norm, classes=10)
    ours = VGG(depth=11, batch_norm=batch_norm, classes=10, input_size=64, adaptive_pool=True).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == ["normalize.mean", "normalize.scale"]
    assert not unexpected
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures(2)), theirs(as_torchvision_input(pictures(2))), atol=1e-5, rtol=1e-5)


def test_full_size_initialisation_has_torchvisions_spread() -> None:
    theirs = torchvision_twin(11, False, classes=10)
    ours = VGG(depth=11, batch_norm=False, classes=10)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if a.ndim > 1:
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.05), name
        else:
            assert torch.equal(a, b), name


def test_uint8_and_float_pictures_give_the_same_logits() -> None:
    net = small().eval()
    with torch.inference_mode():
        assert torch.equal(net(pictures(2)), net(pictures(2).float()))


def test_normalisation_is_the_first_layer_and_follows_set_normalization() -> None:
    net = small()
    net.set_normalization((1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    constant = torch.tensor([5, 10, 19], dtype=torch.uint8).view(1, 3, 1, 1)
    assert net.normalize(constant).flatten().tolist() == [2.0, 2.0, 2.0]
    assert net.hyperparameters["mean"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_gradient_of_a_sample_touches_only_that_sample_in_evaluation(batch_norm: bool) -> None:
    net = small(batch_norm=batch_norm).eval()
    rgb = pictures(4).float().requires_grad_()
    net(rgb)[2].sum().backward()
    assert rgb.grad is not None
    assert rgb.grad.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [2]


def test_one_batch_is_overfitted_to_almost_no_loss() -> None:
    net = small(head="fc", batch_norm=False, dropout=0.0).train()
    labels = torch.arange(8) % 2
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(120):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(pictures(8)), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


def test_hyperparameters_rebuild_the_network() -> None:
    net = small(depth=13, head="gap", classes=3, dropout=0.25, mean=(1, 2, 3), std=(4, 5, 6))
    again = VGG(**net.hyperparameters)
    assert again.hyperparameters == net.hyperparameters
    assert again.load_state_dict(net.state_dict())


def test_an_fc_head_takes_only_the_size_it_was_built_for() -> None:
    with pytest.raises(ValueError, match="images of 96x96 for a network built for 64x64"):
        small()(pictures(1, 96))
    assert small(adaptive_pool=True)(pictures(2, 96)).shape == (2, 2)
    assert small(head="gap")(pictures(2, 96)).shape == (2, 2)


@pytest.mark.parametrize(("width", "channels"), [(1, 64), (0.25, 16), (0.1, 8), (0.01, 8), (1.4, 88)])
def test_channels_are_multiples_of_eight(width: float, channels: int) -> None:
    assert scaled_channels(64, width) == channels


def test_width_scales_the_fully_connected_layers_too() -> None:
    assert [m.out_features for m in small(width=0.1).classifier if isinstance(m, nn.Linear)] == [410, 410, 2]


def test_dropout_stands_behind_both_hidden_layers_and_before_the_gap_heads_linear() -> None:
    assert [type(m).__name__ for m in small(dropout=0.3).classifier] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [m.p for m in small(dropout=0.3).classifier if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    assert [type(m).__name__ for m in small(head="gap").classifier] == ["Dropout", "Linear"]


def test_layers_have_the_names_of_keras_applications() -> None:
    names = list(VGG(depth=19, batch_norm=True, width=0.1, input_size=32).layers)
    assert names[:4] == ["block1_conv1", "block1_conv2", "block1_bn1", "block1_bn2"]
    assert names[-5:] == ["block5_bn3", "block5_bn4", "fc1", "fc2", "predictions"]
    assert list(small(head="gap").layers)[-1] == "predictions"


@pytest.mark.parametrize("head", ["fc", "gap"])
def test_activation_checkpointing_changes_no_gradient_and_no_running_statistic(head: str) -> None:
    plain = small(head=head)
    checkpointed = small(head=head, checkpoint_activations=True)
    for net in (plain, checkpointed):
        for _ in range(2):
            torch.manual_seed(1)  # the same dropout
            net.train()(pictures(4)).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]
    for (name, a), b in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_activation_checkpointing_keeps_fewer_activations() -> None:
    def kept(net: VGG) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net.train()(pictures(4))
        return sum(sizes)

    assert kept(small(depth=16, checkpoint_activations=True)) < 0.5 * kept(small(depth=16))


def test_frozen_stages_do_not_move_and_their_batch_norms_keep_their_statistics() -> None:
    net = small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    freeze(net, 2)
    net.train()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(pictures(4)).square().sum().backward()
    optimizer.step()
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = {f"features.{i}" for i in range(sum(len(stage) for stage in net.stages[:2]))}
    assert not {name for name in moved if name.rpartition(".")[0] in frozen}
    assert {"features.8.weight", "features.9.running_mean", "classifier.6.weight"} <= moved
    freeze(net, 0)
    assert all(p.requires_grad for p in net.parameters())
    assert all(m.training for m in net.modules())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 12),
        ("head", "mlp"),
        ("width", 0.0),
        ("dropout", 1.0),
        ("classes", 0),
        ("input_size", 31),
        ("mean", (1.0,)),
        ("std", (1.0, 0.0, 1.0)),
    ],
)
def test_an_argument_out_of_range_is_named_with_the_way_out(name: str, value: object) -> None:
    with pytest.raises(FigleafError, match=rf"^{name}=.*: expected"):
        VGG(**{name: value})


def test_freezing_six_of_five_stages_is_refused() -> None:
    with pytest.raises(FigleafError, match="expected 0 to 5"):
        freeze(small(), 6)
