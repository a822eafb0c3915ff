"""A small network and pictures of noise, for tests that look inside."""

import numpy as np
import torch

from figleaf.vgg.network import VGG


def network(**changes: object) -> VGG:
    """A small network whose batch norms have seen pictures, so that folding them changes something."""
    torch.manual_seed(0)
    net = VGG(**{"width": 0.125, "input_size": 64, "head": "gap", **changes}).train()
    with torch.no_grad():
        for _ in range(3):
            net(255 * torch.rand(8, 3, net.input_size, net.input_size))
    return net.eval()


def pictures(count: int = 3, size: int = 64) -> np.ndarray:
    """Noise, uint8 (count, size, size, 3)."""
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
