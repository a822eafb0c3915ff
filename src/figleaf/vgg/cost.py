"""What a network costs: parameters, multiply-accumulates for one image, megabytes of weights."""

from itertools import chain

from torch import nn

from figleaf.vgg.dense import places_a_side
from figleaf.vgg.network import VGG
from figleaf.vgg.top_down import TopDown


def parameters(net: VGG) -> int:
    """Number of parameters, frozen ones included; batch norm statistics are not parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def gmacs(net: VGG, size: int | None = None) -> float:
    """Billions of multiply-accumulates of the convolutions and linear layers for one image of `size` squared.

    `size` is the network's input size unless given. This is what torchvision publishes as GFLOPS (15.470 for VGG16 at
    224 pixels); biases, batch norms, ReLU and pooling are left out there too.
    """
    side = net.input_size if size is None else size
    return (_feature_macs(net, side) + _head_macs(net, side)) / 1e9


def dense_gmacs(net: VGG, size: int) -> float:
    """Billions of multiply-accumulates of dense evaluation for one image of `size` squared: the head at every place."""
    if net.head == "dense":
        return gmacs(net, size)  # which is at every place as it is
    return (_feature_macs(net, size) + _head_macs(net, size) * places_a_side(net, size) ** 2) / 1e9


def _feature_macs(net: VGG, side: int) -> int:
    macs = 0
    for stage in net.stages:
        # Padding keeps the side within a stage, so each kernel is applied at side * side places.
        macs += side**2 * sum(layer.weight.numel() for layer in stage if isinstance(layer, nn.Conv2d))
        side //= 2
    return macs


def _head_macs(net: VGG, side: int) -> int:
    if isinstance(net.classifier, TopDown):
        return net.classifier.macs(side)
    return sum(layer.weight.numel() for layer in net.classifier.modules() if isinstance(layer, nn.Linear))


def megabytes(net: VGG) -> float:
    """Size of the weights and buffers in memory, in units of 2**20 bytes as in torchvision's table of file sizes."""
    return sum(tensor.nbytes for tensor in chain(net.parameters(), net.buffers())) / 2**20
