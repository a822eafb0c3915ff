"""What could not be delivered waits in the run's folder until `sync` brings it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from watching import history, status

from figleaf.errors import FigleafError
from figleaf.tracking.find import find_run
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store
from figleaf.tracking.sync import sync, sync_all

Start = Callable[..., TrackedRun]


@pytest.fixture
def tracker_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], None]:
    """Cuts a store's client off from its tracker until `monkeypatch.undo`."""

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    def cut_off(store: Store) -> None:
        for call in ("log_batch", "log_artifact", "set_terminated", "set_tag"):
            monkeypatch.setattr(type(store.client), call, refuse)

    return cut_off


@pytest.mark.parametrize("place", ["runs/one", "studies/one", "searches/one/3f2a"])
def test_a_tracker_away_at_the_end_costs_a_bounded_wait_and_sync_brings_the_rest(
    place: str,
    start: Start,
    store: Store,
    tmp_path: Path,
    tracker_away: Callable[[Store], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start(exit_wait_s=0.3, folder=tmp_path / place) as run:
        tracker_away(store)
        run.journal.append({"loss": 2.0, "lr": 0.1}, 1)
        run.set_tag("figleaf.selection", "0.9")
        passing = tmp_path / "passing.txt"
        passing.write_text("figure")
        run.log_artifact(passing)
        passing.unlink()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    said = caplog.records[-1].getMessage()
    for fact in ("2 metric values", "2 messages", str(run.folder), "figleaf runs sync", "connection refused"):
        assert fact in said
    with pytest.raises(FigleafError, match="takes nothing"):
        sync(store, run.folder)
    monkeypatch.undo()
    assert status(store, run.run_id) == "RUNNING"

    rows = sync_all(store, tmp_path)
    assert [(row["status"], row["values"], row["messages"], row["error"]) for row in rows] == [("FINISHED", 2, 2, "")]
    found = find_run(store, run.run_id)
    assert (found.status, found.tags["figleaf.selection"]) == ("FINISHED", "0.9")
    assert found.artifact("passing.txt").read_text() == "figure"
    assert history(store, run.run_id, "loss") == [(1, 2.0)]
    assert sync_all(store, tmp_path) == []


def test_sync_leaves_a_living_run_alone(start: Start, store: Store, tmp_path: Path) -> None:
    with start(folder=tmp_path / "runs" / "one") as run:
        run.journal.append({"loss": 2.0}, 1)
        (run.folder / "outbox.json").write_text("[]")
        rows = sync_all(store, tmp_path)
    assert len(rows) == 1
    assert f"process {os.getpid()} " in str(rows[0]["error"])
