"""A study whose driver is killed again and again, at any moment, is in the end what it would have been without."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from killed_driver import Driver, Witness, die_with_a_result

from figleaf.config import home
from figleaf.study import commands, running
from figleaf.study.plan import compose_trials
from figleaf.study.records import load_records
from figleaf.study.spec import find_study
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store
from figleaf.train.launch import GRACE_S, warm_context

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # minutes on a quiet machine, and it may be a busy one

SEED = int(os.environ.get("FIGLEAF_KILL_SEED", "1"))  # a failure prints it, with the moments that follow from it
BASE = "data=digits, model=debug, optimizer.batch_size=128, trainer.intervals=0, trainer.checkpoint_seconds=0"
STUDY = f"""
question: Does a study outlive its driver?
base: [{BASE}, trainer.epochs=2, trainer.log_every_steps=1]
seeds: [1, 2, 3, 4, 5, 6]
arms:
  plain: []
  dropout: [model.dropout=0.1]
  slow: [optimizer.lr=0.01]
  pca: [augment=pca]
"""
TRIALS = {f"{arm}-{seed}" for arm in ("plain", "dropout", "slow", "pca") for seed in range(1, 7)}
ONE_TRIAL = f"{{question: q, base: [{BASE}, trainer.epochs=1], seeds: [1], arms: {{plain: []}}}}"
LIMIT_S = 400.0  # that a step takes no longer is no claim
GONE_S = GRACE_S + 20  # a trial that loses its driver may write a checkpoint before it ends

# What is waited for before a driver is killed, and how many seconds later, at most, the signal comes.
MOMENTS = {
    "it loads": 6.0,
    "a trial starts": 1.5,
    "a trial trains": 0.5,
    "a trial is measured": 0.5,
    "a trial has its result": 0.05,
    "a trial is recorded": 0.02,
    "all are recorded": 1.0,
}


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: after which event, how long after it, for the driver alone or for everything that it started."""

    moment: str
    delay_s: float
    with_all: bool
    at_once: bool  # whether the next driver starts while what this one started is still ending


def ten_kills(rng: random.Random) -> list[Kill]:
    """Every moment at least once, the last when nothing is left to train."""
    *moments, last = MOMENTS
    moments += rng.choices(moments, k=9 - len(moments))
    rng.shuffle(moments)
    return [
        Kill(moment, round(rng.uniform(0, MOMENTS[moment]), 3), rng.random() < 0.25, rng.random() < 0.5)
        for moment in [*moments, last]
    ]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the studies."""
    for name, text in (("long", STUDY), ("one", ONE_TRIAL)):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "study.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_runs(name: str) -> set[Path]:
    return set((home() / "runs").glob(f"*/{name}"))


def recorded() -> set[Path]:
    return set(Path("experiments/long/results/records").glob("*.json"))


def comes(moment: str, driver: Driver) -> Callable[[], bool]:
    """Whether the moment has come since now."""

    def written() -> int:
        return sum(file.stat().st_size for file in in_runs("journal.jsonl"))

    started, bytes_ = driver.said.count(": started"), written()
    measured, with_result, records = in_runs("predictions.parquet"), in_runs("result.json"), recorded()
    holds: dict[str, Callable[[], bool]] = {
        "it loads": lambda: True,
        "a trial starts": lambda: driver.said.count(": started") > started,
        "a trial trains": lambda: written() > bytes_ + 500,
        "a trial is measured": lambda: bool(in_runs("predictions.parquet") - measured),
        "a trial has its result": lambda: bool(in_runs("result.json") - with_result),
        "a trial is recorded": lambda: bool(recorded() - records),
        "all are recorded": lambda: len(recorded()) == len(TRIALS),
    }
    return holds[moment]


def check_tracked_as_written(run: FoundRun) -> None:
    """Every row of the run's journal is in the tracker, once, and nothing else is."""
    assert run.folder is not None
    rows: Counter[tuple[str, int, float]] = Counter()
    for line in (run.folder / "journal.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.update((key, row["step"], float(value)) for key, value in row["metrics"].items())
    assert max(Counter((key, step) for key, step, _ in rows.elements()).values()) == 1, f"{run.name}: a step twice"
    assert {(key, *point) for key in run.metrics for point in run.history(key)} == set(rows)
    assert sum(len(run.history(key)) for key in run.metrics) == rows.total()


def test_a_study_of_24_trials_whose_driver_is_killed_ten_times_has_each_of_them_once(place: Path) -> None:
    kills, witness, drivers = ten_kills(random.Random(SEED)), Witness(place / "witness"), list[Driver]()
    print(f"FIGLEAF_KILL_SEED={SEED}")

    def start() -> Driver:
        drivers.append(Driver(len(drivers), ["long", "--jobs", "2"], place, witness.environment))
        return drivers[-1]

    for number, kill in enumerate(kills):
        done = 0 if kill.moment == "it loads" else 2 * number  # so that each death has something to lose
        while True:
            driver, begun = start(), time.monotonic()
            if driver.until(lambda n=done: len(in_runs("result.json")) >= n, LIMIT_S) and driver.until(
                comes(kill.moment, driver), LIMIT_S
            ):
                break
            # What was left is in the hands of trials whose driver has died: it begins nothing of that, and ends.
            assert driver.process.returncode == 0, driver.said
            assert "in another process" in driver.said
        time.sleep(kill.delay_s)
        assert not driver.has_ended, driver.said
        driver.kill(with_all=kill.with_all)
        print(f"{kill}: after {time.monotonic() - begun:.1f} s, {len(in_runs('result.json'))} trials have results")
        if not kill.at_once:
            print(f"  all that it had started was gone {driver.seconds_until_gone(GONE_S):.1f} s later")
    for driver in drivers:
        driver.seconds_until_gone(GONE_S)
    last = start()
    assert last.process.wait(LIMIT_S) == 0, last.said
    last.seconds_until_gone(GONE_S)

    found = runs(open_store(None, home()))
    assert Counter(run.status for run in found) == {"FINISHED": len(TRIALS) + 1}
    (parent,) = [run for run in found if run.tags.get("figleaf.kind") == "study"]
    assert "24" in parent.tags["figleaf.trials_shown"]
    assert "| plain" in parent.artifact("results/table.md").read_text()
    trials = {f"{run.tags['figleaf.arm']}-{run.tags['figleaf.seed']}": run for run in found if run is not parent}
    assert set(trials) == TRIALS
    assert {run.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.run_id}
    assert in_runs("run.json") == {run.folder / "run.json" for run in trials.values() if run.folder}
    for run in found:
        check_tracked_as_written(run)
    records = load_records(place / "experiments" / "long" / "results")
    assert {name: record.run_id for name, record in records.items()} == {n: run.run_id for n, run in trials.items()}

    writers = witness.writers()
    assert witness.seconds() == [], "two processes wrote one run"
    assert {run.folder for run in found} == set(writers)
    assert sum(len(set(pids)) > 1 for pids in writers.values()) > 2, "no trial was killed while it wrote"

    told, ends = witness.writers(), [(run.run_id, run.tags["figleaf.heartbeat"]) for run in found]
    again = start()
    assert again.process.wait(LIMIT_S) == 0
    assert "24 done" in again.said
    assert "started" not in again.said
    assert witness.writers() == told
    assert [(run.run_id, run.tags["figleaf.heartbeat"]) for run in runs(open_store(None, home()))] == ends


def test_a_trial_killed_when_its_result_was_written_but_nobody_told_is_one_run_and_finished() -> None:
    config = compose_trials(find_study("one", Path("experiments")))[0].config
    child = warm_context().Process(target=die_with_a_result, args=(config, home()))
    child.start()
    child.join(LIMIT_S)
    (killed,) = runs(open_store(None, home()))
    assert (killed.status, len(in_runs("result.json"))) == ("RUNNING", 1)
    assert commands.run("one") == 0
    found = {run.name: run for run in runs(open_store(None, home()))}
    assert {name: run.status for name, run in found.items()} == {"plain-s1": "FINISHED", "study one": "FINISHED"}
    assert found["plain-s1"].run_id == killed.run_id
    assert len(in_runs("run.json")) == 1
    check_tracked_as_written(found["plain-s1"])


def test_the_study_s_own_run_is_brought_to_its_end_by_a_driver_that_has_nothing_else_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> None:
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(running, "log_results", ended)
        with pytest.raises(SystemExit):
            commands.run("one")
    assert {run.name: run.status for run in runs(open_store(None, home()))} == {
        "plain-s1": "FINISHED",
        "study one": "KILLED",
    }
    assert commands.run("one") == 0
    told = capsys.readouterr().err
    assert "gets its tables and figures now" in told
    (parent,) = [run for run in runs(open_store(None, home())) if run.name == "study one"]
    assert parent.status == "FINISHED"
    assert parent.artifact("results/table.md").is_file()
    assert {step for key in parent.metrics for step, _ in parent.history(key)} == {1}
    assert commands.run("one") == 0
    assert "tables and figures" not in capsys.readouterr().err
