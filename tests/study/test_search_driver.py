"""The driver of a search, with processes that only pretend: how ends are told, and what a driver does that lost one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_up import trials_of, write_study
from made_up_search import made_trials
from optuna.trial import TrialState

from figleaf.study.launch import Active, Outcome
from figleaf.study.search import driver as driver_module
from figleaf.study.search.driver import AskingProcess, Driver, Starter, Work, epoch_values
from figleaf.study.search.storage import Storage, open_storage
from figleaf.study.search.trials import ERROR, SAME_AS, Trials, queue_again


@dataclass
class FakeProcess:
    """Asks after each of `found` (AUROC of an epoch), then ends with the last, or as `code` says."""

    found: list[float]
    code: int = 0
    run_folder: Path | None = None
    error: str = ""
    is_queued: bool = False
    sources: Sequence[Any] = ()
    was_pruned: bool = False
    stopped: bool = False
    before_asking: Callable[[], None] = lambda: None
    _epoch: int = 0

    @property
    def question(self) -> tuple[int, Mapping[str, float]] | None:
        if not self.alive:
            return None
        self.before_asking()
        return self._epoch + 1, {"val_auroc": self.found[self._epoch]}

    def answer(self, *, prune: bool) -> None:
        self.was_pruned, self._epoch = prune, self._epoch + 1

    @property
    def alive(self) -> bool:
        return self._epoch < len(self.found) and not (self.was_pruned or self.stopped)

    @property
    def exitcode(self) -> int | None:
        return None if self.alive else 143 if self.stopped else self.code

    @property
    def result(self) -> Mapping[str, Any] | None:
        is_done = self.exitcode == 0 and not self.was_pruned
        return {"run_id": "r", "metrics": {"val/auroc": self.found[-1]}, "repeated": False} if is_done else None

    def terminate(self) -> None:
        self.stopped = True

    def wait(self, timeout: float | None = None) -> int | None:
        return self.exitcode


@dataclass
class Watch:
    """A display that notes what it is told and how much ran at a time."""

    most: int = 0
    told: list[str] = field(default_factory=list)

    def started(self, active: Active) -> None:
        self.told.append(f"{active.trial.name} started")

    def ended(self, outcome: Outcome) -> None:
        self.told.append(f"{outcome.trial.name} {outcome.error or outcome.note}")

    def tick(self, active: Sequence[Active]) -> None:
        self.most = max(self.most, len(active))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "_POLL_S", 0.0)
    monkeypatch.setattr(driver_module, "_LOOK_S", 0.0)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(str(tmp_path / "journal.log")) as opened:
        yield opened


def drive(
    trials: Trials,
    folder: Path,
    make: Callable[[optuna.Trial], AskingProcess],
    *,
    jobs: int = 1,
    devices: int = 1,
    note: str = "",
) -> Watch:
    config = trials_of(write_study(folder / "some"))[0].config
    watch = Watch()
    starter = Starter(
        configure=lambda trial: Work(f"trial{trial.number}", 1, config, note=note),
        start=lambda work, trial: make(trial),
        is_free=lambda work: True,
        explain=lambda work, process: "it broke",
    )
    Driver(trials, starter, jobs=jobs, devices=devices, display=watch).run()
    return watch


@pytest.mark.parametrize(("jobs", "devices", "at_a_time"), [(1, 1, 1), (3, 1, 3), (4, 2, 2), (1, 2, 1)])
def test_a_trial_counts_its_devices(tmp_path: Path, storage: Storage, jobs: int, devices: int, at_a_time: int) -> None:
    trials = made_trials(tmp_path, storage, 6)
    watch = drive(trials, tmp_path, lambda trial: FakeProcess([0.5, 0.6, 0.7]), jobs=jobs, devices=devices)
    assert watch.most == at_a_time
    assert [(t.state, t.value) for t in trials.counted()] == [(TrialState.COMPLETE, 0.7)] * 6


def test_ends_are_told_as_they_were(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 5, pruner="median", startup=1)
    processes = iter(
        [
            FakeProcess([0.7, 0.8]),
            FakeProcess([0.6, 0.9]),  # worse than the median at first
            FakeProcess([0.7], code=1),
            FakeProcess([0.9, float("nan")]),
            FakeProcess([0.9, 0.95]),
        ]
    )
    watch = drive(trials, tmp_path, lambda trial: next(processes))
    states = [trial.state for trial in trials.counted()]
    complete, failed = TrialState.COMPLETE, TrialState.FAIL
    assert states == [complete, TrialState.PRUNED, failed, failed, complete]
    assert [trial.value for trial in trials.counted()] == [0.8, 0.6, None, None, 0.95]
    assert [trial.user_attrs.get(ERROR) for trial in trials.counted()][2:4] == ["it broke", "its run has no val/auroc"]
    assert "trial1 given up after 1 epoch (" in " ".join(watch.told)


def test_equal_settings_are_trained_once_and_the_later_trial_waits(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 4, space={"model.dropout": [0.0, 0.5]}, sampler="random")
    started: list[dict[str, Any]] = []

    def start(trial: optuna.Trial) -> FakeProcess:
        started.append(trial.params)
        return FakeProcess([0.5, 0.6 + trial.params["model.dropout"]])

    drive(trials, tmp_path, start, jobs=4)
    assert len(started) == len({repr(params) for params in started}) <= 2
    assert [t.value for t in trials.counted()] == [0.6 + t.params["model.dropout"] for t in trials.counted()]
    assert sum(SAME_AS in trial.user_attrs for trial in trials.counted()) == 4 - len(started)


def test_a_driver_stops_the_trial_that_another_has_taken_over(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 1)
    processes: list[FakeProcess] = []

    def lose_it() -> None:
        trial = trials.study.get_trials()[0]
        if trial.state is TrialState.RUNNING:
            trials.study.tell(trial.number, state=TrialState.FAIL)
            queue_again(trials.study, trial)

    def start(trial: optuna.Trial) -> FakeProcess:
        processes.append(FakeProcess([0.5, 0.6], before_asking=lambda: None if processes[1:] else lose_it()))
        return processes[-1]

    watch = drive(trials, tmp_path, start)
    assert [process.stopped for process in processes] == [True, False]
    assert "taken over by another driver" in " ".join(watch.told)
    assert [(t.number, t.value) for t in trials.counted()] == [(1, 0.6)]


def test_values_that_do_not_go_together_fail_and_the_search_goes_on(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 2)
    watch = drive(trials, tmp_path, lambda trial: FakeProcess([0.5]), note="a full head needs 224 pixels")
    assert trials.counts() == {TrialState.FAIL: 2}
    assert "a full head needs 224 pixels" in watch.told[0]


def test_an_interruption_stops_the_processes_and_queues_their_trials(tmp_path: Path, storage: Storage) -> None:
    trials = made_trials(tmp_path, storage, 3)
    processes: list[FakeProcess] = []

    def interrupt() -> None:
        if len(processes) == 2:
            raise KeyboardInterrupt

    def start(trial: optuna.Trial) -> FakeProcess:
        processes.append(FakeProcess([0.5] * 9, before_asking=interrupt))
        return processes[-1]

    with pytest.raises(KeyboardInterrupt):
        drive(trials, tmp_path, start, jobs=2)
    assert [process.stopped for process in processes] == [True, True]
    assert trials.counts() == {TrialState.WAITING: 2}


def test_the_epochs_of_a_run_that_was_there_already_are_read_from_its_journal(tmp_path: Path) -> None:
    rows = ['{"metrics": {"train/loss": 1.0}}', '{"metrics": {"epoch/index": 0.0, "epoch/val_auroc": 0.5}}']
    rows.append('{"metrics": {"epoch/index": 1.0, "epoch/val_auroc": 0.75}}')
    (tmp_path / "journal.jsonl").write_text("\n".join(rows) + "\n")
    assert epoch_values(tmp_path, "val_auroc") == [(1, 0.5), (2, 0.75)]
    assert epoch_values(tmp_path / "nowhere", "val_auroc") == []
