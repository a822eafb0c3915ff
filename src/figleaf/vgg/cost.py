"""What a network costs: parameters, multiply-accumulates for one image, megabytes of weights."""

from itertools import chain

from torch import nn

from figleaf.vgg.network import VGG


def parameters(net: VGG) -> int:
    """Number of parameters, frozen ones included; batch norm statistics are not parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def gmacs(net: VGG, size: int | None = None) -> float:
    """Billions of multiply-accumulates of the convolutions and linear layers for one image of `size` squared.

    `size` is the network's input size unless given. This is what torchvision publishes as GFLOPS (15.470 for VGG16 at
    224 pixels); biases, batch norms, ReLU and pooling are left out there too.
    """
    side = net.input_size if size is None else size
    macs = 0
    for stage in net.stages:
        # Padding keeps the side within a stage, so each kernel is applied at side * side places.
        macs += side**2 * sum(layer.weight.numel() for layer in stage if isinstance(layer, nn.Conv2d))
        side //= 2
    macs += sum(layer.weight.numel() for layer in net.classifier if isinstance(layer, nn.Linear))
    return macs / 1e9


def megabytes(net: VGG) -> float:
    """Size of the weights and buffers in memory, in units of 2**20 bytes as in torchvision's table of file sizes."""
    return sum(tensor.nbytes for tensor in chain(net.parameters(), net.buffers())) / 2**20
