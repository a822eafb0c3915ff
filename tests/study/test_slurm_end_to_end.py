"""A study on a SLURM of one machine, whose commands are `fake_slurm`'s: sbatch to scancel as on a cluster."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import fake_slurm
import pytest
from followed import (
    LONG,
    assert_trained_once,
    start_driver,
    statuses,
    submissions,
    the_news,
    the_order,
    tracked,
    wait_for,
    wait_for_checkpoint,
    write,
)

from figleaf.errors import FigleafError
from figleaf.study import commands
from figleaf.study.cluster import launcher, queues

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

SLURM = ["launcher=slurm", "launcher.partition=gpu"]


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(queues, "_ASK_S", 1.0)
    monkeypatch.setattr(queues.SlurmQueue, "settle_s", 2.0)
    monkeypatch.setattr(launcher, "require_jobs_can_run", lambda settings, trials: None)  # SQLite is on one machine


def test_a_trial_of_two_ranks_is_cancelled_goes_on_is_requeued_and_ends_in_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "two", LONG + "arms: {plain: [trainer=ddp_cpu]}")
    driver = start_driver("two", *SLURM)
    wait_for_checkpoint(driver)
    assert statuses(capsys, "two")["plain"] == ("running", "job 1, running")
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(120) != 0
    assert fake_slurm.state("1") == "CANCELLED by 0"
    assert not (fake_slurm.job("1") / "killed").exists(), "both ranks left by themselves"
    assert [run.status for run in tracked("two")] == ["KILLED"]
    assert statuses(capsys, "two")["plain"] == ("interrupted", "")

    def preempt() -> None:
        wait_for(lambda: the_order("two").job_id == "2" and the_news("two").run_folder)
        journal = Path(the_news("two").run_folder) / "journal.jsonl"
        before = journal.stat().st_size
        wait_for(lambda: journal.stat().st_size != before)  # it trains
        subprocess.run(["scancel", "2", "--signal", "USR2"], check=True)  # as SLURM does when its time is up

    cluster = threading.Thread(target=preempt)
    cluster.start()
    assert commands.run("two", launcher=SLURM) == 0
    cluster.join()
    assert the_news("two").requeues == 1
    assert submissions("two") == 2
    wait_for(lambda: fake_slurm.state("2") == "COMPLETED", 60)  # it had told so before it was taken apart
    run = assert_trained_once("two")
    log = (Path(the_order("two").folder) / "2_1_log.out").read_text()
    assert log.count("rank 1 of 2: fingerprint") == 2, "before and after the requeue"
    assert run.params["trainer.devices"] == "2"


def test_a_partition_that_does_not_exist_is_named_before_anything_starts(tmp_path: Path) -> None:
    write(tmp_path, "two", LONG + "arms: {plain: [], other: [model.dropout=0.1]}")
    with pytest.raises(FigleafError, match="invalid partition specified: nowhere"):
        commands.run("two", launcher=["launcher=slurm", "launcher.partition=nowhere"])
    assert not (tmp_path / "slurm" / "jobs").exists()
