"""The same run started twice: whoever has its folder keeps it, the other is told who, and nothing is doubled."""

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from figleaf.config import TrainConfig, compose
from figleaf.errors import FigleafError
from figleaf.tracking.find import runs
from figleaf.tracking.record import is_locked, lock_folder
from figleaf.tracking.store import open_store
from figleaf.train import folder as run_folder
from figleaf.train.folder import take_folder
from figleaf.train.turn import turn

EPOCHS = 25
TRAIN = ["data=digits", "model=debug", f"trainer.epochs={EPOCHS}", "trainer.intervals=0", "trainer.threads=1"]
FINGERPRINT = "f" * 64


def figleaf_train(log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as said:
        return subprocess.Popen([sys.executable, "-m", "figleaf.cli", "train", *TRAIN], stdout=said, stderr=said)


def check_one_whole_run(home: Path) -> None:
    (run,) = runs(open_store(None, home))
    assert (run.status, "resume.1.before.figleaf.heartbeat" in run.tags) == ("FINISHED", False)
    for key in ("epoch/index", "epoch/val_auroc"):
        assert Counter(step for step, _ in run.history(key)).most_common(1)[0][1] == 1
    assert [value for _, value in run.history("epoch/index")] == list(range(EPOCHS))
    assert len(list((home / "runs").glob("*/run.json"))) == 1


@pytest.mark.slow
def test_the_run_in_its_folder_goes_on_and_the_second_is_refused_by_name(home: Path, tmp_path: Path) -> None:
    first = figleaf_train(tmp_path / "first")
    deadline = time.monotonic() + 200
    while "run folder" not in (tmp_path / "first").read_text():
        assert time.monotonic() < deadline
        assert first.poll() is None, (tmp_path / "first").read_text()
        time.sleep(0.05)
    second = figleaf_train(tmp_path / "second")
    assert second.wait(200) == 2
    told = (tmp_path / "second").read_text()
    assert re.search(rf"error: {home}/runs/\w+: process {first.pid} \(since .*\) is writing this run; wait", told)
    assert "run folder" not in told
    assert first.wait(200) == 0, (tmp_path / "first").read_text()
    check_one_whole_run(home)


@pytest.mark.slow
def test_of_two_started_a_moment_apart_the_first_keeps_the_run(home: Path, tmp_path: Path) -> None:
    first = figleaf_train(tmp_path / "first")
    deadline = time.monotonic() + 200
    while not list((home / "runs" / ".starting").glob("*")):  # it has its turn, and has yet to import torch
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = figleaf_train(tmp_path / "second")
    assert (first.wait(200), second.wait(200)) == (0, 2)
    assert f"process {first.pid} " in (tmp_path / "second").read_text()
    check_one_whole_run(home)


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    loaded: TrainConfig = compose("train", TRAIN)
    return loaded


def entered(config: TrainConfig, runs: Path, said: list[str]) -> tuple[threading.Thread, threading.Event]:
    """Somebody who asks for a turn, and whether it has come."""
    came = threading.Event()

    def ask() -> None:
        with turn(config, runs, said.append):
            came.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    return asking, came


def test_a_turn_ends_when_it_is_said_to_and_another_run_has_its_own(config: TrainConfig, tmp_path: Path) -> None:
    said: list[str] = []
    with turn(config, tmp_path, said.append) as end:
        same, came = entered(replace(config, name="the same run"), tmp_path, said)
        other, free = entered(replace(config, seed=2), tmp_path, said)
        assert free.wait(2)
        assert not came.wait(0.3)
        end()
        assert came.wait(2)
    same.join(2), other.join(2)
    assert not said
    assert not list((tmp_path / ".starting").iterdir())


def test_who_waits_long_for_a_turn_is_told_why(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("figleaf.train.turn._SOON_S", 0.1)
    said: list[str] = []
    with turn(config, tmp_path, said.append):
        asking, came = entered(config, tmp_path, said)
        assert not came.wait(0.5)
        assert said == ["another process is starting this run; waiting until it has its folder"]
    asking.join(2)
    assert came.is_set()


def test_where_nothing_can_be_written_a_turn_is_no_obstacle(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with turn(config, tmp_path / "file" / "runs", print) as end:
        end()


def test_what_another_process_did_before_the_lock_was_taken_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FINGERPRINT[:12]

    def late(folder: Path) -> object:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        (folder / "result.json").write_text('{"run_id": "other"}')
        return lock_folder(folder)

    monkeypatch.setattr(run_folder, "lock_folder", late)
    with take_folder(tmp_path, FINGERPRINT, "auto", rank=0) as (folder, lock):
        assert folder.checkpoint == path / "checkpoints" / "last.ckpt"
        assert folder.result == {"run_id": "other"}
        assert lock is not None
        assert is_locked(path)
    assert not is_locked(path)


def test_a_finished_run_and_the_ranks_above_0_take_no_lock(tmp_path: Path) -> None:
    path = tmp_path / FINGERPRINT[:12]
    with take_folder(tmp_path, FINGERPRINT, "auto", rank=1) as (folder, lock):
        assert (folder.path, lock, path.exists()) == (path, None, False)
    path.mkdir()
    (path / "result.json").write_text("{}")
    with take_folder(tmp_path, FINGERPRINT, "auto", rank=0) as (_, lock):
        assert lock is None


def test_resume_never_takes_a_folder_of_its_own(tmp_path: Path) -> None:
    with take_folder(tmp_path, FINGERPRINT, "auto", rank=0) as (first, _):
        with take_folder(tmp_path, FINGERPRINT, "never", rank=0) as (second, _):
            assert second.path == tmp_path / f"{FINGERPRINT[:12]}-2"
        with (
            pytest.raises(FigleafError, match=str(first.path)),
            take_folder(tmp_path, FINGERPRINT, "auto", rank=0),
        ):
            pass
