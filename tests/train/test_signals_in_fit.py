"""While a training runs, Lightning answers no signal: a run says itself how it ended, a job is requeued by its own."""

import signal
from collections.abc import Mapping

import pytest

from figleaf.config import compose
from figleaf.train.task import train

BRIEF = ["data=digits", "model=debug", "trainer.max_steps=2", "trainer.intervals=0", "trainer.threads=1"]
SLURM_JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "study-arm-0",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def test_in_a_slurm_job_nothing_of_lightnings_requeues_or_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM_JOB.items():
        monkeypatch.setenv(name, value)
    handlers = {}

    def look(epochs: int, validation: Mapping[str, float]) -> bool:
        handlers.update({number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)})
        return False

    before = signal.getsignal(signal.SIGUSR1)
    train(compose("train", BRIEF), ask=look)
    assert handlers[signal.SIGUSR1] == before
    assert handlers[signal.SIGTERM].__module__ == "figleaf.tracking.signals"
