"""The nearest of N vectors to one: exactly, in numpy, or nearly, by faiss."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.files import atomic_path

Codes = NDArray[np.float32]
Rows = NDArray[np.int64]

# Malkov & Yashunin's M: links of a vector at each level of the graph. More cost memory and find more.
LINKS = 32
# How many candidates are kept while the graph is built, and while it is searched.
BUILD_DEPTH, SEARCH_DEPTH = 128, 128


def exact(codes: Codes, query: NDArray[np.floating], k: int) -> tuple[Rows, NDArray[np.float64]]:
    """The k rows of `codes` (N, d) nearest to `query` (d,), nearest first, and their Euclidean distances.

    Of equally near ones the first row comes first. Fewer than k where N is smaller.
    """
    point = np.asarray(query, np.float32)
    # |x - q|^2 without |q|^2, by one product: a tenth of the time of the differences.
    rough = np.einsum("nd,nd->n", codes, codes) - 2 * (codes @ point)
    # That rounds: a few more than k, of which the true distances choose.
    few = min(len(codes), 2 * k + 10)
    candidates = np.argpartition(rough, few - 1)[:few] if few < len(codes) else np.arange(len(codes))
    return _sorted(codes, query, candidates, k)


def _sorted(
    codes: Codes, query: NDArray[np.floating], candidates: NDArray[np.integer], k: int
) -> tuple[Rows, NDArray[np.float64]]:
    away = codes[candidates].astype(np.float64) - np.asarray(query, np.float32)
    distances = np.sqrt((away**2).sum(axis=1))
    order = np.lexsort((candidates, distances))[:k]
    return candidates[order].astype(np.int64), distances[order]


class NearestGraph:
    """Nearly the nearest of N codes, by a hierarchical navigable small-world graph (Malkov & Yashunin 2016).

    faiss: maintained, needs numpy alone, and its graph of the same codes is the same each time when one thread builds
    it. It holds a copy of the codes.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, codes: Codes) -> "NearestGraph":
        """The graph of `codes` (N, d)."""
        import faiss

        index = faiss.IndexHNSWFlat(codes.shape[1], LINKS)
        index.hnsw.efConstruction = BUILD_DEPTH
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index.add(np.ascontiguousarray(codes, np.float32))
        finally:
            faiss.omp_set_num_threads(threads)
        return cls(index)

    def search(self, codes: Codes, query: NDArray[np.floating], k: int) -> tuple[Rows, NDArray[np.float64]]:
        """As `exact`, but some of the k may not be the nearest."""
        point = np.asarray(query, np.float32)[None]
        self._index.hnsw.efSearch = max(SEARCH_DEPTH, 2 * k)
        _, rows = self._index.search(point, min(k, len(codes)))
        return _sorted(codes, query, rows[0][rows[0] >= 0], k)

    def save(self, path: Path) -> None:
        """Write the graph, with the codes in it."""
        import faiss

        with atomic_path(path) as temporary:
            faiss.write_index(self._index, str(temporary))

    @classmethod
    def load(cls, path: Path, shape: tuple[int, int]) -> "NearestGraph":
        """The graph of codes of this shape (N, d). Raises `FigleafError` when the file holds anything else."""
        import faiss

        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise FigleafError(f"{path}: cannot be read by faiss; build the index again") from error
        if not isinstance(index, faiss.IndexHNSWFlat) or (index.ntotal, index.d) != shape:
            raise FigleafError(
                f"{path}: not the graph of {shape[0]:,} codes of {shape[1]} numbers; build the index again"
            )
        return cls(index)


def recall(found: Rows, wanted: Rows) -> float:
    """Share of `wanted` that is among `found`."""
    return float(np.isin(wanted, found).mean())
