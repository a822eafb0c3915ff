"""Runs side by side: parameters that differ, metrics, and tests of the differences on the samples both were scored on.

The first run is what the others are compared with: a difference is the other's value less the first's. The tests
compare these runs as fixed models; what a choice of settings is worth takes several seeds, see a study's table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from figleaf.errors import FigleafError
from figleaf.evaluate.alignment import SameSamples
from figleaf.evaluate.delong import AurocDifference, delong
from figleaf.evaluate.direction import better
from figleaf.evaluate.families import holm
from figleaf.evaluate.predictions import Predictions
from figleaf.evaluate.two_models import McNemar, MetricDifference, bootstrap_difference, mcnemar
from figleaf.study.records import COMMIT_TAG, DATA_HASH_TAG, DIRTY_TAG
from figleaf.tracking.find import FoundRun

SHOWN = ("fit/*", "val/*", "test/*", "cost/*", "time/*")
_NOT_SHOWN = ("*/slice/*", "*_low", "*_high")
TESTED = ("auroc", "auprc", "accuracy", "recall_at_1fpr", "recall_at_5fpr")
# Differences of sums of floats: what is within this of a tolerance is at it.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class RunFacts:
    """What a run is and where it comes from; empty where its tags do not say."""

    run_id: str
    name: str
    status: str
    data: str
    data_hash: str
    commit: str
    is_dirty: bool


@dataclass(frozen=True)
class Value:
    """A metric or parameter of every run, in their order; None where a run has none."""

    key: str
    values: tuple[float | None, ...]

    def difference(self, index: int) -> float | None:
        """The value of the run at `index` less the first one's; None where one of them is missing."""
        first, other = self.values[0], self.values[index]
        return None if first is None or other is None else other - first


@dataclass(frozen=True)
class Parameter:
    """A parameter of every run, in their order; None where a run has none."""

    key: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class PairedTests:
    """Run `index` against the first on one split: N samples in G groups; `n_left_out` lack a score in one of them.

    `auroc` is DeLong's test, `p_holm` its p-value corrected for all runs compared with the first. `decisions` are those
    at each run's own threshold. `differences` have bootstrap intervals over groups. Each part that cannot be had is
    None or missing, and `notes` say why.
    """

    index: int
    n_samples: int
    n_groups: int
    n_left_out: int
    auroc: AurocDifference | None
    p_holm: float | None
    decisions: McNemar | None
    differences: dict[str, MetricDifference]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RunComparison:
    """Two or more runs; `paired` holds the tests of each but the first, and `not_paired` why one has none."""

    runs: tuple[RunFacts, ...]
    parameters: tuple[Parameter, ...]
    metrics: tuple[Value, ...]
    split: str
    paired: tuple[PairedTests, ...]
    not_paired: dict[int, str]


@dataclass(frozen=True)
class Verdict:
    """Whether run `index` is worse than the first in the metric `key` by no more than `tolerance`."""

    key: str
    index: int
    worse_by: float
    tolerance: float

    @property
    def is_met(self) -> bool:
        """False for a value that is not a number, too."""
        return self.worse_by <= self.tolerance + _ROUNDING


def compare_runs(
    runs: Sequence[FoundRun], *, split: str = "test", patterns: Sequence[str] = (), resamples: int = 2000
) -> RunComparison:
    """Compare two or more runs.

    `patterns` choose metrics by name with the wildcards * and ?; by default the final ones, without intervals and
    slices. `split` is the one the tests look at. Without `resamples` (0) the differences have no intervals and are left
    out. Raises `FigleafError` with fewer than two runs.
    """
    if len(runs) < 2:
        raise FigleafError(f"compare needs at least 2 runs, not {len(runs)}")
    keys = sorted({key for run in runs for key in run.metrics}, key=_in_order)
    metrics = tuple(Value(key, tuple(run.metrics.get(key) for run in runs)) for key in keys if _is_shown(key, patterns))
    params = sorted({key for run in runs for key in run.params})
    parameters = (Parameter(key, tuple(run.params.get(key) for run in runs)) for key in params)
    found: list[PairedTests] = []
    not_paired: dict[int, str] = {}
    for index in range(1, len(runs)):
        try:
            found.append(_tests(runs[0], runs[index], index, split, resamples))
        except FigleafError as error:
            not_paired[index] = str(error)
    return RunComparison(
        tuple(_facts(run) for run in runs),
        tuple(parameter for parameter in parameters if len(set(parameter.values)) > 1),
        metrics,
        split,
        tuple(_corrected(found)),
        not_paired,
    )


def verdicts(runs: Sequence[FoundRun], tolerances: Sequence[tuple[str, float]]) -> list[Verdict]:
    """Whether each run but the first is worse by no more than the tolerance of each metric.

    Raises `FigleafError` for a metric that a run lacks or of which neither more nor less is better, and for one of
    `val/` or `test/` when the runs were not measured on the same samples: such a difference says nothing.
    """
    _require_judgeable(runs, [key for key, _ in tolerances])
    return [
        Verdict(key, index, better(key) * (runs[0].metrics[key] - run.metrics[key]), tolerance)
        for key, tolerance in tolerances
        for index, run in enumerate(runs)
        if index
    ]


def same_samples(runs: Sequence[FoundRun], split: str) -> SameSamples:
    """The predictions of all `runs` on a split, brought into one order of rows.

    Raises `FigleafError` that names the run for one without predictions there, and when they are of other samples.
    """
    return SameSamples.of([predictions_on(run, split) for run in runs], names=[_called(run) for run in runs])


def predictions_on(run: FoundRun, split: str) -> Predictions:
    """What a run answered to the pictures of a split, as they are. Raises `FigleafError` when it was not asked."""
    predictions = Predictions.load(run.artifact("predictions.parquet")).select(split=split, variant="clean")
    if not len(predictions):
        raise FigleafError(f"{_called(run)} has no predictions on the split {split}")
    return predictions


def _require_judgeable(runs: Sequence[FoundRun], keys: Sequence[str]) -> None:
    for key in keys:
        for run in runs:
            if key not in run.metrics:
                known = [name for name in sorted(run.metrics) if better(name)]
                near = get_close_matches(key, known, n=3, cutoff=0.5) or known
                raise FigleafError(f"--tolerance {key}: {_called(run)} has no such metric; it has {', '.join(near)}")
        if not better(key):
            raise FigleafError(f"--tolerance {key}: neither more nor less of it is better")
    for split in sorted({key.partition("/")[0] for key in keys} & {"val", "test"}):
        for run in runs[1:]:
            try:
                same_samples((runs[0], run), split)
            except FigleafError as error:
                raise FigleafError(f"--tolerance of {split}/ metrics: {error}") from error


def _tests(first: FoundRun, other: FoundRun, index: int, split: str, resamples: int) -> PairedTests:
    samples = same_samples((first, other), split)
    notes: list[str] = []
    b, a = samples.runs  # differences are those of the second run from the first
    thresholds = (other.metrics.get("val/threshold"), first.metrics.get("val/threshold"))
    auroc = None
    try:
        auroc = delong(a, b)
    except FigleafError as error:
        notes.append(str(error))
    differences: dict[str, MetricDifference] = {}
    for name in TESTED if resamples else ():
        try:
            differences[name] = bootstrap_difference(a, b, name, thresholds=thresholds, n=resamples)
        except FigleafError as error:
            notes.append(f"{name}: {error}")
    n_groups = len(set(samples.group.tolist()))
    if n_groups < len(a):
        notes.append("McNemar's test takes images for independent: with several images a group its p is too small")
    return PairedTests(
        index, len(a), n_groups, samples.n_left_out, auroc, None, mcnemar(a, b, thresholds), differences, tuple(notes)
    )


def _corrected(found: Sequence[PairedTests]) -> list[PairedTests]:
    """With Holm's correction over the DeLong tests of all runs."""
    tested = [tests for tests in found if tests.auroc is not None]
    adjusted = holm([tests.auroc.p_value for tests in tested if tests.auroc is not None])
    by_index = {tests.index: p.p_value for tests, p in zip(tested, adjusted, strict=True)}
    return [replace(tests, p_holm=by_index.get(tests.index)) for tests in found]


def _facts(run: FoundRun) -> RunFacts:
    return RunFacts(
        run.run_id,
        run.name,
        run.status,
        run.tags.get("figleaf.data_name", ""),
        run.tags.get(DATA_HASH_TAG, ""),
        run.tags.get(COMMIT_TAG, ""),
        run.tags.get(DIRTY_TAG, "false") == "true",
    )


def _is_shown(key: str, patterns: Sequence[str]) -> bool:
    if patterns:
        return any(fnmatchcase(key, pattern) for pattern in patterns)
    return any(fnmatchcase(key, pattern) for pattern in SHOWN) and not any(fnmatchcase(key, p) for p in _NOT_SHOWN)


def _in_order(key: str) -> tuple[int, str]:
    """Test before val, val before what was trained on, results before costs; then by name."""
    heads = ("test/", "val/", "fit/", "cost/", "time/", "epoch/", "train/")
    return next((place for place, head in enumerate(heads) if key.startswith(head)), len(heads)), key


def _called(run: FoundRun) -> str:
    return f"run {run.name} ({run.run_id[:8]})"
