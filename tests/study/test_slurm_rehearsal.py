"""A study as jobs of this machine, by submitit's local executor: all of a cluster but the cluster."""

import signal
from pathlib import Path

import psutil
import pytest
from followed import (
    HEAD,
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

from figleaf.study import commands
from figleaf.study.cluster.ledger import Ledger

pytestmark = pytest.mark.slow

REHEARSAL = ["launcher.executor=local-process"]
ARMS = "arms: {plain: [], crashes: [optimizer.lr=1e30], dropout: [model.dropout=0.1]}"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    return tmp_path


def test_a_study_runs_to_its_end_and_a_failing_trial_is_tried_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place, "tiny", HEAD.format(more="trainer.epochs=1") + ARMS)
    assert commands.run("tiny", jobs=2, launcher=REHEARSAL, on_failure="retry=1") == 1
    assert {arm: status for arm, (status, _) in statuses(capsys, "tiny").items()} == {
        "plain": "done",
        "crashes": "failed",
        "dropout": "done",
    }
    records = place / "experiments" / "tiny" / "results" / "records"
    assert {file.stem for file in records.glob("*.json")} == {"plain-0", "dropout-0"}
    (failed,) = (o for o in Ledger.of("tiny").orders().values() if "crashes" in o.key)
    assert len(list(Path(failed.folder).glob("*_submitted.pkl"))) == 4, "three trials, of which one twice"
    assert "the training diverged" in (Path(failed.folder) / f"{failed.job_id}_0_log.out").read_text()
    assert len(tracked("tiny")) == 3
    assert len({run.tags["mlflow.parentRunId"] for run in tracked("tiny")}) == 1


def test_a_job_outlives_its_driver_is_requeued_and_ends_in_the_same_run_under_the_next_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place, "long", LONG + "arms: {plain: []}")
    driver = start_driver("long", *REHEARSAL)
    wait_for_checkpoint(driver)
    driver.kill()
    driver.wait()
    job_id = str(the_order("long").job_id)
    assert statuses(capsys, "long")["plain"] == ("running", f"job {job_id} of local-process, running")
    assert commands.run("long") == 0, "the launcher of this machine leaves it alone"
    (task,) = psutil.Process(int(job_id)).children()
    task.send_signal(signal.SIGUSR2)  # as SLURM does when a job's time is up
    wait_for(lambda: the_news("long").requeues == 1)
    assert the_news("long").stage == "requeued"

    assert commands.run("long", launcher=REHEARSAL) == 0
    assert f"plain-0: job {job_id} of local-process" in capsys.readouterr().err
    assert submissions("long") == 1
    assert_trained_once("long")
    assert (place / "experiments" / "long" / "results" / "records" / "plain-0.json").exists()
    wait_for(lambda: not psutil.pid_exists(int(job_id)), 20)
