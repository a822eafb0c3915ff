"""A first layer that is computed instead of learnt: it whitens 3x3 patches of the training pictures.

Its filters are the principal axes of the patches, each divided by its standard deviation, in both signs, since a ReLU
follows: neighbouring pixels are nearly the same, and a convolution that starts at random spends its first epochs on
finding out. From the trainers of small-image records (Page 2019, "How to train your ResNet 8"; Jordan 2024, "94 % on
CIFAR-10 in 3.29 seconds on a single GPU").
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from figleaf.vgg.network import VGG

PATCHES = 100_000  # enough for 27 axes
PICTURES = 500
_EPSILON = 5e-4  # added to each variance, as in the sources: the faintest axes are noise
_SIDE = 3


@torch.no_grad()
def whiten(net: VGG, rgb_u8: NDArray[np.uint8], rows: NDArray[np.int64], seed: int) -> None:
    """Set the first convolution of `net` from the pictures `rows` of (N, H, W, 3), and stop it from learning.

    With C channels the largest C // 2 axes, at most 27, are taken in both signs; channels beyond keep their random
    weights. Biases, and a batch norm behind it, go on learning.
    """
    first = next(iter(net.convolutions.values()))
    axes, variances = principal_axes(patches(net, rgb_u8, rows, seed))
    count = min(first.out_channels // 2, len(axes))
    filters = axes[:count] / (variances[:count, None] + _EPSILON).sqrt()
    shaped = filters.reshape(count, *first.weight.shape[1:]).to(first.weight)
    first.weight[:count], first.weight[count : 2 * count] = shaped, -shaped
    first.weight.requires_grad_(False)


def patches(net: VGG, rgb_u8: NDArray[np.uint8], rows: NDArray[np.int64], seed: int) -> torch.Tensor:
    """Normalised 3x3 patches of some pictures, float64 (P, 27), in the order of a convolution's weights."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(rows, min(len(rows), PICTURES), replace=False))
    images = torch.from_numpy(np.ascontiguousarray(rgb_u8[chosen])).permute(0, 3, 1, 2)
    normalised = net.normalize(images.to(net.normalize.mean.device)).double().cpu()
    found = nn.functional.unfold(normalised, _SIDE).transpose(1, 2).reshape(-1, 3 * _SIDE**2)
    if len(found) > PATCHES:
        found = found[torch.from_numpy(np.sort(rng.choice(len(found), PATCHES, replace=False)))]
    return found


def principal_axes(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Axes (D, D), one a row, and variances (D,) of patches (P, D) around their mean, the largest first.

    The largest entry of each axis is positive, so that the axes are the same everywhere.
    """
    variances, axes = torch.linalg.eigh(torch.cov(found.T))
    axes, variances = axes.T.flip(0), variances.flip(0).clamp(min=0)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return axes * largest.sign(), variances
