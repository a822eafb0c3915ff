"""Normalised cuts: against brute force and against dense algebra on graphs small enough for both."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from figleaf.skin.ncut import best_cut, ncut_value, normalized_cut, second_eigenvector, stability


def graph(n: int, seed: int, density: float = 0.5) -> NDArray[np.float64]:
    """A random connected graph: a path, and further edges."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((n, n)) * (rng.random((n, n)) < density), 1)
    weights[np.arange(n - 1), np.arange(1, n)] += 0.05
    return weights + weights.T


def cliques(sizes: list[int], bridge: float) -> NDArray[np.float64]:
    """Complete graphs of weight 1, each joined to the next by one edge of weight `bridge`."""
    n = sum(sizes)
    weights = np.zeros((n, n))
    start = 0
    for size in sizes:
        weights[start : start + size, start : start + size] = 1 - np.eye(size)
        if start:
            weights[start - 1, start] = weights[start, start - 1] = bridge
        start += size
    return weights


def literal_ncut(weights: NDArray[np.float64], in_a: NDArray[np.bool_]) -> float:
    """Equation 2, node by node."""
    n = len(weights)
    cut = sum(weights[u, v] for u in range(n) for v in range(n) if in_a[u] and not in_a[v])
    of_a = sum(weights[u, t] for u in range(n) for t in range(n) if in_a[u])
    of_b = sum(weights[u, t] for u in range(n) for t in range(n) if not in_a[u])
    return float(cut / of_a + cut / of_b)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 999), st.integers(1, 999))
def test_value_is_equation_2(n: int, seed: int, side: int) -> None:
    weights = graph(n, seed)
    in_a = np.array([side >> i & 1 for i in range(n)], bool)
    if in_a.all() or not in_a.any():
        in_a[0] = not in_a[0]
    assert ncut_value(csr_array(weights), in_a) == pytest.approx(literal_ncut(weights, in_a), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 17, 230])
@pytest.mark.parametrize("bridge", [0.3, 1e-6])
def test_eigenvector_solves_the_generalised_problem(n: int, bridge: float) -> None:
    """Also where two halves hang together by a thread, and the second eigenvalue all but equals the first."""
    half = n // 2
    weights = graph(n, 1)
    weights[:half, half:] *= bridge
    weights[half:, :half] *= bridge
    d = weights.sum(axis=1)
    values, vectors = eigh(np.diag(d) - weights, np.diag(d))
    value, y = second_eigenvector(csr_array(weights))
    assert value == pytest.approx(values[1], rel=1e-6, abs=1e-14)
    expected = vectors[:, 1] * np.sign(vectors[:, 1] @ (d * y))
    np.testing.assert_allclose(y, expected, atol=1e-6 * np.abs(expected).max())
    assert y @ (d * y) == pytest.approx(1)
    assert abs(y @ d) < 1e-9 * np.sqrt(d.sum())


@pytest.mark.parametrize("half", [8, 120])
def test_a_thread_thinner_than_rounding_is_where_it_cuts(half: int) -> None:
    """Then the first two eigenvalues are equal as floats, and their vectors come mixed."""
    weights = graph(2 * half, 1)
    weights[:half, half:] = weights[half:, :half] = 0
    weights[half - 1, half] = weights[half, half - 1] = 1e-17
    value, y = second_eigenvector(csr_array(weights))
    d = weights.sum(axis=1)
    assert value < 1e-12
    assert abs(y @ d) < 1e-6 * (np.abs(y) @ d)
    assert np.ptp(y[:half]) + np.ptp(y[half:]) < 1e-6 * np.ptp(y)
    assert len({*best_cut(csr_array(weights)).in_a[:half], *~best_cut(csr_array(weights)).in_a[half:]}) == 1


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(0, 999))
def test_cut_is_the_best_threshold_and_no_better_than_the_best_of_all_cuts(n: int, seed: int) -> None:
    weights = graph(n, seed)
    cut = best_cut(csr_array(weights))
    value, y = second_eigenvector(csr_array(weights))
    assert cut.value == pytest.approx(literal_ncut(weights, cut.in_a), abs=1e-9)
    thresholds = [literal_ncut(weights, y <= t) for t in sorted(y)[:-1] if (y <= t).sum() < n]
    assert cut.value == pytest.approx(min(thresholds), abs=1e-8)
    sides = (np.array(side, bool) for side in itertools.product([0, 1], repeat=n))
    best = min(literal_ncut(weights, side) for side in sides if side.any() and not side.all())
    # The relaxed minimum is below the true one, and the true one below any cut that was found.
    assert value - 1e-9 <= best <= cut.value + 1e-9


def test_weakly_joined_cliques_come_apart() -> None:
    weights = cliques([6, 9, 5], bridge=0.01)
    parts = normalized_cut(csr_array(weights), threshold=0.05, most=10)
    assert parts.tolist() == [0] * 6 + [1] * 9 + [2] * 5


def test_what_is_connected_by_nothing_is_apart_whatever_the_threshold() -> None:
    parts = normalized_cut(csr_array(cliques([3, 1, 4], bridge=0.0)), threshold=0.0, most=1)
    assert parts.tolist() == [0] * 3 + [1] + [2] * 4


def test_a_node_without_edges_is_a_part() -> None:
    assert normalized_cut(csr_array((1, 1)), threshold=0.1, most=5).tolist() == [0]


def test_no_more_parts_than_asked_for_and_the_cheapest_cuts_first() -> None:
    weights = cliques([6, 6, 6], bridge=0.0)
    weights[5, 6] = weights[6, 5] = 0.001
    weights[11, 12] = weights[12, 11] = 0.1
    parts = normalized_cut(csr_array(weights), threshold=0.5, most=2)
    assert parts.tolist() == [0] * 6 + [1] * 12


def test_an_eigenvector_that_varies_evenly_does_not_cut() -> None:
    """A path of 400 equal edges has cheap cuts, and no reason to prefer one."""
    n = 400
    weights = np.zeros((n, n))
    weights[np.arange(n - 1), np.arange(1, n)] = 1
    chain = csr_array(weights + weights.T)
    assert stability(second_eigenvector(chain)[1]) > 0.06
    assert normalized_cut(chain, threshold=0.1, most=9).max() == 0
    assert normalized_cut(chain, threshold=0.1, most=9, unstable_above=1).max() == 8


@settings(deadline=None)
@given(st.integers(0, 99))
def test_names_of_the_nodes_do_not_matter(seed: int) -> None:
    weights = cliques([5, 7, 6], bridge=0.02) + graph(18, seed, density=0.2) * 0.01
    order = np.random.default_rng(seed).permutation(18)
    parts = normalized_cut(csr_array(weights), threshold=0.1, most=6)
    renamed = normalized_cut(csr_array(weights[order][:, order]), threshold=0.1, most=6)
    assert adjusted_rand_score(parts[order], renamed) == 1
