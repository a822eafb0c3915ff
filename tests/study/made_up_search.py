"""A made-up search: its trials without training, its storage in a file or in PostgreSQL."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import yaml
from made_up import write_study
from optuna.trial import TrialState

from figleaf.study.search import trials as trials_module
from figleaf.study.search.space import Space, _distribution
from figleaf.study.search.storage import Storage, open_storage
from figleaf.study.search.trials import Trials

VALUES = {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}, "model.dropout": [0.0, 0.25, 0.5]}


def made_space(folder: Path, **search: Any) -> Space:
    """A space that is taken as it is: nothing is composed."""
    section = {"space": VALUES, "startup": 2} | search
    file = {"question": "Which?", "base": ["data=digits"], "seeds": [1], "arms": {"plain": []}, "search": section}
    study = write_study(folder / "made", yaml.safe_dump(file, sort_keys=False))
    assert study.search is not None
    found = {key: _distribution(key, values) for key, values in study.search.space.items()}
    return Space(study, study.search, study.base, found)


def made_trials(folder: Path, storage: Storage, wanted: int | None = None, **search: Any) -> Trials:
    return Trials(made_space(folder, **search), storage, "figleaf/made/0", wanted=wanted, epochs=9)


def run_a_few(folder: Path, where: str, wanted: int) -> None:
    """A driver that trains nothing: takes trials until there are none, a moment for each."""
    with open_storage(where) as storage, made_trials(folder, storage, wanted) as trials:
        while (trial := trials.next()) is not None:
            time.sleep(0.01)
            trials.tell(trial, TrialState.COMPLETE, trial.params["optimizer.lr"])


def run_drivers(folder: Path, where: str, drivers: int, wanted: int) -> None:
    """Several of them at a time."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=run_a_few, args=(folder / str(i), where, wanted)) for i in range(drivers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0


def kill_a_driver(folder: Path, where: str, at: str) -> None:
    """One that is killed with a trial in its hands (`work`), or while a trial is being made (`making`)."""
    driver = multiprocessing.get_context("spawn").Process(target=_die_with_a_trial, args=(folder, where, at))
    driver.start()
    driver.join(120)
    assert driver.exitcode == -signal.SIGKILL


def _die_with_a_trial(folder: Path, where: str, at: str) -> None:
    with open_storage(where) as storage, made_trials(folder, storage) as trials:
        if at == "making":
            trials_module.mark_driver = lambda trial: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        trial = trials.next()
        assert trial is not None
        trials.report(trial, 1, 0.6)
        os.kill(os.getpid(), signal.SIGKILL)
