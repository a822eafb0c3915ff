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
    """What `trainer.grow_from` asks for, if anything. Raises `FigleafError` where pictures have to keep their size."""
    first = trainer.grow_from
    if first is None:
        return None
    if model.head == "dense" or (model.head == "fc" and not model.adaptive_pool):
        raise FigleafError(
            f"trainer.grow_from={first}: model.head={model.head} is built for pictures of model.input_size="
            f"{model.input_size}; use model.head=gap"
        )
    if model.frozen_stages:
        raise FigleafError(
            f"trainer.grow_from={first} with model.frozen_stages={model.frozen_stages}: frozen stages may be computed "
            "once, at the full size; use one of them"
        )
    if first >= model.input_size:
        raise FigleafError(f"trainer.grow_from={first}: expected less than model.input_size={model.input_size}")
    return Growth(first, model.input_size, max(1, round(trainer.grow_share * total_steps)))
