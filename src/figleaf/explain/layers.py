"""The activations of a VGG's convolutions: what each gives after its ReLU, by the names of keras.applications.

`block1_conv1` of keras.applications is the convolution with its activation; here the convolution, its batch norm and
its ReLU are three modules. *Wanted* is what enters the ReLU, an *activation* what leaves it: the gradient of the former
never dies.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG

# The layers that the TF.js example shows, and the last one, which the maps of classes come from.
SHOWN = ("block1_conv1", "block2_conv1", "block3_conv2", "block4_conv2")
LAST = "block5_conv3"


def require_layers(net: VGG, names: Sequence[str], key: str = "layers") -> None:
    """Raises `FigleafError` that names what is no convolution of `net`."""
    unknown = [name for name in names if name not in net.convolutions]
    if unknown:
        raise FigleafError(f"{key}={unknown}: no convolution of this VGG{net.depth}: {', '.join(net.convolutions)}")


def shown_layers(net: VGG, names: Sequence[str] = (*SHOWN, LAST)) -> list[str]:
    """Those of `names` that `net` has, a block's last convolution in place of one that a shallower network lacks."""
    found: dict[str, None] = {}
    for name in names:
        block = name.split("_")[0]
        found[name if name in net.convolutions else [at for at in net.convolutions if at.startswith(block)][-1]] = None
    return list(found)


def relu_of(net: VGG, name: str) -> nn.Module:
    """The ReLU after a convolution: its output is the layer's activation, (N, C, h, w)."""
    return net.features[_place_of_relu(net, name)]


def last_relu(net: VGG) -> nn.Module:
    """The ReLU of the last convolution, which the last pooling follows."""
    return relu_of(net, list(net.convolutions)[-1])


def up_to_wanted(net: VGG, name: str) -> nn.Sequential:
    """From RGB (N, 3, H, W) in 0-255, of any size that reaches so deep, to what enters the ReLU of a convolution.

    A copy of convolutions with batch norm, whose stored statistics are folded into the weights: two passes fewer.
    """
    layers: list[nn.Module] = [net.normalize]
    for layer in net.features[: _place_of_relu(net, name)]:
        before = layers[-1]
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(before, layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


@torch.inference_mode()
def activations(net: VGG, rgb: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The activations (N, C, h, w) of each named layer for RGB images (N, 3, H, W), in the order of the network.

    Raises `FigleafError` for a name that is no convolution.
    """
    require_layers(net, names)
    wanted = {_place_of_relu(net, name): name for name in names}
    found: dict[str, Tensor] = {}
    x = net.normalize(rgb)
    for place, layer in enumerate(net.features[: max(wanted, default=-1) + 1]):
        x = layer(x)
        if place in wanted:
            found[wanted[place]] = x
    return found


def _place_of_relu(net: VGG, name: str) -> int:
    require_layers(net, [name])
    modules = list(net.features)
    conv = next(place for place, layer in enumerate(modules) if layer is net.convolutions[name])
    return next(place for place in range(conv, len(modules)) if isinstance(modules[place], nn.ReLU))
