import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_driver import Driver

from figleaf.cli import main
from figleaf.config import home
from figleaf.study import commands
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store

pytestmark = pytest.mark.slow

STUDY = """
question: Does a study go on when an arm crashes?
data_note: scikit-learn's digits
base: [data=digits, model=debug, trainer.epochs=1, optimizer.batch_size=256, trainer.intervals=20]
seeds: [0]
arms:
  plain: []
  crashes: [optimizer.lr=1e30]
  dropout: [model.dropout=0.1]
"""
RUN = "import sys; from figleaf.study.commands import run; sys.exit(run('long', jobs=1))"
EPOCHS = 80  # long enough to be stopped while it runs, on a fast machine too


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a study, and a FIGLEAF_HOME of its own."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "experiments" / "tiny").mkdir(parents=True)
    (folder / "experiments" / "tiny" / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))


@pytest.fixture(scope="module")
def exit_code(place: Path) -> int:
    """The exit code of running the study once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("PWD", str(place))
        patch.setenv("FIGLEAF_HOME", str(place / "home"))
        return commands.run("tiny", jobs=2)


def tracked(study: str) -> list[FoundRun]:
    return runs(open_store(None, home()), study=study)


def statuses(capsys: pytest.CaptureFixture[str], study: str = "tiny") -> dict[str, str]:
    capsys.readouterr()
    commands.status(study)
    return {row["arm"]: row["status"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}


def test_crashing_arms_are_reported_and_the_others_finish(exit_code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code == 1
    assert statuses(capsys) == {"plain": "done", "crashes": "failed", "dropout": "done"}
    assert commands.table("tiny") == 0
    printed = capsys.readouterr().out
    assert "0 of 1 trials: seed 0 failed (the training diverged" in printed
    log = home() / "studies" / "tiny" / "logs" / "crashes-0.log"
    assert "the training diverged" in log.read_text()


def test_the_trials_are_children_of_the_study_in_the_tracker(exit_code: int) -> None:
    (parent,) = [run for run in runs(open_store(None, home())) if run.tags.get("figleaf.kind") == "study"]
    assert parent.status == "FINISHED"
    children = tracked("tiny")
    assert {run.tags["mlflow.parentRunId"] for run in children} == {parent.run_id}
    assert "tiny" in parent.artifact("results/table.md").read_text()
    assert "| dropout" in parent.tags["mlflow.note.content"]
    assert all(run.run_id in parent.tags["mlflow.note.content"] for run in children if run.status == "FINISHED")


def test_commands_take_a_trial_by_the_name_that_its_study_gives_it(
    exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    by_arm = {run.tags["figleaf.arm"]: run.run_id for run in tracked("tiny") if run.status == "FINISHED"}
    assert main(["compare", "tiny/plain-0", "tiny/dropout-0", "--format", "json", "--resamples", "0"]) == 0
    printed = capsys.readouterr().out
    assert by_arm["plain"] in printed
    assert by_arm["dropout"] in printed
    assert main(["explain-run", "tiny/dropout-0", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == by_arm["dropout"]
    assert main(["evaluate", "run=tiny/plain-0", "data=digits", "intervals=0"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "plain-s0"


def test_the_results_folder_is_regenerated_byte_for_byte(exit_code: int, place: Path) -> None:
    folder = place / "experiments" / "tiny"

    def contents() -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert commands.table("tiny", formats=["latex", "csv", "html"]) == 0
    first = contents()
    for name in first:
        if name != "study.yaml":
            (folder / name).unlink()
    commands.table("tiny")
    assert contents() == first
    assert "results/records/plain-0.parquet" in first


def test_running_it_again_does_only_what_is_missing(
    exit_code: int, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {run.run_id: run.start_time_ms for run in tracked("tiny") if run.status == "FINISHED"}
    path = place / "experiments" / "tiny" / "study.yaml"
    mended = STUDY.replace("  crashes: [optimizer.lr=1e30]\n", "")
    path.write_text(mended)
    try:
        assert commands.run("tiny") == 0
        assert "0: started" not in capsys.readouterr().err
        assert commands.table("tiny", write=False, check=False) == 0
    finally:
        path.write_text(STUDY)
    assert {run.run_id: run.start_time_ms for run in tracked("tiny") if run.status == "FINISHED"} == before


def test_a_study_ended_by_ctrl_c_goes_on_in_the_same_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "another_home"))
    text = STUDY[: STUDY.index("arms:")].replace("epochs=1", f"epochs={EPOCHS}, trainer.checkpoint_seconds=0")
    (place / "experiments" / "long").mkdir()
    (place / "experiments" / "long" / "study.yaml").write_text(text + "arms: {plain: []}")
    driver = subprocess.Popen(
        [sys.executable, "-c", RUN],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 240
    while not list((home() / "runs").glob("*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.1)
    assert statuses(capsys, "long") == {"plain": "running"}
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    driver.communicate(timeout=90)
    assert driver.returncode != 0
    (interrupted,) = tracked("long")
    assert interrupted.status == "KILLED"
    assert statuses(capsys, "long") == {"plain": "interrupted"}
    assert commands.run("long") == 0
    (resumed,) = tracked("long")
    assert (resumed.run_id, resumed.status) == (interrupted.run_id, "FINISHED")
    assert [value for _, value in resumed.history("epoch/index")] == list(range(EPOCHS))


def test_a_second_ctrl_c_is_not_waited_out_and_loses_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "third_home"))
    epochs = EPOCHS + 1  # else what another study here has recorded would count
    text = STUDY[: STUDY.index("arms:")].replace("epochs=1", f"epochs={epochs}, trainer.checkpoint_seconds=0")
    (place / "experiments" / "hurried").mkdir()
    (place / "experiments" / "hurried" / "study.yaml").write_text(text + "arms: {plain: []}")
    driver = Driver(0, ["hurried", "--jobs", "1"], place, {})
    assert driver.until(lambda: list((home() / "runs").glob("*/checkpoints/last.ckpt")), 240), driver.said
    (holder,) = (home() / "runs").glob("*/.tracking.holder")
    trial = json.loads(holder.read_text())["pid"]
    os.kill(trial, signal.SIGSTOP)  # so that it is still ending when the second comes, whatever the machine does
    try:
        os.killpg(driver.process.pid, signal.SIGINT)
        assert driver.until(lambda: "Ctrl-C again does not wait" in driver.said, 120), driver.said
        for _ in range(3):
            os.killpg(driver.process.pid, signal.SIGINT)
            time.sleep(0.2)
        assert driver.process.wait(120) == 130
    finally:
        os.kill(trial, signal.SIGCONT)
    assert "stopped; the same command goes on from here\n1 process is still ending" in driver.said
    assert "Traceback" not in driver.said
    driver.seconds_until_gone(60)
    found = {run.name: run for run in runs(open_store(None, home()))}
    assert {name: run.status for name, run in found.items()} == {"plain-s0": "KILLED", "study hurried": "KILLED"}
    assert statuses(capsys, "hurried") == {"plain": "interrupted"}
    assert commands.run("hurried") == 0
    (resumed,) = tracked("hurried")
    assert (resumed.run_id, resumed.status) == (found["plain-s0"].run_id, "FINISHED")
    assert [value for _, value in resumed.history("epoch/index")] == list(range(epochs))
