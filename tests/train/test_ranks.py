"""Two processes train and evaluate what one does; no rank and no trial is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from figleaf.config import TrainConfig, compose
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions
from figleaf.tracking.record import RunRecord
from figleaf.train.launch import _free_port, start_trial

pytestmark = pytest.mark.ddp

# No batch norm, no dropout: what a sample does must not depend on which process it is in. Ten steps.
OVERRIDES = [
    "data=digits",
    "model=debug",
    "model.batch_norm=false",
    "model.dropout=0",
    "optimizer.batch_size=100",
    "optimizer.lr=0.02",
    "trainer.max_steps=10",
    "trainer.intervals=0",
    "trainer.threads=1",
]


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Train in processes of its own and give the run folder."""
    monkeypatch.setenv("FIGLEAF_HOME", str(home))
    trial = start_trial(compose("train", [*OVERRIDES, *overrides]), log=home / "log.txt")
    assert trial.wait(240) == 0, (home / "log.txt").read_text()
    assert trial.run_folder is not None
    return trial.run_folder


def test_two_processes_give_the_weights_and_the_evaluation_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(tmp_path / "one", monkeypatch)
    two = run(tmp_path / "two", monkeypatch, "trainer=ddp_cpu")
    weights = [load_file(folder / "checkpoints" / "best.safetensors") for folder in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-4, rtol=0)
    tables = [Predictions.load(folder / "predictions.parquet").table for folder in (one, two)]
    assert list(tables[0]["sample_id"]) == list(tables[1]["sample_id"])
    assert tables[1]["sample_id"].is_unique, "each sample once"
    assert (tables[0]["score"] - tables[1]["score"]).abs().max() < 1e-4


def test_killed_rank_takes_the_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path))
    endless = [*OVERRIDES[:-3], "trainer.max_steps=1000000", "trainer=ddp_cpu", "trainer.threads=1"]
    trial = start_trial(compose("train", endless), log=tmp_path / "log.txt")
    journal = wait_for(lambda: next(iter(tmp_path.glob("runs/*/journal.jsonl")), None))
    wait_for(lambda: journal.stat().st_size > 0)
    os.kill(trial._ranks[1].pid or 0, signal.SIGKILL)
    killed = time.monotonic()
    assert trial.wait(60) not in (None, 0)
    assert time.monotonic() - killed < 30


def test_ranks_that_are_told_to_stop_leave_by_themselves_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path))
    endless = [*OVERRIDES[:-3], "trainer.max_steps=1000000", "trainer=ddp_cpu", "trainer.threads=1"]
    trial = start_trial(compose("train", endless), log=tmp_path / "log.txt")
    journal = wait_for(lambda: next(iter(tmp_path.glob("runs/*/journal.jsonl")), None))
    wait_for(lambda: journal.stat().st_size > 0)
    trial.terminate()
    assert trial.wait(60) not in (None, 0, -signal.SIGKILL)
    record = RunRecord.load(journal.parent)
    assert record is not None
    assert record.outcome == "KILLED"


def test_trial_does_not_outlive_its_driver(tmp_path: Path) -> None:
    script = (
        "import sys; from figleaf.config import compose; from figleaf.train.launch import _free_port, start_trial\n"
        "trial = start_trial(compose('train', sys.argv[1:]), log=__import__('pathlib').Path('log.txt'))\n"
        "print(trial._ranks[0].pid, flush=True); trial.wait()"
    )
    endless = [*OVERRIDES[:-3], "trainer.max_steps=1000000", "trainer.threads=1"]
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *endless], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=dict(os.environ)
    )
    assert driver.stdout is not None
    rank = psutil.Process(int(driver.stdout.readline()))
    home = Path(os.environ["FIGLEAF_HOME"])
    wait_for(lambda: next(iter(home.glob("runs/*/journal.jsonl")), None))
    driver.kill()
    driver.wait()
    rank.wait(30)


def test_failure_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path))
    trial = start_trial(compose("train", [*OVERRIDES, "model.weights=missing.npz"]), log=tmp_path / "log.txt")
    assert trial.wait(120) == 2
    assert "missing.npz" in trial.error
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "mlflow.db").exists(), "a run was opened that could only fail"


def test_several_machines_are_left_to_torchrun() -> None:
    config: TrainConfig = compose("train", [*OVERRIDES, "trainer.num_nodes=2"])
    with pytest.raises(FigleafError, match=r"figleaf\.train\.worker"):
        start_trial(config)


def test_torchrun_starts_ranks_too(tmp_path: Path) -> None:
    config = subprocess.run(
        [sys.executable, "-m", "figleaf.cli", "train", *OVERRIDES, "trainer=ddp_cpu", "--print-config"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "config.json").write_text(config)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    worker = [f"--master-port={_free_port()}", "-m", "figleaf.train.worker", str(tmp_path / "config.json")]
    done = subprocess.run([*launcher, *worker], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('"run_id"') == 1


def wait_for(condition, seconds: float = 120):  # type: ignore[no-untyped-def]
    """What `condition` gives, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")
