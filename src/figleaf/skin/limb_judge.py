"""Which of many proposed limb segments are limbs: boosted trees on the evidence, the best of those that overlap.

The second verifier beside the gallery of views (`limb_gallery`): it looks at the edges, too, and has to choose among
several hypotheses for one limb.
"""

from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils.validation import check_is_fitted

from figleaf.skin.creases import WorkingPicture
from figleaf.skin.limb_evidence import proposal_features
from figleaf.skin.limb_proposals import Proposals, Relations, limb_proposals
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8

DRAWN = Path(__file__).with_name("limb_judge.safetensors")


class LimbJudge(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Keeps the proposals whose probability of being a limb reaches `threshold`, and of two that overlap the likelier.

    Two overlap when more than `overlap` of the axis of one lies in the other, and they are less than `turn_deg` apart.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        overlap: float = 0.5,
        turn_deg: float = 40.0,
        iterations: int = 300,
        learning_rate: float = 0.07,
        leaves: int = 31,
        random_state: int = 0,
    ) -> None:
        self.threshold = threshold
        self.overlap = overlap
        self.turn_deg = turn_deg
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn from the evidence (N, d) for proposals and whether each shows a limb (N,)."""
        self.trees_ = HistGradientBoostingClassifier(
            max_iter=self.iterations,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(X, np.asarray(y, bool))
        return self

    def probability(self, X: Any) -> NDArray[np.float64]:
        """That each row of evidence (N, d) is a limb's, (N,)."""
        check_is_fitted(self)
        X = np.asarray(X, np.float64)
        return np.asarray(self.trees_.predict_proba(X)[:, 1]) if len(X) else np.zeros(0)

    def chosen(self, proposals: Proposals, probability: NDArray[np.float64]) -> list[Segment]:
        """The segments that are kept, the likeliest first."""
        if not proposals.segments:
            return []
        between = Relations.of(proposals.segments)
        rival = np.maximum(between.cover, between.cover.T) > self.overlap
        rival &= between.angle_deg < self.turn_deg
        kept: list[int] = []
        for number in np.argsort(-probability, kind="stable").tolist():
            if probability[number] >= self.threshold and not rival[number, kept].any():
                kept.append(number)
        return [proposals.segments[number] for number in kept]

    def limbs(self, rgb_u8: RgbU8, mask: Mask) -> list[Segment]:
        """The limb segments in a mask (H, W) of a picture (H, W, 3), the likeliest first."""
        working = WorkingPicture.of(rgb_u8, mask)
        proposals = limb_proposals(rgb_u8, mask, working)
        return self.chosen(proposals, self.probability(proposal_features(rgb_u8, mask, working, proposals)))


@cache
def drawn_judge() -> LimbJudge:
    """The judge that the package brings, of drawn scenes; `benchmarks/fit_limb_judge.py` made it."""
    from figleaf.skin.storage import load_system

    judge, _ = load_system(DRAWN)
    assert isinstance(judge, LimbJudge)
    return judge
