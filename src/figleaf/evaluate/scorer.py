"""What can be evaluated: anything that turns pictures into logits."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Scorer(Protocol):
    """Pictures in, logits out: a trained network, an exported file, a fitted skin system or a peer's package.

    `classes` names the logits in their order, `unsafe` the classes among them whose probability is the score, and
    `input_size` is the side S of the square pictures it takes, resized by the project's one rule
    (`figleaf.data.decode.resize`).
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C logits, in order."""

    @property
    def unsafe(self) -> tuple[str, ...]:
        """The classes that count as unsafe; may be empty."""

    @property
    def input_size(self) -> int:
        """Side S of the pictures, in pixels."""

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of RGB pictures (N, S, S, 3) in 0..255; each picture's do not depend on its neighbours."""
