"""Studies on a cluster, in a folder of their own, and what the tests ask of them."""

import csv
import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from figleaf.config import home
from figleaf.study import commands
from figleaf.study.cluster.ledger import Ledger, News, Order, Stage
from figleaf.tracking.find import FoundRun, runs
from figleaf.tracking.store import open_store

Value = TypeVar("Value")

HEAD = """
question: Does a study on a cluster end well?
data_note: scikit-learn's digits
base: [data=digits, model=debug, optimizer.batch_size=256, trainer.intervals=0, trainer.threads=1, {more}]
seeds: [0]
"""
EPOCHS = 40  # long enough to be disturbed while it runs, on a fast machine too
LONG = HEAD.format(more=f"trainer.epochs={EPOCHS}, trainer.checkpoint_seconds=0")
DRIVER = """
import sys
from figleaf.study import commands
from figleaf.study.cluster import launcher
launcher.require_jobs_can_run = lambda settings, trials: None  # all nodes of this cluster are one machine
sys.exit(commands.run(sys.argv[1], launcher=sys.argv[2:]))
"""


def write(place: Path, name: str, text: str) -> None:
    folder = place / "experiments" / name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(text)


def start_driver(study: str, *launcher: str) -> "subprocess.Popen[str]":
    """`figleaf study run` in a process group of its own, as a terminal makes one; what it says goes to driver.txt."""
    with Path("driver.txt").open("w") as told:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, study, *launcher],
            stderr=told,
            text=True,
            start_new_session=True,
            # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def wait_for_checkpoint(driver: "subprocess.Popen[str]") -> None:
    """Wait until a trial of the driver has written one."""
    wait_for(lambda: driver.poll() is not None or list((home() / "runs").glob("*/checkpoints/last.ckpt")))
    assert driver.poll() is None, Path("driver.txt").read_text()


def wait_for(condition: Callable[[], Value], seconds: float = 240) -> Value:
    """What `condition` gives, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def the_order(study: str) -> Order:
    (order,) = Ledger.of(study).orders().values()
    return order


def the_news(study: str) -> News:
    """What the job told; nothing, as long as it has not begun."""
    return Ledger.of(study).news(the_order(study).token) or News("", Stage.RUNNING)


def submissions(study: str) -> int:
    return len(list(Path(the_order(study).folder).glob("*_submitted.pkl")))


def tracked(study: str) -> list[FoundRun]:
    return runs(open_store(None, home()), study=study)


def statuses(capsys: pytest.CaptureFixture[str], study: str) -> dict[str, tuple[str, str]]:
    """Status and note of each arm."""
    capsys.readouterr()
    commands.status(study)
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    return {row["arm"]: (row["status"], row["note"]) for row in rows}


def assert_trained_once(study: str) -> FoundRun:
    """One run, well ended, of which every metric has every step once, and every epoch."""
    (run,) = tracked(study)
    assert run.status == "FINISHED"
    assert [value for _, value in run.history("epoch/index")] == list(range(EPOCHS))
    for key in run.metrics:
        steps = [step for step, _ in run.history(key)]
        assert len(steps) == len(set(steps)), f"{key} has a step twice"
    return run
