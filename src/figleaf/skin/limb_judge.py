"""Which of many proposed limb segments are limbs: boosted trees on the evidence, the best of those that overlap.

The second verifier beside the gallery of views (`limb_gallery`): it has a network's word on the parts of limbs, and has
to choose among several hypotheses for one limb.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils.validation import check_is_fitted

from figleaf.errors import FigleafError
from figleaf.progress import track
from figleaf.skin.limb_evidence import Evidence
from figleaf.skin.limb_proposals import Proposals, Relations
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.training_pixels import folds_by_group

Floats = NDArray[np.float64]

DRAWN = Path(__file__).with_name("limb_judge.safetensors")
_L2 = 1.0
_SAMPLES = 21  # of an axis
_SEEN = 0.3  # share of the evidence that a cut may choose from: faster, and trees that err in different ways


class LimbJudge(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Keeps proposals whose probability of being a limb reaches `threshold`; where some show the same, the likeliest.

    Two show the same when they are less than `turn_deg` apart and the mean of the shares of their axes that lie in each
    other is more than `overlap`.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        overlap: float = 0.5,
        turn_deg: float = 40.0,
        trees: int = 300,
        learning_rate: float = 0.07,
        leaves: int = 31,
        folds: int = 3,
        random_state: int = 0,
    ) -> None:
        self.threshold = threshold
        self.overlap = overlap
        self.turn_deg = turn_deg
        self.trees = trees
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]]) -> Self:
        """Learn from the evidence in K pictures, and whether each of the N proposals of one is a limb (N,).

        Raises `FigleafError` where the two do not fit one another, and where all proposals are limbs, or none.
        """
        if [len(one.features) for one in X] != [len(one) for one in y]:
            raise FigleafError("y: expected one for each proposal of each picture")
        if len(np.unique(np.concatenate([np.zeros(0, np.bool_), *y]))) != 2:
            raise FigleafError("y: expected limbs among the proposals, and such as are none")
        self.trees_ = self._fitted(range(len(X)), X, y)
        return self

    def fit_held_out(
        self, X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]], groups: ArrayLike | None = None
    ) -> list[Floats]:
        """Fit, and give each picture's probabilities by the trees of one of `folds`, which have not seen its group.

        `groups` (K,): pictures that belong together and are held out together; where there is one, nothing is.
        """
        self.fit(X, y)
        named = np.arange(len(X)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        fold = folds_by_group(named, self.folds, self.random_state)
        found: list[Any] = [None] * len(X)
        for number in track(range(int(fold.max()) + 1), "Held out", int(fold.max()) + 1):
            rest = np.flatnonzero(fold != number).tolist() if fold.any() else range(len(X))
            trees = self._fitted(rest, X, y)
            for place in np.flatnonzero(fold == number).tolist():
                found[place] = _answer(trees, X[place])
        return found

    def probability(self, evidence: Evidence) -> Floats:
        """That each of N proposals is a limb, (N,)."""
        check_is_fitted(self)
        return _answer(self.trees_, evidence)

    def chosen(self, proposals: Proposals, probability: Floats) -> list[Segment]:
        """The segments that are kept, the likeliest first."""
        if not proposals.segments:
            return []
        between = Relations.of(proposals.segments)
        same = (between.cover + between.cover.T) / 2 > self.overlap
        same &= between.angle_deg < self.turn_deg
        kept: list[int] = []
        for number in np.argsort(-probability, kind="stable").tolist():
            if probability[number] >= self.threshold and not same[number, kept].any():
                kept.append(number)
        return [proposals.segments[number] for number in kept]

    def limbs(self, rgb_u8: RgbU8, mask: Mask) -> list[Segment]:
        """The limb segments in a mask (H, W) of a picture (H, W, 3), the likeliest first; they lie on skin."""
        evidence = Evidence.of(rgb_u8, mask)
        chosen = self.chosen(evidence.proposals, self.probability(evidence))
        return [segment for segment in chosen if _on_skin(segment, np.asarray(mask, np.bool_))]

    def _fitted(
        self, places: Iterable[int], X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]]
    ) -> HistGradientBoostingClassifier:
        places = list(places)
        return HistGradientBoostingClassifier(
            max_iter=self.trees,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            l2_regularization=_L2,
            max_features=_SEEN,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(np.concatenate([X[place].features for place in places]), np.concatenate([y[place] for place in places]))


@cache
def drawn_judge() -> LimbJudge:
    """The judge that the package brings, of drawn scenes; `benchmarks/fit_limb_judge.py` made it."""
    from figleaf.skin.storage import load_system

    judge, _ = load_system(DRAWN)
    assert isinstance(judge, LimbJudge)
    return judge


def _on_skin(segment: Segment, mask: Mask) -> bool:
    """Whether half of a segment's axis, or more, lies in the mask (H, W)."""
    start, end = np.array(segment.start), np.array(segment.end)
    column, row = np.floor(start + np.linspace(0, 1, _SAMPLES)[:, None] * (end - start)).astype(int).T
    height, width = mask.shape
    return bool(mask[row.clip(0, height - 1), column.clip(0, width - 1)].mean() >= 0.5)


def _answer(trees: HistGradientBoostingClassifier, evidence: Evidence) -> Floats:
    return np.asarray(trees.predict_proba(evidence.features)[:, 1]) if len(evidence.features) else np.zeros(0)
