"""Normalised cuts of a weighted graph: Shi & Malik (2000), "Normalized cuts and image segmentation", PAMI 22(8).

For a graph with symmetric weights W and degrees d = W 1, the cut of its nodes into A and B costs

    Ncut(A, B) = cut(A, B) / assoc(A, V) + cut(A, B) / assoc(B, V)        (equation 2)

Allowed to take real values, its minimum is the second eigenvector of (D - W) y = lambda D y (equation 6).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csc_array, csr_array, diags_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Below this many nodes LAPACK is faster (measured).
_DENSE_BELOW = 200
_SHIFT = 1e-3
# Threads of BLAS cost a matrix of this size more than they bring: two and a half times as long on two cores (measured).
_BLAS = ThreadpoolController()
# Section 3: an eigenvector whose values vary continuously cuts nowhere in particular. The ratio of the emptiest to the
# fullest bin of their histogram tells; the authors set it to 0.06 in all of their experiments. The bins are ours.
STABILITY = 0.06
_BINS = 10


def ncut_value(weights: csr_array, in_a: Mask) -> float:
    """Ncut of the nodes where `in_a` (N,) against the others, in [0, 2]; 0 where a side has no weight at all."""
    degrees = weights.sum(axis=1)
    cut = float(weights[in_a][:, ~in_a].sum())
    return _ratio(cut, float(degrees[in_a].sum())) + _ratio(cut, float(degrees[~in_a].sum()))


def _ratio(cut: float, association: float) -> float:
    return cut / association if association > 0 else 0.0


def second_eigenvector(weights: csr_array) -> tuple[float, Floats]:
    """The second smallest eigenvalue of (D - W) y = lambda D y, and its y (N,) with y' D y = 1, for N >= 2.

    `weights` (N, N) is symmetric, without negative weights, and connected. Of the two signs, the one whose first value
    other than 0 is positive.
    """
    degrees = np.asarray(weights.sum(axis=1))
    root = np.sqrt(degrees)
    # z = D^(1/2) y turns it into an ordinary problem with this matrix and the same eigenvalues (equation 5).
    laplacian = eye_array(len(root)) - diags_array(1 / root) @ weights @ diags_array(1 / root)
    if len(root) < _DENSE_BELOW:
        vectors = eigh(laplacian.toarray(), subset_by_index=[0, 1])[1]
    else:
        # Around a shift, with a factorisation: where parts hang together by a thread the smallest eigenvalues lie so
        # close that Lanczos on the matrix itself does not end. ARPACK's own start would be another one each time.
        start = np.random.default_rng(0).standard_normal(len(root))
        vectors = eigsh(csc_array(laplacian), k=2, sigma=-_SHIFT, which="LM", v0=start)[1]
    # The smallest is 0, with D^(1/2) 1. So close, the two come mixed: what is orthogonal to the known one is the other.
    first = root / np.linalg.norm(root)
    mixed = first @ vectors
    z = vectors @ np.array([-mixed[1], mixed[0]])
    z -= first * (first @ z)
    z /= np.linalg.norm(z)
    y = z / root
    y *= np.sign(y[np.flatnonzero(np.abs(y) > 1e-9 * np.abs(y).max())[0]])
    return max(float(z @ (laplacian @ z)), 0.0), y


@dataclass(frozen=True, eq=False)
class Cut:
    """A cut into two: which nodes are on the first side (N,), its Ncut, and the stability of what it came from."""

    in_a: Mask
    value: float
    stability: float


def best_cut(weights: csr_array) -> Cut:
    """The cut of a connected graph of N >= 2 nodes by the second eigenvector, at the best of its N - 1 thresholds.

    The paper tries some evenly spaced ones; with all values in order, each further node changes the cut by its own
    edges only, so that all of them cost no more than one.
    """
    _, y = second_eigenvector(weights)
    order = np.argsort(y, kind="stable")
    rank = np.empty(len(y), np.intp)
    rank[order] = np.arange(len(y))
    degrees = np.asarray(weights.sum(axis=1))
    edges = weights.tocoo()
    low, high = np.minimum(rank[edges.row], rank[edges.col]), np.maximum(rank[edges.row], rank[edges.col])
    # An edge is cut by the thresholds between its ends; each stands twice in a symmetric matrix.
    change = np.bincount(low, edges.data / 2, len(y)) - np.bincount(high, edges.data / 2, len(y))
    cut = np.cumsum(change)[:-1]
    association = np.cumsum(degrees[order])[:-1]
    values = cut / association + cut / (degrees.sum() - association)
    # Values that are equal but for rounding belong to symmetric graphs: the most even of those cuts.
    good = np.flatnonzero(values <= values.min() + 1e-9)
    place = good[np.argmin(np.abs(association[good] - degrees.sum() / 2))]
    return Cut(rank <= place, max(float(values[place]), 0.0), stability(y))


def stability(y: Floats) -> float:
    """The emptiest bin of the histogram of `y` over the fullest: near 0 for values in clumps, near 1 for even ones."""
    counts, _ = np.histogram(y, bins=_BINS)
    return float(counts.min() / counts.max())


def normalized_cut(
    weights: csr_array, *, threshold: float, most: int, unstable_above: float = STABILITY
) -> NDArray[np.intp]:
    """Parts (N,) of a graph, numbered from 0 by their first node, by cutting in two again and again.

    `weights` (N, N): symmetric, not negative. The cheapest cut of any part is made next, until the cheapest costs more
    than `threshold` or comes from an eigenvector with a stability above `unstable_above`, or there are `most` parts.
    What is connected by nothing costs nothing to cut: it is always apart, also beyond `most`.
    """
    with _BLAS.limit(limits=1, user_api="blas"):
        parts = _parts(weights, threshold, most, unstable_above)
    labels = np.empty(weights.shape[0], np.intp)
    for number, nodes in enumerate(sorted(parts, key=lambda nodes: int(nodes[0]))):
        labels[nodes] = number
    return labels


def _parts(weights: csr_array, threshold: float, most: int, unstable_above: float) -> list[NDArray[np.intp]]:
    """The nodes of each part."""
    parts = _connected(weights, np.arange(weights.shape[0]))
    cuts = [_allowed(weights, part, threshold, unstable_above) for part in parts]
    while len(parts) < most:
        cheapest = int(np.argmin([np.inf if cut is None else cut.value for cut in cuts]))
        cut = cuts.pop(cheapest)
        if cut is None:
            break
        whole = parts.pop(cheapest)
        sides = [*_connected(weights, whole[cut.in_a]), *_connected(weights, whole[~cut.in_a])]
        parts += sides
        cuts += [_allowed(weights, side, threshold, unstable_above) for side in sides]
    return parts


def _connected(weights: csr_array, nodes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The connected components among `nodes`."""
    count, component = connected_components(weights[nodes][:, nodes], directed=False)
    return [nodes[component == number] for number in range(count)]


def _allowed(weights: csr_array, nodes: NDArray[np.intp], threshold: float, unstable_above: float) -> Cut | None:
    """The cut of these connected nodes, unless it costs too much or is unstable."""
    if len(nodes) < 2:
        return None
    cut = best_cut(csr_array(weights[nodes][:, nodes]))
    return cut if cut.value <= threshold and cut.stability <= unstable_above else None
