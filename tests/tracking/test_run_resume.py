"""A resumed run is the same run, and belongs to one process at a time."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock
from watching import history, status

from figleaf.errors import FigleafError
from figleaf.tracking.find import find_run
from figleaf.tracking.record import is_locked, lock_folder
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store

Start = Callable[..., TrackedRun]


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


def test_a_folder_belongs_to_one_process_at_a_time_which_is_named(start: Start) -> None:
    with start(), pytest.raises(FigleafError, match=rf"run: process {os.getpid()} \(since .*wait for it or end it"):
        start()
    with start():
        pass


def test_whoever_only_looks_at_a_folder_keeps_nobody_from_it(start: Start, tmp_path: Path) -> None:
    with start() as run:
        assert is_locked(run.folder)
    assert not is_locked(run.folder)
    assert not is_locked(tmp_path / "absent")
    look = FileLock(run.folder / ".tracking.lock", thread_local=False)
    look.acquire()
    threading.Timer(0.3, look.release).start()
    with start() as again:
        assert again.run_id == run.run_id


def test_a_holder_that_left_no_name_is_another_process(start: Start) -> None:
    with start() as run:
        for text in ("", "{}", "null"):
            (run.folder / ".tracking.holder").write_text(text)
            with pytest.raises(FigleafError, match="another process is writing this run"):
                lock_folder(run.folder, wait_s=0)
