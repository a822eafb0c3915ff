"""A run's status says how it ended, whatever ended it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watching import exit_code, history, in_child, status

from figleaf.files import write_text
from figleaf.tracking.delivery import Delivery
from figleaf.tracking.find import find_run
from figleaf.tracking.reap import reap
from figleaf.tracking.run import TrackedRun, has_finished
from figleaf.tracking.store import Store

Start = Callable[..., TrackedRun]


class SIGTERMException(SystemExit):
    pass


def test_a_run_is_finished_only_when_its_work_has_ended_well(start: Start, store: Store) -> None:
    with start() as run:
        run.journal.append({"val/auroc": 0.9}, 10)
        assert status(store, run.run_id) == "RUNNING"
        assert not has_finished(run.folder)
    assert status(store, run.run_id) == "FINISHED"
    assert has_finished(run.folder)
    assert history(store, run.run_id, "val/auroc") == [(10, 0.9)]


def test_an_exception_makes_it_failed_and_leaves_the_reason(start: Start, store: Store) -> None:
    def crash(run: TrackedRun) -> None:
        run.journal.append({"train/loss": float("nan")}, 7)
        raise ValueError("lost a tensor\nsomewhere")

    with pytest.raises(ValueError, match="lost a tensor"), start() as run:
        crash(run)
    found = find_run(store, run.run_id)
    assert found.status == "FAILED"
    assert found.tags["figleaf.error"] == "ValueError: lost a tensor"
    text = found.artifact("error.txt").read_text()
    assert "Traceback" in text
    assert "step=7" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_makes_it_killed_and_goes_on_its_way(start: Start, store: Store, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, start() as run:
        raise error
    assert raised.value is error
    assert status(store, run.run_id) == "KILLED"


def test_sigterm_makes_it_killed_and_the_exit_code_143(start: Start, store: Store, tmp_path: Path) -> None:
    def work() -> None:
        with start() as run:
            write_text(tmp_path / "id", run.run_id)
            time.sleep(60)

    child = in_child(work)
    while not (tmp_path / "id").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert exit_code(child) == 143
    assert status(store, (tmp_path / "id").read_text()) == "KILLED"


def test_a_second_sigterm_does_not_disturb_the_ending(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Delivery.close

    def impatient(delivery: Delivery, timeout_s: float) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return close(delivery, timeout_s)

    monkeypatch.setattr(Delivery, "close", impatient)
    with pytest.raises(SystemExit), start() as run:
        signal.raise_signal(signal.SIGTERM)
    assert status(store, run.run_id) == "KILLED"


def test_an_exit_that_claims_success_half_way_gets_143(start: Start, store: Store) -> None:
    with pytest.raises(SystemExit) as raised, start() as run:
        raise SIGTERMException
    assert raised.value.code == 143
    assert status(store, run.run_id) == "KILLED"


def test_signal_handlers_are_put_back_and_nohup_is_respected(start: Start) -> None:
    outer = [signal.signal(signal.SIGTERM, signal.SIG_DFL), signal.signal(signal.SIGHUP, signal.SIG_IGN)]
    try:
        with start():
            assert callable(signal.getsignal(signal.SIGTERM))
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, outer[0])
        signal.signal(signal.SIGHUP, outer[1])


def test_after_sigkill_it_says_running_until_it_is_reaped(start: Start, store: Store, tmp_path: Path) -> None:
    def work() -> None:
        with start() as run:
            write_text(tmp_path / "id", run.run_id)
            os.kill(os.getpid(), signal.SIGKILL)

    assert exit_code(in_child(work)) == -signal.SIGKILL
    run_id = (tmp_path / "id").read_text()
    assert status(store, run_id) == "RUNNING"
    assert reap(store, stale_after_s=120) == []
    assert [row["run_id"] for row in reap(store, stale_after_s=0)] == [run_id]
    assert status(store, run_id) == "KILLED"
