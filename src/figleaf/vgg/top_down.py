"""The dense head: what the five stages see, joined from the coarsest to the finest, to logits of every pixel.

Lin et al. (2017), "Feature pyramid networks for object detection", section 3, with a sixth of its channels or fewer and
down to the picture's own resolution, as Ronneberger et al. (2015), "U-Net", go: an edge of skin is a matter of pixels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class TopDown(nn.ModuleDict):
    """From what the stages see before their poolings, (N, C_k, H / 2^k, W / 2^k), k = 0, 1, ..., to (N, classes, H, W).

    A 1x1 convolution brings each stage to `channels` (`lateral1` to `lateral5`, the finest first). From the coarsest
    on, what is there is enlarged to the next finer stage bilinearly, added to it, and smoothed by a 3x3 convolution
    (`merge4` to `merge1`). Every one of these is followed by its batch norm (`lateral1_bn`) where `batch_norm` says so.
    After `dropout`, `predictions` is a 1x1 convolution. The keys are the names of the layers, in order.
    """

    def __init__(
        self, stage_channels: Sequence[int], channels: int, classes: int, *, batch_norm: bool, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        levels = len(stage_channels)
        kernels = {f"lateral{level}": (stage_channels[level - 1], 1) for level in range(levels, 0, -1)}
        kernels |= {f"merge{level}": (channels, 3) for level in range(levels - 1, 0, -1)}
        for name, (incoming, side) in kernels.items():
            self[name] = nn.Conv2d(incoming, channels, kernel_size=side, padding=side // 2)
            if batch_norm:
                self[f"{name}_bn"] = nn.BatchNorm2d(channels)
        self["predictions"] = nn.Conv2d(channels, classes, kernel_size=1)
        self.levels = levels

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Logits (N, classes, H, W) of the features of the stages, the finest first."""
        top = F.relu(self._layer(f"lateral{self.levels}", stages[-1]))
        for level in range(self.levels - 1, 0, -1):
            finer = stages[level - 1]
            larger = F.interpolate(top, size=finer.shape[-2:], mode="bilinear", align_corners=False)
            top = F.relu(self._layer(f"merge{level}", larger + self._layer(f"lateral{level}", finer)))
        logits: Tensor = self["predictions"](F.dropout(top, self.dropout, self.training))
        return logits

    def macs(self, side: int) -> int:
        """Multiply-accumulates of the convolutions for one picture of `side` squared."""
        found = 0
        for name, layer in self.items():
            if isinstance(layer, nn.Conv2d):
                level = 1 if name == "predictions" else int(name[-1])
                found += layer.weight.numel() * (side >> (level - 1)) ** 2
        return found

    def _layer(self, name: str, x: Tensor) -> Tensor:
        x = self[name](x)
        return self[f"{name}_bn"](x) if f"{name}_bn" in self else x
