import os
import time
from collections.abc import Callable

import pytest

from figleaf.tracking import heartbeat
from figleaf.tracking.heartbeat import TAG, Beat
from figleaf.tracking.reap import reap
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store

HERE = Beat.now()
HOUR = 3600.0
NO_PROCESS = 2**22 + 1  # beyond Linux's largest process id


def silent_for(seconds: float, *, host: str = HERE.host, pid: int = NO_PROCESS) -> Beat:
    return Beat(time.time() - seconds, host, pid)


@pytest.mark.parametrize(
    ("silence_s", "host", "pid", "dead"),
    [
        (HOUR, HERE.host, NO_PROCESS, True),
        (0, HERE.host, NO_PROCESS, False),
        (HOUR, HERE.host, os.getpid(), True),  # the number was given to a process begun since
        (HOUR, "another", 1, True),
        (0, "another", 1, False),
    ],
    # Names that no process number makes different in each of the test workers.
    ids=["silent", "spoke just now", "reused number", "silent elsewhere", "spoke elsewhere"],
)
def test_a_run_is_dead_when_silent_for_long_and_its_process_is_gone_as_far_as_one_can_see(
    silence_s: float, host: str, pid: int, dead: bool
) -> None:
    beat = silent_for(silence_s, host=host, pid=pid)
    assert Beat.parse(beat.to_text()) == beat
    assert beat.is_dead(stale_after_s=120) == dead


def test_a_silent_run_whose_process_lives_here_is_not_dead() -> None:
    assert not Beat.now().is_dead(stale_after_s=0)


def test_a_reaped_run_ended_with_its_last_sign_of_life(start: Callable[..., TrackedRun], store: Store) -> None:
    with start() as run:
        pass
    store.client.update_run(run.run_id, status="RUNNING")
    beat = silent_for(HOUR)
    store.client.set_tag(run.run_id, TAG, beat.to_text())
    (row,) = reap(store)
    assert (row["run_id"], row["name"], row["folder"]) == (run.run_id, "vgg11-s0", str(run.folder))
    assert store.client.get_run(run.run_id).info.end_time == int(beat.time * 1000)
    assert reap(store) == []


def test_runs_of_others_without_a_sign_of_life_are_left_alone(store: Store) -> None:
    foreign = store.client.create_run(store.experiment("figleaf"), run_name="by hand")
    assert reap(store, stale_after_s=0) == []
    assert store.client.get_run(foreign.info.run_id).info.status == "RUNNING"


def test_a_living_run_gives_signs_of_life(
    start: Callable[..., TrackedRun], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.05)
    with start() as run:
        first = Beat.parse(store.client.get_run(run.run_id).data.tags[TAG])
        deadline = time.monotonic() + 10
        while (later := Beat.parse(store.client.get_run(run.run_id).data.tags[TAG])) == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert later.time > first.time
    assert (later.pid, later.host) == (os.getpid(), first.host)
