"""A study opened for reading: tables, figures, and every number behind them as tidy tables. For notebooks and scripts.

The committed records are enough: nothing is trained, no picture is read and no tracker is asked unless one is wanted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from figleaf.config import experiments_dir, home
from figleaf.errors import FigleafError
from figleaf.evaluate.decisions import decisions, operating_points
from figleaf.study.plan import Knowledge, Trial, compose_trials, plan
from figleaf.study.records import Record, load_records
from figleaf.study.render import to_markdown
from figleaf.study.results import Findings, figures_of, find, recorded
from figleaf.study.spec import Study, find_study
from figleaf.study.state import gather, tracker_of
from figleaf.tracking.record import is_locked


@dataclass(frozen=True)
class OpenedStudy:
    """A study with its trials; those that are done hold their record.

    Every table begins with the columns arm and seed; one row is one observation.
    """

    study: Study
    trials: tuple[Trial, ...]

    @cached_property
    def found(self) -> Findings:
        """What the study's own table and tests say."""
        return find(self.study, self.trials)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """The figures there is something to draw for, of: figure, comparisons, curves, roc_pr, cost."""
        drawn = figures_of(self.study, self.trials, self.found)
        return {name: figure for name, figure in drawn.items() if figure is not None}

    def markdown(self, name: str = "table") -> str:
        """A table with caption and notes: table (one row an arm), comparisons or pivot.

        Of a table that the study does not have, a sentence that says so.
        """
        if name in self.found.tables:
            return to_markdown(self.found.tables[name])
        return f"{self.study.name} has no {name}; it has {', '.join(self.found.tables)}."

    def comparing(self, key: str, against: str) -> "OpenedStudy":
        """The same runs with other comparisons: of the metric `key`, such as test/recall_at_5fpr, with arm `against`.

        A family of tests of its own, and one that was thought of after the runs: it gives questions, not findings.
        Raises `FigleafError` for an arm there is not, or one whose runs lack the metric.
        """
        if against not in self.study.arms:
            raise FigleafError(f"against={against}: study {self.study.name} has {', '.join(self.study.arms)}")
        if not any(key in record.metrics for trial, record in self.records() if trial.arm == against):
            known = sorted({name for trial, record in self.records() for name in record.metrics})
            raise FigleafError(f"key={key}: no run of {against} has it; there are {', '.join(known)}")
        table = replace(self.study.table, baseline=against, compared=key, factorial=False)
        return replace(self, study=replace(self.study, table=table))

    def metrics(self, *patterns: str) -> pd.DataFrame:
        """Final metrics: arm, seed, key, value. `patterns` choose keys with * and ?; by default all of them."""
        rows = [
            (trial.arm, trial.seed, key, value)
            for trial, record in self.records()
            for key, value in record.metrics.items()
            if not patterns or any(fnmatchcase(key, pattern) for pattern in patterns)
        ]
        return pd.DataFrame(rows, columns=["arm", "seed", "key", "value"])

    def curves(self, *keys: str) -> pd.DataFrame:
        """What was measured once an epoch: arm, seed, key, epoch (from 1), step, value. By default all that was."""
        rows = [
            (trial.arm, trial.seed, key, epoch, step, value)
            for trial, record in self.records()
            for key, curve in record.curves.items()
            if not keys or key in keys
            for epoch, (step, value) in enumerate(curve, 1)
        ]
        return pd.DataFrame(rows, columns=["arm", "seed", "key", "epoch", "step", "value"])

    def decisions(self, split: str = "test") -> pd.DataFrame:
        """Every scored sample of every run: arm, seed, and the columns of `figleaf.evaluate.decisions.decisions`.

        Each run decides at its own threshold, chosen on val.
        """
        tables = [
            _of(trial, decisions(record.predictions.select(split=split), record.metrics.get("val/threshold")))
            for trial, record in self.records()
        ]
        return pd.concat(tables, ignore_index=True)

    def operating_points(self, *rules: str) -> pd.DataFrame:
        """Thresholds chosen on val by `rules`, such as fpr=0.01, and what they give on test: one row a run and rule.

        Columns: arm, seed, and those of `figleaf.evaluate.decisions.operating_points`.
        """
        tables = []
        for trial, record in self.records():
            val, test = (record.predictions.select(split=split) for split in ("val", "test"))
            tables.append(_of(trial, operating_points(val, test, rules)))
        return pd.concat(tables, ignore_index=True)

    def records(self) -> Iterator[tuple[Trial, Record]]:
        """The trials that are done, each with its record: configuration, metrics, curves, predictions."""
        for trial in self.trials:
            if isinstance(trial.run, Record):
                yield trial, trial.run


def open_study(name: str, *, tracker: bool = False, overrides: Sequence[str] = ()) -> OpenedStudy:
    """Open `experiments/NAME` as its committed records say, or, with `tracker`, as `figleaf study table` sees it.

    `overrides` are those that the study was run with. Raises `FigleafError` for a study there is not, and for one
    without a finished run.
    """
    study = find_study(name, experiments_dir())
    trials = compose_trials(study, overrides)
    if tracker:
        known = gather(tracker_of(trials), study)
    else:
        known = Knowledge([], home() / "runs", is_locked, records=load_records(study.results))
    opened = OpenedStudy(study, tuple(recorded(plan(trials, known))))
    if next(opened.records(), None) is None:
        others = "" if tracker else "; open_study(..., tracker=True) looks at the tracker, too"
        raise FigleafError(f"study {name}: no trial of it is done, `figleaf study run {name}` runs them{others}")
    return opened


def _of(trial: Trial, table: pd.DataFrame) -> pd.DataFrame:
    table.insert(0, "arm", trial.arm)
    table.insert(1, "seed", trial.seed)
    return table
