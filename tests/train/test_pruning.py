"""A training that is given up: every rank stops at the same step, the run says so, and it could go on."""

import os
import re
from pathlib import Path

import pytest

from figleaf.config import compose
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store
from figleaf.train.launch import Trial, start_trial

OVERRIDES = [
    *("data=digits", "model=debug", "optimizer.batch_size=256", "trainer.epochs=4"),
    *("trainer.intervals=0", "trainer.threads=1"),
]


def answered(trial: Trial, give_up_after: int | None) -> list[int]:
    """Answers every question of `trial` until it ends; the epochs it asked after."""
    asked = []
    while trial.alive:
        trial.wait(0.05)
        if trial.question is not None:
            epochs, validation = trial.question
            assert 0 <= validation["val_auroc"] <= 1
            asked.append(epochs)
            trial.answer(prune=epochs == give_up_after)
    return asked


def the_run() -> FoundRun:
    (run,) = runs(open_store(None, Path(os.environ["FIGLEAF_HOME"])))
    return run


@pytest.mark.slow
def test_a_training_given_up_is_killed_and_says_so_and_can_go_on(home: Path) -> None:
    config = compose("train", OVERRIDES)
    trial = start_trial(config, log=home / "log.txt", tags={"figleaf.trial": "7"}, asks=True)
    assert answered(trial, give_up_after=2) == [1, 2], (home / "log.txt").read_text()
    assert (trial.exitcode, trial.was_pruned, trial.result) == (0, True, None)
    run = the_run()
    assert run.status == "KILLED"
    assert (run.tags["figleaf.pruned"], run.tags["figleaf.trial"]) == ("true", "7")
    assert [value for _, value in run.history("epoch/index")] == [0, 1], "every epoch that was asked about is tracked"
    assert run.folder is not None
    assert not (run.folder / "result.json").exists()

    trial = start_trial(config, log=home / "log.txt", asks=True)
    assert answered(trial, give_up_after=None) == [3, 4]
    assert (trial.exitcode, trial.was_pruned) == (0, False)
    resumed = the_run()
    assert (resumed.run_id, resumed.status) == (run.run_id, "FINISHED")
    assert "figleaf.pruned" not in resumed.tags
    assert [value for _, value in resumed.history("epoch/index")] == [0, 1, 2, 3]


@pytest.mark.slow
def test_after_the_last_epoch_there_is_nothing_to_give_up(home: Path) -> None:
    trial = start_trial(compose("train", OVERRIDES), log=home / "log.txt", asks=True)
    assert answered(trial, give_up_after=4) == [1, 2, 3, 4]
    assert (trial.exitcode, trial.was_pruned) == (0, False)
    assert trial.result is not None
    assert the_run().status == "FINISHED"


@pytest.mark.ddp
def test_every_rank_gives_up_at_the_same_step(home: Path) -> None:
    trial = start_trial(compose("train", [*OVERRIDES, "trainer=ddp_cpu"]), log=home / "log.txt", asks=True)
    assert answered(trial, give_up_after=2) == [1, 2]
    log = (home / "log.txt").read_text()
    assert sorted(re.findall(r"rank (\d): given up after (\d) epochs", log)) == [("0", "2"), ("1", "2")], log
    assert (trial.exitcode, trial.was_pruned) == (0, True)
    assert the_run().status == "KILLED"
    assert the_run().tags["figleaf.pruned"] == "true"
