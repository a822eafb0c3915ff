"""Network slimming: an L1 penalty that draws the scales of batch norms to zero, so that their channels can go.

Liu et al. (2017), "Learning efficient convolutional networks through network slimming", equation 1 and section 3.
"""

import torch
from torch import nn

from figleaf.vgg.network import VGG


@torch.no_grad()
def add_scale_penalty(net: VGG, strength: float) -> None:
    """Add the penalty's subgradient, `strength * sign(scale)`, to the gradients of the convolutions' batch norms.

    Of the network and not of a sample: every rank adds the whole of it to gradients that are the same on all of them.
    """
    if not strength:
        return
    for layer in net.features:
        if isinstance(layer, nn.BatchNorm2d) and layer.weight.grad is not None:
            layer.weight.grad.add_(layer.weight.sign(), alpha=strength)
