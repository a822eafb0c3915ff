"""A fitted skin system as a scorer: pictures in, logits out, as from any network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.skin.image_system import ImageSystem
from figleaf.skin.storage import load_system

BINARY = ("safe", "unsafe")  # what a system answers in where the data has more classes than two
_LEAST = 1e-12  # a probability of 0 has no logarithm


class SkinScorer:
    """Scores with a fitted `system`; see `figleaf.evaluate.scorer.Scorer`.

    `classes` are those of the data where they are two, one of them unsafe, and `BINARY` otherwise. `threshold` is the
    one that was chosen on val, None where none was.
    """

    def __init__(
        self,
        system: ImageSystem,
        classes: Sequence[str],
        unsafe: Sequence[str],
        input_size: int,
        threshold: float | None = None,
    ) -> None:
        self.system, self.input_size, self.threshold = system, input_size, threshold
        self.classes, self.unsafe = tuple(classes), tuple(unsafe)
        if len(self.classes) != 2 or len(self.unsafe) != 1:
            raise ValueError(f"classes {self.classes}, unsafe {self.unsafe}: a skin system tells one from another")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The scorer of a run's `best.safetensors`. Raises `FigleafError` when it is no skin system."""
        system, facts = load_system(path)
        if missing := [key for key in ("classes", "unsafe", "input_size") if key not in facts]:
            raise FigleafError(f"{path}: a skin system without {', '.join(missing)}; `figleaf train` writes them")
        return cls(system, facts["classes"], facts["unsafe"], facts["input_size"], facts.get("threshold"))

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, 2) of pictures (N, S, S, 3): the logarithms of the probabilities."""
        probabilities = self.system.predict_proba(rgb_u8)
        ordered = probabilities if self.classes[1] in self.unsafe else probabilities[:, ::-1]
        logits: NDArray[np.float32] = np.log(np.maximum(ordered, _LEAST)).astype(np.float32)
        return logits


def answers(classes: Sequence[str], unsafe: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes in which a system answers on such data, and which of them is unsafe."""
    if len(classes) == 2 and len(unsafe) == 1:
        return tuple(classes), tuple(unsafe)
    return BINARY, BINARY[1:]
