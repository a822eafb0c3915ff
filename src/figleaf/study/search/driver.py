"""Running a search: so many trials at a time, each a training in processes of its own that asks after every epoch."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from figleaf.study.launch import Active, Display, Outcome, Process, stop
from figleaf.study.plan import Trial
from figleaf.study.search.trials import EPOCHS, ERROR, HARDWARE, RUN_ID, Trials
from figleaf.tracking.record import RunRecord

_POLL_S = 0.2
_LOOK_S = 2.0  # how often others' trials are looked at while there is nothing to start


class AskingProcess(Process, Protocol):
    """A trial at work that asks after every epoch, as `figleaf.train.launch.start_trial` gives it with `asks`."""

    @property
    def sources(self) -> Sequence[Any]:
        """What `multiprocessing.connection.wait` waits for."""

    @property
    def question(self) -> tuple[int, Mapping[str, float]] | None:
        """Finished epochs and the last validation, while it waits for an answer."""

    @property
    def was_pruned(self) -> bool:
        """Whether it was given up."""

    @property
    def result(self) -> Mapping[str, Any] | None:
        """`run_id`, `metrics` and `repeated` of the finished run."""

    def answer(self, *, prune: bool) -> None:
        """Answer the question."""


class Work(Trial):
    """A trial of a search as a study's displays see one: an arm of its own, `note` says why it cannot be configured."""

    @property
    def name(self) -> str:
        """The arm's: all trials of a search have the same seed."""
        return self.arm


@dataclass
class _Attempt:
    """A trial in this driver's hands; `work` is its configuration and `process` there once it could be started."""

    trial: optuna.Trial
    work: Work
    process: AskingProcess | None = None
    active: Active | None = None
    is_lost: bool = False  # another driver took this one for dead
    looked: float = field(default=-math.inf)


@dataclass(frozen=True)
class Starter:
    """How a search's trials are configured and started on this machine."""

    configure: Callable[[optuna.Trial], Work]  # with a note when no run can be configured so
    start: Callable[[Work, optuna.Trial], AskingProcess]
    is_free: Callable[[Work], bool]  # whether no other process works in its run folder
    explain: Callable[[Work, AskingProcess], str]  # why it failed


class Driver:
    """Runs trials of a search until there are none left, at most `jobs` // `devices` at a time, at least one.

    With `waits`, it stays until the last trial of the other drivers has ended, to take over those that die.
    """

    def __init__(
        self, trials: Trials, starter: Starter, *, jobs: int, devices: int, display: Display, waits: bool = True
    ) -> None:
        self._trials, self._starter, self._display, self._waits = trials, starter, display, waits
        self._at_a_time = max(1, jobs // devices)
        space = trials.space
        self._epoch_key = space.section.epoch_key(space.study.select.key)
        self._attempts: list[_Attempt] = []
        self._next_look = -math.inf
        self.outcomes: list[Outcome] = []

    def run(self) -> None:
        """Run them. Whatever ends this early, Ctrl-C for instance, first stops the trials and queues them again."""
        try:
            while self._take_up() or self._attempts:
                for attempt in tuple(self._attempts):
                    self._look_after(attempt)
                self._display.tick([a.active for a in self._attempts if a.active is not None])
                wait([source for a in self._attempts if a.process for source in a.process.sources], _POLL_S)
        finally:
            self._stop()

    def _take_up(self) -> bool:
        """Take new trials; whether there may be more later."""
        if len(self._attempts) >= self._at_a_time or time.monotonic() < self._next_look:
            return True
        while len(self._attempts) < self._at_a_time:
            trial = self._trials.next()
            if trial is None:
                self._next_look = time.monotonic() + _LOOK_S
                counts = self._trials.counts()
                return self._waits and counts[TrialState.RUNNING] + counts[TrialState.WAITING] > 0
            attempt = _Attempt(trial, self._starter.configure(trial))
            self._attempts.append(attempt)
            if attempt.work.note:
                self._trials.tell(trial, TrialState.FAIL, notes={ERROR: attempt.work.note})
                self._leave(attempt, 0.0, note="", error=attempt.work.note)
        return True

    def _look_after(self, attempt: _Attempt) -> None:
        process = attempt.process
        if process is None:
            self._begin(attempt)
            return
        if (question := process.question) is not None:
            epochs, validation = question
            value = None if self._epoch_key is None else validation.get(self._epoch_key)
            verdict = self._trials.report(attempt.trial, epochs, value)
            if verdict is None:
                attempt.is_lost = True
                process.terminate()
            process.answer(prune=bool(verdict))
        if not process.alive:
            self._end(attempt, process)

    def _begin(self, attempt: _Attempt) -> None:
        """Start a trial's processes, once nobody else is at the same settings or in the same folder."""
        if time.monotonic() - attempt.looked < _LOOK_S:
            return
        attempt.looked = time.monotonic()
        twin = self._trials.twin(attempt.trial)
        if twin is not None and twin.state is TrialState.RUNNING:
            self._trials.look_for_the_dead()
        elif twin is not None:
            self._trials.copy(attempt.trial, twin)
            self._leave(attempt, 0.0, note=f"same as trial{twin.number}", error="")
        elif self._starter.is_free(attempt.work):
            attempt.process = self._starter.start(attempt.work, attempt.trial)
            attempt.active = Active(attempt.work, attempt.process)
            self._display.started(attempt.active)

    def _end(self, attempt: _Attempt, process: AskingProcess) -> None:
        """Tell the storage how a trial ended."""
        trial, metric = attempt.trial, self._trials.metric
        notes: dict[str, Any] = {RUN_ID: _run_id(process.run_folder)}
        if hardware := _hardware(process.run_folder):
            notes[HARDWARE] = hardware
        result, note, error = process.result, "", ""
        if attempt.is_lost:
            error = "taken over by another driver: this one was silent for too long"
        elif process.exitcode == 0 and process.was_pruned:
            epochs = max(self._reported(trial), default=0)
            note = f"given up after {epochs} epoch{'s' * (epochs > 1)}"
            self._trials.tell(trial, TrialState.PRUNED, notes={**notes, EPOCHS: epochs})
        elif process.exitcode == 0 and result is not None and math.isfinite(result["metrics"].get(metric, math.nan)):
            value = result["metrics"][metric]
            if result["repeated"] and self._epoch_key is not None and process.run_folder is not None:
                for epochs, earlier in epoch_values(process.run_folder, self._epoch_key):
                    self._trials.report(trial, epochs, earlier)
            note = f"{metric} {value:.4f}"
            self._trials.tell(
                trial, TrialState.COMPLETE, value, {**notes, EPOCHS: max(self._reported(trial), default=0)}
            )
        else:
            error = (
                f"its run has no {metric}" if process.exitcode == 0 else self._starter.explain(attempt.work, process)
            )
            self._trials.tell(trial, TrialState.FAIL, notes={**notes, ERROR: error})
        assert attempt.active is not None, "it was started"
        self._leave(attempt, attempt.active.seconds, note, error)

    def _leave(self, attempt: _Attempt, seconds: float, note: str, error: str) -> None:
        settings = " ".join(self._trials.space.overrides(attempt.trial.params))
        self._attempts.remove(attempt)
        self.outcomes.append(
            Outcome(attempt.work, seconds, f"{error} ({settings})" * bool(error), f"{note} ({settings})")
        )
        self._display.ended(self.outcomes[-1])

    def _reported(self, trial: optuna.Trial) -> list[int]:
        return list(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def _stop(self) -> None:
        try:
            stop([attempt.process for attempt in self._attempts if attempt.process is not None])
            for attempt in tuple(self._attempts):
                if attempt.process is not None and attempt.process.exitcode == 0:
                    self._end(attempt, attempt.process)  # it was faster
        finally:
            if left := [attempt.trial for attempt in self._attempts if not attempt.is_lost]:
                self._trials.hand_back(left)


def epoch_values(folder: Path, key: str) -> list[tuple[int, float]]:
    """(Finished epochs, value) of every epoch in a run folder's journal whose validation has `key`."""
    journal = folder / "journal.jsonl"
    rows = [json.loads(line)["metrics"] for line in journal.read_bytes().splitlines()] if journal.exists() else []
    return [(int(row["epoch/index"]) + 1, float(row[f"epoch/{key}"])) for row in rows if f"epoch/{key}" in row]


def _run_id(folder: Path | None) -> str:
    record = None if folder is None else RunRecord.load(folder)
    return "" if record is None or record.run_id is None else record.run_id


def _hardware(folder: Path | None) -> dict[str, Any]:
    """The machine that the run says it was trained on; empty where it got no further than its configuration."""
    file = None if folder is None else folder / "hardware.json"
    return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
