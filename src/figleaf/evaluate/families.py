"""Many comparisons in one table: Holm's correction, and whether so few seeds could pass it at all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.signed_rank import smallest_p


class Adjusted(NamedTuple):
    """A p-value adjusted for its family, and whether it supports a difference at the family's level."""

    p_value: float
    is_supported: bool


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[Adjusted]:
    """Holm's (1979) step-down correction of a family, in its order. With it, the chance of even one false claim is at
    most `alpha`, whatever the dependence of the tests.

    A family is all comparisons of one table against one baseline, also those that are not shown in bold. Raises
    `FigleafError` when a p-value is not in [0, 1].
    """
    strays = [p for p in p_values if not 0 <= p <= 1]
    if strays:
        raise FigleafError(f"p-value {strays[0]}: expected 0 <= p <= 1; leave out comparisons that were not tested")
    # Here rather than by statsmodels' multipletests, which runs the garbage collector at each call: a second a table.
    given = np.asarray(p_values, dtype=np.float64)
    ascending = np.argsort(given, kind="stable")
    steps = np.maximum.accumulate(given[ascending] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[ascending] = np.minimum(steps, 1.0)
    return [Adjusted(float(p), bool(p <= alpha)) for p in adjusted]


def holm_can_support(n_seeds: int, n_comparisons: int, alpha: float = 0.05) -> bool:
    """Whether `n_seeds` pairs could support anything among `n_comparisons` signed-rank tests, were all of one sign.

    False says that the table cannot hold a significant difference whatever the runs show: six seeds are the least for
    one comparison at .05, eight for five.
    """
    return smallest_p(n_seeds) * n_comparisons <= alpha


def seeds_for_holm(n_comparisons: int, alpha: float = 0.05) -> int:
    """The least number of seeds for which `holm_can_support` is true."""
    if not 0 < alpha < 1:
        raise FigleafError(f"alpha={alpha}: expected 0 < alpha < 1")
    n_seeds = 1
    while not holm_can_support(n_seeds, n_comparisons, alpha):
        n_seeds += 1
    return n_seeds
