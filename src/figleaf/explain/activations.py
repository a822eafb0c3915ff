"""What a picture makes of each channel, and which channels tell classes apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.explain.cam import as_images, evaluating
from figleaf.explain.layers import activations, require_layers
from figleaf.vgg.network import VGG

BATCH = 32


@dataclass(frozen=True, eq=False)
class Tiles:
    """The activations of K `channels` of a layer for one picture, as grey `tiles` (K, h, w).

    Each is scaled by itself: 0 is black, its own highest value white. `peak` (K,) is that value; where it is 0 the
    channel is silent and its tile black.
    """

    layer: str
    channels: tuple[int, ...]
    tiles: NDArray[np.uint8]
    peak: NDArray[np.float32]


def activation_tiles(net: VGG, rgb_u8: NDArray[np.uint8], channels: Mapping[str, Sequence[int]]) -> list[Tiles]:
    """Tiles of the named `channels` of each layer for a picture (S, S, 3), in the order of the network.

    Raises `FigleafError` for a layer that is none.
    """
    with evaluating(net):
        found = activations(net, as_images(net, rgb_u8[None]), list(channels))
    tiles = []
    for layer, maps in found.items():
        chosen = np.nan_to_num(maps[0, list(channels[layer])].float().cpu().numpy())
        peak = chosen.max(axis=(1, 2))
        scale = np.where(peak > 0, peak, 1)[:, None, None]
        tiles.append(Tiles(layer, tuple(channels[layer]), np.rint(255 * chosen / scale).astype(np.uint8), peak))
    return tiles


def selectivity(
    net: VGG,
    layers: Sequence[str],
    rgb_u8: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """How much each channel of the layers prefers one class, (C,) in 0-1: Morcos et al. 2018.

    The class selectivity index of what a channel gives on average over a picture (N, S, S, 3), over the pictures of
    each of the classes in `labels` (N,): (highest class's mean - mean of the others') / their sum. 0 for a channel that
    is silent or treats all alike, 1 for one that speaks for a single class.

    Raises `FigleafError` for a layer that is none.
    """
    require_layers(net, layers)
    classes = np.unique(labels)
    sums: dict[str, NDArray[np.float64]] = {}
    with evaluating(net):
        for start in range(0, len(rgb_u8), BATCH):
            rows = slice(start, start + BATCH)
            member = torch.from_numpy((labels[rows, None] == classes).astype(np.float64))
            for layer, maps in activations(net, as_images(net, rgb_u8[rows]), layers).items():
                given = (member.T @ maps.mean(dim=(2, 3)).double().cpu()).numpy()
                sums[layer] = sums.get(layer, 0) + given
            if on_done is not None:
                on_done(len(rgb_u8[rows]))
    counts = np.array([(labels == name).sum() for name in classes])[:, None]
    return {layer: _index(given / counts) for layer, given in sums.items()}


def _index(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class selectivity index of channels by their class means (classes, C)."""
    highest = means.max(axis=0)
    others = (means.sum(axis=0) - highest) / max(1, len(means) - 1)
    total = highest + others
    return np.where(total > 0, (highest - others) / np.where(total > 0, total, 1), 0.0)


def first_channels(net: VGG, layers: Sequence[str], count: int) -> dict[str, list[int]]:
    """The first `count` channels of each layer, or all where there are fewer."""
    return {layer: list(range(min(count, net.convolutions[layer].out_channels))) for layer in layers}


def most_selective(index: Mapping[str, NDArray[np.float64]], count: int) -> dict[str, list[int]]:
    """The `count` channels of each layer that prefer one class most, the most selective first."""
    return {layer: np.argsort(-values, kind="stable")[:count].tolist() for layer, values in index.items()}
