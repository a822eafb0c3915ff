"""What a study claims: differences against the baseline, or between the levels of its factors.

One family of tests a study, corrected with Holm's method: a difference counts as supported only when the corrected
test says so, and nothing else is set in bold.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from figleaf.errors import FigleafError
from figleaf.evaluate.arms import MeasuredArms, measure_arms
from figleaf.evaluate.families import holm, holm_can_support, seeds_for_holm
from figleaf.evaluate.metrics import DEFAULT_THRESHOLD, METRICS
from figleaf.evaluate.paired import PairedComparison, compare_arms
from figleaf.evaluate.power import seeds_needed
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.systems import SystemsComparison, compare_systems
from figleaf.evaluate.weighted import Floats
from figleaf.study.plan import Trial
from figleaf.study.records import Record
from figleaf.study.spec import COSTS, Study
from figleaf.study.table import compared_key

ALPHA = 0.05
POWER = 0.8
_RESAMPLES = 2000
_SLICE = "slice/"
_PUBLISHED = "published/"


@dataclass(frozen=True)
class Effect:
    """One comparison of the family: an arm against the baseline, or a factor's (or interaction's) effect.

    `paired` by seed, or, where the study asks with `table.test: groups`, of two `systems`. `p_holm` is the test's
    p-value after Holm's correction. `seeds_for_power` would show a paired difference of the seen size with 80 % power;
    None where none would.
    """

    name: str
    paired: PairedComparison | None
    p_holm: float
    is_supported: bool
    seeds_for_power: int | None = None
    systems: SystemsComparison | None = None

    @property
    def difference(self) -> float:
        """The mean difference, in the metric's unit."""
        found = self.paired or self.systems
        if found is None:
            raise ValueError("an effect is of a paired comparison or of one of systems")
        return found.difference


@dataclass(frozen=True)
class Comparisons:
    """A study's family of tests in the metric `key`.

    `against` names the baseline; empty for a factorial study. `left_out` names arms that could not be compared, and
    why. `n_samples` in `n_groups` were scored by all runs; `n_left_out` were not.
    """

    key: str
    against: str
    effects: tuple[Effect, ...]
    left_out: tuple[tuple[str, str], ...]
    n_samples: int
    n_groups: int
    n_left_out: int

    @property
    def n_seeds(self) -> int:
        """The fewest pairs of any comparison."""
        return min((effect.paired.n for effect in self.effects if effect.paired), default=0)

    @property
    def of_costs(self) -> bool:
        """Whether `key` is what a run took, seconds or epochs, which no resample of the test set changes."""
        return self.key.startswith(COSTS)

    @property
    def can_support(self) -> bool:
        """Whether the least-paired comparison could pass Holm's correction at all, whatever its runs show."""
        floors = [effect.systems.p_floor for effect in self.effects if effect.systems]
        if floors:
            return max(floors) * len(self.effects) <= ALPHA
        return holm_can_support(self.n_seeds, len(self.effects), ALPHA)

    @property
    def seeds_to_support(self) -> int:
        """The least number of seeds with which anything could be supported."""
        return seeds_for_holm(len(self.effects), ALPHA)

    def supported(self) -> set[str]:
        """The names of the effects that the corrected test supports."""
        return {effect.name for effect in self.effects if effect.is_supported}


def compare_study(study: Study, trials: Sequence[Trial]) -> Comparisons | None:
    """The comparisons that the study declares, from its records; None when it declares none or has too few runs.

    Raises `FigleafError` when the runs were measured on different samples.
    """
    if study.table.baseline is None and not study.table.factorial:
        return None
    key, factorial, baseline = compared_key(study), study.table.factorial, study.table.baseline
    records = {
        arm: {t.seed: t.run for t in trials if t.arm == arm and isinstance(t.run, Record) and key in t.run.metrics}
        for arm in (study.cells if factorial else study.arms)
    }
    if study.table.test == "groups":
        return _compare_systems(study, records, key)
    few = tuple((arm, "fewer than two seeds") for arm, runs in records.items() if len(runs) < 2)
    if (few and factorial) or len(records) - len(few) < 2 or baseline in dict(few):
        return None  # effects need every cell, differences the baseline
    records = {arm: runs for arm, runs in records.items() if len(runs) >= 2}
    measured = _measure(records, key)
    contrasts = (
        _contrasts(study) if factorial else {arm: ([arm], [str(baseline)]) for arm in records if arm != baseline}
    )
    pairs = {name: _compare(measured, more, less) for name, (more, less) in contrasts.items()}
    adjusted = holm([pair.p_value for pair in pairs.values()], ALPHA)
    effects = [
        Effect(
            name,
            pair,
            corrected.p_value,
            corrected.is_supported,
            seeds_needed(pair.difference, pair.sd, power=POWER, alpha=ALPHA, n_comparisons=len(pairs)),
        )
        for (name, pair), corrected in zip(pairs.items(), adjusted, strict=True)
    ]
    return Comparisons(
        key, baseline or "", tuple(effects), few, measured.n_samples, measured.n_groups, measured.n_left_out
    )


def _compare_systems(study: Study, records: dict[str, dict[int, Record]], key: str) -> Comparisons | None:
    """Every arm against the baseline over the groups of the test set, whatever their numbers of runs.

    An arm of several seeds of which only one has a run is not compared yet: it would pass for one without luck.
    """
    baseline = str(study.table.baseline)
    absent = tuple((arm, why) for arm, runs in records.items() if (why := _no_system(runs, study.seeds_of(arm), key)))
    records = {arm: runs for arm, runs in records.items() if arm not in dict(absent)}
    if len(records) < 2 or baseline not in records:
        return None
    measured = _measure(records, key)
    found = {
        arm: compare_systems(
            measured.values[arm],
            measured.values[baseline],
            resampled_a=measured.resampled[arm],
            resampled_b=measured.resampled[baseline],
        )
        for arm in records
        if arm != baseline
    }
    adjusted = holm([systems.p_value for systems in found.values()], ALPHA)
    effects = [
        Effect(arm, None, corrected.p_value, corrected.is_supported, systems=systems)
        for (arm, systems), corrected in zip(found.items(), adjusted, strict=True)
    ]
    return Comparisons(
        key, baseline, tuple(effects), absent, measured.n_samples, measured.n_groups, measured.n_left_out
    )


def _no_system(runs: Mapping[int, Record], seeds: Sequence[int], key: str) -> str:
    """Why these runs of an arm do not stand for it; empty where they do."""
    if len(runs) < min(2, len(seeds)):
        return f"{len(runs) or 'no'} run{' of ' + str(len(seeds)) if len(seeds) > 1 else ''}"
    endless = [seed for seed, run in runs.items() if not math.isfinite(run.metrics[key])]
    return f"{key} of seed {endless[0]} is {runs[endless[0]].metrics[key]}" if endless else ""


def _measure(records: Mapping[str, Mapping[int, Record]], key: str) -> MeasuredArms:
    """`key`, such as test/auroc or test/slice/hands/crop/auroc, of every run and under the same resamples.

    Of a cost, such as time/train_seconds, there are no resamples.
    What was decided at 0.5 (`test/published/recall`) is decided so here, all else at the run's threshold from val.
    """
    if key.startswith(COSTS):
        values = {arm: {seed: run.metrics[key] for seed, run in runs.items()} for arm, runs in records.items()}
        return MeasuredArms(values, {}, 0, 0, 0)
    split, _, rest = key.partition("/")
    name = rest.rpartition("/")[2]
    within = rest.removeprefix(_SLICE).rpartition("/")[0] if rest.startswith(_SLICE) else None
    measures = set.intersection(*(set(r.predictions.measures) for runs in records.values() for r in runs.values()))
    if name not in METRICS and name not in measures:
        known = ", ".join([*METRICS, *sorted(measures)])
        raise FigleafError(f"table.compared={key}: {name!r} has no resamples; expected one of {known}")

    at_half = rest.startswith(_PUBLISHED)

    def part(record: Record) -> Predictions:
        return record.predictions.select(split=split, slice=within)

    return measure_arms(
        {arm: {seed: part(record) for seed, record in runs.items()} for arm, runs in records.items()},
        name,
        thresholds={
            arm: {
                seed: DEFAULT_THRESHOLD if at_half else record.metrics.get("val/threshold", DEFAULT_THRESHOLD)
                for seed, record in runs.items()
            }
            for arm, runs in records.items()
        },
        n=_RESAMPLES,
    )


def _contrasts(study: Study) -> dict[str, tuple[list[str], list[str]]]:
    """Each main effect and interaction as the cells that are added and those that are subtracted.

    The effect of a factor is its second level less its first, averaged over the cells of the others; an interaction of
    k factors is the difference between their effects, halved for each factor beyond the first (effect coding).
    """
    factors = {factor: list(levels) for factor, levels in study.grid.items()}
    found: dict[str, tuple[list[str], list[str]]] = {}
    for size in range(1, len(factors) + 1):
        for chosen in itertools.combinations(factors, size):
            signs = {
                arm: math.prod(
                    1 if label == factors[factor][1] else -1
                    for factor, label in zip(factors, labels, strict=True)
                    if factor in chosen
                )
                for arm, labels in study.cells.items()
            }
            first, second = factors[chosen[0]]
            title = f"{chosen[0]}: {second} - {first}" if size == 1 else " × ".join(chosen)
            found[title] = ([arm for arm in signs if signs[arm] > 0], [arm for arm in signs if signs[arm] < 0])
    return found


def _compare(measured: MeasuredArms, more: Sequence[str], less: Sequence[str]) -> PairedComparison:
    """The mean over the arms `more` minus the mean over the arms `less`, paired by seed."""
    (a, resampled_a), (b, resampled_b) = _mean_of(measured, more), _mean_of(measured, less)
    return compare_arms(a, b, resampled_a=resampled_a, resampled_b=resampled_b)


def _mean_of(measured: MeasuredArms, arms: Sequence[str]) -> tuple[dict[int, float], dict[int, Floats] | None]:
    seeds = sorted(set.intersection(*(set(measured.values[arm]) for arm in arms)))
    values = {seed: float(np.mean([measured.values[arm][seed] for arm in arms])) for seed in seeds}
    if not measured.resampled:
        return values, None
    return values, {seed: np.mean([measured.resampled[arm][seed] for arm in arms], axis=0) for seed in seeds}
