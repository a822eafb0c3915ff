"""Which of many proposed limb segments are limbs: boosted trees on the evidence, the best of those that overlap.

The second verifier beside the gallery of views (`limb_gallery`): it looks at the edges, too, and has to choose among
several hypotheses for one limb. Two rounds of trees follow one another: the second sees what the first said of a
proposal and of its neighbours (`limb_context`).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils.validation import check_is_fitted

from figleaf.progress import track
from figleaf.skin.limb_context import context_features
from figleaf.skin.limb_evidence import Evidence
from figleaf.skin.limb_proposals import Proposals, Relations
from figleaf.skin.limbs import Segment
from figleaf.skin.pictures import Mask, RgbU8
from figleaf.skin.training_pixels import folds_by_group

Floats = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]

DRAWN = Path(__file__).with_name("limb_judge.safetensors")
_L2 = 1.0
_SEEN = 0.3  # share of the evidence that a cut may choose from: faster, and trees that err in different ways
_SECOND = 0.5  # leaves of the trees of the second round against the first, which has more to find out


class LimbJudge(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Keeps proposals whose probability of being a limb reaches `threshold`; where some show the same, the likeliest.

    Two show the same when they are less than `turn_deg` apart and the mean of the shares of their axes that lie in each
    other is more than `overlap`. What the second round learns from are the answers of first rounds that have not seen
    the picture's group, one for each of `folds`. `trees` are counted a round, `leaves` are those of the first round's.
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

    def fit(self, X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]], groups: ArrayLike | None = None) -> Self:
        """Learn from the evidence in K pictures, and whether each of the N proposals of one is a limb (N,).

        `groups` (K,): pictures that belong together and are held out together.
        """
        self._fit(X, y, groups, want_last=False)
        return self

    def fit_held_out(
        self, X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]], groups: ArrayLike | None = None
    ) -> list[Floats]:
        """Fit, and give the probabilities of each picture by trees of a second round that have not seen its group.

        The first rounds behind the *other* folds' answers know the group, the usual and small imperfection of stacking.
        """
        return self._fit(X, y, groups, want_last=True)

    def probability(self, evidence: Evidence) -> Floats:
        """That each of N proposals is a limb, (N,)."""
        check_is_fitted(self)
        first, second = self.rounds_
        found = _answer(first, evidence.features)
        return _answer(second, _with_context(evidence, found))

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
        """The limb segments in a mask (H, W) of a picture (H, W, 3), the likeliest first."""
        evidence = Evidence.of(rgb_u8, mask)
        return self.chosen(evidence.proposals, self.probability(evidence))

    def _fit(
        self, X: Sequence[Evidence], y: Sequence[NDArray[np.bool_]], groups: ArrayLike | None, *, want_last: bool
    ) -> list[Floats]:
        named = np.arange(len(X)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        fold = folds_by_group(named, self.folds, self.random_state)
        rows: list[Rows] = [evidence.features for evidence in X]
        first = self._trees(rows, y, self.leaves)
        found = self._held_out(rows, y, fold, self.leaves, "First round, held out")
        rows = [_with_context(evidence, answer) for evidence, answer in zip(X, found, strict=True)]
        leaves = max(2, round(_SECOND * self.leaves))
        self.rounds_ = [first, self._trees(rows, y, leaves)]
        return self._held_out(rows, y, fold, leaves, "Second round, held out") if want_last else found

    def _trees(
        self, rows: Sequence[Rows], y: Sequence[NDArray[np.bool_]], leaves: int
    ) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            max_iter=self.trees,
            learning_rate=self.learning_rate,
            max_leaf_nodes=leaves,
            l2_regularization=_L2,
            max_features=_SEEN,
            early_stopping=False,
            random_state=self.random_state,
        ).fit(np.concatenate(rows), np.concatenate(y))

    def _held_out(
        self, rows: Sequence[Rows], y: Sequence[NDArray[np.bool_]], fold: NDArray[np.intp], leaves: int, what: str
    ) -> list[Floats]:
        """The probabilities (N,) of each picture's proposals by trees that have not seen its fold, if there are two."""
        found: list[Any] = [None] * len(rows)
        for number in track(range(int(fold.max()) + 1), what, int(fold.max()) + 1):
            rest = (np.flatnonzero(fold != number) if fold.any() else np.arange(len(rows))).tolist()
            trees = self._trees([rows[place] for place in rest], [y[place] for place in rest], leaves)
            for place in np.flatnonzero(fold == number).tolist():
                found[place] = _answer(trees, rows[place])
        return found


@cache
def drawn_judge() -> LimbJudge:
    """The judge that the package brings, of drawn scenes; `benchmarks/fit_limb_judge.py` made it."""
    from figleaf.skin.storage import load_system

    judge, _ = load_system(DRAWN)
    assert isinstance(judge, LimbJudge)
    return judge


def _answer(trees: HistGradientBoostingClassifier, rows: Rows) -> Floats:
    return np.asarray(trees.predict_proba(rows)[:, 1]) if len(rows) else np.zeros(0)


def _with_context(evidence: Evidence, answer: Floats) -> Floats:
    return np.hstack([evidence.features, context_features(evidence.proposals, answer)])
