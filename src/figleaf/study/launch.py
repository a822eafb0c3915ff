"""Running what is due: so many trials at a time, each a process of its own; when one fails the others go on."""

import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from figleaf.errors import FigleafError
from figleaf.study.plan import Trial

_POLL_S = 0.2
_STOP_S = 60.0  # a trial that is told to stop may finish writing a checkpoint of a gigabyte


class Process(Protocol):
    """A trial at work, as `figleaf.train.launch.start_trial` gives it."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    @property
    def exitcode(self) -> int | None:
        """0 after success, None while it runs."""

    @property
    def run_folder(self) -> Path | None:
        """Where the run keeps its files, once it is known."""

    @property
    def error(self) -> str:
        """Why it failed, in one line, when it could say so."""

    @property
    def is_queued(self) -> bool:
        """Whether it still waits for its turn."""

    def terminate(self) -> None:
        """Ask it to stop; it goes on from there another time."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, at most `timeout` seconds."""


@dataclass
class Active:
    """A trial at work and how far it is."""

    trial: Trial
    process: Process
    started: float = field(default_factory=time.monotonic)
    _offset: int = 0
    _epochs: int = 0

    @property
    def seconds(self) -> float:
        """Since it was started here, or last waited in a queue."""
        return time.monotonic() - self.started

    @property
    def epochs(self) -> int:
        """Finished epochs, by the rows that its journal has gained since it was last asked."""
        folder = self.process.run_folder
        journal = None if folder is None else folder / "journal.jsonl"
        if journal is None or not journal.exists():
            return self._epochs
        if journal.stat().st_size < self._offset:  # cut back by a resume
            self._offset = 0
        with journal.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if b'"epoch/index"' in line:
                    self._epochs = int(json.loads(line)["metrics"]["epoch/index"]) + 1
        return self._epochs

    @property
    def fraction(self) -> float:
        """Finished part of the training, 0 to 1."""
        return min(1.0, self.epochs / max(1, self.trial.config.trainer.epochs))


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `error` is empty after success, of which `note` says more."""

    trial: Trial
    seconds: float
    error: str = ""
    note: str = "done"


@dataclass(frozen=True)
class Failures:
    """What to do when a trial fails: go on with the others, stop them, or try it again so many times and go on."""

    stop: bool = False
    retries: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `continue`, `stop` or `retry=N`. Raises `FigleafError` for anything else."""
        word, _, number = text.partition("=")
        if text in ("continue", "stop"):
            return cls(stop=text == "stop")
        if word == "retry" and number.isdecimal():
            return cls(retries=int(number))
        raise FigleafError(f"on-failure={text}: expected continue, stop or retry=N, such as retry=2")


class Display(Protocol):
    """What is told while trials run."""

    def started(self, active: Active) -> None:
        """A trial has been started."""

    def ended(self, outcome: Outcome) -> None:
        """A trial has ended."""

    def tick(self, active: Sequence[Active]) -> None:
        """Called a few times a second with the trials at work."""


def devices_of(trial: Trial) -> int:
    """The processes of a trial on one machine."""
    return trial.config.trainer.devices


def run_trials(
    trials: Sequence[Trial],
    start: Callable[[Trial], Process],
    explain: Callable[[Trial, Process], str],
    keep: Callable[[Trial, Process], None] = lambda trial, process: None,
    *,
    jobs: int,
    slots: Callable[[Trial], int] = devices_of,
    display: Display,
    failures: Failures = Failures(),  # frozen
) -> list[Outcome]:
    """Run `trials`, at most `jobs` at a time, and say how each attempt ended, in the order of their ends.

    A trial counts as `slots` says, by default as one process a device, and runs alone when that is more than `jobs`.
    `start` starts one; `explain` says why one failed; `keep` takes what a finished one has made. Whatever ends this
    function early, Ctrl-C for instance, first stops the trials at work; they can be resumed.
    """
    waiting, active, outcomes, attempts = deque(trials), list[Active](), list[Outcome](), Counter[str]()
    try:
        while waiting or active:
            while waiting and (not active or sum(slots(a.trial) for a in active) + slots(waiting[0]) <= jobs):
                trial = waiting.popleft()
                active.append(Active(trial, start(trial)))
                display.started(active[-1])
            for one in [a for a in active if not a.process.alive]:
                active.remove(one)
                error = "" if one.process.exitcode == 0 else explain(one.trial, one.process)
                if not error:
                    keep(one.trial, one.process)
                outcomes.append(Outcome(one.trial, one.seconds, error))
                display.ended(outcomes[-1])
                attempts[one.trial.name] += 1
                if error and failures.stop:
                    return outcomes
                if error and attempts[one.trial.name] <= failures.retries:
                    waiting.append(one.trial)  # behind the others: what made it fail may have passed by then
            for one in active:
                if one.process.is_queued:
                    one.started = time.monotonic()
            display.tick(active)
            time.sleep(_POLL_S)
    finally:
        stop([one.process for one in active])
    return outcomes


def default_jobs(trials: Sequence[Trial]) -> int:
    """Two trials at a time on the CPU, where one alone leaves cores waiting; one where they would share a GPU."""
    on_gpu = any(trial.config.trainer.accelerator == "gpu" for trial in trials)
    return 1 if on_gpu else max(1, min(2, usable_cores()))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stop(processes: Sequence[Process]) -> None:
    """Ask trials at work to stop, say so, and wait until they have.

    A second Ctrl-C ends the waiting by `KeyboardInterrupt`; what has been asked to stop then does so by itself.
    """
    for process in processes:
        process.terminate()
    if at_work := sum(process.alive for process in processes):
        trials = f"{at_work} trials, which go" if at_work > 1 else "a trial, which goes"
        told = f"stopping {trials} on another time; Ctrl-C again does not wait for the end"
        print(told, file=sys.stderr, flush=True)
    deadline = time.monotonic() + _STOP_S
    for process in processes:
        process.wait(max(0.0, deadline - time.monotonic()))
