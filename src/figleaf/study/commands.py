"""What `figleaf study run`, `status`, `table` and `reproduce` do. Tables go to standard output, the rest beside it."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from figleaf.config import compose, experiments_dir, home, own_experiments_dir
from figleaf.errors import FigleafError
from figleaf.study.comparison_table import comparisons_csv
from figleaf.study.expected import FILE_NAME as EXPECTED_FILE
from figleaf.study.expected import check_expected
from figleaf.study.launch import Failures, Outcome
from figleaf.study.marks import put_between_marks, require_marks
from figleaf.study.pages import where_to_look
from figleaf.study.plan import Knowledge, Stale, Trial, compose_trials, plan
from figleaf.study.records import load_records
from figleaf.study.render import csv_text, to_csv, to_html, to_latex, to_markdown
from figleaf.study.reproduction import drift_lines, measured_trials
from figleaf.study.results import find, label_of, recorded, write_results
from figleaf.study.running import counts, run_study, say
from figleaf.study.spec import FORMATS, Study, find_study
from figleaf.study.state import gather, tracker_of
from figleaf.tracking.store import Store


def run(
    name: str,
    *,
    jobs: int | None = None,
    stale: str = "keep",
    arms: Sequence[str] = (),
    use_records: bool = True,
    on_failure: str = "continue",
    overrides: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> int:
    """Run what is missing of a study, `jobs` trials at a time; returns 0, or 1 when a trial failed.

    `stale` says what to do with finished runs of another commit: keep, rerun or refuse. `arms` restricts the run to
    some. Trials whose record stands in the study's folder count as done, unless `use_records` is false; a finished
    trial is recorded there at once. `on_failure`: continue with the others, stop, or retry=N times. `overrides` are
    given to every trial, and have to be given to `status` and `table`, too. A file that a trial needs and that is not
    there is told of before anything starts. `launcher` are overrides of `conf/launch.yaml`: where trials run.
    """
    where = compose("launch", launcher).launcher
    study = find_study(name, own_experiments_dir())
    all_trials = compose_trials(study, overrides)
    trials = _of_arms(study, all_trials, arms)
    failures, stale_runs = Failures.parse(on_failure), _stale(stale)
    after, outcomes = list[Trial](), list[Outcome]()
    for stage in _stages(study, trials):
        found, ended = run_study(
            study, stage, jobs=jobs, launcher=where, stale=stale_runs, use_records=use_records, failures=failures
        )
        after, outcomes = after + found, outcomes + ended
    if not outcomes:
        return 0
    say(f"{study.name}: {counts(after)}")
    failed = {outcome.trial.name: outcome for outcome in outcomes}  # the last attempt counts
    for outcome in failed.values():
        if outcome.error:
            say(f"failed: {outcome.trial.name}: {outcome.error}")
    say(f"`figleaf study table {study.name}` prints and writes the table")
    store = tracker_of(trials)
    known = gather(store, study)
    _say_where(study, plan(all_trials, known), known, store, overrides)
    return int(any(outcome.error for outcome in failed.values()))


def _stages(study: Study, trials: Sequence[Trial]) -> list[Sequence[Trial]]:
    """What is trained first, then what measures runs of this very study."""
    own = {arm for arm in study.arms if (of := study.source_of(arm)) is not None and of.study == study.name}
    trained = [trial for trial in trials if trial.arm not in own]
    measured = [trial for trial in trials if trial.arm in own]
    return [stage for stage in (trained, measured) if stage]


def status(name: str, *, overrides: Sequence[str] = ()) -> int:
    """Print one line a trial: arm, seed, status, run, note; CSV in a pipe. Reads records and tracker, not the data."""
    study = find_study(name, experiments_dir())
    trials = compose_trials(study, overrides)
    store = tracker_of(trials)
    known = gather(store, study)
    planned = plan(trials, known)
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
    say(f"{study.name}: {counts(planned)}")
    _say_where(study, planned, known, store, overrides)
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
    study = find_study(name, own_experiments_dir() if write else experiments_dir())
    for text in formats:
        if text not in FORMATS:
            raise FigleafError(f"format={text}: expected one of {', '.join(FORMATS)}")
    marks = f"{study.name} table"
    if into is not None:  # before anything is written
        require_marks(into, marks)
    trials = compose_trials(study, overrides)
    store = tracker_of(trials)
    known = gather(store, study)
    planned = recorded(plan(trials, known))
    verdicts = check_expected(study, planned)
    if check and not verdicts:
        raise FigleafError(f"study {study.name}: --check needs {study.folder / EXPECTED_FILE}")
    if write:
        found = write_results(study, planned, verdicts, " ".join(["figleaf study table", study.name, *overrides]))
        say(f"results in {study.results}, page {study.folder / 'README.md'}")
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
        say(str(verdict))
    _say_where(study, planned, known, store, overrides)
    return int(check and not all(verdict.is_met for verdict in verdicts))


def reproduce(
    name: str,
    *,
    jobs: int | None = None,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> int:
    """Train a study again, in a home of its own, and compare with `expected.yaml` and with the committed records.

    Returns 1 when a trial failed or a figure of `expected.yaml` is off. `arms` and `seeds` restrict what is trained;
    then the means that are compared are of these. An interrupted reproduction goes on; one of another commit begins
    anew. The study's own results and runs are not touched. What a study measures of others' runs is trained first.
    `launcher`: see `run`.
    """
    where = compose("launch", launcher).launcher
    study = find_study(name, own_experiments_dir())
    trials = _of_arms(study, compose_trials(study, overrides), arms)
    for seed in seeds:
        if seed not in study.seeds:
            raise FigleafError(f"seed={seed}: study {study.name} has {', '.join(map(str, study.seeds))}")
    trials = [trial for trial in trials if not seeds or trial.seed in seeds]
    if not (study.folder / EXPECTED_FILE).is_file():
        raise FigleafError(f"study {study.name}: no {study.folder / EXPECTED_FILE}, which says what should come out")
    before, measured = load_records(study.results), measured_trials(study, trials, overrides)
    place = home() / "reproductions" / study.name
    os.environ["FIGLEAF_HOME"] = str(place)  # of the trials, too
    say(f"reproducing in {place}")
    for source, needed in measured:
        say(f"first the runs of study {source.name} that it measures")
        trained, outcomes = run_study(
            replace(source, folder=place / "measured" / source.name),
            needed,
            jobs=jobs,
            launcher=where,
            stale=Stale.RERUN,
        )
        if _lack(trained, outcomes):
            return 1
    anew = replace(study, folder=place / "study")
    after, outcomes = run_study(anew, trials, jobs=jobs, launcher=where, stale=Stale.RERUN)
    after = recorded(after)
    # Of the study's own folder: that is where what is expected stands.
    verdicts = [verdict for verdict in check_expected(study, after) if not arms or verdict.name in arms]
    print("\n".join([*(str(verdict) for verdict in verdicts), *drift_lines(study, after, before)]))
    return int(_lack(after, outcomes) or any(verdict.is_met is False for verdict in verdicts))


def _lack(trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> bool:
    """Whether a trial has no run, which is told with the reason."""
    failed = [trial.name for trial in trials if trial.run is None]
    if failed:
        say(f"not reproduced: {', '.join(failed)}" + "".join(f"; {o.error}" for o in outcomes if o.error))
    return bool(failed)


def _say_where(
    study: Study, planned: Sequence[Trial], known: Knowledge, store: Store, overrides: Sequence[str]
) -> None:
    for line in where_to_look(study, planned, known, store, overrides):
        say(line)


def _of_arms(study: Study, trials: list[Trial], arms: Sequence[str]) -> list[Trial]:
    for arm in arms:
        if arm not in study.arms:
            raise FigleafError(f"arm={arm}: study {study.name} has {', '.join(study.arms)}")
    return [trial for trial in trials if not arms or trial.arm in arms]


def _stale(text: str) -> Stale:
    if text not in list(Stale):
        raise FigleafError(f"stale={text}: expected one of {', '.join(Stale)}")
    return Stale(text)
