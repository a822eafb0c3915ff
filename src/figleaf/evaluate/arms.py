"""A study's arms in one metric: every run measured on the same samples, under the same resamples of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.metrics import Metric
from figleaf.evaluate.paired import PairedComparison, SeedsMethod, compare_arms
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.resampling import value_and_resamples
from figleaf.evaluate.weighted import Floats


@dataclass(frozen=True, eq=False)
class MeasuredArms:
    """One metric of each run: `values[arm][seed]` on the samples themselves, `resampled[arm][seed]` (B,) on resamples.

    All on the same `n_samples` in `n_groups`; `n_left_out` more had no score in some run (see `SameSamples`).
    """

    values: Mapping[str, Mapping[int, float]]
    resampled: Mapping[str, Mapping[int, Floats]]
    n_samples: int
    n_groups: int
    n_left_out: int

    def compare(
        self, arm: str, other: str, *, method: SeedsMethod = "t", level: float = 0.95, seed: int = 0
    ) -> PairedComparison:
        """`arm` minus `other`, paired by seed, with both intervals: see `compare_arms`."""
        for name in (arm, other):
            if name not in self.values:
                raise FigleafError(f"arm {name!r}: expected one of {', '.join(self.values)}")
        return compare_arms(
            self.values[arm],
            self.values[other],
            resampled_a=self.resampled[arm],
            resampled_b=self.resampled[other],
            method=method,
            level=level,
            seed=seed,
        )


def measure_arms(
    arms: Mapping[str, Mapping[int, Predictions]],
    metric: str | Metric,
    *,
    thresholds: Mapping[str, Mapping[int, float]] | None = None,
    n: int = 2000,
    seed: int = 0,
) -> MeasuredArms:
    """Measure the runs `arms[arm][seed]`, all on one test set, with one draw of `n` resamples of its groups.

    `thresholds[arm][seed]`: each run's own, chosen on validation data; 0.5 without. Time grows with the number of runs.
    The order of arms and seeds changes nothing. Raises `FigleafError` as `SameSamples.of`, naming arm and seed, and as
    `value_and_resamples`.
    """
    keys = [(arm, run) for arm, runs in arms.items() for run in runs]
    if not keys:
        raise FigleafError("no run to measure: none of the arms has predictions")
    samples = SameSamples.of(
        [arms[arm][run] for arm, run in keys], names=[f"arm {arm}, seed {run}" for arm, run in keys]
    )
    own = None if thresholds is None else [thresholds[arm][run] for arm, run in keys]
    values, drawn = value_and_resamples(samples, metric, n=n, seed=seed, thresholds=own)
    rows = {key: row for row, key in enumerate(keys)}
    return MeasuredArms(
        values={arm: {run: float(values[rows[arm, run]]) for run in runs} for arm, runs in arms.items()},
        resampled={arm: {run: drawn[rows[arm, run]] for run in runs} for arm, runs in arms.items()},
        n_samples=len(samples.group),
        n_groups=len(np.unique(samples.group)),
        n_left_out=samples.n_left_out,
    )
