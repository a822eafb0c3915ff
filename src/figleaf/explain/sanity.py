"""Whether a class map depends on what the network has learnt: cascading randomisation, Adebayo et al. 2018.

The layers are given fresh random weights one after the other, from the logits down. The map of a network that knows
nothing any more must not look like that of the trained one; guided backpropagation's does.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn

from figleaf.explain.cam import class_maps
from figleaf.vgg.network import VGG


@dataclass(frozen=True)
class Likeness:
    """How alike the maps are to the trained network's when all layers from the logits down to `layer` are random.

    Means over pictures: `rank`, the absolute rank correlation of their pixels; `ssim`, their structural similarity.
    Pictures whose map is flat on either side count as 0: nothing of the map is left.
    """

    layer: str
    rank: float
    ssim: float


def cascade(
    net: VGG,
    rgb_u8: NDArray[np.uint8],
    class_index: int,
    method: str,
    *,
    seed: int = 0,
    on_layer: Callable[[str], None] | None = None,
) -> list[Likeness]:
    """Randomise a copy of `net` layer by layer, and compare its maps of pictures (N, S, S, 3) with the trained ones."""
    size = rgb_u8.shape[1]
    trained = class_maps(net, rgb_u8, class_index, method).shown(size)
    forgetful = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name in reversed(list(net.layers)):
        _forget(forgetful.layers[name], generator)
        maps = class_maps(forgetful, rgb_u8, class_index, method).shown(size)
        likeness = np.array([_alike(one, other) for one, other in zip(trained, maps, strict=True)])
        found.append(Likeness(name, *(float(value) for value in likeness.mean(axis=0))))
        if on_layer is not None:
            on_layer(name)
    return found


@torch.no_grad()
def _forget(layer: nn.Module, generator: torch.Generator) -> None:
    """Fresh weights with the spread of a new network's; the statistics of a batch norm stay what a new one has."""
    if isinstance(layer, nn.BatchNorm2d):
        layer.reset_parameters()
        layer.reset_running_stats()
        return
    weight, bias = layer.get_parameter("weight"), dict(layer.named_parameters()).get("bias")
    fan_in = weight[0].numel()
    weight.copy_(torch.randn(weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
    if bias is not None:  # the first half of a factored layer has none
        bias.zero_()


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0, 0.0
    rank = abs(float(spearmanr(one.ravel(), other.ravel()).statistic))
    ssim: float = structural_similarity(one, other, data_range=1.0)  # type: ignore[no-untyped-call]
    return rank, float(ssim)
