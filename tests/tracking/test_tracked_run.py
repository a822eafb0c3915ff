import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from watching import exit_code, history, in_child, status

from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.tracking.delivery import Delivery
from figleaf.tracking.find import find_run, runs
from figleaf.tracking.reap import reap
from figleaf.tracking.run import TrackedRun, has_finished
from figleaf.tracking.store import Store
from figleaf.tracking.sync import sync, sync_all

Start = Callable[..., TrackedRun]


class SIGTERMException(SystemExit):
    pass


@pytest.fixture
def tracker_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], None]:
    """Cuts a store's client off from its tracker until `monkeypatch.undo`."""

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    def cut_off(store: Store) -> None:
        for call in ("log_batch", "log_artifact", "set_terminated", "set_tag"):
            monkeypatch.setattr(type(store.client), call, refuse)

    return cut_off


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


def test_a_resumed_run_is_the_same_run_and_says_what_changed(start: Start, store: Store) -> None:
    with pytest.raises(RuntimeError), start(tags={"figleaf.git_commit": "aaa"}) as first:
        raise RuntimeError("power")
    changed = {"model": {"depth": 13}, "trainer": {"epochs": 3}}
    with start(params=changed, tags={"figleaf.git_commit": "bbb"}) as second:
        assert status(store, first.run_id) == "RUNNING"
        assert second.resumes == 1
    assert second.run_id == first.run_id
    found = find_run(store, first.run_id)
    assert found.status == "FINISHED"
    assert found.params == {"model.depth": "11", "trainer.epochs": "3"}
    assert found.tags["resume.1.model.depth"] == "13"
    assert found.tags["figleaf.git_commit"] == "bbb"
    assert found.tags["resume.1.before.figleaf.git_commit"] == "aaa"
    assert "figleaf.error" not in found.tags


def test_rows_after_the_last_checkpoint_stay_behind_when_the_work_fails(start: Start, store: Store) -> None:
    with suppress(RuntimeError), start() as run:
        run.journal.append({"loss": 2.0}, 1)
        checkpoint = run.journal.offset
        run.journal.commit(checkpoint)
        run.journal.append({"loss": 1.0}, 2)
        raise RuntimeError("power")
    assert history(store, run.run_id, "loss") == [(1, 2.0)]
    with start() as run:
        run.journal.truncate(checkpoint)
        run.journal.append({"loss": 1.0}, 2)
    assert history(store, run.run_id, "loss") == [(1, 2.0), (2, 1.0)]


def test_a_run_made_just_before_a_kill_is_found_again_not_made_twice(
    start: Start, store: Store, tmp_path: Path
) -> None:
    with start() as first:
        pass
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "run_id": None}))
    with start() as second:
        assert second.run_id == first.run_id


@pytest.mark.parametrize("gone", ["deleted", "another store"])
def test_a_run_the_tracker_no_longer_has_is_made_anew_with_its_whole_history(
    start: Start, store: Store, new_store: Callable[[str], Store], gone: str
) -> None:
    with suppress(KeyboardInterrupt), start() as first:
        first.journal.append({"loss": 2.0}, 1)
        first.journal.commit()
        raise KeyboardInterrupt
    if gone == "deleted":
        store.client.delete_run(first.run_id)
    else:
        store = new_store("elsewhere")
    with start(store=store) as second:
        second.journal.append({"loss": 1.0}, 2)
    assert second.run_id != first.run_id
    assert history(store, second.run_id, "loss") == [(1, 2.0), (2, 1.0)]


def test_starting_afresh_leaves_the_old_run_ended_and_its_journal_aside(start: Start, store: Store) -> None:
    with start() as old:
        old.journal.append({"loss": 2.0}, 1)
    store.client.update_run(old.run_id, status="RUNNING")  # as after SIGKILL
    with start(fresh=True) as new:
        new.journal.truncate(0)
        new.journal.append({"loss": 5.0}, 1)
    assert status(store, old.run_id) == "KILLED"
    assert history(store, new.run_id, "loss") == [(1, 5.0)]
    assert (new.folder / f"before-{old.run_id[:8]}" / "journal.jsonl").exists()


def test_a_folder_belongs_to_one_process_at_a_time(start: Start) -> None:
    with start(), pytest.raises(FigleafError, match="another process"):
        start()
    with start():
        pass


def test_parameters_are_kept_in_full_and_the_too_long_ones_as_a_file(start: Start, store: Store) -> None:
    medium, long = "m" * 5000, "x" * 7000
    params = {"data": {"path": medium, "classes": ["a", "b"], "limit": None}, "ema": True, "long": long, "empty": ""}
    with start(params=params) as run:
        pass
    found = find_run(store, run.run_id)
    assert found.params["data.path"] == medium
    assert found.params["data.classes"] == '["a", "b"]'
    assert (found.params["data.limit"], found.params["ema"], found.params["empty"]) == ("null", "true", "")
    assert found.params["long"].startswith("xxx")
    assert found.params["long"].endswith("params.json)")
    assert json.loads(found.artifact("params.json").read_text())["long"] == long


def test_more_parameters_and_tags_than_a_call_takes(start: Start, store: Store) -> None:
    params = {f"p{index}": index for index in range(250)}
    with start(params=params) as run:
        run.set_tags({f"t{index}": "x" for index in range(250)})
    found = find_run(store, run.run_id)
    assert len(found.params) == 250
    assert {f"t{index}" for index in range(250)} <= set(found.tags)


def test_a_parent_is_set_explicitly_and_the_environment_redirects_nothing(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(folder=store.home / "parent") as parent:
        monkeypatch.setenv("MLFLOW_RUN_ID", parent.run_id)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with start(parent_run_id=parent.run_id) as child:
            assert mlflow.active_run() is None
    assert child.run_id != parent.run_id
    assert find_run(store, child.run_id).tags["mlflow.parentRunId"] == parent.run_id


def test_artifacts_keep_odd_names_wherever_the_process_stands(
    start: Start, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "höchst odd #1 %41 ?'s.txt"
    odd.write_text("content")
    with start(experiment="a/b ü#") as run:
        monkeypatch.chdir("/")
        run.log_artifact(odd, "figures/deep #")
        run.log_artifact(odd.parent / "run", "folder")
    monkeypatch.chdir(tmp_path)
    found = find_run(store, run.run_id)
    assert found.artifact(f"figures/deep #/{odd.name}").read_text() == "content"
    assert found.artifact("folder/run/run.json").exists()
    assert found.artifact(f"figures/deep #/{odd.name}").is_relative_to(store.home)
    with pytest.raises(FigleafError, match=r"it has: .*figures"):
        found.artifact("absent.txt")


def test_an_artifact_that_does_not_exist_is_a_mistake_of_the_caller(start: Start) -> None:
    with pytest.raises(FileNotFoundError), start() as run:
        run.log_artifact(run.folder / "absent")


def test_what_the_tracker_refuses_for_good_is_said_at_once(start: Start) -> None:
    with pytest.raises(FigleafError, match="refuses"), start() as run:
        run.log_params({"model": {"depth": 99}})


def test_a_tracker_away_at_the_end_costs_a_bounded_wait_and_sync_brings_the_rest(
    start: Start,
    store: Store,
    tmp_path: Path,
    tracker_away: Callable[[Store], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start(exit_wait_s=0.3, folder=tmp_path / "runs" / "one") as run:
        tracker_away(store)
        run.journal.append({"loss": 2.0, "lr": 0.1}, 1)
        run.set_tag("figleaf.selection", "0.9")
        passing = tmp_path / "passing.txt"
        passing.write_text("figure")
        run.log_artifact(passing)
        passing.unlink()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    said = caplog.records[-1].getMessage()
    for fact in ("2 metric values", "2 messages", str(run.folder), "figleaf runs sync", "connection refused"):
        assert fact in said
    with pytest.raises(FigleafError, match="takes nothing"):
        sync(store, run.folder)
    monkeypatch.undo()
    assert status(store, run.run_id) == "RUNNING"

    rows = sync_all(store, tmp_path / "runs")
    assert [(row["status"], row["values"], row["messages"], row["error"]) for row in rows] == [("FINISHED", 2, 2, "")]
    found = find_run(store, run.run_id)
    assert (found.status, found.tags["figleaf.selection"]) == ("FINISHED", "0.9")
    assert found.artifact("passing.txt").read_text() == "figure"
    assert history(store, run.run_id, "loss") == [(1, 2.0)]
    assert sync_all(store, tmp_path / "runs") == []


def test_sync_leaves_a_living_run_alone(start: Start, store: Store, tmp_path: Path) -> None:
    with start(folder=tmp_path / "runs" / "one") as run:
        run.journal.append({"loss": 2.0}, 1)
        (run.folder / "outbox.json").write_text("[]")
        rows = sync_all(store, tmp_path / "runs")
    assert len(rows) == 1
    assert "another process" in str(rows[0]["error"])


class Job:
    """A tracked training of 30 steps with a checkpoint every 5, that can be killed and started again."""

    STEPS = 30

    def __init__(self, start: Start, store: Store, folder: Path, pause_s: float = 0.0) -> None:
        self.start, self.store, self.folder, self.pause_s = start, store, folder, pause_s

    def __call__(self) -> None:
        if has_finished(self.folder):  # killed between noting the end and telling it
            sync(self.store, self.folder)
            return
        with self.start(folder=self.folder) as run:
            checkpoint = run.folder / "checkpoint.json"
            done, offset = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
            run.journal.truncate(offset)
            for step in range(done, self.STEPS):
                run.journal.append({"train/loss": 1 / (step + 1), "train/lr": step}, step)
                time.sleep(self.pause_s)
                if step % 5 == 4:
                    offset = run.journal.offset
                    write_text(checkpoint, json.dumps([step + 1, offset]))
                    run.journal.commit(offset)
            run.set_tag("figleaf.selection", "0.9")
            run.log_artifact(checkpoint)

    def killed_at(self, moment: int) -> None:
        """Do it, but die of SIGKILL just after the `moment`-th act on a file or call of the tracker."""
        acts = itertools.count(1)

        def mortal(act: Callable[..., object]) -> Callable[..., object]:
            def once(*arguments: object, **options: object) -> object:
                result = act(*arguments, **options)
                if next(acts) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return once

        for name in ("write", "fsync", "ftruncate", "replace", "unlink"):
            setattr(os, name, mortal(getattr(os, name)))
        for name in ("create_run", "log_batch", "log_artifact", "set_terminated", "update_run"):
            setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
        self()

    def check(self) -> None:
        """One finished run, every value of every metric once, every tag and file there."""
        (run,) = runs(self.store)
        assert run.status == "FINISHED"
        assert history(self.store, run.run_id, "train/loss") == [(step, 1 / (step + 1)) for step in range(self.STEPS)]
        assert history(self.store, run.run_id, "train/lr") == [(step, step) for step in range(self.STEPS)]
        assert (run.tags["figleaf.selection"], run.params) == ("0.9", {"model.depth": "11"})
        assert run.artifact("checkpoint.json").exists()


def test_killed_again_and_again_it_stays_one_run_with_every_step_once(
    start: Start, store: Store, tmp_path: Path
) -> None:
    job, chance = Job(start, store, tmp_path / "run", pause_s=0.005), random.Random(5)
    for _ in range(6):
        child = in_child(job)
        time.sleep(chance.uniform(0.05, 0.35))
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) in (-signal.SIGKILL, 0)
    assert exit_code(in_child(job)) == 0
    job.check()


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 110, 4))
def test_killed_at_any_act_on_files_or_tracker_it_stays_one_run(
    start: Start, store: Store, tmp_path: Path, moment: int
) -> None:
    job = Job(start, store, tmp_path / "run")
    for death in (moment, 2 * moment):  # the second time while or after resuming
        assert exit_code(in_child(partial(job.killed_at, death))) in (-signal.SIGKILL, 0)
    assert exit_code(in_child(job)) == 0
    job.check()


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
