"""Where jobs wait and run: SLURM's queue, or, to rehearse, processes of this machine; submitit submits to either.

Only submissions and what a job knows of itself go through submitit. How a job is doing is asked of SLURM directly:
submitit would ask `sacct` alone, which is minutes late and not on every cluster, and would read pickles.
"""

import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import psutil

from figleaf.errors import FigleafError
from figleaf.study.cluster.ledger import Order, Stage

_ASK_S = 10.0  # SLURM's controller serves a whole cluster: one question for all jobs, not too often
_ASK_WHEN_STOPPING_S = 2.0
_ANSWER_S = 60.0
_CLOCKS_DIFFER_S = 1.0


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"  # it cannot be asked for now, or not from this machine


@dataclass(frozen=True)
class Ending:
    """Why a job that told no end is gone: the `reason` in words, and whether the cluster `sent_away` a sound trial."""

    reason: str
    sent_away: bool = False


class Queue(Protocol):
    """A place for jobs. An order's `job_id` must be known for all but `submit`.

    What a job wrote before it was gone may be seen here only `settle_s` seconds later.
    """

    settle_s: float

    def submit(self, call: Any, folder: Path, parameters: Mapping[str, Any], max_requeues: int) -> str:
        """Have `call()` made by a job, once in each task; the job's id. Its scripts and logs go to `folder`.

        Raises `FigleafError` with the queue's words when it refuses the job.
        """

    def state(self, order: Order) -> State:
        """Where the order's job is."""

    def cancel(self, order: Order) -> None:
        """Ask it to stop, if it is there."""

    def ending(self, order: Order, stage: Stage | None) -> Ending:
        """Why a job is gone that told no end; its last word was `stage`, None when it never said one."""


def queue_of(executor: str) -> Queue:
    """The queue of an executor: `slurm` or `local-process`."""
    return SlurmQueue() if executor == "slurm" else ProcessQueue()


class SlurmQueue:
    """SLURM, by its commands `sbatch` (through submitit), `squeue`, `scancel` and `sacct`."""

    settle_s = 20.0  # network file systems

    def __init__(self) -> None:
        self._pause_s = _ASK_S
        self._watched: set[str] = set()
        self._asked_for: set[str] = set()
        self._asked = -math.inf
        self._states: dict[str, State] = {}

    def submit(self, call: Any, folder: Path, parameters: Mapping[str, Any], max_requeues: int) -> str:
        """See `Queue`."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = SlurmExecutor(folder, max_num_timeout=max_requeues)
            executor.update_parameters(**parameters)
            job_id: str = executor.submit(call).job_id
        except (FailedJobError, FailedSubmissionError, RuntimeError, ValueError, OSError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise FigleafError(
                f"sbatch does not take the job: {said}; correct launcher.*, or rehearse without a cluster with "
                "launcher.executor=local-process"
            ) from error
        self._watched.add(job_id)
        return job_id

    def state(self, order: Order) -> State:
        """See `Queue`; at most `_ASK_S` seconds old."""
        job_id = _id(order)
        self._watched.add(job_id)
        if job_id not in self._asked_for or time.monotonic() - self._asked > self._pause_s:
            self._ask()
        state = self._states.get(job_id, State.UNKNOWN)
        if state is State.GONE:  # job ids are not used again for years
            self._watched.discard(job_id)
        return state

    def cancel(self, order: Order) -> None:
        """See `Queue`."""
        _answer(["scancel", _id(order)])
        self._asked, self._pause_s = -math.inf, _ASK_WHEN_STOPPING_S

    def ending(self, order: Order, stage: Stage | None) -> Ending:
        """See `Queue`."""
        options = ["--allocations", "--noheader", "--parsable2", "--format", "State"]
        answer = _answer(["sacct", "--jobs", _id(order), *options])
        words = answer.text.split() if answer.is_good else []  # such as "CANCELLED by 1000"
        word = words[0] if words and words[0] not in _LATE else ""
        if word in _REASONS:
            return Ending(_REASONS[word], sent_away=word in _SENT_AWAY)
        if stage is None:
            return Ending(
                f"its job {f'ended as {word}' if word else 'was gone'} before the trial began; FIGLEAF_HOME="
                f"{order.home} and the Python environment must be on a file system that all nodes share"
            )
        if stage is Stage.STOPPED:
            # SLURM knows of no cancellation: the job had to make room, and left before it could be requeued.
            return Ending("its job was told to stop (SIGTERM)", sent_away=word == "FAILED")
        return Ending(f"its job ended{f' as {word}' if word else ''} without a word")

    def _ask(self) -> None:
        asked_for = frozenset(self._watched)
        answer = _answer(["squeue", "--noheader", "--format", "%A %T", "--jobs", ",".join(sorted(asked_for))])
        self._asked, self._asked_for = time.monotonic(), set(asked_for)
        # Of a single job that is long gone squeue knows nothing and says so with an error.
        if not answer.is_good and "Invalid job id" not in answer.complaint:
            return  # the controller does not answer: what was known stays
        listed = dict(line.split(maxsplit=1) for line in answer.text.splitlines() if len(line.split()) > 1)
        waits = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
        for job_id in asked_for:
            word = listed.get(job_id)
            self._states[job_id] = (
                State.GONE if word is None else State.QUEUED if word.strip() in waits else State.RUNNING
            )


_REASONS = {
    "CANCELLED": "its job was cancelled",
    "TIMEOUT": "its time was up before it could be requeued; raise launcher.signal_delay_s or launcher.timeout_min",
    "OUT_OF_MEMORY": "its job needed more memory than it was given; raise launcher.mem_gb",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "its job made room for a more urgent one",
}
_SENT_AWAY = ("NODE_FAIL", "PREEMPTED")
_LATE = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")  # accounting has not heard of the end yet


class ProcessQueue:
    """Processes of this machine, each job with one of submitit's that starts its tasks and requeues them."""

    settle_s = 0.0

    def submit(self, call: Any, folder: Path, parameters: Mapping[str, Any], max_requeues: int) -> str:
        """See `Queue`."""
        from submitit import LocalExecutor

        executor = LocalExecutor(folder, max_num_timeout=max_requeues)
        executor.update_parameters(**parameters)
        job_id: str = executor.submit(call).job_id
        return job_id

    def state(self, order: Order) -> State:
        """See `Queue`."""
        if order.host != socket.gethostname():
            return State.UNKNOWN
        try:
            process = psutil.Process(int(_id(order)))
            is_it = process.create_time() < order.submitted + _CLOCKS_DIFFER_S  # or else it inherited the number
            return State.RUNNING if is_it and process.status() != psutil.STATUS_ZOMBIE else State.GONE
        except psutil.NoSuchProcess:
            return State.GONE

    def cancel(self, order: Order) -> None:
        """See `Queue`."""
        if self.state(order) is State.RUNNING:
            with suppress(ProcessLookupError):
                os.kill(int(_id(order)), signal.SIGTERM)

    def ending(self, order: Order, stage: Stage | None) -> Ending:
        """See `Queue`."""
        return Ending("it was told to stop (SIGTERM)" if stage is Stage.STOPPED else "its processes are gone")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C is raised at the end, and what is started meanwhile never hears of it: a terminal sends it to everybody.

    An interrupted `sbatch` would leave a job whose number nobody knows. And submitit's own process ends its tasks by
    SIGKILL a second after Ctrl-C, before a run can say how it ended: the driver alone says what is stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit this, but no handler
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if noted:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class _Answer:
    is_good: bool
    text: str
    complaint: str


def _answer(command: list[str]) -> _Answer:
    """What one of SLURM's commands says; a command that is not there, or hangs, has only a complaint."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Answer(False, "", str(error))
    return _Answer(done.returncode == 0, done.stdout, done.stderr)


def _id(order: Order) -> str:
    assert order.job_id is not None, "the job is known"
    return order.job_id
