"""The VGG networks as data: one class, with depth, width, batch norm, head and input size as arguments.

Simonyan & Zisserman (2015), "Very deep convolutional networks for large-scale image recognition", configurations A, B,
D and E. Submodule names and indices follow torchvision, so that weights move between the two unchanged.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import accumulate
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from figleaf.errors import FigleafError
from figleaf.vgg.fc_head import DOWN, fc_head, linear_layers
from figleaf.vgg.top_down import TopDown

# Convolutions in each of the five stages (table 1 of the paper); a stage ends with a 2x2 max pooling.
CONVOLUTIONS_PER_STAGE = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
STAGE_CHANNELS = (64, 128, 256, 512, 512)
FC_FEATURES = 4096
DENSE_FEATURES = 128
STRIDE = 32  # five poolings
HEAD = len(STAGE_CHANNELS)  # the head's number among the stages
TORCHVISION_GRID = 7

# Statistics of ImageNet in RGB order on the 0-255 scale, as torchvision's weights expect them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

Head = Literal["fc", "gap", "dense"]
COMPRESSED = ("channels", "fc_features", "fc_ranks")  # the arguments that a compressed network has


class Normalize(nn.Module):
    """The first layer: `(x - mean) * scale` for RGB images (N, 3, H, W), uint8 or float, on the 0-255 scale.

    Mean and scale belong to the weights, so they are buffers and travel with every checkpoint and export.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) in the precision of the weights."""
        return (rgb.to(self.mean.dtype) - self.mean) * self.scale


class VGG(nn.Module):
    """A VGG from RGB images (N, 3, H, W), uint8 or float in 0-255, to logits (N, classes), or (N, classes, H, W).

    `width` multiplies the channels (rounded to multiples of 8, at least 8) and the 4096 features of the `fc` head. The
    `fc` head (Linear, ReLU, Dropout twice, then Linear) is built for a grid of `input_size // 32` and takes no other
    image size, unless `adaptive_pool` puts torchvision's 7x7 average pooling before it. The `gap` head averages over
    space, drops out and is linear; it takes any size from 32 up. The `dense` head classifies every pixel: it joins what
    all five stages see (`TopDown`, with 128 channels at full width) and takes any size from 32 up, too. `mean` and
    `std` are RGB on the 0-255 scale.
    A compressed network differs in its layers from what `width` gives: `channels` are those of each convolution,
    `fc_features` what the two hidden layers of the `fc` head give, `fc_ranks` the ranks they are factored to (0 leaves
    one whole).
    `checkpoint_activations` recomputes each stage in the backward pass: less memory, same gradients.

    Raises `FigleafError` for an argument outside its range.
    """

    def __init__(
        self,
        *,
        depth: int = 16,
        batch_norm: bool = True,
        width: float = 1.0,
        head: Head = "fc",
        dropout: float = 0.5,
        classes: int = 2,
        input_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        checkpoint_activations: bool = False,
        adaptive_pool: bool = False,
        channels: Sequence[int] | None = None,
        fc_features: Sequence[int] | None = None,
        fc_ranks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        _require(depth in CONVOLUTIONS_PER_STAGE, "depth", depth, "11, 13, 16 or 19")
        _require(head in get_args(Head), "head", head, "fc, gap or dense")
        _require(width > 0, "width", width, "a number above 0")
        _require(0 <= dropout < 1, "dropout", dropout, "0 <= x < 1")
        _require(classes >= 1, "classes", classes, "at least 1")
        _require(input_size >= STRIDE, "input_size", input_size, f"at least {STRIDE} pixels")
        _require(len(mean) == 3, "mean", mean, "three numbers, RGB on the 0-255 scale")
        _require(len(std) == 3 and min(std) > 0, "std", std, "three positive numbers, RGB on the 0-255 scale")
        counts = CONVOLUTIONS_PER_STAGE[depth]
        each = f"{sum(counts)} numbers of at least 1, one for each convolution of VGG{depth}"
        _require(channels is None or _are(channels, sum(counts), 1), "channels", channels, each)
        for name, numbers, least in (("fc_features", fc_features, 1), ("fc_ranks", fc_ranks, 0)):
            fits = numbers is None or (head == "fc" and _are(numbers, 2, least))
            _require(fits, name, numbers, f"two numbers of at least {least}, of the hidden layers of head=fc")
        self.depth, self.batch_norm, self.width, self.head = depth, batch_norm, width, head
        self.dropout, self.classes, self.input_size = dropout, classes, input_size
        self.mean, self.std = tuple(mean), tuple(std)
        self.checkpoint_activations, self.adaptive_pool = checkpoint_activations, adaptive_pool
        self.channels, self.fc_features, self.fc_ranks = map(_numbers, (channels, fc_features, fc_ranks))
        self.frozen_stages = 0

        stages = _stage_channels(counts, self.channels, width)
        self.normalize = Normalize(mean, std)
        self.features = nn.Sequential(*_feature_layers(stages, batch_norm))
        last = stages[-1][-1]
        self.avgpool: nn.Module
        self.classifier: nn.Module
        if head == "gap":
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        elif head == "dense":
            self.avgpool = nn.Identity()
            joined = scaled_channels(DENSE_FEATURES, width)
            seen = [stage[-1] for stage in stages]
            self.classifier = TopDown(seen, joined, classes, batch_norm=batch_norm, dropout=dropout)
        else:
            self.avgpool = nn.AdaptiveAvgPool2d(TORCHVISION_GRID) if adaptive_pool else nn.Identity()
            grid = TORCHVISION_GRID if adaptive_pool else input_size // STRIDE
            hidden = max(1, round(FC_FEATURES * width))
            self.classifier = fc_head(
                last * grid**2,
                self.fc_features or (hidden, hidden),
                classes,
                ranks=self.fc_ranks or (0, 0),
                dropout=dropout,
            )
        self._initialise()

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Plain values that rebuild this network without its weights: `VGG(**hyperparameters)`; they survive JSON."""
        return {
            "depth": self.depth,
            "batch_norm": self.batch_norm,
            "width": self.width,
            "head": self.head,
            "dropout": self.dropout,
            "classes": self.classes,
            "input_size": self.input_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "checkpoint_activations": self.checkpoint_activations,
            "adaptive_pool": self.adaptive_pool,
            # Only a compressed network says so: the others' files stay what they were.
            **{name: list(value) for name in COMPRESSED if (value := getattr(self, name)) is not None},
        }

    @property
    def fixed_size(self) -> bool:
        """Whether only images of `input_size` squared are accepted: an `fc` head built on the grid itself."""
        return self.head == "fc" and not self.adaptive_pool

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The five stages of `features` in order, sharing its modules; each ends with its pooling."""
        pools = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        starts = [0, *(pool + 1 for pool in pools[:-1])]
        return tuple(self.features[start : pool + 1] for start, pool in zip(starts, pools, strict=True))

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The layers that hold weights, in order, by their keras.applications name.

        `block1_conv1` to `block5_conv4`, after a block's convolutions its batch norms (`block1_bn1`), then `fc1`, `fc2`
        and `predictions`, `predictions` alone for the `gap` head, or the names of `TopDown` for the `dense` one. Before
        a factored `fc1` stands `fc1_down`. A name means the same place at every depth.
        """
        named: dict[str, nn.Module] = {}
        for block, stage in enumerate(self.stages, start=1):
            for kind, cls in (("conv", nn.Conv2d), ("bn", nn.BatchNorm2d)):
                alike = (layer for layer in stage if isinstance(layer, cls))
                named |= {f"block{block}_{kind}{number}": layer for number, layer in enumerate(alike, start=1)}
        if isinstance(self.classifier, TopDown):
            return named | dict(self.classifier.items())
        return named | linear_layers(self.classifier)

    @property
    def convolutions(self) -> dict[str, nn.Conv2d]:
        """The convolutions among `layers`, in order."""
        return {name: layer for name, layer in self.layers.items() if isinstance(layer, nn.Conv2d)}

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace mean and standard deviation (RGB, 0-255 scale), as when weights with other statistics are loaded."""
        device = self.normalize.mean.device
        self.mean, self.std = tuple(mean), tuple(std)
        self.normalize = Normalize(mean, std).to(device)

    def forward(self, rgb: Tensor) -> Tensor:
        """Logits (N, classes), or (N, classes, H, W), of RGB images (N, 3, H, W); see the class for accepted sizes."""
        if self.fixed_size and rgb.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"images of {rgb.shape[-2]}x{rgb.shape[-1]} for a network built for {self.input_size}x{self.input_size}"
            )
        x = self.normalize(rgb)
        return self._of_pixels(x) if self.head == "dense" else self.from_stage(x, 0)

    def from_stage(self, x: Tensor, first: int) -> Tensor:
        """Logits (N, classes) of what stage number `first` (0 to 5, counted from 0; 5 is the head) takes in.

        Not of a `dense` head, which looks at every stage.
        """
        for stage in self.stages[first:]:
            x = self._through(stage, x)
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(x), 1))
        return logits

    def _of_pixels(self, x: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of normalised images: the head joins what the stages see before their poolings."""
        seen: list[Tensor] = []
        for *convolutions, pool in self.stages:
            seen.append(self._through(nn.Sequential(*convolutions), x))
            x = pool(seen[-1])
        logits: Tensor = self.classifier(seen)
        return logits

    def _through(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        """What `layers` make of `x`; made again in the backward pass with `checkpoint_activations`."""
        if self.checkpoint_activations and self.training and torch.is_grad_enabled():
            found: Tensor = checkpoint(layers, x, use_reentrant=False, context_fn=partial(_contexts, layers))
            return found
        return layers(x)  # type: ignore[no-any-return]

    def up_to_stage(self, rgb: Tensor, last: int) -> Tensor:
        """What stage number `last` (0 to 5; 5 is the head) takes in, (N, C, h, w), of RGB images (N, 3, H, W)."""
        x: Tensor = self.normalize(rgb)
        for stage in self.stages[:last]:
            x = self._through(stage, x)
        return x

    def train(self, mode: bool = True) -> Self:
        """Switch to training (or evaluation); frozen stages keep their batch norms on the stored statistics."""
        super().train(mode)
        for stage in self.stages[: self.frozen_stages]:
            stage.eval()
        return self

    def _initialise(self) -> None:
        """Draw the weights as torchvision does: Kaiming (fan out) convolutions, N(0, 0.01) linear layers, zero biases.

        0.01 suits the fan-in of the full-size hidden layers. A narrow network keeps their gain, not their deviation:
        with 0.01 its gradients are 20 to 50 times smaller, and 16 layers without batch norm do not start to learn.
        The last layer keeps 0.01, so that the logits start near 0 and the loss near ln(classes).
        """
        for layer in self.convolutions.values():
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(_bias(layer))
        layers = self.layers
        for name, fan_in in (("fc1", STAGE_CHANNELS[-1] * TORCHVISION_GRID**2), ("fc2", FC_FEATURES)):
            if name not in layers:
                continue
            weight = layers[name].get_parameter("weight")
            nn.init.normal_(weight, 0, 0.01 * math.sqrt(fan_in / weight.shape[1]))
            nn.init.zeros_(layers[name].get_parameter("bias"))
            if f"{name}{DOWN}" in layers:  # keeps the size of what it takes in
                weight = layers[f"{name}{DOWN}"].get_parameter("weight")
                nn.init.normal_(weight, 0, math.sqrt(1 / weight.shape[1]))
        last = self.layers["predictions"]
        nn.init.normal_(last.get_parameter("weight"), 0, 0.01)
        nn.init.zeros_(last.get_parameter("bias"))


def scaled_channels(full: int, width: float) -> int:
    """`full * width` rounded to the nearest multiple of 8, at least 8: what vector units and tensor cores like."""
    return max(8, round(full * width / 8) * 8)


def freeze(net: VGG, stages: int) -> None:
    """Stop the first `stages` (0 to 5) stages from learning: no gradients, and batch norms keep their statistics."""
    _require(0 <= stages <= len(STAGE_CHANNELS), "frozen stages", stages, f"0 to {len(STAGE_CHANNELS)}")
    net.frozen_stages = stages
    for number, stage in enumerate(net.stages):
        stage.requires_grad_(number >= stages)
    net.train(net.training)


def _stage_channels(
    counts: Sequence[int], channels: tuple[int, ...] | None, width: float
) -> tuple[tuple[int, ...], ...]:
    """The channels of each convolution, stage by stage: as given, or by `width`."""
    if channels is None:
        return tuple(
            (scaled_channels(full, width),) * count for full, count in zip(STAGE_CHANNELS, counts, strict=True)
        )
    ends = list(accumulate(counts))
    return tuple(channels[end - count : end] for end, count in zip(ends, counts, strict=True))


def _feature_layers(stages: Sequence[Sequence[int]], batch_norm: bool) -> Iterator[nn.Module]:
    incoming = 3
    for stage in stages:
        for outgoing in stage:
            yield nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1)
            if batch_norm:
                yield nn.BatchNorm2d(outgoing)
            yield nn.ReLU(inplace=True)
            incoming = outgoing
        yield nn.MaxPool2d(kernel_size=2, stride=2)


def _contexts(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a checkpointed stage's forward pass, and its recomputation in the backward pass."""
    return nullcontext(), _replay(stage)


@contextmanager
def _replay(stage: nn.Module) -> Iterator[None]:
    """Keep the batch norms' running statistics as they are while a stage is recomputed: they have seen this batch."""
    buffers = [(buffer, buffer.clone()) for buffer in stage.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None  # every convolution here has one
    return layer.bias


def _are(numbers: Sequence[int], count: int, least: int) -> bool:
    return len(numbers) == count and min(numbers) >= least


def _numbers(given: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if given is None else tuple(given)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise FigleafError(f"{name}={value}: expected {expected}")
