"""One attempt to make a version of a registered model its champion: compared, decided, and put into words."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figleaf.errors import FigleafError
from figleaf.evaluate.non_inferiority import NonInferiority, non_inferiority
from figleaf.study.run_comparison import predictions_on
from figleaf.tracking.find import FoundRun, find_run
from figleaf.tracking.registry import RUN_TAG, Version
from figleaf.tracking.transfer import run_born_as

if TYPE_CHECKING:
    from figleaf.tracking.store import Store

TAG = "figleaf.promotion."  # of the last attempt; all of them stand in the version's description


@dataclass(frozen=True)
class Terms:
    """What was asked for: see `figleaf registry promote --help`. `force` is the reason, None without one."""

    split: str
    margin: float
    new_training_data: bool
    force: str | None


@dataclass(frozen=True)
class Attempt:
    """What came of it: `outcome` is promoted, first, forced, refused or not comparable; `against` the champion."""

    outcome: str
    why: str
    against: int | None
    found: NonInferiority | None

    @property
    def is_promoted(self) -> bool:
        """Whether the version is to be champion."""
        return self.outcome in ("promoted", "first", "forced")


def attempted(store: "Store", challenger: Version, present: Version | None, terms: Terms) -> Attempt:
    """Compare the challenger with the present champion, if there is one, and decide."""
    if present is None:
        return Attempt("first", terms.force or "no champion to compare with", None, None)
    found, why = None, ""
    try:
        found = non_inferiority(
            *(predictions_on(_run_of(store, version), terms.split) for version in (challenger, present)),
            margin=terms.margin,
            other_training_data=terms.new_training_data,
        )
    except FigleafError as error:
        why = str(error)
    if terms.force is not None:
        return Attempt("forced", terms.force + (f" (not compared: {why})" if why else ""), present.number, found)
    if found is None:
        return Attempt("not comparable", why, present.number, None)
    return Attempt("promoted" if found.is_shown else "refused", found.verdict, present.number, found)


def _run_of(store: "Store", version: Version) -> FoundRun:
    """The run whose predictions are the version's. It may have come into the tracker after the version."""
    run = find_run(store, version.run_id) if version.run_id else run_born_as(store, version.tags.get(RUN_TAG, ""))
    if run is None:
        raise FigleafError(
            f"{version.uri}: its run {version.tags.get(RUN_TAG, '')} is not in this tracker, and so there are no "
            "predictions; `figleaf runs import` brings it here"
        )
    return run


def said(attempt: Attempt, terms: Terms) -> str:
    """In words, with all numbers."""
    against = f"version {attempt.against}"
    named = {
        "first": "the first champion",
        "promoted": f"champion in place of {against}, {attempt.why}",
        "forced": f"champion by force in place of {against}: {attempt.why}",
        "refused": f"refused: {attempt.why} than {against}",
        "not comparable": f"refused: it cannot be compared with {against}: {attempt.why}",
    }[attempt.outcome]
    found = attempt.found
    if found is None:
        return named
    return (
        f"{named}; {terms.split} AUROC {found.auroc_challenger:.4f}, the champion's {found.auroc_champion:.4f}, "
        f"difference {found.difference:+.4f}, 95 % DeLong [{found.delong.low:+.4f}, {found.delong.high:+.4f}], "
        f"bootstrap [{found.resampled.low:+.4f}, {found.resampled.high:+.4f}], margin {found.margin:g}, "
        f"{found.n_samples} samples in {found.n_groups} groups"
    )


def report(challenger: Version, attempt: Attempt) -> dict[str, Any]:
    """As plain JSON values; `compared` is null where nothing was."""
    found = attempt.found
    about = {"name": challenger.name, "version": challenger.number, "against": attempt.against}
    about |= {"outcome": attempt.outcome, "why": attempt.why}
    return {**about, "compared": None if found is None else _numbers(found)}


def tags(attempt: Attempt, terms: Terms) -> dict[str, str]:
    """The tags of the version, all of them each time: nothing of an earlier attempt stays."""
    numbers = dict.fromkeys(_NUMBERS, "") if attempt.found is None else _numbers(attempt.found)
    told = {"outcome": attempt.outcome, "why": attempt.why, "time": now(), "split": terms.split}
    told |= {"against": "" if attempt.against is None else str(attempt.against), **numbers}
    return {f"{TAG}{key}": str(value) for key, value in told.items()}


_NUMBERS = (
    "auroc",
    "auroc_champion",
    "difference",
    "delong_95",
    "bootstrap_95",
    "margin",
    "samples",
    "groups",
    "left_out",
)


def _numbers(found: NonInferiority) -> dict[str, Any]:
    values = (
        *(found.auroc_challenger, found.auroc_champion, found.difference, list(found.delong), list(found.resampled)),
        *(found.margin, found.n_samples, found.n_groups, found.n_left_out),
    )
    return dict(zip(_NUMBERS, values, strict=True))


def now() -> str:
    """The time, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
