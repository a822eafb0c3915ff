"""How good a ranking of pictures by likeness is: average precision, precision at k, and how sure their means are.

A query's own group never counts, for it or against it: the pictures of one session are found by any system. Intervals
are bootstraps over the groups of the queries, and comparisons are paired: both systems answer the same draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.statistics import Interval, percentile_interval
from figleaf.evaluate.weighted import Floats

AT = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class QueryMetrics:
    """Per query (Q,): average precision, precision at each of `at`, and `chance`, the share of what is relevant.

    NaN for a query that nothing is relevant to. `chance` is what average precision tends to when the order is random.
    """

    average_precision: Floats
    precision_at: Mapping[int, Floats]
    chance: Floats

    @property
    def named(self) -> dict[str, Floats]:
        """All of them by name: map, precision@1, ..."""
        at = {f"precision@{k}": values for k, values in self.precision_at.items()}
        return {"map": self.average_precision, **at, "chance": self.chance}


def query_metrics(
    distances: NDArray[np.floating],
    relevant: NDArray[np.bool_],
    candidates: NDArray[np.bool_],
    at: Sequence[int] = AT,
) -> QueryMetrics:
    """The metrics of Q queries from the distances (Q, N) of N pictures, of which only `candidates` (Q, N) are ranked.

    Average precision is the mean over relevant pictures of the precision down to each, over the whole ranking. Equal
    distances are ranked in the order of the pictures. Precision at k is a share of the candidates where those are
    fewer than k.
    """
    order = np.argsort(np.where(candidates, distances, np.inf), axis=1, kind="stable")
    ranked = np.take_along_axis(relevant & candidates, order, axis=1)
    number = candidates.sum(axis=1)
    hits = np.cumsum(ranked, axis=1)
    total = hits[:, -1]
    precision = hits / np.arange(1, ranked.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where(total > 0, (precision * ranked).sum(axis=1) / total, np.nan)
        chance = np.where(total > 0, total / number, np.nan)
        first = {k: np.minimum(k, number) for k in at}
        precision_at = {
            k: np.where(total > 0, hits[np.arange(len(hits)), np.maximum(first[k], 1) - 1] / first[k], np.nan)
            for k in at
        }
    return QueryMetrics(average, precision_at, chance)


def other_groups(
    query_groups: Sequence[str], groups: Sequence[str], query_content: Sequence[str] = (), content: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Which pictures (Q, N) a query may find: those of other groups, and no copy of itself (the same `content`)."""
    allowed = np.asarray(query_groups, object)[:, None] != np.asarray(groups, object)[None]
    if len(query_content):
        allowed &= np.asarray(query_content, object)[:, None] != np.asarray(content, object)[None]
    return np.asarray(allowed, bool)


@dataclass(frozen=True, eq=False)
class GroupResamples:
    """`n` draws with replacement of the groups of queries, the same for everything that is compared.

    `group` (Q,): each query's group as a number; `counts` (n, G): how often each group was drawn.
    """

    group: NDArray[np.intp]
    counts: NDArray[np.int64]

    @classmethod
    def draw(cls, groups: Sequence[str], n: int = 1000, seed: int = 0) -> "GroupResamples":
        """Draw. Raises `FigleafError` with fewer than two groups."""
        names, group = np.unique(np.asarray(groups, str), return_inverse=True)
        if len(names) < 2:
            raise FigleafError(f"resampling needs queries of at least 2 groups, not {len(names)}: see the group column")
        even = np.full(len(names), 1 / len(names))
        return cls(group, np.random.default_rng(seed).multinomial(len(names), even, size=n))

    def means(self, values: Floats, among: NDArray[np.bool_] | None = None) -> Floats:
        """The mean (n,) of the queries' values that are no NaN, in each draw; NaN where none was drawn."""
        counted = ~np.isnan(values) if among is None else among & ~np.isnan(values)
        sums = np.bincount(self.group[counted], values[counted], self.counts.shape[1])
        sizes = np.bincount(self.group[counted], minlength=self.counts.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.counts @ sums) / (self.counts @ sizes), np.float64)


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, its interval over draws of their groups, and how many queries it is the mean of."""

    value: float
    interval: Interval
    queries: int


def estimate(
    values: Floats, resamples: GroupResamples, among: NDArray[np.bool_] | None = None, level: float = 0.95
) -> Estimate | None:
    """The mean of the queries' values; of a slice with `among` (Q,). None where no query has a value.

    For a paired comparison pass the differences of two systems' values.
    """
    counted = ~np.isnan(values) if among is None else among & ~np.isnan(values)
    if not counted.any():
        return None
    means = resamples.means(values, among)
    return Estimate(float(values[counted].mean()), percentile_interval(means, level), int(counted.sum()))


def measure_intervals(predictions: Predictions, *, n: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """95 % intervals of the means of all measures, over the groups of `predictions`.

    Empty with fewer than two groups or `n` = 0; what no row has is left out.
    """
    table = predictions.table
    if n == 0 or not predictions.measures or table["group"].nunique() < 2:
        return {}
    resamples = GroupResamples.draw(table["group"].tolist(), n, seed)
    means = {name: resamples.means(table[name].to_numpy(dtype=np.float64)) for name in predictions.measures}
    return {name: percentile_interval(found) for name, found in means.items() if not np.isnan(found).all()}
