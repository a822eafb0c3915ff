"""A comparison of runs as text for a terminal, as Markdown, and as plain values for JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from figleaf.study.run_comparison import PairedTests, RunComparison, Value, Verdict

_LONGEST = 48  # of a parameter's value in a table
_METRIC_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "recall_at_1fpr": "recall at 1 % FPR"}
_METRIC_NAMES |= {"recall_at_5fpr": "recall at 5 % FPR"}


def letter(index: int) -> str:
    """What a run is called in tables: A, B, C, ...; numbers where letters end."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def to_text(comparison: RunComparison, verdicts: Sequence[Verdict] = ()) -> str:
    """Tables of plain text, with lines under their headings."""
    return "\n\n".join(_sections(comparison, verdicts, "simple", "{}\n")) + "\n"


def to_markdown(comparison: RunComparison, verdicts: Sequence[Verdict] = ()) -> str:
    """Markdown tables under headings of the third level."""
    return "\n\n".join(_sections(comparison, verdicts, "pipe", "### {}\n")) + "\n"


def to_json(comparison: RunComparison, verdicts: Sequence[Verdict] = ()) -> dict[str, Any]:
    """Plain containers; a value that is no finite number becomes a text such as "inf"."""
    metrics = [
        asdict(value) | {"differences": [value.difference(index) for index in range(1, len(value.values))]}
        for value in comparison.metrics
    ]
    whole = asdict(comparison) | {
        "metrics": metrics,
        "paired": [_tests_json(tests, comparison) for tests in comparison.paired],
        "not_paired": [
            {"run_id": comparison.runs[index].run_id, "reason": reason}
            for index, reason in comparison.not_paired.items()
        ],
        "tolerances": [
            {
                "key": verdict.key,
                "run_id": comparison.runs[verdict.index].run_id,
                "worse_by": verdict.worse_by,
                "tolerance": verdict.tolerance,
                "is_met": verdict.is_met,
            }
            for verdict in verdicts
        ],
    }
    plain: dict[str, Any] = _plain(whole)
    return plain


def _tests_json(tests: PairedTests, comparison: RunComparison) -> dict[str, Any]:
    """With the run's and the first run's share told apart by name, for a reader who has not read this module."""
    auroc, decisions = tests.auroc, tests.decisions
    return {
        "run_id": comparison.runs[tests.index].run_id,
        "against": comparison.runs[0].run_id,
        "n_samples": tests.n_samples,
        "n_groups": tests.n_groups,
        "n_left_out": tests.n_left_out,
        "delong": None
        if auroc is None
        else {
            "value": auroc.auroc_a,
            "against": auroc.auroc_b,
            "difference": auroc.difference,
            "standard_error": auroc.standard_error,
            "interval": auroc.interval,
            "p": auroc.p_value,
            "p_holm": tests.p_holm,
        },
        "mcnemar": None
        if decisions is None
        else {
            "only_run_right": decisions.only_a,
            "only_against_right": decisions.only_b,
            "p": decisions.p_value,
            "is_exact": decisions.is_exact,
        },
        "bootstrap": {
            name: {"value": d.value_a, "against": d.value_b, "difference": d.difference, "interval": d.interval}
            for name, d in tests.differences.items()
        },
        "notes": tests.notes,
    }


def _sections(comparison: RunComparison, verdicts: Sequence[Verdict], style: str, heading: str) -> list[str]:
    letters = [letter(index) for index in range(len(comparison.runs))]
    sections = []

    def add(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], align: Sequence[str]) -> None:
        table = tabulate(rows, header, tablefmt=style, colalign=align if rows else None, disable_numparse=True)
        sections.append(f"{heading.format(title)}\n{table}")

    runs = [
        [
            of,
            run.run_id[:8],
            run.name,
            run.status,
            run.data,
            run.data_hash[:8],
            run.commit[:10] + "*" * run.is_dirty,
        ]
        for of, run in zip(letters, comparison.runs, strict=True)
    ]
    add("Runs", ["", "id", "name", "status", "data", "hash", "commit (* changed)"], runs, ["left"] * 7)
    if comparison.parameters:
        rows = [[p.key, *(_shortened(value) for value in p.values)] for p in comparison.parameters]
        add("Parameters that differ", ["parameter", *letters], rows, ["left"] * (1 + len(letters)))
    else:
        sections.append(f"{heading.format('Parameters that differ')}\nNone.")
    differences = [f"{of} - {letters[0]}" for of in letters[1:]]
    rows = [_metric_row(value) for value in comparison.metrics]
    add("Metrics", ["metric", *letters, *differences], rows, ["left"] + ["right"] * (len(letters) + len(differences)))
    sections += [_paired(tests, comparison.split, style, heading) for tests in comparison.paired]
    for index, reason in comparison.not_paired.items():
        title = f"{letter(index)} against {letters[0]} on {comparison.split}"
        sections.append(f"{heading.format(title)}\nNot tested: {reason}.")
    if verdicts:
        sections.append(f"{heading.format('Tolerances')}\n" + "\n".join(f"- {_told(verdict)}" for verdict in verdicts))
    return sections


def _metric_row(value: Value) -> list[str]:
    differences = [value.difference(index) for index in range(1, len(value.values))]
    return [value.key, *map(_number, value.values), *(_number(difference, "+") for difference in differences)]


def _paired(tests: PairedTests, split: str, style: str, heading: str) -> str:
    """The tests of one run against the first, each difference with its 95 % interval."""
    of = letter(tests.index)
    rows = []
    if tests.auroc is not None:
        found = tests.auroc
        p = _p_value(found.p_value) + (f" (Holm {_p_value(tests.p_holm)})" if tests.p_holm != found.p_value else "")
        rows.append(["AUROC, DeLong", _number(found.difference, "+"), _interval(found.interval), p])
    for name, difference in tests.differences.items():
        label = f"{_METRIC_NAMES.get(name, name)}, bootstrap over groups"
        rows.append([label, _number(difference.difference, "+"), _interval(difference.interval), ""])
    if tests.decisions is not None:
        only_a, only_b = tests.decisions.only_a, tests.decisions.only_b
        kind = "exact" if tests.decisions.is_exact else "chi-squared"
        told = f"right only in {of}: {only_a}, only in A: {only_b}"
        rows.append([f"decisions, McNemar {kind}", told, "", _p_value(tests.decisions.p_value)])
    header = ["test", f"{of} - A", "95 % interval", "p"]
    table = tabulate(rows, header, tablefmt=style, colalign=["left"] * 4, disable_numparse=True)
    left_out = f", {tests.n_left_out} left out that one of them could not score" if tests.n_left_out else ""
    title = f"{of} against A on {split}: {tests.n_samples} samples in {tests.n_groups} groups{left_out}"
    notes = "".join(f"\n{note}." for note in tests.notes)
    return f"{heading.format(title)}\n{table}" + (f"\n{notes}" if notes else "")


def _told(verdict: Verdict) -> str:
    of = letter(verdict.index)
    far = f"{of} is {_number(abs(verdict.worse_by))} {'worse' if verdict.worse_by > 0 else 'better'} than A"
    told = f"{of} and A are equal" if verdict.worse_by == 0 else far
    end = "met" if verdict.is_met else "NOT MET"
    return f"{verdict.key}: {told}, {_number(verdict.tolerance)} worse is allowed: {end}"


def _number(value: float | None, sign: str = "") -> str:
    """Four decimals, or four digits where these would say little; whole numbers as such."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):{sign}d}"
    return f"{value:{sign}.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:{sign}.4g}"


def _interval(interval: tuple[float, float]) -> str:
    return f"[{_number(interval[0], '+')}, {_number(interval[1], '+')}]"


def _p_value(p: float | None) -> str:
    return "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"


def _shortened(value: str | None) -> str:
    if value is None:
        return "-"
    one_line = " ".join(value.split())
    return one_line if len(one_line) <= _LONGEST else one_line[: _LONGEST - 3] + "..."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
