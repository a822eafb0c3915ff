"""Runs side by side as tidy tables: what differs, the tests, and the samples they disagree on. For notebooks.

Runs are called by the letters of `figleaf compare`: A is the first, and a difference is another's value less A's.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from figleaf.evaluate.decisions import decisions
from figleaf.study.run_comparison import RunComparison, same_samples
from figleaf.study.run_comparison_text import letter
from figleaf.tracking.find import FoundRun

_TESTS = ["run", "test", "difference", "low", "high", "p", "p_holm", "only_run_right", "only_A_right"]


def runs_frame(comparison: RunComparison) -> pd.DataFrame:
    """One row a run, by letter: name, status, data, data_hash, commit (with a * when the code was changed), run_id."""
    rows = {
        letter(index): {
            "name": run.name,
            "status": run.status,
            "data": run.data,
            "data_hash": run.data_hash[:8],
            "commit": run.commit[:10] + "*" * run.is_dirty,
            "run_id": run.run_id,
        }
        for index, run in enumerate(comparison.runs)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def parameters_frame(comparison: RunComparison) -> pd.DataFrame:
    """One row a parameter that differs, one column a run; None where a run has none."""
    rows = {parameter.key: parameter.values for parameter in comparison.parameters}
    return pd.DataFrame.from_dict(rows, orient="index", columns=_letters(comparison)).rename_axis("parameter")


def metrics_frame(comparison: RunComparison) -> pd.DataFrame:
    """One row a metric: each run's value, and the difference of each from A; NaN where a run has none."""
    letters = _letters(comparison)
    columns = [*letters, *(f"{of} - {letters[0]}" for of in letters[1:])]
    rows = {
        value.key: [*value.values, *(value.difference(index) for index in range(1, len(letters)))]
        for value in comparison.metrics
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=np.float64).rename_axis("metric")


def paired_frame(comparison: RunComparison) -> pd.DataFrame:
    """One row a test of a run against A, NaN where a test has no such number.

    DeLong's of the AUROC with its 95 % interval, p and p after Holm's correction over the runs; the bootstrap over
    groups of each metric with its interval; McNemar's of the decisions with the images that only one decides rightly.
    """
    rows: list[dict[str, object]] = []
    for tests in comparison.paired:
        of = letter(tests.index)
        if tests.auroc is not None:
            low, high = tests.auroc.interval
            row = {"run": of, "test": "auroc, DeLong", "difference": tests.auroc.difference, "low": low, "high": high}
            rows.append(row | {"p": tests.auroc.p_value, "p_holm": tests.p_holm})
        for name, found in tests.differences.items():
            low, high = found.interval
            row = {"run": of, "test": f"{name}, bootstrap", "difference": found.difference, "low": low, "high": high}
            rows.append(row)
        if tests.decisions is not None:
            only = {"only_run_right": tests.decisions.only_a, "only_A_right": tests.decisions.only_b}
            rows.append({"run": of, "test": "decisions, McNemar", "p": tests.decisions.p_value, **only})
    return pd.DataFrame(rows, columns=_TESTS).astype({"only_run_right": "Int64", "only_A_right": "Int64"})


def caveats(comparison: RunComparison) -> list[str]:
    """What a reader of `paired_frame` has to know: why a run was not tested, or what a test takes for granted."""
    told = {index: [f"not tested: {reason}"] for index, reason in comparison.not_paired.items()}
    told |= {tests.index: list(tests.notes) for tests in comparison.paired}
    return [f"{letter(index)}: {text}" for index in sorted(told) for text in told[index]]


def disagreements(runs: Sequence[FoundRun], split: str = "test") -> pd.DataFrame:
    """The samples of a split on which not all runs decide alike, each at its own threshold; the widest gap first.

    Columns: sample_id, group, slice, label, then the score of each run by its letter, `right` with the letters of the
    runs that are right, and `gap`, the greatest difference between two scores. Raises `FigleafError` as `same_samples`.
    """
    samples = same_samples(runs, split)
    letters = [letter(index) for index in range(len(runs))]
    tables = [
        decisions(predictions, run.metrics.get("val/threshold"))
        for predictions, run in zip(samples.runs, runs, strict=True)
    ]
    found = tables[0].loc[:, ["sample_id", "group", "slice", "label"]]
    scores = np.stack([table["score"].to_numpy() for table in tables])
    right = np.stack([table["is_right"].to_numpy() for table in tables])
    found[letters] = scores.T
    found["right"] = ["".join(of for of, is_right in zip(letters, row, strict=True) if is_right) for row in right.T]
    found["gap"] = np.ptp(scores, axis=0)
    differ = pd.Series(right.any(axis=0) & ~right.all(axis=0))
    return found.loc[differ].sort_values(["gap", "sample_id"], ascending=[False, True], ignore_index=True)


def _letters(comparison: RunComparison) -> list[str]:
    return [letter(index) for index in range(len(comparison.runs))]
