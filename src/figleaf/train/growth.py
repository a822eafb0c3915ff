"""Small pictures first: the training's first steps see pictures of fewer pixels, and so take less time.

"Progressive resizing" (Howard 2018, fast.ai's entry to DAWNBench). Pictures are shrunk on the device, antialiased, so
that the cache holds one size.
"""

from collections import Counter
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from figleaf.config import ModelConfig, TrainerConfig
from figleaf.errors import FigleafError
from figleaf.vgg.cost import gmacs
from figleaf.vgg.network import STRIDE, VGG

_LEAST = STRIDE  # below it nothing is left behind the last pooling
_GRAIN = STRIDE // 2  # sizes are multiples of it: a finer one is cut off by the poolings


@dataclass(frozen=True)
class Growth:
    """From pictures of `first` pixels to `last`, linearly over `steps` steps, in multiples of 16."""

    first: int
    last: int
    steps: int

    def size(self, step: int) -> int:
        """Side in pixels at an optimiser step."""
        if step >= self.steps:
            return self.last
        grown = self.first + (self.last - self.first) * step / self.steps
        return min(self.last, max(self.first, int(grown) // _GRAIN * _GRAIN))

    def __call__(self, rgb: Tensor, step: int) -> Tensor:
        """Pictures (N, 3, S, S) at the size of `step`; RGB on the 0-255 scale, as floats where they were shrunk."""
        size = self.size(step)
        if size >= rgb.shape[-1]:
            return rgb
        return interpolate(rgb.float(), size=(size, size), mode="bilinear", antialias=True)

    def mean_gmacs(self, net: VGG, steps: int) -> float:
        """Billions of multiply-accumulates of a picture, forward, as the mean over the first `steps`, one or more."""
        sizes = Counter(self.size(step) for step in range(steps))
        return sum(count * gmacs(net, size) for size, count in sizes.items()) / steps


def growth_of(model: ModelConfig, trainer: TrainerConfig, total_steps: int) -> Growth | None:
    """What `trainer.grow_from` asks for, if anything.

    "auto" is half of `model.input_size` for a network from random weights whose pictures may change their size, and
    nothing for any other. Raises `FigleafError` where a number is given and pictures have to keep their size.
    """
    first = trainer.grow_from
    if first is None:
        return None
    if first == "auto":
        first = max(_LEAST, model.input_size // 2 // _GRAIN * _GRAIN)
        if model.weights != "none" or first >= model.input_size or _why_not(model) is not None:
            return None
    assert isinstance(first, int)
    if (why := _why_not(model)) is not None:
        raise FigleafError(f"trainer.grow_from={first}{why}")
    if first >= model.input_size:
        raise FigleafError(f"trainer.grow_from={first}: expected less than model.input_size={model.input_size}")
    return Growth(first, model.input_size, max(1, round(trainer.grow_share * total_steps)))


def _why_not(model: ModelConfig) -> str | None:
    """What keeps the pictures at their size, as the end of a message."""
    if model.head == "dense" or (model.head == "fc" and not model.adaptive_pool):
        return (
            f": model.head={model.head} is built for pictures of model.input_size={model.input_size}; "
            "use model.head=gap, or trainer.grow_from=null"
        )
    if model.frozen_stages:
        return (
            f" with model.frozen_stages={model.frozen_stages}: frozen stages may be computed once, at the full size; "
            "use one of them"
        )
    return None
