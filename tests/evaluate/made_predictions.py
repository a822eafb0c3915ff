"""Predictions made up for the tests of this room, and the strategy that draws them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from figleaf.evaluate.predictions import Predictions


def made(
    scores: Sequence[float],
    is_unsafe: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    slices: Sequence[str] | None = None,
    errors: Sequence[str | None] | None = None,
) -> Predictions:
    """Predictions of a two-class network that gives about these scores, 0 < score < 1."""
    n = len(scores)
    samples = pd.DataFrame(
        {
            "sample_id": [f"test/{i:05}.png" for i in range(n)],
            "content_sha256": [f"{i:064x}" for i in range(n)],
            "split": "test",
            "group": [f"g{i}" for i in range(n)] if groups is None else list(groups),
            "slice": "all" if slices is None else list(slices),
            "label": np.where(np.asarray(is_unsafe, dtype=bool), "nude", "control"),
        }
    )
    score = np.asarray(scores, dtype=np.float64).reshape(n)
    logits = np.stack([np.zeros(n), np.log(score) - np.log1p(-score)], axis=1)
    return Predictions.from_logits(
        samples,
        logits,
        classes=("control", "nude"),
        unsafe=("nude",),
        data_name="made-up data",
        data_hash="0" * 64,
        errors=errors,
    )


def noisy(n: int = 684, groups: int = 135, seed: int = 0, shift: float = 2.0) -> Predictions:
    """As many pictures and groups as a small test set has, ranked well but not perfectly."""
    rng = np.random.default_rng(seed)
    is_unsafe = rng.random(n) < 0.45
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + shift * is_unsafe - shift / 2)))
    return made(score, is_unsafe, groups=[f"g{g}" for g in rng.permutation(np.arange(n) % groups)])


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Scores and truth with both labels; scores are coarse, so that ties are common."""
    truth = draw(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda labels: len(set(labels)) == 2))
    scores = draw(st.lists(st.integers(1, 19), min_size=len(truth), max_size=len(truth)))
    return [score / 20 for score in scores], truth
