"""A trained network with a dense head as a pixel model, beside those that look at a pixel's colour alone."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from figleaf.data.decode import resize
from figleaf.errors import FigleafError
from figleaf.vgg.skin_map import SKIN_THRESHOLD, UNDECIDED, enlarged, skin_maps
from figleaf.vgg.weights import load


class VggPixels(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A pixel model: the dense network in the file `weights`, such as the `best.safetensors` of a run.

    `threshold` is the probability from which a pixel is skin; None takes the file's, which was chosen on val. The
    network was trained before, by `figleaf train model.head=dense`; `fit` only opens the file.
    """

    def __init__(self, weights: str = "", threshold: float | None = None) -> None:
        self.weights, self.threshold = weights, threshold

    def fit(self, pictures: Any = None, masks: Any = None) -> "VggPixels":
        """Open the file, whatever the pictures. Raises `FigleafError` when it holds no dense network."""
        net, metadata = load(Path(self.weights))
        if net.head != "dense":
            raise FigleafError(
                f"weights={self.weights}: its network has the head {net.head}, which says nothing of pixels; expected "
                "a run of model.head=dense"
            )
        self.net_ = net.to(memory_format=torch.channels_last)
        self.threshold_ = metadata.get(SKIN_THRESHOLD, UNDECIDED) if self.threshold is None else self.threshold
        return self

    def skin_probability(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """P(skin) (H, W) of a picture (H, W, 3) of any size: squashed to the network's, and its map enlarged again."""
        size = self.net_.input_size
        squashed = rgb_u8 if rgb_u8.shape[:2] == (size, size) else resize(rgb_u8, size)
        return enlarged(skin_maps(self.net_, squashed[None])[0], rgb_u8.shape[:2])

    def skin_mask(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which pixels (H, W) of a picture (H, W, 3) are skin."""
        return self.skin_probability(rgb_u8) >= self.threshold_
