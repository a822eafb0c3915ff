"""Killed at any moment and started again, it is one run with every step once."""

import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from watching import exit_code, history, in_child

from figleaf.files import write_text
from figleaf.tracking.find import runs
from figleaf.tracking.run import TrackedRun, has_finished
from figleaf.tracking.store import Store
from figleaf.tracking.sync import sync

Start = Callable[..., TrackedRun]


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
