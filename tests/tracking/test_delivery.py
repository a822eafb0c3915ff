import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from watching import history

from figleaf.tracking.delivery import Delivery, Message, Outbox
from figleaf.tracking.journal import MetricJournal
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store


class Tracker:
    """A tracker's client that keeps what it gets in `metrics` and fails while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.calls = 0
        self.metrics: list[Metric] = []
        self.tags: dict[str, str] = {}
        self.files: list[str] = []

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self.calls += 1
        if self.away:
            raise MlflowException("connection refused")
        assert len(metrics) <= 1000
        self.metrics += metrics
        self.tags.update({tag.key: tag.value for tag in tags})

    def log_artifact(self, run_id: str, path: str, into: str | None) -> None:
        self.log_batch(run_id)
        self.files.append(Path(path).read_text())


@pytest.fixture
def journal(tmp_path: Path) -> MetricJournal:
    return MetricJournal(tmp_path / "run" / "journal.jsonl")


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def deliver(tracker: Tracker, journal: MetricJournal) -> Delivery:
    delivery = Delivery(tracker, "run", journal, Outbox(journal.path.parent))
    delivery.start()
    return delivery


def eventually(fact: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.01)
    return fact()


def test_mlflow_swallows_rows_it_already_has_so_a_replay_doubles_nothing(
    start: Callable[..., TrackedRun], store: Store
) -> None:
    values = [0.5, -0.0, math.nan, math.inf, -math.inf, 1 / 3, 5e-324]
    rows = [Metric("loss", value, 1_000 + step, step) for step, value in enumerate(values)]
    with start() as run:
        store.client.log_batch(run.run_id, metrics=rows[:4])
        store.client.log_batch(run.run_id, metrics=rows)  # some of them new
        store.client.log_batch(run.run_id, metrics=rows)
        store.client.log_batch(run.run_id, metrics=rows[::-1])
    received = history(store, run.run_id, "loss")
    assert [step for step, _ in received] == list(range(len(values)))
    assert [value for _, value in received if math.isfinite(value)][:2] == [0.5, 0.0]
    assert store.client.get_run(run.run_id).data.metrics["loss"] == 5e-324  # the latest step's, not the latest call's


def test_only_committed_rows_leave_and_they_leave_by_themselves(
    deliver: Delivery, journal: MetricJournal, tracker: Tracker
) -> None:
    journal.append({"loss": 1.0}, 1, time_ms=10)
    covered = journal.offset
    journal.append({"loss": 2.0}, 2, time_ms=20)
    journal.commit(covered)
    assert eventually(lambda: journal.all_delivered)
    assert [(m.step, m.timestamp, m.value) for m in tracker.metrics] == [(1, 10, 1.0)]
    assert deliver.close(5)
    assert len(tracker.metrics) == 1


def test_a_backlog_and_a_line_beyond_the_limit_of_a_call_arrive_whole(
    deliver: Delivery, journal: MetricJournal, tracker: Tracker
) -> None:
    for step in range(1500):
        journal.append({"a": step, "b": -step}, step)
    journal.append({f"class/{index}": 0.5 for index in range(2500)}, 1500)
    journal.commit()
    assert deliver.close(10)
    assert len(tracker.metrics) == 3000 + 2500
    assert [metric.value for metric in tracker.metrics if metric.key == "a"] == list(range(1500))


def test_while_the_tracker_is_away_training_goes_on_and_afterwards_all_arrives(
    deliver: Delivery, journal: MetricJournal, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.away = True
    for step in range(5):
        journal.append({"loss": step}, step)
        journal.commit()
    assert eventually(lambda: tracker.calls >= 2)
    assert not tracker.metrics
    tracker.away = False
    assert eventually(lambda: journal.all_delivered)
    assert [metric.step for metric in tracker.metrics] == list(range(5))
    assert deliver.close(1)
    assert [record.getMessage() for record in caplog.records] == [
        f"the tracker takes nothing (connection refused); training goes on, metrics wait in {journal.path}"
    ]


def test_a_hanging_tracker_holds_up_neither_training_nor_the_end_beyond_its_time(
    journal: MetricJournal, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(tracker, "log_batch", lambda *_, **__: release.wait(30))
    delivery = Delivery(tracker, "run", journal, Outbox(journal.path.parent))
    delivery.start()
    began = time.monotonic()
    for step in range(20):
        journal.append({"loss": step}, step)
        journal.commit()
    assert not delivery.close(0.3)
    assert time.monotonic() - began < 5
    assert journal.waiting == 20
    release.set()
    delivery.join(5)


def test_closing_while_the_tracker_is_away_waits_no_longer_than_told(
    deliver: Delivery, journal: MetricJournal, tracker: Tracker
) -> None:
    tracker.away = True
    journal.append({"loss": 1.0}, 1)
    journal.commit()
    began = time.monotonic()
    assert not deliver.close(0.5)
    assert time.monotonic() - began < 3
    assert deliver.trouble == "connection refused"
    assert eventually(lambda: not deliver.is_alive())


def test_whatever_goes_wrong_in_the_thread_it_lives_on(
    deliver: Delivery, journal: MetricJournal, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tracker, "log_batch", lambda *_, **__: 1 / 0)
        journal.append({"loss": 1.0}, 1)
        journal.commit()
        assert eventually(lambda: deliver.trouble == "division by zero")
    assert deliver.close(10)
    assert len(tracker.metrics) == 1


def test_messages_wait_on_disk_in_order_and_files_from_elsewhere_are_copied(tmp_path: Path, tracker: Tracker) -> None:
    folder, passing = tmp_path / "run", tmp_path / "passing.txt"
    folder.mkdir()
    passing.write_text("here")
    outbox = Outbox(folder)
    outbox.add(Message(tags={"state": "early"}))
    outbox.add(Message(file=str(passing), into="notes"))
    outbox.add(Message(tags={"state": "late"}))
    passing.unlink()
    tracker.away = True
    with pytest.raises(MlflowException):
        outbox.deliver(tracker, "run")
    reopened = Outbox(folder)
    assert len(reopened) == 3
    tracker.away = False
    reopened.deliver(tracker, "run")
    assert tracker.tags == {"state": "late"}
    assert tracker.files == ["here"]
    assert len(Outbox(folder)) == 0
    assert not list(folder.iterdir())


def test_a_message_that_is_refused_for_good_does_not_hold_up_the_others(
    tmp_path: Path, store: Store, start: Callable[..., TrackedRun], caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path)
    outbox.add(Message(params={"model.depth": "99"}))
    outbox.add(Message(tags={"state": "late"}))
    with start() as run:
        outbox.deliver(store.client, run.run_id)
    data = store.client.get_run(run.run_id).data
    assert (data.params["model.depth"], data.tags["state"]) == ("11", "late")
    assert "refuses" in caplog.text
