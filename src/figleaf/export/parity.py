"""Whether an exported file answers as the checkpoint does, on given pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from figleaf.data.decode import DecodeError, decode_resized
from figleaf.data.member import File
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import prob_unsafe
from figleaf.evaluate.scorer import Scorer


@dataclass(frozen=True)
class Pictures:
    """Pictures to compare on: `rgb_u8` (N, S, S, 3), and the files that could not be decoded with their reasons."""

    rgb_u8: NDArray[np.uint8]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Parity:
    """How far two scorers are apart on `images` pictures.

    `max_probability_diff` is that of any class's probability, and `max_score_diff` None when no class is unsafe.
    `decisions_changed` counts the pictures that one flags and the other does not, or, without a threshold, for which
    another class has the largest logit.
    """

    images: int
    max_logit_diff: float
    max_probability_diff: float
    max_score_diff: float | None
    decisions_changed: int


@dataclass(frozen=True)
class Quality:
    """What a scorer is worth on labelled pictures: `of` gives its `measure` there, which is better when it is larger.

    `measure` has the tracker's key, such as val/auroc. A lossy file may lose `max_drop` of it and no more.
    """

    measure: str
    of: Callable[[Scorer], float]
    max_drop: float


def read_pictures(source: NDArray[np.uint8] | Sequence[File], size: int) -> Pictures:
    """Pictures at `size`: as given, or decoded from their files and resized by the project's rule.

    Raises `FigleafError` when there is none left to compare on.
    """
    unreadable: dict[str, str] = {}
    if isinstance(source, np.ndarray):
        rgb_u8 = source
    else:
        decoded = []
        for path in source:
            try:
                decoded.append(decode_resized(path, size))
            except DecodeError as error:
                unreadable[str(path)] = error.reason
        rgb_u8 = np.stack(decoded) if decoded else np.empty((0, size, size, 3), np.uint8)
    if not len(rgb_u8):
        raise FigleafError(f"parity: no readable picture among {len(source)}; give some to compare the files on")
    return Pictures(rgb_u8, unreadable)


def compare(reference: Scorer, exported: Scorer, rgb_u8: NDArray[np.uint8], threshold: float | None) -> Parity:
    """Compare the answers of two scorers to the pictures (N, S, S, 3); a difference that is not finite is infinite."""
    ours, theirs = (scorer.logits(rgb_u8).astype(np.float64) for scorer in (reference, exported))
    score_diff: float | None = None
    decisions = (ours.argmax(axis=1), theirs.argmax(axis=1))
    if reference.unsafe:
        scores = [prob_unsafe(logits, reference.classes, reference.unsafe) for logits in (ours, theirs)]
        score_diff = _greatest(scores[0] - scores[1])
        if threshold is not None:
            decisions = (scores[0] >= threshold, scores[1] >= threshold)
    return Parity(
        images=len(rgb_u8),
        max_logit_diff=_greatest(ours - theirs),
        max_probability_diff=_greatest(softmax(ours, axis=1) - softmax(theirs, axis=1)),
        max_score_diff=score_diff,
        decisions_changed=int((decisions[0] != decisions[1]).sum()),
    )


def _greatest(difference: NDArray[np.float64]) -> float:
    return float(np.nan_to_num(np.abs(difference), nan=np.inf).max())
