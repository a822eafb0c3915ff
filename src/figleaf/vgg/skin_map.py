"""What a network with a dense head says: how probably a pixel is skin, and by that, whether a picture is unsafe."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG

CLASSES = 2  # of pixels: something else, skin
# In the metadata of a file of weights: from which probability a pixel counts as skin, and from which share of skin a
# picture is unsafe. Both are chosen on val when the training is finished.
SKIN_THRESHOLD, SHARE_THRESHOLD = "skin_threshold", "share_threshold"
UNDECIDED = 0.5  # before they are chosen
_LEAST = 1e-6  # the least share of skin, and of anything else, when the logit of a share is taken


class SkinShare(nn.Module):
    """The judge of pictures that a dense network is: (logits (N, 2), P(skin) (N, H, W)) of RGB images (N, 3, H, W).

    The share of skin in a picture, q, is the mean of its pixels' probabilities. The logit at the place `unsafe` is
    logit(q) - logit(`share_threshold`), the other 0: P(unsafe) is a half where q is the threshold, and rises with q.
    """

    def __init__(self, net: VGG, unsafe: int, share_threshold: float = UNDECIDED) -> None:
        super().__init__()
        self.net, self.unsafe = net, unsafe
        self.needed = log_odds(share_threshold)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        probability = self.net(rgb).softmax(1)
        # Both shares, rather than 1 - q: near 1 that would keep few digits, and runtimes would differ in the logits.
        other, skin = probability.mean((2, 3)).clamp(min=_LEAST).log().unbind(1)
        unsafe = skin - other - self.needed
        safe = torch.zeros_like(unsafe)
        return torch.stack([safe, unsafe] if self.unsafe else [unsafe, safe], 1), probability[:, 1]


def log_odds(probability: float) -> float:
    """The logarithm of the odds of a probability in (0, 1)."""
    return math.log(probability) - math.log1p(-probability)


def unsafe_place(classes: Sequence[str], unsafe: Sequence[str]) -> int:
    """Which of two classes, 0 or 1, is the unsafe one. Raises `FigleafError` where it is not one of two."""
    if len(classes) != 2 or len(unsafe) != 1:
        raise FigleafError(
            f"model.head=dense: a picture is safe or unsafe by its share of skin, so it takes two classes of which one "
            f"is unsafe, and these are data.classes={list(classes)} with data.unsafe={list(unsafe)}"
        )
    return list(classes).index(unsafe[0])


@torch.inference_mode()
def skin_maps(net: VGG, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """P(skin) (n, S, S) of a batch of pictures (n, S, S, 3); `net` has a dense head and is in evaluation mode."""
    images = torch.from_numpy(np.ascontiguousarray(rgb_u8)).permute(0, 3, 1, 2).to(next(net.parameters()).device)
    return net(images).softmax(1)[:, 1].float().cpu().numpy()  # type: ignore[no-any-return]


def enlarged(probability: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """A map (S, S) at the shape (H, W) of the picture or mask it belongs to, by the filter pictures are squashed by."""
    height, width = shape
    if probability.shape == (height, width):
        return probability
    resized = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).clip(0.0, 1.0)


def mean_maps(
    net: VGG, pictures: Sequence[NDArray[np.uint8]], shapes: Sequence[Sequence[int]], *, flip: bool = False
) -> list[NDArray[np.float32]]:
    """P(skin) of n pictures at the `shapes` (H, W) asked for: the mean over what `net` says of them at several scales.

    `pictures` holds the same ones at each scale, (n, S, S, 3); with `flip` their mirror images are asked about, too.
    """
    found: list[NDArray[np.float32]] = [np.zeros(tuple(shape), np.float32) for shape in shapes]
    for rgb_u8 in pictures:
        maps = skin_maps(net, rgb_u8)
        if flip:
            maps = np.float32(0.5) * (maps + skin_maps(net, rgb_u8[:, :, ::-1])[:, :, ::-1])
        for whole, skin in zip(found, maps, strict=True):
            whole += enlarged(np.ascontiguousarray(skin), whole.shape) / len(pictures)
    return found
