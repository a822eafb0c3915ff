"""Two systems on one test set, each with as many runs as it takes: rules beside networks.

What learns nothing, or nothing at random, has one run, and no test over seeds can say anything about it. The test set
is a sample all the same: these comparisons ask whether the difference would stay on another one, and for systems with
several runs with other seeds, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.hierarchical import STREAM, UNDEFINED, common, drawn_seeds, own_variance, stretch
from figleaf.evaluate.statistics import Interval, percentile_interval
from figleaf.evaluate.weighted import Floats

_HALVINGS = 20  # of the range in which the p-value is looked for: to a millionth
# Metrics are sums of hundreds of floats: differences below this share of the values are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SystemsComparison:
    """System A against system B in one metric: the mean over A's runs minus the mean over B's, in the metric's unit.

    `interval`: over groups of the test set, and over the seeds of a system with several. `p_value`: of no difference,
    two-sided, by inverting that interval; it cannot fall below `p_floor`. `n_a`, `n_b`: how many runs.
    """

    difference: float
    interval: Interval
    p_value: float
    p_floor: float
    n_a: int
    n_b: int


def compare_systems(
    a: Mapping[int, float],
    b: Mapping[int, float],
    *,
    resampled_a: Mapping[int, Floats],
    resampled_b: Mapping[int, Floats],
    level: float = 0.95,
    seed: int = 0,
) -> SystemsComparison:
    """Compare the values of a metric by seed, one or more a system, by a bootstrap paired over groups of images.

    `resampled_a` and `resampled_b`: the metric (B,) of the same runs under the same B resamples of the test set's
    groups, as `measure_arms` gives them. A system stands with the mean over its runs. One run is that one fixed system,
    to which chance gives nothing but the test set. Of several, the seeds are drawn, too, each system's by themselves
    (two systems of unlike kinds share nothing through a seed), with the two corrections of `hierarchical_interval`.

    The p-value is the least 1 - level at which the percentile interval leaves 0 out, that is, without seeds to draw,
    twice the share of resamples on the lesser side of 0 with the sample itself counted in: 2 (k + 1) / (B + 1) (Davison
    & Hinkley 1997, section 4.4). An interval at 95 % without 0 and a p-value below .05 say the same.

    Resamples that leave a run without the metric are dropped. Raises `FigleafError` when a system has no run, a value
    is not finite, or no resample is left.
    """
    for name, values in (("A", a), ("B", b)):
        if not values:
            raise FigleafError(f"system {name} has no run to compare")
        for run, value in values.items():
            if not np.isfinite(value):
                raise FigleafError(f"seed {run} of system {name}: the metric is {value}, which has no difference")
    (of_a, drawn_a), (of_b, drawn_b) = _in_order(a, resampled_a), _in_order(b, resampled_b)
    tolerance = _ROUNDING * float(max(np.abs(of_a).max(), np.abs(of_b).max()))
    difference = float(_without_rounding(np.atleast_1d(of_a.mean() - of_b.mean()), tolerance)[0])
    with np.errstate(invalid="ignore"):  # of two infinite ratios
        of_groups = _without_rounding(drawn_a.mean(axis=0) - drawn_b.mean(axis=0), tolerance)
    defined = ~np.isnan(of_groups)
    if not defined.any():
        raise FigleafError(UNDEFINED)
    of_groups = of_groups[defined]
    share = common(of_groups, sum(own_variance(runs[:, defined]) for runs in (drawn_a, drawn_b) if len(runs) > 1))
    if share < 1:  # else as they are: infinite ratios cannot be shrunk
        of_groups = difference + share * (of_groups - difference)
    of_seeds = [
        # A stream a system: drawn from one, systems with equally many seeds would be paired by seed.
        (len(values), sign * drawn_seeds(values, len(of_groups), np.random.default_rng([seed, STREAM, stream])))
        for stream, (values, sign) in enumerate(((of_a, 1.0), (of_b, -1.0)))
        if len(values) > 1
    ]

    def resamples(at: float) -> Floats:
        """The differences (B,) whose central share `at` is the interval of that level."""
        return _without_rounding(sum((stretch(n, at) * moved for n, moved in of_seeds), start=of_groups), tolerance)

    return SystemsComparison(
        difference=difference,
        interval=percentile_interval(resamples(level), level),
        p_value=_inverted(resamples) if of_seeds else _beyond(of_groups),
        p_floor=min(1.0, 2 / (len(of_groups) + 1)),
        n_a=len(a),
        n_b=len(b),
    )


def _in_order(values: Mapping[int, float], resampled: Mapping[int, Floats]) -> tuple[Floats, Floats]:
    """Values (S,) and resamples (S, B) by ascending seed."""
    seeds = sorted(values)
    return np.array([float(values[run]) for run in seeds]), np.stack([resampled[run] for run in seeds])


def _without_rounding(differences: Floats, tolerance: float) -> Floats:
    """0 for what is rounding alone: a hair on one side of 0 in every resample would pass for a sure sign."""
    return np.where(np.abs(differences) <= tolerance, 0.0, differences)


def _beyond(differences: Floats) -> float:
    """Twice the share of resampled differences (B,) on the lesser side of 0, the sample counted in; at most 1."""
    least = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (least + 1) / (len(differences) + 1))


def _inverted(resamples: Callable[[float], Floats]) -> float:
    """The p at which `_beyond` the resamples of level 1 - p is p itself: they spread with the level, as Student's t."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _beyond(resamples(1 - middle)) <= middle else (middle, high)
    return high
