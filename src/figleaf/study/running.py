"""Running a study: what is due is trained, each trial by itself; what finishes is recorded at once.

A driver may die at any moment. The next one goes on in the same runs, the study's own among them.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from figleaf.config import LauncherConfig, TrainConfig
from figleaf.errors import FigleafError
from figleaf.study.display import open_display
from figleaf.study.evaluated import require_trained_runs
from figleaf.study.launch import Failures, Outcome, Process, run_trials
from figleaf.study.launchers import Launcher, open_launcher
from figleaf.study.own_run import has_open_end, log_results, study_run
from figleaf.study.plan import Knowledge, Stale, Status, Trial, plan
from figleaf.study.records import Record, load_records
from figleaf.study.required_files import require_files
from figleaf.study.results import save_records
from figleaf.study.spec import Study
from figleaf.study.state import data_hashes, gather, jobs_of, tracker_of
from figleaf.tracking.find import find_run, runs
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store
from figleaf.train.folder import RunFolder


def run_study(
    study: Study,
    trials: Sequence[Trial],
    *,
    jobs: int | None = None,
    launcher: LauncherConfig = LauncherConfig(),  # noqa: B008  # frozen
    stale: Stale = Stale.KEEP,
    use_records: bool = True,
    failures: Failures = Failures(),  # noqa: B008  # frozen
) -> tuple[list[Trial], list[Outcome]]:
    """Run what is due among `trials` of `study`; returns them with what is known afterwards, and how each run ended.

    See `figleaf.study.commands.run` for the arguments.
    """
    launched = open_launcher(launcher, study.name, trials, jobs)
    store = tracker_of(trials)
    known = gather(store, study)
    if not use_records:
        known = replace(known, records={}, others=tuple)
    require_files(study, [trial for trial in plan(trials, known) if not isinstance(trial.run, Record)])
    known = replace(known, data_hash=data_hashes(), stale=stale)
    planned = plan(trials, known)
    save_records(study, planned)
    at_work = _at_work(planned, known, launched)
    due = [trial for trial in planned if trial.is_due]
    say(f"{study.name}: {counts(planned)}")
    if recorded_before := sum(isinstance(trial.run, Record) for trial in planned):
        say(f"{recorded_before} of them recorded in {study.results}; --records=ignore trains them here")
    for note in sorted({trial.note for trial in planned if trial.status is Status.DONE and trial.note}):
        say(f"finished runs {note}; --stale=rerun trains them anew")
    if not due and not at_work:
        if has_open_end(study, planned, known):
            say("the study's own run was not brought to its end; it gets its tables and figures now")
            with study_run(study, trials, store) as parent:
                log_results(study, planned, known, store, parent)
        return planned, []
    require_trained_runs(study, due, known)
    say(f"{len(due)} to run, {launched.manner}")
    with study_run(study, trials, store) as parent:
        with open_display(study.name, len(at_work) + len(due), launched.jobs) as display:
            outcomes = run_trials(
                [*(trial for trial in planned if trial.name in at_work), *due],
                # Once: when it fails and is tried again, it is started like any other.
                lambda trial: (
                    at_work.pop(trial.name, None) or launched.start(trial, _config(trial, parent, known, store))
                ),
                launched.explain,
                _recorder(study, store),
                jobs=max(launched.jobs, len(at_work)),  # all of these are followed, and cancelled with the others
                slots=launched.slots,
                display=display,
                failures=failures,
            )
        found = replace(known, runs=runs(store), records=load_records(study.results), jobs=jobs_of(study.name))
        found = replace(found, stale=Stale.KEEP)
        after = plan(trials, found)
        log_results(study, after, found, store, parent)
    return after, outcomes


def counts(trials: Sequence[Trial]) -> str:
    """How many trials are done, running, failed and so on, in words."""
    found = Counter(trial.status for trial in trials)
    return ", ".join(f"{found[status]} {status}" for status in Status if found[status])


def say(text: str) -> None:
    """Tell the user, beside what goes to a pipe."""
    print(text, file=sys.stderr, flush=True)


def _at_work(trials: Sequence[Trial], known: Knowledge, launcher: Launcher) -> dict[str, Process]:
    """The jobs that an earlier driver left at work and `launcher` can follow, by the names of their trials."""
    found: dict[str, Process] = {}
    for trial in trials:
        if trial.status is Status.RUNNING and known.job(trial) is not None:
            process = launcher.adopt(trial)
            say(f"{trial.name}: {trial.note}; " + ("going on with it" if process else "only launcher=slurm follows it"))
            found |= {} if process is None else {trial.name: process}
    return found


def _config(trial: Trial, parent: TrackedRun, known: Knowledge, store: Store) -> TrainConfig:
    """The trial's configuration, under the study's run."""
    folder = known.folder(trial.config)
    again = folder is not None and _is_over(RunFolder(folder, None), store)
    return replace(trial.config, parent_run_id=parent.run_id, resume="never" if again else trial.config.resume)


def _is_over(folder: RunFolder, store: Store) -> bool:
    """Whether a due trial's folder holds a run that is nothing to go on with: of another commit, or of another tracker.

    A run that was killed when its result was written, but before it had said how it ended, has only to say so.
    """
    if folder.result is None:
        return False
    try:
        return find_run(store, folder.result["run_id"]).status == "FINISHED"
    except FigleafError:  # not in this tracker
        return True


def _recorder(study: Study, store: Store) -> Callable[[Trial, Process], None]:
    """Writes the record of a trial that has just finished, so that what it found outlives this machine."""

    def record(trial: Trial, process: Process) -> None:
        result = None if process.run_folder is None else RunFolder(process.run_folder, None).result
        try:
            if result is not None:
                save_records(study, [replace(trial, run=find_run(store, result["run_id"]))])
        except FigleafError as error:  # the tracker is down: the next `study` command reads it from there
            say(f"{trial.name} is not recorded yet: {error}")

    return record
