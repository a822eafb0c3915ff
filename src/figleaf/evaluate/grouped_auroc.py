"""AUROC under resampling of groups, exactly and at the price of one small matrix product.

AUROC counts pairs: an unsafe and a safe sample are concordant when the unsafe one scores higher, ties counting half. A
resample draws whole groups, so pairs come and go by pairs of groups. With M[g, h] the concordant pairs between unsafe
samples of group g and safe samples of group h, and c how often each group was drawn,

    AUROC(c) = c M c / ((c . unsafe) (c . safe)).

Every number before the division is a multiple of a half, hence exact in float64: the result depends neither on the
order of summation nor on the number of threads.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.weighted import Floats


@dataclass(frozen=True, eq=False)
class GroupedAuroc:
    """A run's concordant pairs by group, without the rows and columns of groups that lack the label.

    `unsafe_groups` (P,) and `safe_groups` (Q,): indices of groups with at least one such sample; `n_unsafe` (P,) and
    `n_safe` (Q,): how many; `concordant` (P, Q).
    """

    unsafe_groups: NDArray[np.intp]
    safe_groups: NDArray[np.intp]
    n_unsafe: Floats
    n_safe: Floats
    concordant: Floats

    @classmethod
    def of(cls, scores: Floats, is_unsafe: NDArray[np.bool_], group: NDArray[np.intp]) -> "GroupedAuroc":
        """Count the pairs of scores (N,), truth (N,) and group (N,), an index from 0. Memory: N times the groups."""
        unsafe_groups, n_unsafe = np.unique(group[is_unsafe], return_counts=True)
        safe_groups, n_safe = np.unique(group[~is_unsafe], return_counts=True)
        if not (len(unsafe_groups) and len(safe_groups)):
            none = np.zeros((len(unsafe_groups), len(safe_groups)))
            return cls(unsafe_groups, safe_groups, n_unsafe.astype(float), n_safe.astype(float), none)
        by_score = np.argsort(scores[~is_unsafe], kind="stable")
        safe_scores = scores[~is_unsafe][by_score]
        # below[k, h]: how many of the k lowest safe scores are of group h.
        below = np.zeros((len(safe_scores) + 1, len(safe_groups)))
        column = np.searchsorted(safe_groups, group[~is_unsafe][by_score])
        below[np.arange(1, len(below)), column] = 1.0
        np.cumsum(below, axis=0, out=below)
        by_group = np.argsort(group[is_unsafe], kind="stable")
        unsafe_scores = scores[is_unsafe][by_group]
        lower = below[np.searchsorted(safe_scores, unsafe_scores, side="left")]
        lower += below[np.searchsorted(safe_scores, unsafe_scores, side="right")]
        starts = np.cumsum(n_unsafe) - n_unsafe
        concordant = np.add.reduceat(lower, starts, axis=0) / 2
        return cls(unsafe_groups, safe_groups, n_unsafe.astype(float), n_safe.astype(float), concordant)

    def drawn(self, counts: NDArray[np.integer]) -> "DrawnPairs":
        """What `counts` (B, G), how often each group was drawn, mean for all runs on the same samples."""
        unsafe = counts[:, self.unsafe_groups].astype(np.float64)
        safe = counts[:, self.safe_groups].astype(np.float64)
        return DrawnPairs(unsafe, safe, (unsafe @ self.n_unsafe) * (safe @ self.n_safe))

    def resampled(self, drawn: "DrawnPairs") -> Floats:
        """AUROC (B,) in each resample; NaN where a label is missing."""
        with np.errstate(invalid="ignore"):
            found: Floats = np.einsum("bq,bq->b", drawn.unsafe @ self.concordant, drawn.safe) / drawn.pairs
        return found


@dataclass(frozen=True, eq=False)
class DrawnPairs:
    """B resamples: how often each group with unsafe samples, (B, P), and with safe ones, (B, Q), was drawn.

    `pairs` (B,): how many pairs of an unsafe and a safe sample that makes.
    """

    unsafe: Floats
    safe: Floats
    pairs: Floats
