"""Scorers made of a scorer: many crops of a larger picture, a picture and its mirror image; posteriors averaged."""

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.posteriors import log_mean_posterior
from figleaf.evaluate.scorer import Scorer


class MirrorScorer:
    """The mean posterior of a picture and its left-right mirror image, by `scorer`; see `Scorer`.

    Simonyan & Zisserman (2015), section 3.2. A mirrored picture gets the same answer.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.classes, self.unsafe, self.input_size = scorer.classes, scorer.unsafe, scorer.input_size

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Log-probabilities (N, C) of pictures (N, S, S, 3)."""
        mirrored = np.ascontiguousarray(rgb_u8[:, :, ::-1])
        return log_mean_posterior([self._scorer.logits(rgb_u8), self._scorer.logits(mirrored)])


class CropScorer:
    """The mean posterior of a regular grid of crops from pictures of `size` pixels, `crops` a side, by `scorer`.

    Simonyan & Zisserman (2015), section 3.2, after Szegedy et al. (2014): 5 x 5 crops, as large as the pictures that
    the network was trained on. Unlike a place of dense evaluation, a crop is surrounded by the convolutions' zeros.
    See `Scorer`; `size` is at least the input size of `scorer`.
    """

    def __init__(self, scorer: Scorer, size: int, crops: int) -> None:
        self._scorer, self._crop = scorer, scorer.input_size
        self.classes, self.unsafe, self.input_size = scorer.classes, scorer.unsafe, size
        self.corners = crop_corners(size, self._crop, crops)

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Log-probabilities (N, C) of pictures (N, size, size, 3)."""
        side = self._crop
        return log_mean_posterior(
            [
                self._scorer.logits(np.ascontiguousarray(rgb_u8[:, top : top + side, left : left + side]))
                for top in self.corners
                for left in self.corners
            ]
        )


def crop_corners(size: int, crop: int, count: int) -> tuple[int, ...]:
    """Where crops of `crop` pixels begin on a side of `size`: `count` places, evenly from edge to edge; one is central.

    Fewer where there are not so many different ones.
    """
    room = size - crop
    if count == 1:
        return (room // 2,)
    return tuple(dict.fromkeys(round(step * room / (count - 1)) for step in range(count)))
