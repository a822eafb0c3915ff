import io
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from made_up import trials_of, write_study
from rich.console import Console
from rich.progress import Progress

from figleaf.errors import FigleafError
from figleaf.study import launch
from figleaf.study.display import LineDisplay, LiveDisplay, duration, seconds_left
from figleaf.study.launch import Active, Failures, Outcome, default_jobs, run_trials
from figleaf.study.plan import Trial


@dataclass
class FakeProcess:
    """Ends after being asked `polls` times whether it lives."""

    polls: int = 2
    code: int = 0
    run_folder: Path | None = None
    error: str = ""
    is_queued: bool = False
    stopped: bool = False

    @property
    def alive(self) -> bool:
        self.polls -= 1
        return self.polls >= 0 and not self.stopped

    @property
    def exitcode(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.stopped = True

    def wait(self, timeout: float | None = None) -> int | None:
        return self.code


@dataclass
class Watch:
    """A display that counts, and may interrupt."""

    interrupt_at: str = ""
    most_slots: int = 0
    log: list[str] = field(default_factory=list)

    def started(self, active: Active) -> None:
        self.log.append(f"started {active.trial.name}")
        if active.trial.name == self.interrupt_at:
            raise KeyboardInterrupt

    def ended(self, outcome: Outcome) -> None:
        self.log.append(f"ended {outcome.trial.name} {outcome.error}".strip())

    def tick(self, active: object) -> None:
        self.most_slots = max(self.most_slots, sum(a.trial.config.trainer.devices for a in active))  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_POLL_S", 0.0)


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    return trials_of(write_study(tmp_path / "made"))[:5]


def explain(trial: Trial, process: object) -> str:
    return f"{trial.name} broke"


def test_a_failing_trial_is_reported_and_the_others_go_on(trials: list[Trial]) -> None:
    watch = Watch()
    outcomes = run_trials(trials, lambda t: FakeProcess(code=int(t.seed == 1)), explain, jobs=2, display=watch)
    assert [o.trial.name for o in outcomes if o.error] == ["vgg11-drop0-1", "vgg11-drop.5-1"]
    assert len(outcomes) == 5
    assert "ended vgg11-drop0-1 vgg11-drop0-1 broke" in watch.log


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_never_more_processes_than_jobs_and_a_trial_counts_its_devices(trials: list[Trial], jobs: int) -> None:
    two_devices = replace(trials[2].config, trainer=replace(trials[2].config.trainer, devices=2))
    trials[2] = replace(trials[2], config=two_devices)
    watch = Watch()
    outcomes = run_trials(trials, lambda t: FakeProcess(polls=3), explain, jobs=jobs, display=watch)
    assert len(outcomes) == 5
    assert watch.most_slots == max(jobs, 2)  # alone with its two processes where one job is allowed
    assert watch.log.index("started vgg11-drop0-2") < watch.log.index("started vgg11-drop.5-0")


def test_an_interruption_stops_every_trial_at_work(trials: list[Trial]) -> None:
    processes: list[FakeProcess] = []

    def start(trial: Trial) -> FakeProcess:
        processes.append(FakeProcess(polls=1000))
        return processes[-1]

    with pytest.raises(KeyboardInterrupt):
        run_trials(trials, start, explain, jobs=2, display=Watch(interrupt_at="vgg11-drop0-1"))
    assert [process.stopped for process in processes] == [True, True]


def test_the_wait_in_a_queue_is_no_time_of_the_trial(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    clock = [begin]
    monkeypatch.setattr(launch.time, "monotonic", lambda: clock[0])
    process = FakeProcess(polls=8, is_queued=True)

    class Cluster(Watch):
        def tick(self, active: object) -> None:
            clock[0] += 10
            process.is_queued = clock[0] < begin + 50

    (outcome,) = run_trials(trials[:1], lambda t: process, explain, jobs=1, display=Cluster())
    assert clock[0] >= begin + 80
    assert 0 < outcome.seconds <= 50


def test_epochs_are_read_from_the_journal_and_survive_its_being_cut_back(trials: list[Trial], tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    active = Active(trials[0], FakeProcess(run_folder=tmp_path))
    assert active.epochs == 0

    def rows(*epochs: int) -> str:
        lines = [{"step": 1, "time_ms": 1, "metrics": {"train/loss": 1.0}}]
        lines += [{"step": e, "time_ms": 1, "metrics": {"epoch/index": float(e)}} for e in epochs]
        return "".join(json.dumps(line) + "\n" for line in lines)

    journal.write_text(rows(0, 1) + '{"step": 9, "metrics": {"epoch/ind')
    assert active.epochs == 2
    journal.write_text(rows(0, 1, 2))
    assert active.epochs == 3
    assert active.fraction == pytest.approx(3 / trials[0].config.trainer.epochs)
    journal.write_text(rows(0))
    assert active.epochs == 1


def test_time_left_counts_what_runs_and_what_waits(trials: list[Trial]) -> None:
    active = [Active(trials[0], FakeProcess())]
    assert seconds_left([], active, waiting=3, jobs=2) is None
    ended = [Outcome(trials[1], 100.0), Outcome(trials[2], 1.0, "failed at once")]
    assert seconds_left(ended, active, waiting=3, jobs=2) == pytest.approx(200)
    assert seconds_left(ended, active, waiting=0, jobs=2) == pytest.approx(100)  # the last one has to end
    assert [duration(s) for s in (42, 185, 7620)] == ["42 s", "3 min 05 s", "2 h 07 min"]


def test_a_log_gets_a_line_an_event_and_a_terminal_gets_bars(trials: list[Trial]) -> None:
    for live in (False, True):
        console = Console(file=io.StringIO(), force_terminal=live, width=200)
        with Progress(console=console, auto_refresh=False) as progress:
            display = LiveDisplay("made", 2, 2, progress) if live else LineDisplay(2, console)
            active = Active(trials[0], FakeProcess())
            display.started(active)
            display.tick([active])
            display.ended(Outcome(trials[0], 61.0, "[red]ValueError[/red]"))
            display.tick([])
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "vgg11-drop0-0: failed after 1 min 01 s: [red]ValueError[/red]" in text
        assert ("[1/2]" in text) is not live


def test_two_trials_at_a_time_on_the_cpu_and_one_on_a_gpu(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert default_jobs(trials) == 2
    on_gpu = replace(trials[0].config, trainer=replace(trials[0].config.trainer, accelerator="gpu"))
    assert default_jobs([*trials, replace(trials[0], config=on_gpu)]) == 1
    monkeypatch.setattr(launch, "usable_cores", lambda: 1)
    assert default_jobs(trials) == 1


def test_a_failing_trial_is_tried_again_as_often_as_asked_and_behind_the_others(trials: list[Trial]) -> None:
    fails = iter([1, 1, 0])
    watch = Watch()

    def start(trial: Trial) -> FakeProcess:
        return FakeProcess(code=next(fails) if trial is trials[0] else 0)

    outcomes = run_trials(trials[:2], start, explain, jobs=1, display=watch, failures=Failures(retries=2))
    assert [(o.trial.name, bool(o.error)) for o in outcomes] == [
        (trials[0].name, True),
        (trials[1].name, False),
        (trials[0].name, True),
        (trials[0].name, False),
    ]


def test_a_failure_stops_the_others_when_asked(trials: list[Trial]) -> None:
    processes: dict[str, FakeProcess] = {}

    def start(trial: Trial) -> FakeProcess:
        return processes.setdefault(trial.name, FakeProcess(code=1) if trial is trials[0] else FakeProcess(polls=1000))

    outcomes = run_trials(trials, start, explain, jobs=2, display=Watch(), failures=Failures(stop=True))
    assert [o.trial.name for o in outcomes] == [trials[0].name]
    assert list(processes) == [trials[0].name, trials[1].name]
    assert processes[trials[1].name].stopped


def test_the_failure_policy_is_read_or_named() -> None:
    assert [Failures.parse(text) for text in ("continue", "stop", "retry=2")] == [
        Failures(),
        Failures(stop=True),
        Failures(retries=2),
    ]
    for text in ("retry", "retry=", "retry=-1", "stop=1", "go"):
        with pytest.raises(FigleafError, match=f"on-failure={text}"):
            Failures.parse(text)
