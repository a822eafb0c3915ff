"""The first convolution, computed from pictures, gives responses that are neither correlated nor of different sizes."""

import numpy as np
import pytest
import torch

from figleaf.vgg.network import VGG
from figleaf.vgg.whitening import patches, principal_axes, whiten


def pictures(count: int = 40, side: int = 32) -> np.ndarray:
    """Smooth coloured noise, in which neighbours are alike as in photos."""
    noise = torch.randn(count, 3, side // 4, side // 4, generator=torch.manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear")
    fine = torch.randn(count, 3, side, side, generator=torch.manual_seed(1))
    rgb = 128 + 40 * smooth + 12 * fine
    return rgb.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_responses_are_white(width: float) -> None:
    net, rgb = VGG(depth=11, width=width, head="gap", input_size=32), pictures()
    rows = np.arange(len(rgb))
    whiten(net, rgb, rows, seed=0)
    first = net.convolutions["block1_conv1"]
    count = min(27, first.out_channels // 2)
    images = net.normalize(torch.from_numpy(rgb).permute(0, 3, 1, 2))
    with torch.no_grad():
        seen = torch.nn.functional.conv2d(images, first.weight[:count]).permute(1, 0, 2, 3).flatten(1).double()
    covariance = torch.cov(seen)
    # The faintest of 27 axes are held down by the constant that keeps noise from being blown up.
    strong = covariance.diagonal() > 0.9
    assert strong.sum() >= min(count, 20)
    np.testing.assert_allclose(covariance[strong][:, strong], torch.eye(int(strong.sum())), atol=0.05)


def test_each_axis_stands_there_in_both_signs_and_the_layer_stays() -> None:
    net, rgb = VGG(depth=11, width=0.25, head="gap", input_size=32), pictures()
    before = net.convolutions["block1_conv2"].weight if "block1_conv2" in net.convolutions else None
    whiten(net, rgb, np.arange(len(rgb)), seed=0)
    weight = net.convolutions["block1_conv1"].weight
    assert torch.equal(weight[:8], -weight[8:16])
    assert not weight.requires_grad
    assert net.convolutions["block1_conv1"].bias is not None
    assert net.convolutions["block1_conv1"].bias.requires_grad
    assert before is None or before.requires_grad


def test_channels_beyond_the_axes_keep_what_they_were() -> None:
    net, rgb = VGG(depth=11, head="gap", input_size=32), pictures()
    before = net.convolutions["block1_conv1"].weight.detach().clone()
    whiten(net, rgb, np.arange(len(rgb)), seed=0)
    weight = net.convolutions["block1_conv1"].weight
    assert torch.equal(weight[54:], before[54:])
    assert not torch.equal(weight[:54], before[:54])


def test_only_the_rows_named_are_looked_at() -> None:
    rgb = pictures()
    rgb[20:] = 0
    net = VGG(depth=11, width=0.25, head="gap", input_size=32)
    of_half = patches(net, rgb, np.arange(20), seed=0)
    assert len(torch.unique(of_half[:, 0])) > 100
    assert torch.equal(of_half, patches(net, rgb, np.arange(20), seed=0))
    assert len(torch.unique(patches(net, rgb, np.arange(20, 40), seed=0)[:, 0])) == 1


def test_axes_are_orthonormal_and_largest_first() -> None:
    found = torch.randn(500, 5, generator=torch.manual_seed(0)).double() * torch.tensor([1.0, 3, 2, 0.5, 4])
    axes, variances = principal_axes(found)
    np.testing.assert_allclose(axes @ axes.T, torch.eye(5), atol=1e-12)
    assert (variances.diff() <= 0).all()
    np.testing.assert_allclose((found @ axes.T).var(0), variances, rtol=1e-10)


def test_pictures_of_one_colour_give_finite_filters() -> None:
    net = VGG(depth=11, width=0.25, head="gap", input_size=32)
    whiten(net, np.full((3, 32, 32, 3), 7, np.uint8), np.arange(3), seed=0)
    assert net.convolutions["block1_conv1"].weight.isfinite().all()
