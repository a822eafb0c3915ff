"""Any scorer shown many boxes of a picture, and its answers made into one."""

import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import resize
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import prob_unsafe
from figleaf.evaluate.scorer import Scorer
from figleaf.skin.boxes import Boxes, Floats, aggregate, strongest
from figleaf.skin.crops import CropScheme
from figleaf.skin.scorer import answers

_LEAST = 1e-12  # a probability of 0 has no logarithm


class BoxScorer:
    """Scores pictures of `size` pixels with `scorer` shown the boxes of `scheme`; see `Scorer`.

    Each box is squashed to the scorer's input size by the project's one resize rule. `how` aggregates the probabilities
    of being unsafe; see `figleaf.skin.boxes.aggregate`. What comes out says safe or unsafe, also where the scorer knows
    more classes. Raises `FigleafError` when none of them is unsafe.
    """

    def __init__(self, scorer: Scorer, scheme: CropScheme, size: int, how: str = "max") -> None:
        aggregate(np.ones(1), how)  # an unknown name is refused before anything is scored
        if not scorer.unsafe:
            raise FigleafError("boxes are looked through for what is unsafe, and no class of this scorer is")
        self._scorer, self._scheme, self._how = scorer, scheme, how
        self.classes, self.unsafe = answers(scorer.classes, scorer.unsafe)
        self.input_size = size

    def logits(self, rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Log-probabilities (N, 2) of pictures (N, size, size, 3)."""
        found = np.empty((len(rgb_u8), 2), dtype=np.float32)
        position = self.classes.index(self.unsafe[0])
        for row, picture in enumerate(rgb_u8):
            unsafe = aggregate(self.box_probabilities(picture, self._scheme.boxes(picture)), self._how)
            found[row, position] = np.log(max(unsafe, _LEAST))
            found[row, 1 - position] = np.log(max(1 - unsafe, _LEAST))
        return found

    def box_probabilities(self, picture: NDArray[np.uint8], boxes: Boxes) -> Floats:
        """P(unsafe) (B,) of the boxes (B, 4) of a picture (H, W, 3)."""
        side = self._scorer.input_size
        crops = np.stack([resize(picture[top:bottom, left:right], side) for top, left, bottom, right in boxes])
        return prob_unsafe(self._scorer.logits(crops), self._scorer.classes, self._scorer.unsafe)

    def where(self, picture: NDArray[np.uint8], least: float = 0.5, overlap: float = 0.3) -> tuple[Boxes, Floats]:
        """The boxes (K, 4) of a picture (H, W, 3) whose probability reaches `least`, and these, highest first.

        Of boxes that overlap by more than `overlap` of their union the most probable one is kept.
        """
        boxes = self._scheme.boxes(picture)
        probabilities = self.box_probabilities(picture, boxes)
        kept = strongest(boxes, probabilities, overlap)
        kept = kept[probabilities[kept] >= least]
        return boxes[kept], probabilities[kept]
