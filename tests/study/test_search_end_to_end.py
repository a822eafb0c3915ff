"""A search from the command line to the tracker: trials, one given up, drivers killed and drivers side by side."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from figleaf.cli import main
from figleaf.config import TrainConfig, fingerprint, home, to_dict
from figleaf.study.search.space import Space
from figleaf.study.search.storage import open_storage
from figleaf.study.search.trials import Trials
from figleaf.study.spec import find_study
from figleaf.study.state import data_hashes
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store
from figleaf.train.launch import Trial, start_trial

pytestmark = pytest.mark.slow

EPOCHS = 24  # enough to be stopped on the way, on a fast machine too
BASE = "data=digits, model=debug, optimizer.batch_size=256, trainer.intervals=0, trainer.threads=1"
STUDY = """
question: Which learning rate?
base: [{base}, trainer.epochs={epochs}]
seeds: [1]
arms: {{plain: []}}
search: {{space: {{optimizer.lr: {rates}}}, sampler: grid, pruner: {pruner}, startup: 2, seed: {seed}}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder and a FIGLEAF_HOME for all tests of this file; each has a study of its own."""
    return tmp_path_factory.mktemp("search")


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "home"))


def declare(
    name: str, *, rates: list[float], epochs: int, pruner: str = "none", seed: int = 0, base: str = BASE
) -> None:
    folder = Path("experiments") / name
    folder.mkdir(parents=True, exist_ok=True)
    text = STUDY.format(base=base, epochs=epochs, rates=rates, pruner=pruner, seed=seed)
    (folder / "study.yaml").write_text(text)


def tracked(name: str) -> list[FoundRun]:
    """The runs of the trials, the search's own left out."""
    return [run for run in runs(open_store(None, home()), study=name) if "figleaf.trial" in run.tags]


def parent_of(name: str) -> FoundRun:
    found = [run for run in runs(open_store(None, home())) if run.name == f"search {name}"]
    assert len(found) == 1
    return found[0]


def table(name: str) -> list[dict[str, str]]:
    with (Path("experiments") / name / "results" / "search" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def driver(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "figleaf.cli", "search", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def until(holds: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def test_trials_are_runs_and_a_hopeless_one_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    # In this order, by the seed: good, good, bad, bad.
    declare("rates", rates=[0.05, 0.03, 1e-6, 1e-7], epochs=3, pruner="median", seed=4)
    assert main(["search", "rates", "--jobs", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = table("rates")
    assert [row["state"] for row in rows] == ["complete", "complete", "pruned", "pruned"], rows
    assert found["value"] == max(float(row["value"]) for row in rows if row["state"] == "complete")
    assert found["command"][:3] == ["figleaf", "train", "data=digits"]
    assert found["overrides"][0] in found["command"]
    epochs = sum(int(row["epochs"]) for row in rows)
    assert (found["budget"]["trials"], found["budget"]["epochs"]) == (4, epochs)
    assert found["budget"]["machines"], "the runs' own machines"
    page = (Path("experiments") / "rates" / "results" / "search" / "README.md").read_text()
    assert found["budget"]["machines"][0] in page
    assert "2 complete, 2 given up of 4" in page

    trials = {run.tags["figleaf.trial"]: run for run in tracked("rates")}
    parent = parent_of("rates")
    assert parent.status == "FINISHED"
    assert {run.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.run_id}
    for row in rows:
        run, pruned = trials[row["trial"]], row["state"] == "pruned"
        assert run.run_id == row["run_id"]
        assert (run.status, run.tags.get("figleaf.pruned")) == (("KILLED", "true") if pruned else ("FINISHED", None))
        assert run.tags["figleaf.search"] == "rates"
        assert float(run.params["optimizer.lr"]) == float(run.tags["figleaf.setting.optimizer.lr"])
        assert float(run.tags["figleaf.setting.optimizer.lr"]) == float(row["optimizer.lr"])
        assert len(run.history("epoch/val_auroc")) == int(row["epochs"]), "every epoch that was judged is tracked"
        assert (int(row["epochs"]) < 3) is pruned
        if not pruned:
            assert float(row["value"]) == run.metrics["val/auroc"]
    assert [step for step, _ in parent.history("search/best")] == [0, 1]
    for name in ("trials.csv", "history.png", "importance.png", "expected.csv", "expected.svg", "README.md"):
        assert parent.artifact(name).stat().st_size > 0

    before = {run.run_id: run.start_time_ms for run in tracked("rates")}
    assert main(["search", "rates"]) == 0, "nothing is left to do"
    assert json.loads(capsys.readouterr().out) == found
    assert {run.run_id: run.start_time_ms for run in tracked("rates")} == before
    assert [step for step, _ in parent_of("rates").history("search/best")] == [0, 1]


def test_settings_that_were_trained_before_are_not_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    declare("again", rates=[0.05, 0.02], epochs=1)
    assert main(["search", "again", "--jobs", "1"]) == 0
    before = {run.run_id for run in tracked("again")}
    declare("again", rates=[0.05, 0.02, 0.01], epochs=1)
    capsys.readouterr()
    assert main(["search", "again"]) == 0
    assert "begins anew" in capsys.readouterr().err
    rows = table("again")
    assert len(rows) == 3
    assert before < {row["run_id"] for row in rows}
    assert len(tracked("again")) == 3


def test_a_search_killed_again_and_again_ends_with_its_trials_each_once() -> None:
    declare("killed", rates=[0.05, 0.04], epochs=EPOCHS)
    for _ in range(3):
        process, before = driver("killed", "--jobs", "1"), journals_bytes()
        until(lambda before=before: journals_bytes() > before + 1000, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert not psutil.wait_procs(children, timeout=40)[1], "no trial outlives its driver"
    assert main(["search", "killed", "--jobs", "1"]) == 0
    trials = tracked("killed")
    assert sorted(run.tags["figleaf.setting.optimizer.lr"] for run in trials) == ["0.04", "0.05"]
    assert {run.status for run in trials} == {"FINISHED"}
    for run in trials:
        assert [value for _, value in run.history("epoch/index")] == list(range(EPOCHS)), "no epoch lost, none double"
    assert [row["state"] for row in table("killed")] == ["complete", "complete"]
    assert parent_of("killed").status == "FINISHED"


def journals_bytes() -> int:
    return sum(file.stat().st_size for file in (home() / "runs").glob("*/journal.jsonl"))


def test_two_drivers_at_once_share_the_trials(capsys: pytest.CaptureFixture[str]) -> None:
    declare("shared", rates=[0.05, 0.04, 0.03, 0.02], epochs=2)
    drivers = [driver("shared", "--jobs", "1") for _ in range(2)]
    told = [process.communicate(timeout=300)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0], told
    assert sum("this one helps it" in text for text in told) <= 1
    assert sum(text.count(": started") for text in told) == 4, told
    assert main(["search", "shared", "--report"]) == 0
    assert [row["state"] for row in table("shared")] == ["complete"] * 4
    trials = tracked("shared")
    assert len(trials) == len({run.tags["figleaf.setting.optimizer.lr"] for run in trials}) == 4
    assert {run.status for run in trials} == {"FINISHED"}
    assert {run.tags["mlflow.parentRunId"] for run in trials} == {parent_of("shared").run_id}


def test_ctrl_c_queues_what_was_stopped_and_the_next_driver_goes_on_with_it() -> None:
    declare("stopped", rates=[0.045, 0.035], epochs=2 * EPOCHS)
    process, before = driver("stopped", "--jobs", "1"), journals_bytes()
    # Not asked of the tracker, which hears of a run late: on a busy machine both would be done.
    until(lambda: journals_bytes() > before + 1000, process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    (interrupted,) = tracked("stopped")
    assert interrupted.status == "KILLED"
    assert "figleaf.pruned" not in interrupted.tags
    assert main(["search", "stopped", "--jobs", "1"]) == 0
    assert interrupted.run_id in {run.run_id for run in tracked("stopped") if run.status == "FINISHED"}
    assert len(tracked("stopped")) == 2


@pytest.mark.ddp
def test_every_rank_of_a_trial_trains_what_was_suggested() -> None:
    declare("ranks", rates=[0.05, 0.04], epochs=1, base=f"{BASE}, trainer=ddp_cpu")
    assert main(["search", "ranks"]) == 0
    rows = table("ranks")
    assert [row["state"] for row in rows] == ["complete", "complete"], rows
    space = Space.of(find_study("ranks", Path("experiments")))
    prints = []
    for row in rows:
        (log,) = (home() / "searches" / "ranks").glob(f"*/logs/trial{row['trial']}.log")
        ranks = re.findall(r"rank (\d) of 2: fingerprint (\w+)", log.read_text())
        config = space.config({"optimizer.lr": float(row["optimizer.lr"])})
        expected = fingerprint(config, data_hashes()(config))
        assert sorted(ranks) == [("0", expected), ("1", expected)]
        prints.append(expected)
    assert len(set(prints)) == 2
    assert len(tracked("ranks")) == 2


class DrawnByEachRank(dict[str, Any]):
    """A group of the configuration that reaches every process with another learning rate."""

    def __reduce__(self) -> Any:
        self["lr"] /= 2
        return dict, (dict(self),)


@pytest.mark.ddp
def test_a_search_trains_nothing_when_a_rank_has_other_settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(place / "another_home"))

    def start(config: TrainConfig, **options: Any) -> Trial:
        values = to_dict(config)
        return start_trial({**values, "optimizer": DrawnByEachRank(values["optimizer"])}, **options)

    monkeypatch.setattr("figleaf.study.search.commands.start_trial", start)
    declare("apart", rates=[0.05, 0.04], epochs=1, base=f"{BASE}, trainer=ddp_cpu")
    assert main(["search", "apart"]) == 1, "nothing to recommend"
    assert [(row["state"], row["value"]) for row in table("apart")] == [("failed", "")] * 2
    logs = list((home() / "searches" / "apart").glob("*/logs/trial*.log"))
    assert ["the ranks have different configurations" in log.read_text() for log in logs] == [True, True]
    assert tracked("apart") == [], "before anything was trained"


def test_what_the_tracker_and_the_storage_say_agrees() -> None:
    """Of every search of this file: no trial is running or queued, and each that ended has a run."""
    # Those that this process has run: the tests of a file may be shared out between several.
    for folder in sorted((home() / "searches").glob("*")):
        space = Space.of(find_study(folder.name, Path("experiments")))
        identity = space.identity(data_hashes()(space.shared_config))
        with open_storage(str(folder / "journal.log")) as storage:
            trials = Trials(space, storage, f"figleaf/{folder.name}/{identity}", wanted=None, epochs=1)
            assert trials.counts().total() == trials.wanted
            assert all(trial.state.is_finished() and trial.user_attrs["run_id"] for trial in trials.counted())
