"""Which arm of a study is selected, and which of an arm's runs is best: by a validation metric, never by test.

The table's dagger, `selected` in `expected.yaml` and `best:STUDY` all ask here.
"""

import math
from collections.abc import Mapping, Sequence

from figleaf.study.plan import Trial
from figleaf.study.spec import Study


def arm_with_best_mean(values: Mapping[str, Sequence[float]], mode: str = "max") -> str | None:
    """The arm whose `values`, one a run, have the best mean (`mode`: max or min); of equals the first, None of none."""
    sign = 1.0 if mode == "max" else -1.0
    return max(values, key=lambda arm: sign * math.fsum(values[arm]) / len(values[arm]), default=None)


def selected_arm(study: Study, trials: Sequence[Trial]) -> str | None:
    """The candidate with the best mean of the selection metric, or None. An arm that lacks a trial is not compared."""
    compared: dict[str, list[float]] = {}
    for name, arm in study.arms.items():
        values = [value_of(study, trial) for trial in trials if trial.arm == name]
        known = [value for value in values if value is not None]
        if arm.candidate and known and len(known) == len(values):
            compared[name] = known
    return arm_with_best_mean(compared, study.select.mode)


def best_trial(study: Study, trials: Sequence[Trial], arm: str) -> Trial | None:
    """The trial of `arm` whose run has the best selection metric; of equals the first, None when no run has one."""
    sign = 1.0 if study.select.mode == "max" else -1.0
    found = [(value, trial) for trial in trials if trial.arm == arm and (value := value_of(study, trial)) is not None]
    return max(found, key=lambda pair: sign * pair[0])[1] if found else None


def value_of(study: Study, trial: Trial) -> float | None:
    """The selection metric of a trial; None when it is not finished or its run does not define the metric."""
    value = math.nan if trial.run is None else trial.run.metrics.get(study.select.key, math.nan)
    return None if math.isnan(value) else value
