"""Runs measured on the same samples, row for row: what pairing takes for granted, made true or refused."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions

_SHOWN = 3  # sample ids in a message


@dataclass(frozen=True, eq=False)
class SameSamples:
    """Predictions of several runs with the same N rows in the same order, each scored by all of them.

    **Rule for error rows.** A sample counts when every run has a score for it, here as in `metrics`: what has no score
    is counted (`n_left_out`) and left out, for all runs alike, so that none is measured on easier pictures than its
    rival. An unreadable picture lacks a score in every run and changes no comparison. A system that fails on hard
    pictures of its own gains by this rule, so `n_left_out` belongs beside the numbers; to count a failure as a wrong
    decision would be no better, since it has no rank and no likelihood.

    `groups` (G,): the names of all groups, sorted, also those left without a row. Resamples draw from these, so that
    one draw serves every subset of the runs.
    """

    runs: tuple[Predictions, ...]
    groups: tuple[str, ...]
    n_left_out: int

    @classmethod
    def of(cls, runs: Sequence[Predictions], names: Sequence[str] | None = None) -> "SameSamples":
        """Bring `runs` (at least one) into one order of rows, by sample_id; `names` call them in messages.

        Raises `FigleafError` when a run holds a sample twice or has no scores, when runs differ in their samples, or in
        content, group or truth of one, and when no sample is scored by all.
        """
        called = [f"run {i + 1}" for i in range(len(runs))] if names is None else list(names)
        for name, run in zip(called, runs, strict=True):
            if not run.has_scores:
                raise FigleafError(f"{name} has no scores: none of its classes {list(run.classes)} is unsafe")
        ordered = [_by_sample_id(run, name) for name, run in zip(called, runs, strict=True)]
        for name, run in zip(called[1:], ordered[1:], strict=True):
            _refuse_other_samples(ordered[0], run, called[0], name)
        scored = np.logical_and.reduce([run.is_scored for run in ordered])
        if not scored.any():
            worst = int(np.argmin([run.is_scored.sum() for run in ordered]))
            raise FigleafError(
                f"no sample has a score in every run: {called[worst]} has one for {ordered[worst].is_scored.sum()} of "
                f"{len(scored)} samples; compare without it, or evaluate it again"
            )
        kept = ordered if scored.all() else [_rows(run, np.flatnonzero(scored)) for run in ordered]
        groups = tuple(np.unique(ordered[0].table["group"].to_numpy(dtype=object)))
        return cls(tuple(kept), groups, int((~scored).sum()))

    @cached_property
    def is_unsafe(self) -> NDArray[np.bool_]:
        """(N,) the truth, the same for all runs."""
        return self.runs[0].is_unsafe

    @cached_property
    def group(self) -> NDArray[np.intp]:
        """(N,) each row's index in `groups`."""
        return np.searchsorted(np.array(self.groups, dtype=object), self.runs[0].table["group"].to_numpy(dtype=object))


def _by_sample_id(run: Predictions, name: str) -> Predictions:
    ids = run.table["sample_id"].to_numpy(dtype=object)
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    twice = np.flatnonzero(in_order[1:] == in_order[:-1])
    if len(twice):
        raise FigleafError(
            f"{name} holds sample {in_order[twice[0]]} more than once: select one variant, such as variant=clean, first"
        )
    return run if np.array_equal(order, np.arange(len(ids))) else _rows(run, order)


def _rows(run: Predictions, rows: NDArray[np.intp]) -> Predictions:
    return replace(run, table=run.table.take(rows).reset_index(drop=True))


def _refuse_other_samples(first: Predictions, run: Predictions, first_name: str, name: str) -> None:
    """Both sorted by sample_id."""
    if not first.table["sample_id"].equals(run.table["sample_id"]):
        here, there = set(run.table["sample_id"]), set(first.table["sample_id"])
        lacking = [
            f"{len(ids)} only in {of} ({_some(ids)})"
            for ids, of in ((there - here, first_name), (here - there, name))
            if ids
        ]
        raise FigleafError(
            f"{first_name} and {name} were scored on different samples, {' and '.join(lacking)}: "
            f"evaluate both on the same manifest and split"
        )
    for what, column in (("content", "content_sha256"), ("group", "group")):
        mine, theirs = first.table[column], run.table[column]
        if not mine.equals(theirs):
            _refuse(first_name, name, what, first.table["sample_id"][mine != theirs].tolist())
    disputed = first.is_unsafe != run.is_unsafe
    if disputed.any():
        _refuse(first_name, name, "truth (safe or unsafe)", first.table["sample_id"][disputed].tolist())


def _refuse(first_name: str, name: str, what: str, ids: list[str]) -> None:
    raise FigleafError(
        f"{first_name} and {name} differ in the {what} of {len(ids)} samples ({_some(ids)}): "
        f"the data has changed between them; evaluate both on the same manifest"
    )


def _some(ids: "set[str] | list[str]") -> str:
    return ", ".join(sorted(ids)[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
