"""Scores with weights: the one form that every metric is computed from, for a sample and its thousand resamples.

Resampling groups with replacement is the same as weighting each image by how often its group was drawn. The weights
change, the order of the scores does not: one sort serves all resamples, and a metric of B resamples is array arithmetic
on (B, N).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from figleaf.evaluate.predictions import Predictions, log_prob

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightedScores:
    """N scored samples, highest score first, under B weightings.

    `scores` (N,) in [0, 1]; `is_unsafe` (N,); `log_likelihood` (N,), the log of the probability given to the true side;
    `weights` (B, N), non-negative; `threshold`: a sample is flagged when its score is at least that.
    """

    scores: Floats
    is_unsafe: NDArray[np.bool_]
    log_likelihood: Floats
    weights: Floats
    threshold: float

    @cached_property
    def total(self) -> Floats:
        """(B,) sum of the weights."""
        total: Floats = self.weights.sum(axis=1)
        return total

    @cached_property
    def _last_of_ties(self) -> NDArray[np.intp]:
        """(U,) index of the last sample of each distinct score: a threshold cannot cut between equal scores."""
        is_last: NDArray[np.bool_] = np.append(self.scores[1:] != self.scores[:-1], True)
        return np.flatnonzero(is_last)

    @cached_property
    def true_positives(self) -> Floats:
        """(B, U) weight of unsafe samples flagged when the threshold is the u-th highest distinct score."""
        return np.cumsum(self.weights * self.is_unsafe, axis=1)[:, self._last_of_ties]

    @cached_property
    def false_positives(self) -> Floats:
        """(B, U) weight of safe samples flagged when the threshold is the u-th highest distinct score."""
        return np.cumsum(self.weights * ~self.is_unsafe, axis=1)[:, self._last_of_ties]

    @property
    def distinct_scores(self) -> Floats:
        """(U,) highest first."""
        return self.scores[self._last_of_ties]

    @cached_property
    def positives(self) -> Floats:
        """(B,) weight of unsafe samples."""
        positives: Floats = self.weights[:, self.is_unsafe].sum(axis=1)
        return positives

    @cached_property
    def negatives(self) -> Floats:
        """(B,) weight of safe samples."""
        negatives: Floats = self.weights[:, ~self.is_unsafe].sum(axis=1)
        return negatives

    @cached_property
    def flagged(self) -> tuple[Floats, Floats]:
        """True and false positives (B,) each, at `threshold`."""
        count = int(np.searchsorted(-self.scores, -self.threshold, side="right"))
        weights, is_unsafe = self.weights[:, :count], self.is_unsafe[:count]
        return weights[:, is_unsafe].sum(axis=1), weights[:, ~is_unsafe].sum(axis=1)


@dataclass(frozen=True, eq=False)
class RankedPredictions:
    """The scored rows of predictions, sorted once; `group` (N,) numbers the groups from 0 to `n_groups` - 1."""

    scores: Floats
    is_unsafe: NDArray[np.bool_]
    log_likelihood: Floats
    group: NDArray[np.intp]
    n_groups: int
    threshold: float

    @classmethod
    def of(cls, predictions: Predictions, threshold: float) -> "RankedPredictions":
        """Rank the rows without error. The predictions must have scores."""
        scored = predictions.scored
        order = np.argsort(-scored.scores, kind="stable")
        names, group = np.unique(scored.table["group"].to_numpy(dtype=object), return_inverse=True)
        unsafe = np.isin(scored.classes, scored.unsafe)
        log_likelihood = np.where(scored.is_unsafe, log_prob(scored.logits, unsafe), log_prob(scored.logits, ~unsafe))
        return cls(
            scored.scores[order], scored.is_unsafe[order], log_likelihood[order], group[order], len(names), threshold
        )

    def weighted(self, weights: Floats) -> WeightedScores:
        """Under weights (B, N), given in the order of `scores`."""
        return WeightedScores(self.scores, self.is_unsafe, self.log_likelihood, weights, self.threshold)

    @property
    def unweighted(self) -> WeightedScores:
        """The sample itself: one weighting, every weight 1."""
        return self.weighted(np.ones((1, len(self.scores))))

    def resampled(self, group_counts: NDArray[np.integer]) -> WeightedScores:
        """Under B resamples of the groups, given as how often each was drawn (B, n_groups)."""
        return self.weighted(group_counts[:, self.group].astype(np.float64))
