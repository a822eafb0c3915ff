"""What `figleaf search` does. What was found goes to standard output, the rest to standard error."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna

from figleaf.config import TrainConfig, fingerprint, home, own_experiments_dir
from figleaf.errors import FigleafError
from figleaf.overrides import typed
from figleaf.study.display import open_display
from figleaf.study.launch import default_jobs, usable_cores
from figleaf.study.plan import Trial
from figleaf.study.required_files import require_files
from figleaf.study.search.best import best_found, best_text
from figleaf.study.search.driver import AskingProcess, Driver, Starter, Work
from figleaf.study.search.page import states_text
from figleaf.study.search.results import FOLDER, log_search, write_search
from figleaf.study.search.returns import Returns
from figleaf.study.search.space import Space
from figleaf.study.search.spec import SEARCH_TAG
from figleaf.study.search.storage import open_storage
from figleaf.study.search.trials import Trials
from figleaf.study.spec import find_study
from figleaf.study.state import data_hashes
from figleaf.tracking.record import RunRecord, is_locked
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.signals import EndingSignals
from figleaf.tracking.store import Store, open_store
from figleaf.train.launch import start_trial, warm_context

TRIAL_TAG, SETTING_TAG = "figleaf.trial", "figleaf.setting."
_PATIENCE_S = 60.0


def search(
    name: str,
    *,
    jobs: int | None = None,
    trials: int | None = None,
    storage: str | None = None,
    retry_failed: bool = False,
    report: bool = False,
    overrides: Sequence[str] = (),
) -> int:
    """Run the search of a study until `trials` trials have ended; returns 0, or 1 when not one of them was finished.

    `trials` defaults to the study file's. `storage` is a journal file or a PostgreSQL address, by default a file in
    FIGLEAF_HOME. `retry_failed` first queues the trials that failed once more; `report` trains nothing. `overrides` are
    given to every trial and make another search than none.
    """
    for key, number in (("jobs", jobs), ("trials", trials)):
        if number is not None and number < 1:
            raise FigleafError(f"--{key} {number}: expected at least 1")
    study = find_study(name, own_experiments_dir())
    space = Space.of(study, overrides)
    base = space.shared_config
    planned = Trial("search", base.seed, base)
    require_files(study, [planned])
    data_hash = data_hashes()
    identity = space.identity(data_hash(base))
    place = home() / "searches" / study.name
    with open_storage(storage or str(place / "journal.log")) as opened:
        others = _searches(opened.optuna, study.name)
        prefix = f"figleaf/{study.name}/"
        with Trials(space, opened, prefix + identity, wanted=trials, epochs=base.trainer.epochs) as shared:
            if prefix + identity not in others and others:
                _say("space, metric, base or data are not those of the search before, so this one begins anew")
            if retry_failed:
                _say(f"{shared.retry_failed()} failed trials queued again")
            _say(f"search {study.name} ({identity}): {states_text(shared)}; trials in {opened.shown}")
            command = " ".join(["figleaf search", study.name, "--report", *map(typed, overrides)])
            if not report:
                _run(shared, base, place / identity, data_hash, jobs or default_jobs([planned]), command)
            elif not shared.counted():
                raise FigleafError(f"search {study.name}: no trial yet; without --report they are trained")
            files = write_search(shared, study.results / FOLDER, command)
            _say(f"search {study.name}: {states_text(shared)}; {', '.join(f.name for f in files)} in {files[0].parent}")
            return _show(shared)


def _run(
    trials: Trials, base: TrainConfig, folder: Path, data_hash: Callable[[TrainConfig], str], jobs: int, command: str
) -> None:
    """Run trials under the search's run in the tracker, which the first driver of a FIGLEAF_HOME keeps.

    `command` writes the report again.
    """
    store = open_store(base.tracking.uri, home())
    threads = base.trainer.threads or max(1, usable_cores() // jobs)
    left = max(0, trials.wanted - sum(t.state.is_finished() for t in trials.counted()))
    if left:
        _say(f"{left} to run, {jobs} at a time, {threads} thread{'s' * (threads > 1)} each")
    with _parent(trials, base, store, folder) as (run_id, parent):
        if parent is None:
            _say("another driver keeps the search's run; this one helps it")
        starter = _starter(trials, base, run_id, folder / "logs", data_hash, threads)
        with open_display(f"search {trials.space.study.name}", left, jobs) as display:
            driver = Driver(
                trials,
                starter,
                jobs=jobs,
                devices=base.trainer.devices,
                display=display,
                waits=parent is not None,
            )
            driver.run()
        for outcome in driver.outcomes:
            if outcome.error:
                _say(f"failed: {outcome.trial.name}: {outcome.error}")
        if parent is not None:
            log_search(trials, write_search(trials, folder / "results", command), parent)


@contextmanager
def _parent(trials: Trials, base: TrainConfig, store: Store, folder: Path) -> Iterator[tuple[str, TrackedRun | None]]:
    """The id of the search's run in the tracker, and the run, unless another driver of this FIGLEAF_HOME has it."""
    study, section = trials.space.study, trials.space.section
    try:
        parent = TrackedRun.start(
            store,
            experiment=base.tracking.experiment,
            name=f"search {study.name}",
            folder=folder,
            params={"question": study.question, "search": asdict(section), "trials": trials.wanted},
            tags={"figleaf.kind": "search", SEARCH_TAG: study.name},
            exit_wait_s=base.tracking.delivery_seconds,
        )
    except FigleafError:
        if not is_locked(folder):
            raise
    else:
        with parent:
            yield parent.run_id, parent
        return
    signals = EndingSignals()
    signals.raise_exit()  # as a run of its own would
    try:
        yield _run_id_of(folder), None
    finally:
        signals.restore()


def _run_id_of(folder: Path) -> str:
    """The id of the run in `folder`, which its driver may just be making."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        record = RunRecord.load(folder)
        if record is not None and record.run_id is not None:
            return record.run_id
        if time.monotonic() > deadline:
            raise FigleafError(f"{folder}: another driver of this search makes no run; end it, and try again")
        time.sleep(0.2)


def _starter(
    trials: Trials, base: TrainConfig, parent: str, logs: Path, data_hash: Callable[[TrainConfig], str], threads: int
) -> Starter:
    """Configures and starts trials, each a run under `parent`, its output in a log file."""
    space, context = trials.space, warm_context()

    def configure(trial: optuna.Trial) -> Work:
        name = f"trial{trial.number}"
        try:
            return Work(name, base.seed, space.config(trial.params, name=name, parent_run_id=parent))
        except FigleafError as error:  # values that do not go together
            return Work(name, base.seed, base, note=str(error))

    def start(work: Work, trial: optuna.Trial) -> AskingProcess:
        tags = {SEARCH_TAG: space.study.name, TRIAL_TAG: str(trial.number)}
        tags |= {f"{SETTING_TAG}{key}": str(value) for key, value in space.settings(trial.params).items()}
        own = work.config.trainer.threads or threads
        log = logs / f"{work.arm}.log"
        return start_trial(work.config, threads=own, log=log, context=context, tags=tags, asks=True)

    def is_free(work: Work) -> bool:
        return not is_locked(home() / "runs" / fingerprint(work.config, data_hash(work.config))[:12])

    def explain(work: Work, process: AskingProcess) -> str:
        log = os.path.relpath(logs / f"{work.arm}.log")
        return f"{process.error or f'exit code {process.exitcode}'} (log: {log})"

    return Starter(configure, start, is_free, explain)


def _searches(storage: optuna.storages.BaseStorage, name: str) -> list[str]:
    return [found for found in optuna.get_all_study_names(storage) if found.startswith(f"figleaf/{name}/")]


def _show(trials: Trials) -> int:
    found, returns = best_found(trials), Returns.of(trials)
    if found is None or returns is None:
        _say("no trial was trained to its end: nothing to recommend")
        return 1
    sys.stdout.write(best_text(found, returns) if sys.stdout.isatty() else json.dumps(found) + "\n")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
