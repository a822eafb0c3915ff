"""From samples to the batch that goes to the device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def image_batch(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Give uint8 (N, 3, S, S) in channels_last memory from N images (S, S, 3), copying each byte once."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
