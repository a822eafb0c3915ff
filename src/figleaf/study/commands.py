"""What `figleaf study run`, `status` and `table` do. Tables go to standard output, the rest to standard error."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from figleaf.config import experiments_dir, home
from figleaf.errors import FigleafError
from figleaf.study.comparison_table import comparisons_csv
from figleaf.study.display import open_display
from figleaf.study.expected import FILE_NAME as EXPECTED_FILE
from figleaf.study.expected import check_expected
from figleaf.study.launch import Outcome, Process, default_jobs, run_trials, usable_cores
from figleaf.study.marks import put_between_marks, require_marks
from figleaf.study.plan import Knowledge, Stale, Status, Trial, compose_trials, plan
from figleaf.study.records import Record, load_records
from figleaf.study.render import csv_text, to_csv, to_html, to_latex, to_markdown
from figleaf.study.required_files import require_files
from figleaf.study.results import aggregated, draw, find, label_of, recorded, save_records, write_results
from figleaf.study.spec import FORMATS, Study, find_study
from figleaf.study.state import data_hashes, gather, tracker_of
from figleaf.tracking.find import find_run, runs
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store
from figleaf.train.folder import RunFolder
from figleaf.train.launch import start_trial, warm_context


def run(
    name: str,
    *,
    jobs: int | None = None,
    stale: str = "keep",
    arms: Sequence[str] = (),
    use_records: bool = True,
    overrides: Sequence[str] = (),
) -> int:
    """Run what is missing of a study, `jobs` trials at a time; returns 0, or 1 when a trial failed.

    `stale` says what to do with finished runs of another commit: keep, rerun or refuse. `arms` restricts the run to
    some. Trials whose record stands in the study's folder count as done, unless `use_records` is false; a finished
    trial is recorded there at once. `overrides` are given to every trial, and have to be given to `status` and `table`,
    too. A file that a trial needs and that is not there is told of before anything starts.
    """
    study = find_study(name, experiments_dir())
    trials = _of_arms(study, compose_trials(study, overrides), arms)
    store = tracker_of(trials)
    jobs = _checked_jobs(jobs, trials)
    stale_runs = _stale(stale)
    known = gather(store, study)
    if not use_records:
        known = replace(known, records={})
    require_files(study, [trial for trial in plan(trials, known) if not isinstance(trial.run, Record)])
    known = replace(known, data_hash=data_hashes(), stale=stale_runs)
    planned = plan(trials, known)
    save_records(study, planned)
    due = [trial for trial in planned if trial.is_due]
    _say(f"{study.name}: {_counts(planned)}")
    if recorded_before := sum(isinstance(trial.run, Record) for trial in planned):
        _say(f"{recorded_before} of them recorded in {study.results}; --records=ignore trains them here")
    for note in sorted({trial.note for trial in planned if trial.status is Status.DONE and trial.note}):
        _say(f"finished runs {note}; --stale=rerun trains them anew")
    if not due:
        return 0
    threads = max(1, usable_cores() // jobs)
    _say(f"{len(due)} to run, {jobs} at a time, {threads} thread{'s' if threads > 1 else ''} each")
    tracking = trials[0].config.tracking
    with TrackedRun.start(
        store,
        experiment=tracking.experiment,
        name=f"study {study.name}",
        folder=home() / "studies" / study.name,
        params={"question": study.question, "arms": list(study.arms), "seeds": list(study.seeds)},
        tags={"figleaf.kind": "study"},
        exit_wait_s=tracking.delivery_seconds,
    ) as parent:
        start = _starter(parent, known, threads)
        with open_display(study.name, len(due), jobs) as display:
            outcomes = run_trials(due, start, _explain, _record(study, store), jobs=jobs, display=display)
        after = plan(trials, replace(known, runs=runs(store), records=load_records(study.results), stale=Stale.KEEP))
        _log_results(study, recorded(after), parent)
    return _report(study, after, outcomes)


def status(name: str, *, overrides: Sequence[str] = ()) -> int:
    """Print one line a trial: arm, seed, status, run, note; CSV in a pipe. Reads records and tracker, not the data."""
    study = find_study(name, experiments_dir())
    trials = compose_trials(study, overrides)
    planned = plan(trials, gather(tracker_of(trials), study))
    header = ("arm", "seed", "status", "run", "note")
    lines = [(t.arm, str(t.seed), t.status.value, t.run.run_id[:12] if t.run else "", t.note) for t in planned]
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*header, box=None)
        for line in lines:
            drawn.add_row(*map(Text, line))
        Console().print(drawn)
    else:
        sys.stdout.write(csv_text([header, *lines]))
    _say(f"{study.name}: {_counts(planned)}")
    return 0


def table(
    name: str,
    *,
    formats: Sequence[str] = ("markdown",),
    check: bool = False,
    write: bool = True,
    into: Path | None = None,
    overrides: Sequence[str] = (),
) -> int:
    """Print a study's table in `formats` and, with `write`, its results folder and README.

    `into` is a Markdown file whose lines between `<!-- NAME table: begin ... -->` and `<!-- NAME table: end -->` become
    the table; without these lines nothing is written. With `check`, returns 1 unless every figure of `expected.yaml`
    is met. Raises `FigleafError` when no run is done.
    """
    study = find_study(name, experiments_dir())
    for text in formats:
        if text not in FORMATS:
            raise FigleafError(f"format={text}: expected one of {', '.join(FORMATS)}")
    marks = f"{study.name} table"
    if into is not None:  # before anything is written
        require_marks(into, marks)
    trials = compose_trials(study, overrides)
    planned = recorded(plan(trials, gather(tracker_of(trials), study)))
    verdicts = check_expected(study, planned)
    if check and not verdicts:
        raise FigleafError(f"study {study.name}: --check needs {study.folder / EXPECTED_FILE}")
    if write:
        found = write_results(study, planned, verdicts, " ".join(["figleaf study table", study.name, *overrides]))
        _say(f"results in {study.results}, page {study.folder / 'README.md'}")
    else:
        found = find(study, planned)
    drawn: dict[str, Callable[[], list[str]]] = {
        "markdown": lambda: [to_markdown(table) for table in found.tables.values()],
        "latex": lambda: [to_latex(table, label_of(study, name)) for name, table in found.tables.items()],
        "html": lambda: [to_html(table) for table in found.tables.values()],
        "csv": lambda: (
            [to_csv(study, found.rows)] + ([] if found.compared is None else [comparisons_csv(study, found.compared)])
        ),
    }
    sys.stdout.write("\n".join(text for chosen in formats for text in drawn[chosen]()))
    if into is not None:
        put_between_marks(into, marks, to_markdown(found.table))
    for verdict in verdicts:
        _say(str(verdict))
    return int(check and not all(verdict.is_met for verdict in verdicts))


def _of_arms(study: Study, trials: list[Trial], arms: Sequence[str]) -> list[Trial]:
    for arm in arms:
        if arm not in study.arms:
            raise FigleafError(f"arm={arm}: study {study.name} has {', '.join(study.arms)}")
    return [trial for trial in trials if not arms or trial.arm in arms]


def _checked_jobs(jobs: int | None, trials: Sequence[Trial]) -> int:
    if jobs is not None and jobs < 1:
        raise FigleafError(f"jobs={jobs}: expected at least 1")
    return jobs or default_jobs(trials)


def _stale(text: str) -> Stale:
    if text not in list(Stale):
        raise FigleafError(f"stale={text}: expected one of {', '.join(Stale)}")
    return Stale(text)


def _starter(parent: TrackedRun, known: Knowledge, threads: int) -> Callable[[Trial], Process]:
    """Starts a trial in a process of its own, under the study's run, its output in a log file."""
    context = warm_context()

    def start(trial: Trial) -> Process:
        folder = known.folder(trial.config)
        # Due although its folder is finished: of another commit, or the tracker does not have that run.
        again = folder is not None and RunFolder(folder, None).result is not None
        resume = "never" if again else trial.config.resume
        config = replace(trial.config, parent_run_id=parent.run_id, resume=resume)
        own = config.trainer.threads or threads
        return start_trial(config, threads=own, log=parent.folder / "logs" / f"{trial.name}.log", context=context)

    return start


def _log_results(study: Study, trials: Sequence[Trial], parent: TrackedRun) -> None:
    """Give the study's run what its trials found: aggregated metrics, by finished trials, tables and figures."""
    if not any(trial.run for trial in trials):
        return
    found, folder = find(study, trials), parent.folder / "results"
    draw(study, trials, found, folder, f"figleaf study run {study.name}")
    step = sum(trial.run is not None for trial in trials)
    if all(row.step != step for row in parent.journal.rows()):  # a row would stand there twice
        parent.journal.append(aggregated(found), step)
    parent.log_artifact(folder)


def _explain(trial: Trial, process: Process) -> str:
    log = home() / "studies" / str(trial.config.study) / "logs" / f"{trial.name}.log"
    return f"{process.error or f'exit code {process.exitcode}'} (log: {os.path.relpath(log)})"


def _record(study: Study, store: Store) -> Callable[[Trial, Process], None]:
    """Writes the record of a trial that has just finished, so that what it found outlives this machine."""

    def record(trial: Trial, process: Process) -> None:
        result = None if process.run_folder is None else RunFolder(process.run_folder, None).result
        try:
            if result is not None:
                save_records(study, [replace(trial, run=find_run(store, result["run_id"]))])
        except FigleafError as error:  # the tracker is down: the next `study` command reads it from there
            _say(f"{trial.name} is not recorded yet: {error}")

    return record


def _report(study: Study, after: Sequence[Trial], outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.error]
    _say(f"{study.name}: {_counts(after)}")
    for outcome in failed:
        _say(f"failed: {outcome.trial.name}: {outcome.error}")
    _say(f"`figleaf study table {study.name}` prints and writes the table")
    return int(bool(failed))


def _counts(trials: Sequence[Trial]) -> str:
    counts = Counter(trial.status for trial in trials)
    return ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
