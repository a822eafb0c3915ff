"""Image indexes measured with the pictures of a manifest: mean average precision and precision at k, compared."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.cache import DecodedImages
from figleaf.data.manifest import Manifest
from figleaf.errors import FigleafError
from figleaf.evaluate.retrieval_metrics import (
    Estimate,
    GroupResamples,
    QueryMetrics,
    estimate,
    other_groups,
    query_metrics,
)
from figleaf.evaluate.weighted import Floats
from figleaf.skin.neighbours import recall
from figleaf.skin.retrieval import ImageIndex, Search

# What makes an answer a hit: the column in which query and answer agree.
CRITERIA: Mapping[str, str] = {"same_label": "label", "same_slice": "slice"}
RECALL_AT = 10
VOTERS = 10  # the nearest pictures whose labels answer for the query's


@dataclass(frozen=True, eq=False)
class Asked:
    """What an index answered to Q queries, the pictures `rows` (Q,) of a manifest.

    `metrics` by criterion; `votes` (Q, C): how many of the `VOTERS` nearest pictures have each of the index's classes.
    Approximate search finds the share `recall` of the `RECALL_AT` nearest. `ms` of a query by what is done: encode,
    exact search, approximate search.
    """

    rows: NDArray[np.intp]
    metrics: Mapping[str, QueryMetrics]
    votes: NDArray[np.int64]
    recall: float
    ms: Mapping[str, float]


def measure(
    indexes: Mapping[str, ImageIndex],
    manifest: Manifest,
    pictures: Callable[[int], DecodedImages],
    *,
    intervals: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Ask each of `indexes`, by name, with the readable pictures of `manifest`; `pictures(size)` holds them at a size.

    Plain values: under `indexes`, for each and for either criterion of a hit, the estimates of every metric over all
    queries and by slice of the query; the recall of approximate search against exact; milliseconds to encode a query
    and to search. Under `against_first`, the paired differences of every further index from the first. Intervals, with
    `intervals` resamples, are over groups of queries. Raises `FigleafError` when nothing can be asked.
    """
    if not indexes:
        raise FigleafError("no index to evaluate")
    names = list(indexes)
    asked = {name: ask(indexes[name], manifest, pictures(indexes[name].code.size)) for name in names}
    first = asked[names[0]]
    table = manifest.table.iloc[first.rows]
    if intervals < 1:
        raise FigleafError(f"intervals={intervals}: expected at least 1")
    resamples = GroupResamples.draw(table["group"].tolist(), intervals, seed)
    slices = {"all": np.ones(len(table), bool)}
    slices |= {name: (table["slice"] == name).to_numpy() for name in sorted(set(table["slice"]))}
    report: dict[str, Any] = {"data": manifest.name, "queries": len(table), "indexes": {}, "against_first": {}}
    for name, index in indexes.items():
        found = asked[name]
        own: dict[str, Any] = {
            "features": index.features,
            "pictures": len(index),
            "dimensions": int(index.codes.shape[1]),
            "recall_of_approximate": {"at": RECALL_AT, "mean": found.recall},
            "ms_per_query": dict(found.ms),
        }
        own.update({criterion: _by_slice(found.metrics[criterion].named, resamples, slices) for criterion in CRITERIA})
        report["indexes"][name] = own
    for name in names[1:]:
        if not np.array_equal(asked[name].rows, first.rows):
            raise FigleafError(f"{name}: other queries than {names[0]}'s can be read at its size")
        report["against_first"][name] = {
            criterion: _by_slice(
                {
                    metric: values - first.metrics[criterion].named[metric]
                    for metric, values in asked[name].metrics[criterion].named.items()
                    if metric != "chance"
                },
                resamples,
                slices,
            )
            for criterion in CRITERIA
        }
    return report


def ask(
    index: ImageIndex, manifest: Manifest, pictures: DecodedImages, among: NDArray[np.bool_] | None = None
) -> Asked:
    """Ask `index` with the readable pictures of `manifest`, or with those `among` (N,) them.

    A picture of the query's own group, or a copy of the query, is never an answer. Raises `FigleafError` when there is
    nothing to ask with.
    """
    chosen = np.ones(len(manifest), bool) if among is None else among
    rows = np.flatnonzero(pictures.usable & chosen)
    if not len(rows):
        raise FigleafError(
            f"{manifest.name}: none of its {int(chosen.sum())} pictures can be read; see `figleaf data check`"
        )
    started = time.perf_counter()
    codes = index.code.transform([np.asarray(pictures.pixels[row]) for row in rows]).astype(np.float32)
    encoding = time.perf_counter() - started
    if codes.shape[1] != index.codes.shape[1]:
        raise FigleafError(f"codes of {codes.shape[1]} numbers for an index of {index.codes.shape[1]}")
    table = manifest.table.iloc[rows]
    content = [pictures.content_sha256[row] for row in rows]
    candidates = other_groups(
        table["group"].tolist(), index.table["group"].tolist(), content, index.table["content_sha256"].tolist()
    )
    distances = _distances(codes, index.codes)
    found = {}
    for criterion, column in CRITERIA.items():
        relevant = table[column].to_numpy(object)[:, None] == index.table[column].to_numpy(object)[None]
        found[criterion] = query_metrics(distances, np.asarray(relevant, bool), candidates)
    recalled, ms = _searched(index, codes, encoding)
    return Asked(rows, found, _votes(index, distances, candidates), recalled, ms)


def _votes(index: ImageIndex, distances: Floats, candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    labels = index.table["label"].to_numpy(object)
    away = np.where(candidates, distances, np.inf)
    nearest = np.argsort(away, axis=1, kind="stable")[:, :VOTERS]
    counts = np.isfinite(np.take_along_axis(away, nearest, axis=1))
    return np.stack([((labels[nearest] == name) & counts).sum(axis=1) for name in index.classes], axis=1)


def _searched(index: ImageIndex, codes: NDArray[np.float32], encoding: float) -> tuple[float, dict[str, float]]:
    """How much of what exact search finds approximate search finds, and what they take in milliseconds."""
    both: dict[str, list[NDArray[np.int64]]] = {}
    seconds: dict[str, float] = {}
    searches: tuple[Search, ...] = ("exact", "approximate")
    index.nearest(codes[0], RECALL_AT, "approximate")  # reads the graph
    for search in searches:
        started = time.perf_counter()
        answers = [index.nearest(code, RECALL_AT, search) for code in codes]
        seconds[search] = time.perf_counter() - started
        both[search] = [np.array([answer.row for answer in of_query]) for of_query in answers]
    shares = [recall(near, nearest) for near, nearest in zip(both["approximate"], both["exact"], strict=True)]
    ms = {"encode": encoding, **seconds}
    return float(np.mean(shares)), {name: round(1e3 * value / len(codes), 3) for name, value in ms.items()}


def _distances(queries: NDArray[np.float32], codes: NDArray[np.float32]) -> Floats:
    """Squared Euclidean distances (Q, N) in float64."""
    q, c = queries.astype(np.float64), codes.astype(np.float64)
    return np.asarray((q**2).sum(axis=1)[:, None] - 2 * q @ c.T + (c**2).sum(axis=1))


def _by_slice(
    metrics: Mapping[str, Floats], resamples: GroupResamples, slices: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    return {
        name: {metric: _plain(estimate(values, resamples, among)) for metric, values in metrics.items()}
        for name, among in slices.items()
    }


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value, "low": found.interval.low, "high": found.interval.high, "queries": found.queries}
