"""The trials of a search: each given out once, taken over from the dead, the same whoever asks."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_search import kill_a_driver, made_space, made_trials, run_drivers
from optuna.trial import Trial, TrialState

from figleaf.errors import FigleafError
from figleaf.study.search import storage as storage_module
from figleaf.study.search.storage import Storage, open_storage
from figleaf.study.search.trials import SAME_AS, Trials

COMPLETE, FAIL, PRUNED, RUNNING, WAITING = (
    *(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING),
)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(str(tmp_path / "journal.log")) as opened:
        yield opened


def taken(trials: Trials) -> Trial:
    trial = trials.next()
    assert trial is not None
    return trial


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_what_is_suggested_hangs_on_the_seed_and_the_trials_before_not_on_who_asks(
    tmp_path: Path, sampler: str
) -> None:
    numbers = {"optimizer.lr": {"low": 0.001, "high": 0.1}, "model.dropout": {"low": 0.0, "high": 0.5}}

    def suggested(name: str, seed: int, drivers: int) -> list[dict[str, float]]:
        found = []
        for part in range(drivers):
            with open_storage(str(tmp_path / name)) as storage:
                search = {"sampler": sampler, "seed": seed, "space": numbers}
                trials = made_trials(tmp_path, storage, 6 * (part + 1) // drivers, **search)
                while (trial := trials.next()) is not None:
                    trials.tell(trial, COMPLETE, trial.params["optimizer.lr"])
                    found.append(trial.params)
        return found

    one = suggested("one", 5, 1)
    assert len({repr(values) for values in one}) == 6
    assert suggested("three", 5, 3) == one
    assert suggested("other", 6, 1) != one


def test_the_grid_is_taken_once_and_in_whole(tmp_path: Path, storage: Storage) -> None:
    grid = {"model.dropout": [0.0, 0.25, 0.5], "optimizer.batch_size": [8, 16]}
    trials = made_trials(tmp_path, storage, sampler="grid", space=grid)
    assert trials.wanted == 6
    found = []
    while (trial := trials.next()) is not None:
        found.append(tuple(trial.params.values()))
        trials.tell(trial, COMPLETE, 0.5)
    assert sorted(found) == [(d, b) for d in (0.0, 0.25, 0.5) for b in (8, 16)]


@pytest.mark.slow
def test_drivers_that_share_a_journal_run_so_many_trials_and_no_more(tmp_path: Path) -> None:
    file = str(tmp_path / "journal.log")
    run_drivers(tmp_path, file, 3, wanted=20)
    with open_storage(file) as storage:
        trials = made_trials(tmp_path, storage, 20)
        assert trials.counts() == {COMPLETE: 20}
        assert [trial.number for trial in trials.counted()] == list(range(20))


@pytest.mark.slow
@pytest.mark.parametrize("at", ["work", "making"])
def test_the_trial_of_a_driver_killed_on_this_machine_is_queued_again_at_once(
    tmp_path: Path, storage: Storage, at: str
) -> None:
    kill_a_driver(tmp_path, str(tmp_path / "journal.log"), at)
    trials = made_trials(tmp_path, storage, 1)
    (dead,) = trials.study.get_trials()
    assert dead.state is RUNNING
    again = taken(trials)
    assert again.number == 1
    if at == "work":
        assert again.params == dead.params
        assert trials.study.get_trials()[1].intermediate_values == {1: 0.6}, "so that pruning knows what it found"
    assert trials.counts() == {RUNNING: 1}, "the dead one does not count"
    assert trials.next() is None


def test_the_trial_of_a_driver_on_another_machine_is_queued_again_once_it_is_silent(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, here = made_trials(tmp_path, storage, 1), made_trials(tmp_path, storage, 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "another-host")
        trial = taken(away)
    assert here.next() is None, "it lives, as far as one can see"
    file = tmp_path / "journal.log.beats" / str(trial._trial_id)
    os.utime(file, (time.time() - storage_module.STALE_S + 30,) * 2)
    assert here.next() is None
    os.utime(file, (time.time() - storage_module.STALE_S - 30,) * 2)
    again = taken(here)
    assert again.params == trial.params
    assert away.report(trial, 1, 0.9) is None, "who was taken for dead hears of it"
    assert away.tell(trial, COMPLETE, 0.9) is False
    assert here.tell(again, COMPLETE, 0.8) is True
    assert [t.value for t in here.counted()] == [0.8]


def test_a_trial_that_brings_down_every_driver_is_given_up(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_MOST_RETRIES", 2)
    monkeypatch.setattr(storage_module, "_is_gone", lambda trial: True)
    trials = made_trials(tmp_path, storage, 1)
    numbers = []
    while (trial := trials.next()) is not None:
        numbers.append(trial.number)
        trials._heartbeats.running.clear()
    assert numbers == [0, 1, 2]
    assert trials.counts() == {FAIL: 1}


def test_equal_settings_are_found_again_and_end_as_their_twin_did(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 4, space={"model.dropout": [0.0, 0.5]}, pruner="median")
    first = taken(trials)
    trials.report(first, 1, 0.7)
    trials.report(first, 2, 0.8)
    later = [taken(trials) for _ in range(3)]
    twin = next(trial for trial in later if trial.params == first.params)
    found = trials.twin(twin)
    assert found is not None
    assert (found.number, found.state) == (0, RUNNING)
    assert trials.twin(first) is None, "of two, only the later one waits"
    trials.tell(first, COMPLETE, 0.85, {"run_id": "abc", "epochs": 2})
    ended = trials.twin(twin)
    assert ended is not None
    assert trials.copy(twin, ended)
    copied = trials.counted()[twin.number]
    assert (copied.state, copied.value, copied.intermediate_values) == (COMPLETE, 0.85, {1: 0.7, 2: 0.8})
    assert (copied.user_attrs["run_id"], copied.user_attrs[SAME_AS]) == ("abc", 0)


def test_a_trial_worse_than_the_median_is_given_up_after_its_first_epochs(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 9, pruner="median", startup=2, warmup=2)
    for value in (0.8, 0.9):
        trial = taken(trials)
        assert [trials.report(trial, epochs, value) for epochs in (1, 2, 3)] == [False] * 3
        trials.tell(trial, COMPLETE, value)
    worse = taken(trials)
    assert [trials.report(worse, epochs, 0.5) for epochs in (1, 2)] == [False, True]
    trials.tell(worse, PRUNED)
    assert trials.counted()[2].value == 0.5
    best = trials.best()
    assert best is not None
    assert best.value == 0.9
    assert trials.report(taken(trials), 3, float("nan")) is False, "what is not defined decides nothing"


def test_failed_trials_count_until_they_are_queued_again(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 1)
    failed = taken(trials)
    trials.tell(failed, FAIL, notes={"error": "diverged"})
    assert trials.next() is None
    assert trials.retry_failed() == 1
    assert trials.counts() == {WAITING: 1}
    again = taken(trials)
    assert again.params == failed.params
    trials.hand_back([again])
    assert trials.counts() == {WAITING: 1}, "what was stopped half-way waits for the next driver"
    assert trials.study.get_trials()[-1].params == failed.params


def test_a_torn_last_line_is_dropped_and_other_files_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    with open_storage(str(file)) as storage:
        trials = made_trials(tmp_path, storage, 2)
        trials.tell(taken(trials), COMPLETE, 0.5)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker')
    with open_storage(str(file)) as storage:
        trials = made_trials(tmp_path, storage, 2)
        assert trials.counts() == {COMPLETE: 1}
        assert trials.next() is not None
    other = tmp_path / "notes.txt"
    other.write_text("no newline at the end")
    with pytest.raises(FigleafError, match=r"notes.txt: this is no journal of a search"), open_storage(str(other)):
        pass
    assert other.read_text() == "no newline at the end"


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("sqlite:///x.db", "--storage sqlite:///x.db: expected a file, or postgresql://"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"--storage postgresql://\*\*\*@127.0.0.1:1/x: .*start the database"),
    ],
)
def test_a_storage_that_is_down_or_of_another_kind_is_named_without_its_password(where: str, told: str) -> None:
    with pytest.raises(FigleafError, match=told) as refused, open_storage(where):
        pass
    assert "secret" not in str(refused.value)


def test_samplers_and_pruners_may_change_while_the_trials_stay(tmp_path: Path, storage: Storage) -> None:
    for number, (sampler, pruner) in enumerate([("random", "none"), ("tpe", "hyperband"), ("tpe", "median")]):
        trials = made_trials(tmp_path, storage, number + 1, sampler=sampler, pruner=pruner)
        trial = taken(trials)
        assert trial.number == number
        trials.report(trial, 1, 0.5)
        trials.tell(trial, COMPLETE, 0.5)
    assert made_space(tmp_path).section.sampler == "tpe"
