"""A trained network as a scorer: pictures in, logits out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import load


class TorchScorer:
    """Scores with `net` on `device`; see `figleaf.evaluate.scorer.Scorer`.

    `classes` names the logits, `unsafe` the classes whose probabilities add up to the score.
    """

    def __init__(self, net: VGG, classes: Sequence[str], unsafe: Sequence[str], device: str = "cpu") -> None:
        self.classes, self.unsafe = tuple(classes), tuple(unsafe)
        self.device = torch.device(device)
        # The layout in which the small networks are fastest; it changes no shape.
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "TorchScorer":
        """The scorer of a run's `best.safetensors`. Raises `FigleafError` when the file does not name its classes."""
        net, metadata = load(path)
        if "classes" not in metadata:
            raise FigleafError(f"{path}: holds weights but no class names; it was not written by `figleaf train`")
        return cls(net, metadata["classes"], metadata["unsafe"], device)

    @property
    def input_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.net.input_size

    @torch.inference_mode()
    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        images = torch.from_numpy(np.ascontiguousarray(rgb_u8)).permute(0, 3, 1, 2).to(self.device)
        logits: NDArray[np.float32] = self.net(images).float().cpu().numpy()
        return logits
