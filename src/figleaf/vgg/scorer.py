"""A trained network as a scorer: pictures in, logits out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from figleaf.errors import FigleafError
from figleaf.vgg.network import VGG
from figleaf.vgg.skin_map import SHARE_THRESHOLD, UNDECIDED, SkinShare, unsafe_place
from figleaf.vgg.weights import load

BATCH_SIZE = 64  # beyond it memory grows and speed does not


class TorchScorer:
    """Scores with `net` on `device`; see `figleaf.evaluate.scorer.Scorer`.

    `classes` names the logits, `unsafe` the classes whose probabilities add up to the score. `net` itself is used, not
    a copy: it is moved to `device`, to channels-last memory and to evaluation mode. With a dense head the picture's
    share of skin answers, see `SkinShare`, and is held against `share_threshold`.

    Raises `FigleafError` where a dense network does not tell two classes apart of which one is unsafe.
    """

    def __init__(
        self,
        net: VGG,
        classes: Sequence[str],
        unsafe: Sequence[str],
        device: str = "cpu",
        share_threshold: float = UNDECIDED,
    ) -> None:
        self.classes, self.unsafe = tuple(classes), tuple(unsafe)
        self._share = None
        if net.head == "dense":
            self._share = SkinShare(net, unsafe_place(self.classes, self.unsafe), share_threshold)
        self.device = torch.device(device)
        # The layout in which the small networks are fastest; it changes no shape.
        self.net = net.eval().to(self.device).to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "TorchScorer":
        """The scorer of a run's `best.safetensors`. Raises `FigleafError` when the file does not name its classes."""
        net, metadata = load(path)
        if "classes" not in metadata:
            raise FigleafError(f"{path}: holds weights but no class names; it was not written by `figleaf train`")
        share_threshold = metadata.get(SHARE_THRESHOLD, UNDECIDED)
        return cls(net, metadata["classes"], metadata["unsafe"], device, share_threshold)

    @property
    def input_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.net.input_size

    @torch.inference_mode()
    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of pictures (N, S, S, 3)."""
        return in_batches(self.answer, rgb_u8, len(self.classes), self.device)

    def answer(self, rgb: Tensor) -> Tensor:
        """Logits (N, C) of a batch (N, 3, S, S) on `device`; with a dense head S may be any multiple of 32."""
        return self.net(rgb) if self._share is None else self._share(rgb)[0]  # type: ignore[no-any-return]


def in_batches(
    forward: Callable[[Tensor], Tensor], rgb_u8: NDArray[np.uint8], classes: int, device: torch.device
) -> NDArray[np.float32]:
    """Logits (N, `classes`) that `forward` gives for pictures (N, S, S, 3), as (n, 3, S, S) on `device`."""
    logits = np.empty((len(rgb_u8), classes), dtype=np.float32)
    for start in range(0, len(rgb_u8), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        images = torch.from_numpy(np.ascontiguousarray(rgb_u8[rows])).permute(0, 3, 1, 2)
        logits[rows] = forward(images.to(device)).float().cpu().numpy()
    return logits
