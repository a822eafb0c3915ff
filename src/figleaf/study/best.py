"""`best:STUDY[:ARM]`: the run that stands for a study, from the arm that the study's table marks as selected.

And `STUDY/ARM-SEED`, where the run that counts was trained for another study.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from figleaf.config import TrackingConfig, experiments_dir, home
from figleaf.errors import FigleafError
from figleaf.study.plan import Knowledge, Status, Trial, compose_trials, plan
from figleaf.study.search.spec import SEARCH_TAG
from figleaf.study.selection import arm_with_best_mean, best_trial, selected_arm
from figleaf.study.spec import Study, find_study, study_exists
from figleaf.study.state import gather, tracker_of
from figleaf.tracking.find import FoundRun, runs, studies
from figleaf.tracking.store import Store, open_store

PREFIX = "best:"


def find_best(reference: str, tracking: TrackingConfig, key: str = "run=") -> FoundRun:
    """The run that `reference`, `best:STUDY` or `best:STUDY:ARM`, names.

    With the study's file at hand its own plan decides, as in its table: of the selected arm, or of ARM, the run with
    the best selection metric, whichever study it was first trained for. Without the file the runs' tags decide: of the
    arm with the best mean, or of ARM, the run with the largest selection value. Test is never looked at.
    `key` is what a user writes before it, for what is said of it.

    Raises `FigleafError` when there is no such study, arm or run, or when its weights are on another machine.
    """
    name, _, arm = reference.removeprefix(PREFIX).partition(":")
    if not study_exists(name, experiments_dir()):
        return _best_by_tags(key + reference, open_store(tracking.uri, home()), name, arm)
    study = find_study(name, experiments_dir())
    trials = _trials(study, tracking)
    known = gather(tracker_of(trials), study)
    return _best_by_plan(key + reference, study, plan(trials, known), known, arm)


def find_trial(reference: str, tracking: TrackingConfig) -> FoundRun | None:
    """The run that counts for the trial `STUDY/ARM-SEED`, also when it was trained for another study.

    None where there is no such study here, no such trial, or no run of it in the tracker.
    """
    name, _, wanted = reference.partition("/")
    if not wanted or not study_exists(name, experiments_dir()):
        return None
    study = find_study(name, experiments_dir())
    trials = [trial for trial in _trials(study, tracking) if trial.name == wanted]
    if not trials:
        return None
    known = gather(tracker_of(trials), study)
    (trial,) = plan(trials, known)
    return known.tracked(trial)


def _trials(study: Study, tracking: TrackingConfig) -> list[Trial]:
    """The study's trials, with the tracker that was named, if any."""
    trials = compose_trials(study)
    if tracking.uri is None:
        return trials
    return [replace(trial, config=replace(trial.config, tracking=tracking)) for trial in trials]


def _best_by_plan(told: str, study: Study, trials: Sequence[Trial], known: Knowledge, arm: str) -> FoundRun:
    if arm and arm not in study.arms:
        raise FigleafError(f"{told}: the study has the arms {', '.join(study.arms)}")
    chosen = arm or selected_arm(study, trials)
    best = best_trial(study, trials, chosen) if chosen else None
    if best is None:
        done = sum(trial.status is Status.DONE for trial in trials)
        why = (
            f"no run of this arm has finished with {study.select.key}"
            if arm
            else f"no arm is selected yet: no candidate has all of its runs finished with {study.select.key}"
        )
        raise FigleafError(
            f"{told}: {why} ({done} of {len(trials)} trials are done); "
            f"`figleaf study run {study.name}` trains the rest, `figleaf study status {study.name}` lists them"
        )
    run = known.tracked(best)
    if run is None:
        raise FigleafError(
            f"{told}: it is {best.name}, of which {study.results} holds the record, but no tracker on "
            f"this machine the weights; `figleaf study run {study.name} --records ignore --arm {best.arm}` trains it"
        )
    return run


def _best_by_tags(told: str, store: Store, name: str, arm: str) -> FoundRun:
    """Of an arm and a seed that ran twice the later run counts, as in a study's plan. A search's trials are no arm."""
    finished = [run for run in runs(store, study=name, status="FINISHED") if SEARCH_TAG not in run.tags]
    latest: dict[tuple[str, str], FoundRun] = {}
    for run in finished:
        if run.selection > -math.inf:
            latest.setdefault((run.tags.get("figleaf.arm", ""), run.tags.get("figleaf.seed", "")), run)
    by_arm: dict[str, list[FoundRun]] = {}
    for (of_arm, _), run in reversed(latest.items()):  # the first to start comes first
        by_arm.setdefault(of_arm, []).append(run)
    chosen = arm or arm_with_best_mean({of_arm: [run.selection for run in found] for of_arm, found in by_arm.items()})
    if chosen is None or chosen not in by_arm:
        hint = (
            f"its finished arms: {', '.join(sorted(by_arm)) or 'none'}"
            if finished
            else f"studies with runs: {', '.join(studies(store)) or 'none'}"
        )
        raise FigleafError(
            f"{told}: no finished run with a selection value carries this name, and "
            f"{experiments_dir()} has no such study; {hint}"
        )
    return max(by_arm[chosen], key=lambda run: run.selection)
