"""Dense evaluation: a trained network's head at every place of a picture larger than those it was trained on.

Simonyan & Zisserman (2015), section 3.2: the fully connected layers become convolutions, the first with a kernel as
large as its grid, the others 1x1; the resulting class score map is averaged over space. Their pictures keep their
aspect; ours are squashed to a square, as everywhere in the project. A dense head is of convolutions from the beginning
and marks the pixels of the larger picture.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.vgg.network import STRIDE, VGG
from figleaf.vgg.scorer import TorchScorer, in_batches


def score_map(net: VGG, rgb: Tensor) -> Tensor:
    """Class scores before the softmax, (N, classes, h, w), of pictures (N, 3, H, W) with sides of `input_size` or more.

    Neighbouring places are 32 pixels apart. At each of them stands what the head says to the window of features that
    begins there: `input_size // 32` cells a side for `fc`, one cell for `gap`. Applying the layers to every window is
    what turning them into convolutions means, with the weights used where they are: those of a full-size first layer
    would be 400 MB once more.

    `net` is to be in evaluation mode.
    """
    cells, side = net.features(net.normalize(rgb)), _window(net)
    windows = cells.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5)
    count, height, width, *window = windows.shape
    pooled = net.avgpool(windows.reshape(-1, *window))
    scores = net.classifier(torch.flatten(pooled, 1))
    return scores.view(count, height, width, net.classes).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def places_a_side(net: VGG, size: int) -> int:
    """Height, and width, of the score map of pictures of `size` squared."""
    return size // STRIDE - _window(net) + 1


def _window(net: VGG) -> int:
    """How many cells a side the head looks at."""
    return 1 if net.head == "gap" else net.input_size // STRIDE


class DenseScorer:
    """Scores pictures of `size` pixels with the network of `scorer`: the mean over its score map.

    See `figleaf.evaluate.scorer.Scorer`. At the network's own input size these are its own logits. With a dense head
    the share of skin in the larger picture answers, see `figleaf.vgg.skin_map.SkinShare`.

    Raises `FigleafError` for a size that is smaller, or of which the poolings would leave out a rim.
    """

    def __init__(self, scorer: TorchScorer, size: int) -> None:
        require_dense_size(scorer.input_size, size)
        self.net, self.device, self.input_size = scorer.net, scorer.device, size
        self.classes, self.unsafe = scorer.classes, scorer.unsafe
        self._answer = scorer.answer if scorer.net.head == "dense" else self._mean_scores

    @torch.inference_mode()
    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, size, size, 3)."""
        return in_batches(self._answer, rgb_u8, len(self.classes), self.device)

    def _mean_scores(self, rgb: Tensor) -> Tensor:
        return score_map(self.net, rgb).mean((2, 3))


def require_dense_size(trained_size: int, size: int) -> None:
    """Raises `FigleafError` unless a network for `trained_size` sees all of a picture of `size` in dense evaluation.

    Each of five poolings drops an odd last row and column, so that beyond a multiple of 32 a rim would be left out.
    """
    if size == trained_size or (size > trained_size and size % STRIDE == 0):
        return
    below, above = max(size // STRIDE * STRIDE, trained_size), max(-(-size // STRIDE) * STRIDE, trained_size)
    near = " or ".join(str(near) for near in dict.fromkeys((below, above)))
    why = (
        f"smaller than the {trained_size} the network was trained for"
        if size < trained_size
        else f"dense evaluation moves in steps of {STRIDE} pixels and would not see the last {size % STRIDE} of them"
    )
    raise FigleafError(f"scales: pictures of {size} pixels: {why}; use {near}, or method=multi_crop")
